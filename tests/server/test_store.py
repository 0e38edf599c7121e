"""The store keeps every version byte for byte, writes all or nothing, and lets one writer win."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import column, func, insert, inspect, select, table, text
from sqlalchemy.exc import DBAPIError

from relais.cda.errors import RelaisError
from relais.server.delivery import worker as _tables  # noqa: F401 - declares the tables of documents and deliveries
from relais.server.store import (
    DateRow,
    IndexRow,
    QuantityRow,
    ReferenceRow,
    Store,
    StoreError,
    StringRow,
    TextRow,
    TokenRow,
    UriRow,
    VersionConflictError,
    database,
    fold,
    metadata,
    migrations,
    schema,
    writers,
)
from relais.server.store.database import Database

NOW = datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=UTC)
EVERY_KIND: list[IndexRow] = [
    TokenRow("Patient.identifier", "urn:oid:1.2.3", "42"),
    StringRow("Patient.name", "helene", "Hélène"),
    DateRow("Patient.birthdate", -1, 5),
    ReferenceRow("Patient.organization", "Organization", "o1", ""),
    QuantityRow("Observation.value-quantity", 1.5, 2.5, "http://unitsofmeasure.org", "kg", "kg"),
    UriRow("Patient._source", "urn:x"),
]


def put(store: Store, resource_id: str, version: int, content: bytes = b"{}", *rows: IndexRow) -> None:
    with store.transaction() as transaction:
        transaction.put("Patient", resource_id, version, content, NOW + timedelta(seconds=version), rows)


def index_rows(store: Store) -> int:
    with store.snapshot() as connection:
        tables = schema.INDEX_TABLES.values()
        return sum(connection.scalar(select(func.count()).select_from(one)) or 0 for one in tables)


def test_what_was_written_comes_back_byte_for_byte(store: Store) -> None:
    content = '{"value":1.00,"z":1,"a":"é\\u00e9\\n\U0001f600"}\r\n '.encode() + bytes(range(1, 32))
    put(store, "a", 1, content)
    found = store.read("Patient", "a")
    assert found is not None
    assert found.content == content
    assert (found.type, found.id, found.version, found.method) == ("Patient", "a", 1, "PUT")
    assert found.last_updated == NOW + timedelta(seconds=1)


def test_ids_are_case_sensitive_and_belong_to_a_type(store: Store) -> None:
    put(store, "a", 1, b"lower")
    put(store, "A", 1, b"upper")
    assert store.read("Patient", "A").content == b"upper"  # type: ignore[union-attr]
    assert store.read("Patient", "a").content == b"lower"  # type: ignore[union-attr]
    assert store.read("Group", "a") is None


def test_every_version_is_kept(store: Store) -> None:
    for version in (1, 2, 3):
        put(store, "a", version, b"v%d" % version)
    contents = [store.read_version("Patient", "a", version) for version in (1, 2, 3)]
    assert [found and found.content for found in contents] == [b"v1", b"v2", b"v3"]
    assert store.read_version("Patient", "a", 4) is None
    assert store.read_version("Patient", "b", 1) is None


def test_a_deletion_is_a_version_and_can_be_followed(store: Store) -> None:
    put(store, "a", 1, b"v1", *EVERY_KIND)
    with store.transaction() as transaction:
        deleted = transaction.delete("Patient", "a", 2, NOW)
    assert deleted.deleted
    assert store.read("Patient", "a") == deleted
    assert index_rows(store) == 0
    put(store, "a", 3, b"v3")
    assert store.read("Patient", "a").content == b"v3"  # type: ignore[union-attr]
    assert store.read_version("Patient", "a", 2) == deleted


def test_index_rows_follow_the_current_version(store: Store) -> None:
    put(store, "a", 1, b"v1", *EVERY_KIND, EVERY_KIND[0])
    assert index_rows(store) == len(EVERY_KIND)
    put(store, "a", 2, b"v2", EVERY_KIND[1])
    assert index_rows(store) == 1


def test_rows_of_a_parameter_are_replaced_and_others_stay(store: Store) -> None:
    name, *others = (TokenRow("Patient.name", "", code) for code in "abc")
    put(store, "a", 1, b"v1", *EVERY_KIND, name, *others)
    put(store, "a", 2, b"v2", *EVERY_KIND[1:], name, others[1], others[1]._replace(occurrence=1))
    kept = schema.token_index.c
    with store.snapshot() as connection:
        columns = (kept.parameter, kept.place, kept.code, kept.occurrence)
        found = connection.execute(select(*columns).order_by(*columns)).all()
    assert [tuple(row) for row in found] == [
        ("Patient.name", 0, "a", 0),
        ("Patient.name", 1, "c", 0),
        ("Patient.name", 2, "c", 1),
    ]
    assert index_rows(store) == len(EVERY_KIND) + 2


@pytest.mark.parametrize("version", [1, 3])
def test_a_version_that_does_not_follow_is_refused(store: Store, version: int) -> None:
    put(store, "a", 1, b"v1", EVERY_KIND[0])
    with pytest.raises(VersionConflictError) as raised:
        put(store, "a", version, b"other")
    assert raised.value.issues[0].code == "conflict"
    assert store.read("Patient", "a").content == b"v1"  # type: ignore[union-attr]
    assert store.history("Patient", "a").total == 1


def test_an_error_of_the_database_quotes_no_value(store: Store) -> None:
    with pytest.raises(DBAPIError) as caught, store.snapshot() as connection:
        connection.execute(text("SELECT :value FROM nothing_of_that_name"), {"value": "PATTERSON"})
    assert "PATTERSON" not in str(caught.value)


def test_an_exception_takes_back_everything(store: Store) -> None:
    put(store, "a", 1, b"v1")
    with pytest.raises(ZeroDivisionError), store.transaction() as transaction:
        transaction.put("Patient", "a", 2, b"v2", NOW, EVERY_KIND)
        transaction.put("Patient", "b", 1, b"v1", NOW, EVERY_KIND)
        _ = 1 / 0
    assert store.read("Patient", "a").content == b"v1"  # type: ignore[union-attr]
    assert store.read("Patient", "b") is None
    assert index_rows(store) == 0


def test_a_transaction_reads_its_own_writes_and_nobody_else_does(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.put("Patient", "a", 1, b"v1", NOW)
        assert transaction.read("Patient", "a", lock=True).content == b"v1"  # type: ignore[union-attr]
        assert store.read("Patient", "a") is None
    assert store.read("Patient", "a") is not None


def test_history_is_newest_first_and_pages_without_gap(store: Store) -> None:
    for version in range(1, 6):
        put(store, "a", version)
    put(store, "b", 1)
    first = store.history("Patient", "a", limit=2)
    second = store.history("Patient", "a", limit=2, page=first.next_page)
    put(store, "a", 6)
    third = store.history("Patient", "a", limit=2, page=second.next_page)
    found = [version.version for page in (first, second, third) for version in page.versions]
    assert found == [5, 4, 3, 2, 1]
    assert (first.total, third.total) == (5, 6)
    assert third.next_page is None
    assert {version.id for version in store.history("Patient").versions} == {"a", "b"}
    assert store.history("Group").total == 0
    assert [v.version for v in store.history("Patient", "a", since=NOW + timedelta(seconds=5)).versions] == [6, 5]


def test_a_snapshot_does_not_move(store: Store) -> None:
    count = select(func.count()).select_from(schema.resource)
    with store.snapshot() as connection:
        before = connection.scalar(count)
        put(store, "a", 1)
        assert connection.scalar(count) == before
    with store.snapshot() as connection:
        assert connection.scalar(count) == 1


def test_readers_do_not_wait_for_a_writer(store: Store) -> None:
    put(store, "a", 1, b"v1")
    with store.transaction() as transaction:
        transaction.put("Patient", "a", 2, b"v2", NOW)
        assert store.read("Patient", "a").content == b"v1"  # type: ignore[union-attr]


def test_a_writer_whose_turn_does_not_come_says_so(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not store_url.startswith("sqlite"):
        pytest.skip("PostgreSQL locks rows, not the database")
    monkeypatch.setattr(writers, "_PATIENCE", 0.1)
    store, other = Store.open(store_url), Store.open(store_url)
    for second in (store, other):  # the lock of threads, then the lock of processes
        with store.transaction(), pytest.raises(StoreError) as raised, second.transaction():
            pass
        assert raised.value.issues[0].code == "lock-error"
    store.close()
    other.close()


def test_a_foreign_program_that_locks_the_file_gives_a_lock_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_TIMEOUT", 50)
    store = Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}")
    foreign = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError) as raised:
        put(store, "a", 1)
    foreign.close()
    assert raised.value.issues[0].code == "lock-error"
    put(store, "a", 1)
    store.close()


def test_an_unreachable_server_is_transient() -> None:
    with pytest.raises(StoreError) as raised:
        Store.open("postgresql+psycopg://nobody@127.0.0.1:1/none")
    assert raised.value.issues[0].code == "transient"


def test_a_server_that_stops_under_a_connection_is_transient(store: Store, store_url: str) -> None:
    if store_url.startswith("sqlite"):
        pytest.skip("SQLite has no server")
    with pytest.raises(StoreError) as raised, store.transaction() as transaction:
        mine = transaction.connection.scalar(select(func.pg_backend_pid()))
        with store.snapshot() as other:
            other.execute(select(func.pg_terminate_backend(mine)))
        transaction.put("Patient", "a", 1, b"v1", NOW)
    assert raised.value.issues[0].code == "transient"
    put(store, "a", 1)


def test_a_file_that_cannot_be_opened_is_transient(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").mkdir()
    with pytest.raises(StoreError) as raised:
        Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}")
    assert raised.value.issues[0].code == "transient"


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://x/y", "postgresql://x/y", "no url"])
def test_a_url_that_is_not_served_is_refused(url: str) -> None:
    with pytest.raises(RelaisError) as raised:
        Store.open(url)
    assert raised.value.issues[0].path == "database_url"


# --- Several writers -------------------------------------------------------------------------------------------------


def _count_up(store: Store, resource_id: str, times: int) -> None:
    for _ in range(times):
        with store.transaction() as transaction:
            current = transaction.read("Patient", resource_id, lock=True)
            assert current is not None
            assert current.content is not None
            number = int(current.content) + 1
            transaction.put("Patient", resource_id, current.version + 1, b"%d" % number, NOW)


def test_threads_lose_no_update(store: Store) -> None:
    put(store, "a", 1, b"0")
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(_count_up, store, "a", 25) for _ in range(4)]:
            done.result()
    assert store.read("Patient", "a").content == b"100"  # type: ignore[union-attr]


def test_of_two_writers_without_lock_one_wins(store: Store) -> None:
    """Both read version 1, both write version 2: one is told, whatever the interleaving."""
    put(store, "a", 1, b"v1")
    barrier = threading.Barrier(2)

    def write(content: bytes) -> bool:
        barrier.wait()
        try:
            put(store, "a", 2, content)
        except VersionConflictError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        won = list(pool.map(write, [b"one", b"two"]))
    assert sorted(won) == [False, True]
    assert store.read("Patient", "a").content == (b"one" if won[0] else b"two")  # type: ignore[union-attr]


def test_of_two_creations_with_the_same_id_one_wins(store: Store) -> None:
    barrier = threading.Barrier(2)

    def create(content: bytes) -> bool:
        barrier.wait()
        try:
            put(store, "a", 1, content, EVERY_KIND[0])
        except VersionConflictError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        won = list(pool.map(create, [b"one", b"two"]))
    assert sorted(won) == [False, True]
    assert index_rows(store) == 1


def test_what_is_done_exclusively_is_done_once(store: Store) -> None:
    """The base of a conditional create: look, then create, with nobody in between."""
    barrier = threading.Barrier(4)

    def create_unless_there(number: int) -> None:
        barrier.wait()
        with store.transaction() as transaction:
            transaction.exclusively("Patient?identifier=x")
            if not transaction.connection.scalar(select(func.count()).select_from(schema.resource)):
                transaction.put("Patient", f"n{number}", 1, b"{}", NOW)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(create_unless_there, range(4)))
    assert store.history("Patient").total == 1


_FORK = multiprocessing.get_context("fork")


def _in_processes(count: int, work: Callable[[int], None]) -> list[int | None]:
    processes = [_FORK.Process(target=work, args=(number,)) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    return [process.exitcode for process in processes]


def test_forked_processes_use_connections_of_their_own_and_lose_no_update(store: Store) -> None:
    put(store, "a", 1, b"0")

    def work(_number: int) -> None:
        _count_up(store, "a", 25)

    assert _in_processes(3, work) == [0, 0, 0]
    assert store.read("Patient", "a").content == b"75"  # type: ignore[union-attr]


def test_processes_may_open_a_new_database_at_the_same_moment(store_url: str) -> None:
    barrier = _FORK.Barrier(4)

    def work(number: int) -> None:
        barrier.wait(30)
        store = Store.open(store_url)
        put(store, f"p{number}", 1)
        store.close()

    assert _in_processes(4, work) == [0, 0, 0, 0]
    store = Store.open(store_url)
    assert store.history("Patient").total == 4
    with store.snapshot() as connection:
        assert connection.scalars(text("SELECT version_num FROM alembic_version")).all() == [migrations.HEAD]
    store.close()


def test_a_writer_killed_inside_a_transaction_leaves_nothing_and_blocks_nobody(store: Store) -> None:
    inside = _FORK.Event()

    def work(_number: int) -> None:
        with store.transaction() as transaction:
            transaction.put("Patient", "a", 1, b"half", NOW, EVERY_KIND)
            inside.set()
            time.sleep(60)

    process = _FORK.Process(target=work, args=(0,))
    process.start()
    assert inside.wait(30)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    assert store.read("Patient", "a") is None
    put(store, "a", 1, b"whole")  # a turn that did not come would be refused
    assert store.read("Patient", "a").content == b"whole"  # type: ignore[union-attr]
    assert index_rows(store) == 0


# --- Schema ----------------------------------------------------------------------------------------------------------


def test_a_newer_schema_is_refused(store: Store, store_url: str) -> None:
    with store.transaction() as transaction:
        transaction.connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(RelaisError, match="install a newer one"):
        Store.open(store_url)


def test_the_newest_revision_is_the_one_that_is_expected() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_current_head() == migrations.HEAD


@pytest.mark.filterwarnings("ignore:.*expression-based index")
def test_revisions_make_the_schema_that_the_code_declares(store: Store) -> None:
    """Tables, columns, types and indexes; the full-text tables are of one engine each."""

    def compared(_object: object, name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
        return not (kind in ("table", "index") and (name or "").startswith("text_index"))

    with store.snapshot() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": compared})
        found = compare_metadata(context, metadata)
    assert found == []


def test_an_older_schema_is_brought_forward_with_its_resources(store_url: str) -> None:
    """As the first release left it: no alembic, the tables of revision 0001, one resource."""
    opened = Database(store_url)
    with opened.write() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        command.upgrade(config, "0001")
        connection.execute(text("DROP TABLE alembic_version"))
        connection.execute(text("CREATE TABLE schema_version (version INTEGER NOT NULL)"))
        connection.execute(text("INSERT INTO schema_version VALUES (1)"))
        values = {"type": "Patient", "id": "old", "version": 1, "last_updated": 0, "method": "PUT", "content": b"{}"}
        connection.execute(insert(schema.resource).values(values))
    opened.close()
    for _ in range(2):
        store = Store.open(store_url)
        assert store.read("Patient", "old").content == b"{}"  # type: ignore[union-attr]
        put(store, "old", 2, b"new", TextRow("mot", "mot autre"))
        with store.transaction() as transaction:
            transaction.delete("Patient", "old", 3, NOW)
            transaction.connection.execute(text("DELETE FROM resource_version"))
            transaction.connection.execute(
                text("UPDATE resource SET version = 1, content = :content"), {"content": b"{}"}
            )
        with store.snapshot() as connection:
            assert "schema_version" not in inspect(connection).get_table_names()
        store.close()


def test_index_rows_of_an_older_schema_are_kept(store_url: str) -> None:
    """Revision 0004 rebuilds their tables; a later version of the resource replaces them."""
    opened = Database(store_url)
    rows = [*EVERY_KIND, TokenRow("Patient.identifier", "", "43"), TokenRow("Patient.identifier", "", "43", 1)]
    with opened.write() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        command.upgrade(config, "0003")
        values = {"type": "Patient", "id": "old", "version": 1, "last_updated": 0, "method": "PUT", "content": b"{}"}
        connection.execute(insert(schema.resource).values(values))
        for row in rows:
            given = {"resource_key": 1, **row._asdict()}
            columns = [column(name) for name in given]
            connection.execute(insert(table(schema.INDEX_TABLES[type(row)].name, *columns)).values(given))
        if opened.is_sqlite:
            connection.execute(text("INSERT INTO text_index (rowid, narrative, everything) VALUES (1, 'a', 'a b')"))
    opened.close()
    store = Store.open(store_url)
    found = []
    with store.snapshot() as connection:
        for kind, kept in schema.INDEX_TABLES.items():
            columns = [kept.c[name] for name in kind._fields]
            found += [kind(*row) for row in connection.execute(select(*columns))]
    assert sorted(map(repr, found)) == sorted(map(repr, rows))
    put(store, "old", 2, b"new", EVERY_KIND[1])
    assert index_rows(store) == 1
    store.close()


def test_a_table_of_another_room_is_created_and_written_with_the_resources(store: Store, store_url: str) -> None:
    from sqlalchemy import Column, Integer, Table

    notes = Table("note_of_a_test", metadata, Column("number", Integer, primary_key=True))
    try:
        Store.open(store_url).close()
        with pytest.raises(VersionConflictError), store.transaction() as transaction:
            transaction.connection.execute(insert(notes).values(number=1))
            transaction.put("Patient", "a", 7, b"", NOW)
        with store.snapshot() as connection:
            assert connection.scalar(select(func.count()).select_from(notes)) == 0
    finally:
        metadata.remove(notes)


def test_long_values_fit_the_index(store: Store) -> None:
    long = "é" * 5000
    rows = TokenRow("Patient.identifier", fold(long), fold(long)), StringRow("Patient.name", long, long)
    put(store, "a", 1, b"{}", *rows, UriRow("Patient._source", fold(long)))
    assert index_rows(store) == 3
    assert fold(long) != fold(long + "x")
    assert fold("x" * 200) == "x" * 200


def test_the_wal_is_copied_while_others_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file alone, without its WAL, then holds what was written; a reader of an older state does not hinder it."""
    monkeypatch.setattr(writers, "DUE", 1)
    path = tmp_path / "store.sqlite"
    store = Store.open(f"sqlite:///{path}")
    with store.snapshot() as connection:
        connection.execute(select(schema.resource.c.key)).all()
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda number: put(store, f"p{number}", 1, b"v1"), range(20))) == [None] * 20
    put(store, "last", 1, b"v1")
    shutil.copy(path, tmp_path / "alone.sqlite")
    with contextlib.closing(sqlite3.connect(tmp_path / "alone.sqlite")) as alone:
        assert alone.execute("SELECT count(*) FROM resource").fetchone() == (21,)
        assert alone.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store.close()


def test_new_resources_of_a_block_are_indexed_together(store: Store) -> None:
    with store.transaction() as transaction:
        with transaction.together():
            for name in ("a", "b"):
                transaction.put("Patient", name, 1, b"v1", NOW, EVERY_KIND)
            transaction.put("Patient", "a", 2, b"v2", NOW, EVERY_KIND[1:])
            transaction.put("Patient", "c", 1, b"v1", NOW, EVERY_KIND)
            transaction.delete("Patient", "c", 2, NOW)
        found = transaction.connection.scalar(select(func.count()).select_from(schema.token_index))
        assert found == 1
    assert index_rows(store) == 2 * len(EVERY_KIND) - 1


def test_savepoints_inside_a_block_take_back_index_rows(store: Store) -> None:
    with store.transaction() as transaction, transaction.together():
        transaction.put("Patient", "a", 1, b"v1", NOW, EVERY_KIND)
        nested = transaction.connection.begin_nested()
        transaction.put("Patient", "b", 1, b"v1", NOW, EVERY_KIND)
        nested.rollback()
        transaction.put("Patient", "c", 1, b"v1", NOW, EVERY_KIND[:1])
    assert store.read("Patient", "b") is None
    assert index_rows(store) == len(EVERY_KIND) + 1
