"""The `relais` command: each subcommand calls what the library offers, and renders results and errors once.

Exit codes: 0 done, 1 refused (one line per issue on standard error), 2 wrong usage; `validate` has its own.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from relais.cda.errors import Issue, RelaisError
from relais.server import commands, dmp_commands, reception, share_commands, validate_command
from relais.server.delivery import clean_up as cleaning
from relais.server.delivery import ledger
from relais.server.delivery.dmp_web import PAGES
from relais.server.delivery.outbox import State
from relais.server.delivery.visibility import AUDIENCES, Audience
from relais.server.document_forms import LEVELS, Level
from relais.server.private_files import write_private
from relais.server.settings import Settings, reference

F = TypeVar("F", bound=Callable[..., Any])


class _Group(click.Group):
    """Renders a RelaisError of any subcommand: one line per issue, exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RelaisError as error:
            _refuse(error.issues, ctx.meta.get("relais.json", False))
        except OSError as error:
            named = f"{error.filename}: " if error.filename else ""
            _refuse(
                [Issue("fatal", "exception", f"{named}{error.strerror or error}")], ctx.meta.get("relais.json", False)
            )


def _refuse(issues: Any, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode({"issues": [asdict(issue) for issue in issues]}).decode())
    else:
        for issue in issues:
            click.echo(str(issue), err=True)
    sys.exit(1)


def _json_option(command: F) -> F:
    def remember(ctx: click.Context, _parameter: click.Parameter, value: bool) -> bool:
        ctx.meta["relais.json"] = value
        return value

    return click.option("--json", "as_json", is_flag=True, callback=remember, is_eager=True, help="Answer as JSON.")(
        command
    )


def _answer(result: dict[str, Any], text: str, as_json: bool) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(result), indent=2).decode() if as_json else text)


def _notes(issues: Any, as_json: bool) -> None:
    if not as_json:
        for issue in issues:
            click.echo(str(issue), err=True)


