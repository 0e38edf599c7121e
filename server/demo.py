"""`relais demo`: the main job on one machine, with real processes and real sockets, each step shown with its result.

Facade and worker run as the processes an operator would start, the counterparts are those of `relais sandbox`.
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import requests

from relais.cda import xdm
from relais.cda.errors import Issue, RelaisError
from relais.mappings.context import Resource
from relais.server import commands
from relais.server.reports.text import text
from relais.server.sandbox import Sandbox
from relais.server.settings import Settings
from relais.server.validation.judge import Judge

Say = Callable[[str], None]

PLAN = Path(__file__).with_name("demo_plan.json")
RECIPIENT = "medecin.traitant@cabinet-demo.mssante.fr"
SENDER = "coordination@dac-demo.mssante.fr"
_PATIENCE = 40.0  # seconds for the order to be carried out; the worker compiles the official rules first


class _Steps:
    """Numbers the steps, tells each with its duration, and keeps them for `--json`."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self.done: list[dict[str, Any]] = []

    @contextmanager
    def step(self, title: str) -> Iterator[list[str]]:
        """One step; lines appended to the list are its result."""
        started, lines = time.monotonic(), list[str]()
        self._say(f"[{len(self.done) + 1}] {title} ...")
        try:
            yield lines
        finally:
            for line in lines:
                self._say(f"      {line}")
        seconds = time.monotonic() - started
        self._say(f"      done in {seconds:.1f} s")
        self.done.append({"step": title, "seconds": round(seconds, 2), "result": lines})


