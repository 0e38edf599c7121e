"""Nothing that a client sends makes the facade fail or hang: generated requests, and generated headers and bodies."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.facade import RunningFacade

SECONDS = 25
_FHIR_JSON = "application/fhir+json"

_STRUCTURE = ("resourceType", "id", "meta", "extension", "contained", "entry", "resource", "request", "url", "method")
_CONTENT = ("name", "_name", "text", "div", "type", "value", "valueString", "reference", "subject", "parameter", "part")
_OPS = ("add", "remove", "replace", "test", "move", "copy")
_ADDRESSES = ("", "Patient", "Patient/1", "Bundle", "Binary", "Binary/1", "CarePlan", "Patient?identifier=1")
_OPERATIONS = ("$validate", "Patient/1/$meta-add", "_search", "$export", "Patient/1/$everything", "$to-cda")
_CONDITIONS = ("If-Match", "If-None-Match", "If-Modified-Since", "If-None-Exist", "Range", "Prefer")
_FORMATS = ("Accept", "Content-Type", "Accept-Encoding", "Content-Encoding", "X-Request-Id", "X-Security-Context")
_HEADER_VALUES = (_FHIR_JSON, "application/fhir+xml", "*/*", 'W/"1"', "gzip", "identifier=1", "respond-async")

_names = st.sampled_from((*_STRUCTURE, *_CONTENT))
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=4),
    max_leaves=12,
)
_types = st.sampled_from(("Patient", "Bundle", "Parameters", "Binary", "CarePlan", "Observation", "List", "Basic"))
_resources = st.builds(lambda kind, more: {**more, "resourceType": kind}, _types, st.dictionaries(_names, _values))
_addresses = st.sampled_from((*_ADDRESSES, *_OPERATIONS))
_headers = st.dictionaries(
    st.sampled_from((*_CONDITIONS, *_FORMATS)),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30) | st.sampled_from(_HEADER_VALUES),
    max_size=5,
)
_patches = st.lists(
    st.fixed_dictionaries(
        {
            "op": st.sampled_from(_OPS),
            "path": st.text("/~01-nameidt", max_size=12),
            "value": _values,
            "from": st.text("/name0", max_size=8),
        }
    )
)
_PARAMETERS = ("name", "birthdate", "identifier", "general-practitioner.name", "link:Patient.family", "_id", "_content")
_MODIFIERS = ("", "", "", ":exact", ":contains", ":missing", ":not", ":text", ":in", ":of-type", ":identifier", ":zz")
_RESULTS = ("_sort", "_count", "_include", "_revinclude", "_summary", "_elements", "_total", "_page", "_type", "_at")
_VALUES = (
    "true",
    "2026",
    "ap2026-01-01T10:00:00+01:00",
    "a|b",
    "a|b|c",
    "x$y",
    "*",
    "Patient:link",
    "-name",
    "\0",
    "é",
)
_asked = st.sampled_from(_VALUES) | st.text(max_size=12)
_filters = st.recursive(
    st.builds(
        lambda name, operator, value: f"{name} {operator} {json.dumps(value)}",
        st.sampled_from(_PARAMETERS),
        st.sampled_from(("eq", "ne", "co", "sw", "ew", "gt", "le", "ap", "po", "pr", "ss", "in", "re", "zz")),
        _asked,
    ),
    lambda inner: (
        st.builds("({}) {} ({})".format, inner, st.sampled_from(("and", "or", "")), inner)
        | st.builds("not ({})".format, inner)
    ),
    max_leaves=5,
)
_pairs = st.one_of(
    st.tuples(st.builds("{}{}".format, st.sampled_from(_PARAMETERS), st.sampled_from(_MODIFIERS)), _asked),
    st.tuples(st.sampled_from(_RESULTS), _asked),
    st.tuples(st.just("_filter"), _filters),
)
_bounded = settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _answer(facade: RunningFacade, method: str, address: str, **more: Any) -> requests.Response:
    answer = requests.request(method, f"{facade.base}/{address}", timeout=60, allow_redirects=False, **more)
    assert answer.status_code < 500, answer.text
    return answer


@_bounded
@given(method=st.sampled_from(["POST", "PUT", "PATCH"]), address=_addresses, resource=_resources)
def test_any_resource(facade: RunningFacade, method: str, address: str, resource: dict[str, Any]) -> None:
    _answer(facade, method, address, json=resource, headers={"Content-Type": _FHIR_JSON})


@_bounded
@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
    address=_addresses,
    headers=_headers,
    body=st.none() | st.binary(max_size=60),
)
def test_any_headers(
    facade: RunningFacade, method: str, address: str, headers: dict[str, str], body: bytes | None
) -> None:
    _answer(facade, method, address, headers=headers, data=body)


@_bounded
@given(
    address=st.sampled_from(("Patient", "", "Patient/fuzz/*", "Patient/_history")),
    pairs=st.lists(_pairs, min_size=1, max_size=4),
    lenient=st.booleans(),
)
def test_any_query(facade: RunningFacade, address: str, pairs: list[tuple[str, str]], lenient: bool) -> None:
    query = urlencode([(name, value.encode("utf-8", "surrogatepass")) for name, value in pairs])
    _answer(facade, "GET", f"{address}?{query}", headers={"Prefer": "handling=lenient"} if lenient else {})


@_bounded
@given(patch=_patches)
def test_any_json_patch(facade: RunningFacade, patch: list[dict[str, Any]]) -> None:
    facade.put("Patient/fuzz", {"resourceType": "Patient", "id": "fuzz", "name": [{"family": "Essai"}]})
    _answer(facade, "PATCH", "Patient/fuzz", json=patch, headers={"Content-Type": "application/json-patch+json"})


def test_requests_made_from_the_openapi_description(facade: RunningFacade) -> None:
    command = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("schemathesis is not installed")
    options = ["--checks=not_a_server_error", f"--max-time={SECONDS}", "--max-examples=8", "--request-timeout=60"]
    options += ["--phases=coverage,fuzzing", "--generation-deterministic", "--no-color"]
    done = subprocess.run(
        [command, "run", f"{facade.base}/openapi.json", *options],
        cwd=facade.folder,
        capture_output=True,
        text=True,
        timeout=SECONDS + 60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