@click.group(cls=_Group)
@click.version_option(package_name="relais")
def main() -> None:
    """FHIR care plans in, CI-SIS documents out: to the DMP and to MSSanté mailboxes."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # tells of every start, not only of migrations


@main.command()
@click.option("--host", help="Address to listen on (setting `host`).")
@click.option("--port", type=int, help="Port to listen on (setting `port`).")
def serve(host: str | None, port: int | None) -> None:
    """Run the facade."""
    from relais.server.wsgi import serve as run

    run(commands.settings(host=host, port=port))


@main.command()
def worker() -> None:
    """Deliver what was ordered, until told to stop."""
    settings = Settings.load()
    commands.work(settings, _stop_event())


@main.command()
@click.option("--once", is_flag=True, help="Take what is there now, then end.")
def mailbox(once: bool) -> None:
    """Read the MSSanté mailboxes: documents are filed, receipts find their order."""
    settings = Settings.load()
    with reception.opened(settings) as repository:
        if once:
            click.echo(f"{reception.read_mailboxes_once(repository, settings)} mails taken")
        else:
            reception.read_mailboxes(repository, settings, _stop_event())


@main.command()
def hl7v2() -> None:
    """Receive HL7 v2 messages (MDM, ORU, ZAM) over MLLP, until told to stop."""
    settings = Settings.load()
    with reception.opened(settings) as repository:
        reception.listen_hl7v2(repository, settings, _stop_event(), click.echo)


@main.command("settings")
def settings_() -> None:
    """List every setting with its default and meaning."""
    click.echo(reference(), nl=False)


@main.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("sandbox"), show_default=True)
@click.option("--smtp-port", type=int, default=2587, show_default=True)
@click.option("--https-port", type=int, default=2443, show_default=True)
@click.option("--imap-port", type=int, default=2143, show_default=True)
@click.option("--mllp-port", type=int, default=2575, show_default=True)
@click.option("--fault", "faults", multiple=True, help="Fault to play until it is changed: dmp=slow, hl7v2=drop…")
@_json_option
def sandbox(
    folder: Path,
    smtp_port: int,
    https_port: int,
    imap_port: int,
    mllp_port: int,
    faults: tuple[str, ...],
    as_json: bool,
) -> None:
    """Play an MSSanté operator, a DMP and an HL7 v2 platform that check what they receive.

    Prints the settings that lead there, as a settings file (RELAIS_CONFIG) has them. `relais sandbox-fault` changes the
    faults while it runs.
    """
    from relais.server.sandbox import Sandbox

    stop, folder = _stop_event(), folder.resolve()
    with Sandbox(
        folder, smtp_port=smtp_port, https_port=https_port, imap_port=imap_port, mllp_port=mllp_port, faults=faults
    ) as counterparts:
        found = {"folder": str(folder), **counterparts.settings}
        lines = [f"{name} = {json.dumps(value)}" for name, value in counterparts.settings.items()]
        _answer(found, "\n".join([f"# what they receive is in {folder}", *lines]), as_json)
        sys.stdout.flush()
        stop.wait()


@main.command("sandbox-fault")
@click.argument("faults", nargs=-1, required=True)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("sandbox"), show_default=True)
@_json_option
def sandbox_fault(faults: tuple[str, ...], folder: Path, as_json: bool) -> None:
    """Change the faults that a running sandbox plays: dmp=slow, hl7v2=none…"""
    from relais.server.sandbox import switch_faults

    standing = switch_faults(folder, faults)
    text = ", ".join(f"{counterpart}={fault}" for counterpart, fault in standing.items())
    _answer({"faults": standing}, text or "no fault is played", as_json)


@main.command()
@click.argument("plan", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write; standard output otherwise.")
@click.option("--level", type=click.Choice(LEVELS), default="n3", show_default=True, help="n1: the same as a PDF.")
@click.option("--stylesheet", default="", help="Relative address of the style sheet (.xsl) that shows the document.")
@_json_option
def convert(plan: Path, output: Path | None, level: Level, stylesheet: str, as_json: bool) -> None:
    """Turn a FHIR Bundle into its CDA document: PPS of a care plan, agenda, notification."""
    content, issues = commands.convert(plan.read_bytes(), Settings.load(), datetime.now(UTC), level, stylesheet)
    _notes(issues, as_json)
    _write(content, output, as_json, {"issues": [asdict(issue) for issue in issues]})


@main.command("import")
@click.argument("document", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write; standard output otherwise.")
@click.option("--store", is_flag=True, help="Store it in the database, its bytes untouched; the patient is matched.")
@_json_option
def import_(document: Path, output: Path | None, store: bool, as_json: bool) -> None:
    """Turn a CDA document into a FHIR document Bundle."""
    if store and output:
        raise click.UsageError("--store keeps the resources in the database: --output has nothing to write")
    if store:
        filed = commands.store_document(document.read_bytes(), Settings.load())
        _notes(filed.issues, as_json)
        named = [f"{one.type}/{one.id}" for one in filed.stored]
        found = {"new": filed.new, "stored": named, "issues": [asdict(issue) for issue in filed.issues]}
        _answer(found, f"{named[0]}: {'stored' if filed.new else 'stored already'}", as_json)
        return
    content, issues = commands.import_document(document.read_bytes())
    _notes(issues, as_json)
    _write(content, output, as_json, {"issues": [asdict(issue) for issue in issues]})


@main.command()
@click.argument("document", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="File to write: .html or .pdf.")
@_json_option
def render(document: Path, output: Path, as_json: bool) -> None:
    """Show a CDA document as a page (.html) or as PDF/A (.pdf)."""
    form = output.suffix.lower().removeprefix(".")
    if form not in ("html", "pdf"):
        raise click.BadParameter("the name must end in .html or .pdf", param_hint="--output")
    content = commands.render(document.read_bytes(), "pdf" if form == "pdf" else "html")
    _write(content, output, as_json, {})


@main.command()
@click.argument("documents", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("IHE_XDM.ZIP"), show_default=True)
@_json_option
def pack(documents: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Pack CDA documents of one patient as an IHE_XDM archive; the metadata come from their headers."""
    archive = commands.pack([path.read_bytes() for path in documents], Settings.load(), datetime.now(UTC))
    _write(archive, output, as_json, {"documents": len(documents)})