def run(folder: Path | None, *, without_rules: bool, say: Say) -> dict[str, Any]:
    """Do the whole job in `folder` (a new temporary one by default) and report it.

    The result's `done` is true only if every step happened, the official rules included unless `without_rules`.
    """
    settings = Settings.load()
    if settings.rules_folder is None and not without_rules:
        message = "official CI-SIS rules not found: set RELAIS_CISIS_PACK to their folder, or say --without-rules"
        raise RelaisError(Issue("fatal", "not-found", message))
    folder = folder or Path(tempfile.mkdtemp(prefix="relais-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    steps = _Steps(say)
    say(f"Everything this demonstration makes is left in {folder}")
    try:
        with ExitStack() as stack:
            _job(stack, folder, steps, judged=settings.rules_folder is not None)
    except (RelaisError, requests.RequestException) as error:
        say(f"      FAILED: {error}")
        return {"done": False, "folder": str(folder), "steps": steps.done, "error": str(error)}
    say(
        "The care plan is an officially valid PPS, in the mailbox and in the repository."
        if settings.rules_folder
        else "The care plan is in the mailbox and in the repository; the official rules were not on this machine."
    )
    return {"done": True, "folder": str(folder), "steps": steps.done}


def _job(stack: ExitStack, folder: Path, steps: _Steps, *, judged: bool) -> None:
    with steps.step("Starting sandbox, facade and worker") as lines:
        sandbox = stack.enter_context(Sandbox(folder / "sandbox"))
        base = _start_processes(stack, folder, sandbox, rules_required=judged)
        lines += [f"facade   {base}", f"mailbox  smtp://127.0.0.1:{sandbox.smtp_port}", f"DMP      {sandbox.dmp_url}"]
    with steps.step("Posting the care plan as a FHIR transaction") as lines:
        plan = _post_plan(base, lines)
    with steps.step("Asking for its PPS ($to-cda)") as lines:
        document = _document(base, plan, folder, lines)
    if judged:
        with steps.step("Checking it with the official rules (compiling them takes a few seconds)") as lines:
            _judge(folder / "pps.xml", lines)
    with steps.step("Packing it as IHE_XDM.ZIP") as lines:
        archive = commands.pack([document], Settings.load(), datetime.now(UTC))
        (folder / "IHE_XDM.ZIP").write_bytes(archive)
        lines.append(f"{folder / 'IHE_XDM.ZIP'}, {len(archive)} bytes")
    with steps.step("Sending it to the mailbox and to the DMP ($transmit)") as lines:
        _transmit(base, plan, lines)
    with steps.step("Looking at what the receivers hold") as lines:
        _compare(sandbox, document, lines)


def _start_processes(stack: ExitStack, folder: Path, sandbox: Sandbox, *, rules_required: bool) -> str:
    """Start `relais serve` and `relais worker`; the base URL once the facade answers."""
    port = _free_port()
    environ = os.environ | {
        "RELAIS_DATABASE_URL": f"sqlite:///{folder / 'relais.sqlite'}",
        "RELAIS_HOST": "127.0.0.1",
        "RELAIS_PORT": str(port),
        "RELAIS_WORKERS": "1",
        "RELAIS_MSS_SENDER": SENDER,
        "RELAIS_MSS_PRODUCT_REFERENCE": "relais-demo",
        "RELAIS_RETRY_BASE": "1",
        "RELAIS_VALIDATION_AT_START": "false",
        "RELAIS_RULES_REQUIRED": "true" if rules_required else "false",
    }
    environ |= {f"RELAIS_{name.upper()}": str(value) for name, value in sandbox.settings.items()}
    facade = _process(stack, ["serve"], environ, folder / "facade.log")
    base = f"http://127.0.0.1:{port}/fhir"
    _wait_for(base, facade)
    _process(stack, ["worker"], environ, folder / "worker.log")
    return base


def _process(stack: ExitStack, arguments: list[str], environ: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    output = stack.enter_context(log.open("wb"))
    command = [sys.executable, "-m", "relais.server.cli", *arguments]
    process = subprocess.Popen(command, env=environ, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603
    stack.callback(_stop, process)
    return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_for(base: str, facade: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and facade.poll() is None:
        try:
            if requests.get(f"{base}/metadata", timeout=2).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.05)
    raise RelaisError(Issue("fatal", "timeout", "the facade did not start; see facade.log"))


def _post_plan(base: str, lines: list[str]) -> str:
    answer = _ok(
        requests.post(base, data=PLAN.read_bytes(), headers={"Content-Type": "application/fhir+json"}, timeout=30)
    )
    locations = [entry["response"]["location"] for entry in answer.json()["entry"]]
    plan = next(place for place in locations if "CarePlan/" in place).split("/_history/")[0]
    lines.append(f"{len(locations)} resources stored; the plan is {base}/{plan.removeprefix(base + '/')}")
    return str(plan.removeprefix(base + "/"))


def _document(base: str, plan: str, folder: Path, lines: list[str]) -> bytes:
    document = _ok(requests.get(f"{base}/{plan}/$to-cda", timeout=30)).content
    (folder / "pps.xml").write_bytes(document)
    lines.append(f"{folder / 'pps.xml'}, {len(document)} bytes, SHA-256 {hashlib.sha256(document).hexdigest()[:16]}…")
    return document


def _judge(path: Path, lines: list[str]) -> None:
    report = Judge(Settings.load()).judge(path.read_bytes(), path.name)
    told = text([report], "en").splitlines()
    limits = [line for line in told if line.lstrip().startswith("limit:")]
    lines += [line for line in told if line not in limits]
    lines.append(f"  {len(limits)} limits of the published rules: relais validate {path}")
    if report.verdict != "conformant":
        raise RelaisError(Issue("error", "invariant", "the official rules refuse the document", str(path)))


def _transmit(base: str, plan: str, lines: list[str]) -> None:
    order: Resource = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "channel", "valueCode": "mss"},
            {"name": "channel", "valueCode": "dmp"},
            {"name": "recipient", "valueString": RECIPIENT},
        ],
    }
    headers = {"Content-Type": "application/fhir+json"}
    task = _ok(requests.post(f"{base}/{plan}/$transmit", json=order, headers=headers, timeout=30)).json()
    lines.append(f"{base}/Task/{task['id']}: {task['status']}")
    deadline = time.monotonic() + _PATIENCE
    while task["status"] in ("requested", "in-progress") and time.monotonic() < deadline:
        time.sleep(0.2)
        task = _ok(requests.get(f"{base}/Task/{task['id']}", timeout=10)).json()
    lines += [f"{one['type']['text']}: {one['valueString']}" for one in task["output"] if "valueString" in one]
    lines.append(f"{base}/Task/{task['id']}: {task['status']}")
    if task["status"] != "completed":
        raise RelaisError(Issue("error", "processing", f"the order ended {task['status']}; see worker.log"))


def _compare(sandbox: Sandbox, document: bytes, lines: list[str]) -> None:
    """Both receivers must hold the very bytes that were issued."""
    messages, entries = sandbox.messages(), sandbox.documents()
    mailed = [packed.data for message in messages for packed in xdm.unpack(_archive(message.path)).documents]
    stored = [entry.path.read_bytes() for entry in entries]
    lines += [f"mailbox:    {message.path}" for message in messages]
    lines += [f"repository: {entry.path}" for entry in entries]
    if mailed != [document] or stored != [document]:
        raise RelaisError(Issue("error", "processing", "a receiver does not hold the bytes that were issued"))
    lines.append("both hold the document, byte for byte")


def _archive(message: Path) -> bytes:
    """The IHE_XDM.ZIP of a stored mail."""
    mail = message_from_bytes(message.read_bytes(), policy=policy.default)
    zipped = (part for part in mail.iter_attachments() if part.get_content_type() == "application/zip")
    return bytes(next(zipped).get_content())


def _ok(answer: requests.Response) -> requests.Response:
    if answer.ok:
        return answer
    raise RelaisError(
        Issue("error", "processing", f"{answer.request.method} {answer.url}: {answer.status_code} {answer.text}")
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
