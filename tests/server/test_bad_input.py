"""What the facade refuses: each request gets the right status, names the place, and leaves nothing behind."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from gunicorn.config import Config

from relais.cda.errors import Issue
from relais.server import wsgi
from relais.server.app import create_app
from relais.server.settings import Settings
from relais.server.store import StoreError, VersionConflictError
from support.facade import RunningFacade, issues

PLAN: dict[str, Any] = {"resourceType": "CarePlan", "status": "active", "intent": "plan"}
JSON = "application/fhir+json"


@pytest.fixture(autouse=True)
def nothing_is_left_behind(facade: RunningFacade) -> Iterator[None]:
    before = facade.count()
    yield
    assert facade.count() == before


def nested(levels: int) -> bytes:
    return b'{"resourceType":"Patient","extension":' + b'[{"extension":' * levels + b"[]" + b"}]" * levels + b"}"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "body"),
        (b"{", "not JSON"),
        (b'{"resourceType":"Patient",}', "not JSON"),
        (b'{"resourceType":"Patient"} {}', "not JSON"),
        (b"<Patient/>", "not JSON"),
        (b"[]", "resourceType"),
        (b'"Patient"', "resourceType"),
        (b'{"gender":"female"}', "resourceType"),
        (b'{"resourceType":7}', "resourceType"),
        (b'{"resourceType":"Patient","gender":"male","gender":"female"}', "gender"),
        (b'{"resourceType":"Patient","name":[{"family":"a","family":"b"}]}', "family"),
        (b'{"resourceType":"Patient","multipleBirthInteger":NaN}', "NaN"),
        (b'{"resourceType":"Patient","multipleBirthInteger":-Infinity}', "Infinity"),
        (b'{"resourceType":"Patient","multipleBirthInteger":1e999999999999999999999}', "digits"),
        (b'{"resourceType":"Patient","multipleBirthInteger":1.' + b"1" * 5000 + b"}", "digits"),
        (b'{"resourceType":"Patient","multipleBirthInteger":1' + b"1" * 5000 + b"}", "digits"),
        ('{"resourceType":"Patient","language":"é"}'.encode("latin-1"), "UTF-8"),
        (b'{"resourceType":"Patient","language":"\\ud800"}', "surrogate"),
        (b'{"resourceType":"Patient","language":"\\u0000"}', "NUL"),
        (b'{"resourceType":"Patient","language":"\\u001f"}', "control"),
        (b'{"resourceType":"Patient","language":"\\b"}', "control"),
        (b'{"resourceType":"Patient","language":"\xef\xbf\xbf"}', "control"),
        (nested(100), "nested"),
        (nested(100_000), "nested"),
    ],
    ids=lambda value: value[:60].decode("latin-1") if isinstance(value, bytes) else value,
)
def test_unreadable_body(facade: RunningFacade, body: bytes, said: str) -> None:
    answer = facade.post("Patient", body)
    assert answer.status_code == 400
    assert said in issues(answer)[0]["diagnostics"]


@pytest.mark.parametrize(
    ("resource", "status", "code", "path"),
    [
        ({"resourceType": "Patient", "nam": "x"}, 400, "structure", "Patient.nam"),
        ({"resourceType": "Patient", "name": {"family": "x"}}, 400, "structure", "Patient.name"),
        ({"resourceType": "Patient", "active": "yes"}, 400, "value", "Patient.active"),
        ({"resourceType": "Patient", "birthDate": "2020-02-30"}, 400, "value", "Patient.birthDate"),
        ({"resourceType": "Patient", "name": [{"family": ""}]}, 400, "value", "Patient.name[0].family"),
        ({"resourceType": "Patient", "meta": "x"}, 400, "structure", "Patient.meta"),
        ({"resourceType": "Patient", "gender": "woman"}, 422, "code-invalid", "Patient.gender"),
        ({**PLAN}, 422, "required", "CarePlan.subject"),
        ({"resourceType": "CarePlan"}, 422, "required", "CarePlan.status"),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_wrong_resource(facade: RunningFacade, resource: dict[str, Any], status: int, code: str, path: str) -> None:
    answer = facade.post(resource["resourceType"], resource)
    assert answer.status_code == status
    assert (code, [path]) in [(issue["code"], issue.get("expression")) for issue in issues(answer)], answer.text


def test_a_refusal_never_repeats_a_value(facade: RunningFacade) -> None:
    answer = facade.post("Patient", {"resourceType": "Patient", "birthDate": "SECRET", "gender": "SECRET"})
    assert answer.status_code == 400
    assert "SECRET" not in answer.text


@pytest.mark.parametrize("resource_type", ["CarePlan", "Nothing", "patient"])
def test_resource_of_another_type(facade: RunningFacade, resource_type: str) -> None:
    answer = facade.post("Patient", {"resourceType": resource_type})
    assert (answer.status_code, issues(answer)[0]["expression"]) == (400, ["Patient.resourceType"])


@pytest.mark.parametrize("body_id", [None, "other", "", 7, ["x"]])
def test_update_needs_the_id_of_its_address(facade: RunningFacade, body_id: Any) -> None:
    body = {"resourceType": "Patient"} if body_id is None else {"resourceType": "Patient", "id": body_id}
    answer = facade.put("Patient/x", body)
    assert (answer.status_code, issues(answer)[0]["expression"]) == (400, ["Patient.id"])


def test_update_with_an_id_that_is_none(facade: RunningFacade) -> None:
    assert facade.put("Patient/a_b", {"resourceType": "Patient", "id": "a_b"}).status_code == 404
    assert facade.put(f"Patient/{'a' * 65}", {"resourceType": "Patient", "id": "a" * 65}).status_code == 404


@pytest.mark.parametrize(
    "reference", ["Patient/nobody", "Group/nobody", "{base}/Patient/nobody", "urn:uuid:5", "Patient?identifier=1"]
)
def test_reference_to_nothing(facade: RunningFacade, reference: str) -> None:
    plan = PLAN | {"subject": {"reference": reference.format(base=facade.base)}}
    answer = facade.post("CarePlan", plan)
    assert answer.status_code == 422
    assert issues(answer)[0]["expression"] == ["CarePlan.subject.reference"]
    assert "nobody" not in answer.text


def test_reference_in_an_extension_to_nothing(facade: RunningFacade) -> None:
    extension = {"url": "http://example.org/x", "valueReference": {"reference": "Patient/nobody"}}
    answer = facade.post("Patient", {"resourceType": "Patient", "extension": [extension]})
    assert issues(answer)[0]["expression"] == ["Patient.extension[0].valueReference.reference"]


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "*/*", "json", "application/fhir+json; charset=latin-1", f"{JSON}; fhirVersion=5.0"],
)
def test_wrong_content_type(facade: RunningFacade, content_type: str) -> None:
    answer = facade.post("Patient", {"resourceType": "Patient"}, Content_Type=content_type)
    assert (answer.status_code, issues(answer)[0]["code"]) == (415, "not-supported")
    assert answer.headers["Accept"]


def test_body_of_50_megabytes(facade: RunningFacade) -> None:
    answer = facade.post("Patient", b'{"resourceType":"Patient","language":"' + b"a" * 50_000_000 + b'"}')
    assert (answer.status_code, issues(answer)[0]["code"]) == (413, "too-long")


def test_body_of_50_megabytes_is_refused_before_it_is_sent(facade: RunningFacade) -> None:
    with _connection(facade, {"Content-Length": "50000000", "Content-Type": JSON}) as connection:
        assert connection.recv(12) == b"HTTP/1.1 413"


def test_endless_chunked_body(facade: RunningFacade) -> None:
    with _connection(facade, {"Transfer-Encoding": "chunked", "Content-Type": JSON}) as connection:
        for _ in range(400):
            try:
                connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
            except OSError:
                break  # the server has closed its side
        assert connection.recv(12) == b"HTTP/1.1 413"


def test_truncated_body(facade: RunningFacade) -> None:
    with _connection(facade, {"Content-Length": "1000", "Content-Type": JSON}) as connection:
        connection.sendall(b'{"resourceType":"Patient"}')
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"OperationOutcome" in answer


def test_truncated_chunked_body(facade: RunningFacade) -> None:
    with _connection(facade, {"Transfer-Encoding": "chunked", "Content-Type": JSON}) as connection:
        connection.sendall(b'1a\r\n{"resourceType":"Patient"}\r\n')
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400")


def _connection(facade: RunningFacade, headers: dict[str, str]) -> socket.socket:
    """A connection on which a POST of a Patient has begun."""
    connection = socket.create_connection(("127.0.0.1", facade.port), timeout=20)
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    connection.sendall(f"POST /fhir/Patient HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode())
    return connection


@pytest.mark.parametrize("path", ["Patient/x?_foo=1", "metadata?patient=1"])
def test_parameter_that_would_be_ignored(facade: RunningFacade, path: str) -> None:
    answer = facade.get(path)
    assert (answer.status_code, issues(answer)[0]["code"]) == (400, "not-supported")


def test_the_log_holds_no_query(facade: RunningFacade) -> None:
    facade.get("Patient/x?name=SECRET")
    facade.get("Patient?name=SECRET")
    for line in ("GET /fhir/Patient?name=SECRETé HTTP/1.1\r\n", "GET /fhir/metadata HTTP/1.1\r\nSECRET\r\n"):
        with socket.create_connection(("127.0.0.1", facade.port), timeout=20) as connection:
            connection.sendall(f"{line}\r\n".encode())  # no HTTP: gunicorn refuses it by itself
            assert connection.recv(12) == b"HTTP/1.1 400"
    deadline = time.monotonic() + 20
    while facade.log.read_text().count("Invalid request") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "SECRET" not in facade.log.read_text()
    assert "/fhir/Patient/x" in facade.log.read_text()


def test_faults_of_the_http_server_are_told_without_what_they_quote(capsys: pytest.CaptureFixture[str]) -> None:
    log, value = wsgi._Log(Config()), "SECRET"
    try:
        int(value)
    except ValueError:
        log.exception("Error handling request %s %s", "GET", "/fhir/Patient?name=SECRET")
    told = capsys.readouterr().err
    assert "Error handling request: ValueError" in told
    assert "SECRET" not in told


@pytest.mark.parametrize("kind", ["json", "xml"])
def test_a_refusal_that_quotes_a_control_character(facade: RunningFacade, kind: str) -> None:
    answer = facade.get(f"metadata?_format={kind}&%19%ef%bf%bf=")
    assert answer.status_code == 400
    assert b"\xef\xbf\xbd" in answer.content


def test_no_client_writes_a_line_of_the_log(facade: RunningFacade) -> None:
    facade.get("Patient/x%0A[01/Jan/2026] FORGED")
    deadline = time.monotonic() + 20  # the line is written after the answer
    while "Patient/x%0A%5B01/Jan/2026%5D%20FORGED" not in facade.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "\n[01/Jan/2026]" not in facade.log.read_text()


def bundle(*entries: dict[str, Any], kind: str = "transaction") -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def entry(resource: Any, method: str = "POST", url: str = "", full_url: str = "") -> dict[str, Any]:
    url = url or resource["resourceType"]
    made: dict[str, Any] = {"resource": resource, "request": {"method": method, "url": url}}
    return made | ({"fullUrl": full_url} if full_url else {})


PATIENT = {"resourceType": "Patient"}


@pytest.mark.parametrize(
    ("posted", "status", "path"),
    [
        (PATIENT, 400, "resourceType"),
        ({"resourceType": "Bundle", "type": "collection"}, 422, "Bundle.type"),
        ({"resourceType": "Bundle"}, 422, "Bundle.type"),
        ({"resourceType": "Bundle", "type": "transaction", "entry": {}}, 400, "Bundle.entry"),
        ({"resourceType": "Bundle", "type": "transaction", "entry": ["x"]}, 400, "Bundle.entry[0]"),
        (bundle({"resource": PATIENT, "fullUrl": "urn:uuid:1"}), 422, "Bundle.entry[0].request"),
        (bundle({"request": {"method": "POST"}}), 422, "Bundle.entry[0].request.url"),
        (bundle({"request": {"method": "POST", "url": "Patient"}}), 422, "Bundle.entry[0].resource"),
        (bundle(entry(PATIENT, "BREW")), 422, "Bundle.entry[0].request.method"),
        (bundle(entry(PATIENT, url="Nothing")), 404, "Bundle.entry[0].request.url"),
        (bundle(entry(PATIENT, url="Patient/a/b/c")), 404, "Bundle.entry[0].request.url"),
        (bundle(entry(PATIENT, url="https://elsewhere.example/Patient")), 404, "Bundle.entry[0].request.url"),
        (bundle(entry(PATIENT, url="CarePlan")), 400, "Bundle.entry[0].resource.resourceType"),
        (bundle(entry(PATIENT), entry(PATIENT, "PUT", "Patient/x")), 400, "Bundle.entry[1].resource.id"),
        (bundle(entry(PATIENT), entry(PATIENT | {"nam": 1})), 400, "Bundle.entry[1].resource.nam"),
        (bundle(entry(PATIENT), entry("x", url="Patient")), 400, "Bundle.entry[1].resource"),
        (bundle(entry(PATIENT), entry(PLAN)), 422, "Bundle.entry[1].resource.subject"),
        (
            bundle(entry(PATIENT), entry(PLAN | {"subject": {"reference": "Patient/nobody"}})),
            422,
            "Bundle.entry[1].resource.subject.reference",
        ),
        (
            bundle(entry(PATIENT), entry(PLAN | {"subject": {"reference": "urn:uuid:nobody"}})),
            422,
            "Bundle.entry[1].resource.subject.reference",
        ),
        (
            bundle(entry(PATIENT), entry(PLAN | {"subject": {"reference": "Patient?identifier=urn:oid:1.2|nobody"}})),
            412,
            "Bundle.entry[1].resource.subject.reference",
        ),
        (
            bundle(entry(PATIENT, full_url="urn:uuid:1"), entry(PATIENT, full_url="urn:uuid:1")),
            422,
            "Bundle",
        ),
        (bundle(entry(PATIENT, full_url="Patient/1")), 400, "Bundle.entry[0].fullUrl"),
        (bundle(entry(PATIENT | {"id": "a"}, full_url="https://a.example/Patient/b")), 400, "Bundle.entry[0].fullUrl"),
        (
            bundle(*(entry(PATIENT | {"id": "twice"}, "PUT", "Patient/twice") for _ in range(2))),
            400,
            "Bundle.entry[1]",
        ),
        (
            bundle(entry(PATIENT), {"request": {"method": "GET", "url": "Patient/nobody"}}),
            404,
            "Bundle.entry[1]",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_transaction_that_is_refused(facade: RunningFacade, posted: dict[str, Any], status: int, path: str) -> None:
    answer = facade.post("", posted)
    assert answer.status_code == status, answer.text
    assert [path] in [issue.get("expression") for issue in issues(answer)], answer.text


def test_bundle_with_too_many_entries(facade: RunningFacade) -> None:
    answer = facade.post("", bundle(*[entry(PATIENT)] * 5001))
    assert (answer.status_code, issues(answer)[0]["code"]) == (413, "too-costly")


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Exception], FlaskClient]]:
    """The application in this process, whose store raises what a test wants."""
    app = create_app(Settings.of({"fhir_packages": "none", "database_url": f"sqlite:///{tmp_path / 'x.sqlite'}"}))
    store = app.extensions["relais"].store

    def breaking(error: Exception) -> FlaskClient:
        def fail(*_: Any, **__: Any) -> None:
            raise error

        monkeypatch.setattr(store, "read", fail)
        return app.test_client()

    yield breaking
    store.close()


def test_a_bug_shows_no_trace_and_no_value(
    broken: Callable[[Exception], FlaskClient], caplog: pytest.LogCaptureFixture
) -> None:
    answer = broken(RuntimeError("SECRET")).get("/fhir/Patient/1", headers={"X-Request-Id": "abc"})
    assert answer.status_code == 500
    assert answer.get_json()["issue"][0] == {
        "severity": "fatal",
        "code": "exception",
        "diagnostics": "internal error; request abc",
    }
    assert "abc" in caplog.text
    assert "RuntimeError" in caplog.text
    assert "SECRET" not in caplog.text


def test_a_database_that_does_not_answer(broken: Callable[[Exception], FlaskClient]) -> None:
    error = StoreError(Issue("error", "transient", "the database is unavailable"))
    answer = broken(error).get("/fhir/Patient/1")
    assert (answer.status_code, answer.get_json()["issue"][0]["code"]) == (503, "transient")
    assert int(answer.headers["Retry-After"]) > 0


def test_a_writer_that_comes_second_on_postgresql(broken: Callable[[Exception], FlaskClient]) -> None:
    answer = broken(VersionConflictError("Patient", "1")).get("/fhir/Patient/1")
    assert (answer.status_code, answer.get_json()["issue"][0]["code"]) == (409, "conflict")