@main.command()
@click.argument("archive", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write into.")
@_json_option
def unpack(archive: Path, output: Path, as_json: bool) -> None:
    """Check an IHE_XDM archive and write its documents; writes nothing when it is refused."""
    written, issues = commands.unpack(archive.read_bytes(), output)
    _notes(issues, as_json)
    result = {"written": [str(path) for path in written], "issues": [asdict(issue) for issue in issues]}
    _answer(result, "\n".join(map(str, written)), as_json)


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@validate_command.options
def validate(paths: tuple[Path, ...], as_json: bool, **asked: Any) -> None:
    """Check CDA documents, IHE_XDM archives, HL7 v2 messages and FHIR resources: files, folders of them, and `-` for
    standard input.

    Each is recognised by its content. Exit code: 0 conformant, 1 not conformant, 2 refused (wrong usage, nothing to
    validate, a report that cannot be written), 3 conformant to the published rules with errors in Relais' own checks,
    4 could not be judged.
    """
    if as_json:
        asked["form"] = "json"
    sys.exit(validate_command.run(paths, validate_command.Asked(**asked)))


@main.command()
@click.argument("what")
@click.option("--channel", "channels", multiple=True, required=True, help="mss, dmp, hl7v2 or mhd; repeats.")
@click.option("--recipient", "recipients", multiple=True, help="MSSanté mailbox; repeats.")
@click.option("--wait", "patience", type=float, default=0.0, help="Seconds to wait for a worker to finish the order.")
@_json_option
def send(what: str, channels: tuple[str, ...], recipients: tuple[str, ...], patience: float, as_json: bool) -> None:
    """Order the delivery of CarePlan/[id], or of a CDA file; a running worker carries it out."""
    task = commands.send(what, channels, recipients, Settings.load())
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and task["status"] in ("requested", "in-progress"):
        time.sleep(0.2)
        task = commands.task(task["id"], Settings.load())
    _answer(task, f"Task/{task['id']}: {task['status']}", as_json)
    sys.exit(1 if task["status"] == "failed" else 0)


@main.group()
def deliveries() -> None:
    """Look after delivery orders: what was delivered, what waits, what was given up and why."""


@deliveries.command("list")
@click.option("--state", "states", multiple=True, type=click.Choice(ledger.STATES), help="Only these; repeats.")
@click.option("--limit", type=int, default=50, show_default=True, help="Most orders, newest first.")
@_json_option
def list_(states: tuple[State, ...], limit: int, as_json: bool) -> None:
    """List orders, counts and circuits."""
    with ledger.opened(Settings.load()) as repository:
        said = ledger.listing(repository, states, limit)
    _answer(said, ledger.listing_as_text(said), as_json)


@deliveries.command()
@click.argument("task")
@_json_option
def show(task: str, as_json: bool) -> None:
    """Show an order with every attempt; TASK is the id of its Task."""
    with ledger.opened(Settings.load()) as repository:
        said = ledger.shown(repository, task)
    _answer(said, ledger.as_text(said), as_json)


@deliveries.command()
@click.argument("tasks", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every order that has a delivery given up.")
@_json_option
def resume(tasks: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Try again what was given up, with the same identifiers."""
    if bool(tasks) == every:
        raise click.UsageError("name the Tasks, or say --all")
    with ledger.opened(Settings.load()) as repository:
        count = ledger.resume_dead(repository) if every else sum(ledger.resume(repository, task) for task in tasks)
    _answer({"resumed": count}, f"{ledger.counted(count, 'delivery', 'deliveries')} resumed", as_json)


@deliveries.command()
@click.argument("task")
@click.option("--reason", required=True, help="Why; the Task says it.")
@_json_option
def cancel(task: str, reason: str, as_json: bool) -> None:
    """Give up what waits of an order; what was delivered stays so."""
    with ledger.opened(Settings.load()) as repository:
        count = ledger.cancel(repository, task, reason)
    _answer({"cancelled": count}, f"{ledger.counted(count, 'delivery', 'deliveries')} cancelled", as_json)


@deliveries.command()
@click.argument("task")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="ZIP archive to write.")
@click.option("--redacted", is_flag=True, help="Without health data: outlines instead of contents.")
@_json_option
def evidence(task: str, output: Path, redacted: bool, as_json: bool) -> None:
    """Write the sealed requests and responses of an order."""
    settings = Settings.load()
    with ledger.opened(settings) as repository:
        content = ledger.evidence_pack(repository, task, settings, redacted=redacted)
    _write(content, output, as_json, {"redacted": redacted})


@main.command("clean-up")
@click.option("--clock-is-right", is_flag=True, help="Erase though the clock is far ahead of the last clean-up.")
@_json_option
def clean_up(clock_is_right: bool, as_json: bool) -> None:
    """Erase the bytes of evidence and of received mails whose retention is over, as worker and mailbox do."""
    settings = Settings.load()
    with ledger.opened(settings) as repository:
        erased = cleaning.clean_up(repository, settings, clock_is_right=clock_is_right)
    words = {
        kind: "nothing erased, the clock is not believed" if count is None else f"{count} erased"
        for kind, count in erased.items()
    }
    _answer(dict(erased), "\n".join(f"{kind}: {said}" for kind, said in words.items()), as_json)


@main.group()
def dmp() -> None:
    """Ask a DMP and change what this installation sent there; INS is the matricule of the patient, with its key."""


def _target(ins: str, oid: str) -> dmp_commands.Target:
    return dmp_commands.Target(Settings.load(), ins, oid)


def _ins(command: F) -> F:
    """The patient: matricule INS, and its OID when it is not the INS-NIR of the environment."""
    option = click.option("--oid", default="", help="OID of the INS, when it is not the INS-NIR of the environment.")
    return click.argument("ins")(option(command))


@dmp.command("status")
@_ins
@_json_option
def dmp_status(ins: str, oid: str, as_json: bool) -> None:
    """Say whether the patient has a DMP and whether it is open (TD0.2)."""
    found = dmp_commands.status(_target(ins, oid))
    _answer({"status": found}, found, as_json)


@dmp.command("find")
@_ins
@click.option("--status", "statuses", multiple=True, type=click.Choice(list(dmp_commands.STATUSES)), help="Repeats.")
@_json_option
def dmp_find(ins: str, oid: str, statuses: tuple[str, ...], as_json: bool) -> None:
    """List documents (TD3.1)."""
    found = dmp_commands.find(_target(ins, oid), statuses)
    _answer({"documents": found}, dmp_commands.as_text(found), as_json)


@dmp.command("retrieve")
@_ins
@click.argument("unique_id")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="File to write.")
@_json_option
def dmp_retrieve(ins: str, oid: str, unique_id: str, output: Path, as_json: bool) -> None:
    """Read a document (TD3.2)."""
    found = dmp_commands.retrieve(_target(ins, oid), unique_id, output)
    _answer(found, f"{output}: {found['size']} bytes", as_json)


def _visibility(hide: bool) -> None:
    @dmp.command("hide" if hide else "show", help=f"{'Hide' if hide else 'Show'} a document (TD3.3a, TD3.3b).")
    @_ins
    @click.argument("unique_id")
    @click.option(
        "--from" if hide else "--to",
        "audiences",
        multiple=True,
        required=True,
        type=click.Choice(AUDIENCES),
        help="Repeats.",
    )
    @_json_option
    def command(ins: str, oid: str, unique_id: str, audiences: tuple[Audience, ...], as_json: bool) -> None:
        found = dmp_commands.change_visibility(_target(ins, oid), unique_id, audiences, hide=hide)
        _answer(found, dmp_commands.as_text([found]), as_json)


_visibility(hide=True)
_visibility(hide=False)


@dmp.command("change")
@_ins
@click.argument("unique_id")
@click.argument("change", type=click.Choice(["archive", "unarchive", "delete"]))
@_json_option
def dmp_change(ins: str, oid: str, unique_id: str, change: dmp_commands.Change, as_json: bool) -> None:
    """Archive a document, take it back, or delete it (TD3.3c, TD3.3d)."""
    found = dmp_commands.change_status(_target(ins, oid), unique_id, change)
    _answer(found, dmp_commands.as_text([found]), as_json)


@dmp.command("web")
@_ins
@click.option("--page", type=click.Choice(PAGES), default=PAGES[0], show_default=True)
@_json_option
def dmp_web(ins: str, oid: str, page: str, as_json: bool) -> None:
    """Say the address of the Web access on this patient (TD0.9)."""
    address = dmp_commands.web_address(_target(ins, oid), page)
    _answer({"address": address}, address, as_json)


@main.group()
def share() -> None:
    """Look into a FHIR document share (PDSm); INS is the matricule of the patient, with its key."""


@share.command("search")
@_ins
@click.option("--status", "statuses", multiple=True, type=click.Choice(share_commands.STATUSES), help="Repeats.")
@click.option("--type", "kind", default="", help="Code of a type of document, for example 18776-5.")
@_json_option
def share_search(ins: str, oid: str, statuses: tuple[str, ...], kind: str, as_json: bool) -> None:
    """List documents (ITI-67)."""
    found = share_commands.search(_target(ins, oid), statuses, kind)
    _answer({"documents": found}, share_commands.as_text(found), as_json)


@share.command("get")
@_ins
@click.argument("identifier")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="File to write.")
@_json_option
def share_get(ins: str, oid: str, identifier: str, output: Path, as_json: bool) -> None:
    """Read a document by its identifier (ITI-68)."""
    found = share_commands.get(_target(ins, oid), identifier, output)
    _answer(found, f"{output}: {found['bytes']} bytes", as_json)


@main.command()
@click.option("--folder", type=click.Path(path_type=Path), help="Where to leave what was made; a new folder otherwise.")
@click.option("--without-rules", is_flag=True, help="Go on where the official rules are not on this machine.")
@_json_option
def demo(folder: Path | None, without_rules: bool, as_json: bool) -> None:
    """The main job, start to end: a care plan becomes a PPS in a mailbox and in a repository."""
    from relais.server.demo import run

    logging.getLogger().setLevel(logging.WARNING)
    result = run(folder, without_rules=without_rules, say=_progress(as_json))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(result), indent=2).decode())
    sys.exit(0 if result["done"] else 1)


def _write(content: bytes, output: Path | None, as_json: bool, result: dict[str, Any]) -> None:
    if output is None:
        sys.stdout.buffer.write(content)
        return
    write_private(output, content)
    _answer({"output": str(output), "bytes": len(content)} | result, f"{output}: {len(content)} bytes", as_json)


def _progress(as_json: bool) -> Callable[[str], None]:
    return lambda line: click.echo(line, err=as_json)


def _stop_event() -> threading.Event:
    """Set by SIGTERM or SIGINT."""
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda _number, _frame: stop.set())
    return stop


if __name__ == "__main__":
    main()
