"""Messages that arrive: taken once with their answer, refused without a trace, unanswered when the store is down."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, select

from relais.cda.errors import Issue, RelaisError
from relais.mappings.hl7v2.acknowledgement import Acknowledgement, read_acknowledgement
from relais.mappings.hl7v2.order import Endpoint, Flags, Party, ReceivedMail
from relais.mappings.hl7v2.reading import Received
from relais.mappings.hl7v2.zam import Zam, write_zam
from relais.server.delivery.hl7v2_inbox import Inbox, received_table
from relais.server.delivery.mllp import MllpClient, MllpServer, UnansweredError
from relais.server.fhir.repository import Repository, Transaction
from relais.server.store import Store
from relais.server.store.errors import StoreError
from support.hl7v2 import NURSE, POLICY, SENDER, message, order, to_both, with_field

TIME = "20260112090501+0100"


class Office:
    """An inbox on a store, and what it took."""

    def __init__(self, store: Store) -> None:
        self.documents: list[bytes] = []
        self.zams: list[Zam] = []
        self.refusal: RelaisError | None = None
        self.repository = Repository(
            store, "http://relais.example/fhir", clock=lambda: datetime(2026, 1, 12, tzinfo=UTC)
        )
        self.inbox = Inbox(
            self.repository,
            POLICY,
            lambda received: lambda transaction: self._take_document(transaction, received),
            lambda _, zam: self.zams.append(zam),
        )
        self.server = MllpServer(self.inbox.answer)

    def _take_document(self, transaction: Transaction, received: Received) -> None:
        transaction.create({"resourceType": "Basic", "code": {"text": received.order.action}}, resource_id="b1")
        if self.refusal:
            raise self.refusal
        self.documents.append(received.document)

    def send(self, data: bytes) -> Acknowledgement:
        return read_acknowledgement(self.raw(data))

    def raw(self, data: bytes) -> bytes:
        with MllpClient(self.server.host, self.server.port, timeout=10) as client:
            return client.exchange(data, lambda _: True)

    def taken(self) -> int:
        """Messages on record."""
        with self.repository.snapshot() as connection:
            return connection.scalar(select(func.count()).select_from(received_table)) or 0

    def stored(self) -> bool:
        return self.repository.current("Basic", "b1") is not None


@pytest.fixture
def office(store: Store) -> Iterator[Office]:
    before = set(threading.enumerate())
    made = Office(store)
    with made.server:
        yield made
    assert set(threading.enumerate()) <= before


def zam(**changes: object) -> Zam:
    plain = Zam("Z01", "PFI7", "RELAIS0001", True, TIME, Endpoint("PFI", "GHT"), Endpoint("RELAIS", "DAC"))
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_a_document_arrives(office: Office) -> None:
    answer = office.send(message())
    assert (answer.code, answer.acknowledges, answer.event) == ("AA", "RELAIS0001", "T02")
    assert (len(office.documents), office.taken(), office.stored()) == (1, 1, True)


def test_a_document_received_by_mail_arrives(office: Office) -> None:
    by_mail = order(
        flags=Flags(),
        sender=Party(SENDER.person, mailbox="medecin@hopital.mssante.fr"),
        recipients=(NURSE,),
        mail=ReceivedMail("<1@hopital.mssante.fr>", "Compte rendu", "Bonjour"),
    )
    assert office.send(message(by_mail)).code == "AA"


def test_sent_again_it_gets_the_same_answer_and_is_taken_once(office: Office) -> None:
    assert office.raw(message()) == office.raw(message())
    assert (len(office.documents), office.taken()) == (1, 1)


def test_another_message_under_the_same_id_is_refused(office: Office) -> None:
    office.send(message())
    answer = office.send(message(to_both(event_time="20260112")))
    assert (answer.code, answer.errors[0].place, answer.errors[0].application) == ("AE", "MSH^1^10^1", "906")
    assert len(office.documents) == 1


def test_a_refused_message_leaves_nothing_and_may_come_corrected(office: Office) -> None:
    answer = office.send(with_field(message(), "PID-7", "19800101"))
    assert (answer.code, answer.errors[0].application) == ("AE", "904")
    assert (office.documents, office.taken(), office.stored()) == ([], 0, False)
    assert office.send(message()).code == "AA"


def test_what_the_application_refuses_is_undone(office: Office) -> None:
    office.refusal = RelaisError(Issue("error", "not-found", "no such patient here", rule="identity"))
    answer = office.send(message())
    assert (answer.code, answer.errors[0].code, answer.errors[0].application) == ("AE", "207", "906")
    assert "no such patient here [identity]" in answer.errors[0].diagnostic
    assert (office.taken(), office.stored()) == (0, False)


def test_a_fault_is_answered_and_tells_no_value(
    office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    value = "PATTERSON"

    def fail(*_: object, **__: object) -> None:
        raise KeyError(value)

    with monkeypatch.context() as patched:
        patched.setattr(Transaction, "create", fail)
        answer = office.send(message())
    assert (answer.code, answer.acknowledges, answer.errors[0].application) == ("AE", "RELAIS0001", "906")
    assert ("KeyError" in caplog.text, value in caplog.text, office.taken()) == (True, False, 0)
    assert office.send(message()).code == "AA"


def test_without_a_store_there_is_no_answer(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StoreError(Issue("fatal", "transient", "full"))

    with monkeypatch.context() as patched:
        patched.setattr(Transaction, "create", fail)
        with pytest.raises(UnansweredError):
            office.send(message())
    assert office.taken() == 0
    assert office.send(message()).code == "AA"


def test_business_acknowledgements(office: Office) -> None:
    first, second = zam(), zam(trigger="Z02", control_id="PFI8", mailbox="infirmier@ssiad.mssante.fr")
    assert [office.send(write_zam(each)).event for each in (first, second, first)] == ["Z01", "Z02", "Z01"]
    assert office.zams == [first, second]
    wrong = with_field(write_zam(zam(control_id="PFI9")), "OBX-5", "N")
    assert (office.send(wrong).code, len(office.zams)) == ("AE", 2)


@pytest.mark.parametrize(
    ("data", "code"), [(b"garbage", "AE"), (with_field(message(), "MSH-9", "ADT^A01^ADT_A01"), "AR")]
)
def test_what_is_not_for_it(office: Office, data: bytes, code: str) -> None:
    assert f"MSA|{code}".encode() in office.raw(data)
    assert office.taken() == 0


def test_a_message_too_long(store: Store) -> None:
    office = Office(store)
    office.server = MllpServer(office.inbox.answer, max_size=2_000)
    with office.server:
        answer = office.send(message())
    assert (answer.code, answer.acknowledges, answer.errors[0].code) == ("AE", "RELAIS0001", "199")


def test_the_same_message_from_several_connections_at_once(office: Office) -> None:
    answers: list[bytes] = []
    threads = [threading.Thread(target=lambda: answers.append(office.raw(message()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(answers)) == 1
    assert (len(office.documents), office.taken()) == (1, 1)
