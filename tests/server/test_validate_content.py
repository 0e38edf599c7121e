"""`$validate` over HTTP of what is no FHIR: the verdict as an OperationOutcome or a page, by processes of its own."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from relais.cda.validation_pool import ProcessPool
from relais.cda.writer import write
from relais.server.app import create_app
from relais.server.conformance import Conformance
from relais.server.fhir import content_validation
from relais.server.fhir.content_validation import ContentJudge
from relais.server.fhir.outcome import FhirError
from relais.server.settings import Settings
from relais.server.validation.files import Job
from relais.server.validation.report import Part, Report, RuleSetUsed
from support.documents import small_document
from support.facade import RunningFacade, issues, running_facade
from support.hl7v2 import message
from support.rules import PPS, UNSTRUCTURED, example


@pytest.fixture(scope="module")
def facade(cisis: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFacade]:
    folder = tmp_path_factory.mktemp("content")
    with running_facade(folder, cisis_pack=cisis, workers=1, threads=4, fhir_packages="none") as running:
        yield running


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    """The application in this process, without official rules."""
    folder = tmp_path_factory.mktemp("application")
    given = {"fhir_packages": "none", "database_url": f"sqlite:///{folder / 'x.sqlite'}", "cisis_pack": str(folder)}
    app = create_app(Settings.of(given))
    yield app.test_client()
    app.extensions["relais"].store.close()


def validate(
    facade: RunningFacade, body: object, content_type: str, **headers: str
) -> tuple[int, list[dict[str, object]]]:
    """Status and issues."""
    answer = facade.request("POST", "$validate", body, Content_Type=content_type, **headers)
    return answer.status_code, issues(answer)


@pytest.mark.timeout(600)
def test_whatever_comes_is_recognised_and_judged(facade: RunningFacade, cisis: Path) -> None:
    document = example(cisis, UNSTRUCTURED)
    status, found = validate(facade, document, "text/xml; charset=utf-8")
    assert status == 200
    assert found[0]["severity"] == "information"
    assert str(found[0]["diagnostics"]).startswith("CONFORMANT")
    assert str(found[0]["details"]).count("tcc-3.0@") == 1

    status, found = validate(facade, example(cisis, PPS), "application/octet-stream", Accept_Language="fr")
    assert (status, found[0]["severity"]) == (200, "error")
    assert str(found[0]["diagnostics"]).startswith("NON CONFORME")
    assert any("terminologie.sch:30" in str(one["details"]) for one in found)
    assert not any("MED-057" in str(one["diagnostics"]) for one in found)  # no issue quotes the document

    status, found = validate(facade, message(), "x-application/hl7-v2+er7")
    assert status == 200
    assert any(str(one.get("expression", "")).startswith("['OBX-5#") for one in found)

    binary = {"resourceType": "Binary", "contentType": "text/xml", "data": base64.b64encode(document).decode()}
    status, found = validate(facade, binary, "application/fhir+json")
    assert (status, found[0]["severity"]) == (200, "information")

    page = facade.request("POST", "$validate", document, Content_Type="text/xml", Accept="text/html")
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert page.text.startswith("<!DOCTYPE html>")
    assert "sandbox" in page.headers["Content-Security-Policy"]


def test_what_is_nothing_of_that_is_refused(facade: RunningFacade) -> None:
    status, found = validate(facade, b"hello", "text/plain")
    assert (status, found[0]["code"]) == (415, "not-supported")


def test_fhir_in_plain_xml_stays_a_resource(facade: RunningFacade) -> None:
    status, found = validate(facade, b'<Patient xmlns="http://hl7.org/fhir"><gender value="x"/></Patient>', "text/xml")
    assert (status, found[0]["expression"]) == (200, ["Patient.gender"])
    status, _ = validate(facade, b"<html/>", "application/xml")
    assert status == 400


def test_document_is_no_patient(facade: RunningFacade) -> None:
    answer = facade.request("POST", "Patient/$validate", write(small_document()), Content_Type="text/xml")
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "wrong", [{"contentType": 5}, {"contentType": None}, {"data": 5}, {"data": "A"}, {"data": "é"}, {"data": ["AAAA"]}]
)
def test_broken_binary_is_judged_as_a_resource(application: FlaskClient, wrong: dict[str, object]) -> None:
    binary = {"resourceType": "Binary", "contentType": "text/xml", "data": "AAAA"} | wrong
    answer = application.post("/fhir/$validate", json=binary)
    [issue] = answer.get_json()["issue"]
    assert (answer.status_code, issue["severity"]) == (200, "error")
    assert issue["expression"] == [f"Binary.{next(iter(wrong))}"]


@pytest.fixture
def content_judge(tmp_path: Path) -> ContentJudge:
    """A judge of a facade with three threads, without rules and packages."""
    settings = Settings(threads=3, fhir_packages="none", cisis_pack=str(tmp_path))
    return ContentJudge(settings, Conformance.load(settings))


@pytest.mark.parametrize(("ready", "refusal"), [(True, "too many"), (False, "being compiled")])
def test_one_thread_of_a_web_process_never_waits_for_a_verdict(
    content_judge: ContentJudge, monkeypatch: pytest.MonkeyPatch, ready: bool, refusal: str
) -> None:
    released = threading.Event()
    monkeypatch.setattr(content_judge._pool, "run", lambda *_: released.wait(60))
    monkeypatch.setattr(ProcessPool, "is_ready", ready)
    with ThreadPoolExecutor(3) as executor:
        asked = [executor.submit(content_judge.judge, b"MSH|", "en") for _ in range(3)]
        try:
            [refused] = list(wait(asked, 30, FIRST_COMPLETED).done)
            with pytest.raises(FhirError, match=refusal) as error:
                refused.result()
            assert error.value.status == 503
            assert error.value.headers.get("Retry-After") == (None if ready else "5")
        finally:
            released.set()
    content_judge.judge(b"MSH|", "en")  # those that waited have left


def test_the_last_thread_waits_briefly_for_another_to_leave(
    content_judge: ContentJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = threading.Event()
    monkeypatch.setattr(content_validation, "_BRIEFLY", 60)
    monkeypatch.setattr(content_judge._pool, "run", lambda *_: left.wait(60))
    monkeypatch.setattr(ProcessPool, "is_ready", True)
    with ThreadPoolExecutor(3) as executor:
        asked = [executor.submit(content_judge.judge, b"MSH|", "en") for _ in range(3)]
        left.set()
        assert len(wait(asked, 60).done) == 3
        assert [one.exception() for one in asked] == [None, None, None]


def test_a_resource_is_judged_by_the_packages_of_the_facade(
    content_judge: ContentJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what a Binary holds goes to a process, which would load the packages once more."""
    document = base64.b64encode(b"MSH|").decode()
    binary = json.dumps({"resourceType": "Binary", "contentType": "text/plain", "data": document}).encode()
    inner = Report("", (Part("", "hl7v2", "", 4, ()), Part("OBX-5", "cda", "", 0, ())), (RuleSetUsed("x", "y"),))
    given: list[Job] = []
    monkeypatch.setattr(content_judge._pool, "run", lambda job, _: given.append(job) or inner)
    report = content_judge.judge(binary, "en")
    assert [job.data for job in given] == [b"MSH|"]
    assert [part.place for part in report.parts] == ["", "Binary.data", "Binary.data!OBX-5"]
    assert report.rule_sets == inner.rule_sets


def started(facade: RunningFacade) -> int:
    """The process id of the one validation process of a facade, once it is there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [pid for pid in facade.processes() if b"validation_pool" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        if found:
            [process] = found
            return process
        time.sleep(0.05)
    raise AssertionError(facade.log.read_text())


@pytest.mark.timeout(600)
def test_rules_are_compiled_at_start_and_other_requests_do_not_wait(cisis: Path, tmp_path: Path) -> None:
    with running_facade(tmp_path, cisis_pack=cisis, workers=1, validation_at_start="true") as facade:
        process = started(facade)
        assert facade.get("metadata").status_code == 200
        _, found = validate(facade, example(cisis, UNSTRUCTURED), "text/xml")
        assert str(found[0]["diagnostics"]).startswith("CONFORMANT")
        assert started(facade) == process


def test_server_that_stops_while_rules_are_compiled_leaves_no_process(cisis: Path, tmp_path: Path) -> None:
    with running_facade(tmp_path, cisis_pack=cisis, workers=1, validation_at_start="true") as facade:
        process = started(facade)
    assert not Path(f"/proc/{process}").exists()
