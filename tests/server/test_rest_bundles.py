"""Batch and transaction Bundles over HTTP (FHIR R4 §3.1.0.11), on the real server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fhirpy import SyncFHIRClient
from flask.testing import FlaskClient

from relais.server.app import create_app
from relais.server.fhir.repository import new_id
from relais.server.settings import Settings
from support.facade import RunningFacade, issues

INS = "urn:oid:1.2.250.1.213.1.4.10"
PATIENT = {"resourceType": "Patient", "gender": "female"}


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    """The application in this process."""
    url = f"sqlite:///{tmp_path_factory.mktemp('bundles') / 'x.sqlite'}"
    app = create_app(Settings.of({"fhir_packages": "none", "database_url": url}))
    yield app.test_client()
    app.extensions["relais"].store.close()


def bundle(*entries: dict[str, Any], kind: str = "transaction") -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def entry(resource: dict[str, Any] | None, method: str, url: str, full_url: str = "", **request: str) -> dict[str, Any]:
    made: dict[str, Any] = {"request": {"method": method, "url": url, **request}}
    if full_url:
        made["fullUrl"] = full_url
    if resource is not None:
        made["resource"] = resource
    return made


def new(resource: dict[str, Any], full_url: str = "", **request: str) -> dict[str, Any]:
    return entry(resource, "POST", resource["resourceType"], full_url, **request)


def plan(subject: str, **more: Any) -> dict[str, Any]:
    reference = {"reference": subject}
    return {"resourceType": "CarePlan", "status": "active", "intent": "plan", "subject": reference, **more}


def names(answer: dict[str, Any]) -> list[str]:
    return [entry["response"]["location"].partition("/_history")[0] for entry in answer["entry"]]


def done(facade: RunningFacade, posted: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = facade.post("", posted, **headers)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert body["type"] == f"{posted['type']}-response"
    assert len(body["entry"]) == len(posted["entry"])
    return body


def test_references_between_new_resources_are_resolved_everywhere(facade: RunningFacade) -> None:
    patient, team = "urn:uuid:0e0f2e9a-6a1d-4c57-b0a4-8a5cd81a7d55", "urn:uuid:6a3b8f6e-3a53-44c8-9a55-0a7e5a7b8a11"
    care_plan = plan(
        patient,
        careTeam=[{"reference": team}],
        text={
            "status": "generated",
            "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><a href="{patient}">x</a></div>',
        },
        extension=[
            {"url": "http://example.org/a", "valueReference": {"reference": patient}},
            {"url": "http://example.org/b", "valueUri": team},
            {"url": "http://example.org/c", "valueString": patient},
        ],
        contained=[
            {"resourceType": "Goal", "id": "g", "lifecycleStatus": "active", "description": {"text": "x"}}
            | {"subject": {"reference": patient}}
        ],
        goal=[{"reference": "#g"}],
        identifier=[{"system": "urn:ietf:rfc:3986", "value": patient}],
    )
    care_team = {"resourceType": "CareTeam", "subject": {"reference": patient}}
    posted = bundle(new(care_plan, "urn:uuid:1"), new(care_team, team), new(PATIENT, patient))
    plan_name, team_name, patient_name = names(done(facade, posted))
    stored = facade.get(plan_name).json()
    assert stored["subject"]["reference"] == patient_name
    assert stored["careTeam"] == [{"reference": team_name}]
    assert f'href="{patient_name}"' in stored["text"]["div"]
    assert stored["extension"][0]["valueReference"]["reference"] == patient_name
    assert stored["extension"][1]["valueUri"] == team_name
    assert stored["extension"][2]["valueString"] == patient  # a string is no link
    assert stored["contained"][0]["subject"]["reference"] == patient_name
    assert stored["goal"] == [{"reference": "#g"}]
    assert stored["identifier"][0]["value"] == patient  # nor is the value of an identifier
    assert facade.get(team_name).json()["subject"]["reference"] == patient_name


def test_circular_references(facade: RunningFacade) -> None:
    first, second = "urn:uuid:1", "urn:uuid:2"
    posted = bundle(
        new({"resourceType": "Organization", "name": "a", "partOf": {"reference": second}}, first),
        new({"resourceType": "Organization", "name": "b", "partOf": {"reference": first}}, second),
    )
    one, two = names(done(facade, posted))
    assert facade.get(one).json()["partOf"]["reference"] == two
    assert facade.get(two).json()["partOf"]["reference"] == one


def test_relative_references_are_read_against_the_full_url(facade: RunningFacade) -> None:
    source = "https://source.example/fhir"
    posted = bundle(
        new(plan("Patient/1"), f"{source}/CarePlan/7"),
        new({**PATIENT, "id": "1"}, f"{source}/Patient/1"),
        new(plan(f"{source}/Patient/1/_history/4"), "urn:uuid:1"),
    )
    plan_name, patient_name, other = names(done(facade, posted))
    assert facade.get(plan_name).json()["subject"]["reference"] == patient_name
    assert facade.get(other).json()["subject"]["reference"] == patient_name
    assert patient_name != "Patient/1"


def test_answers_stand_in_the_order_of_the_entries_whatever_the_order_of_work(facade: RunningFacade) -> None:
    old, kept = facade.created(PATIENT), facade.created(PATIENT)
    body = {**PATIENT, "id": kept.partition("/")[2], "gender": "male"}
    posted = bundle(
        entry(None, "GET", kept),
        entry(body, "PUT", kept),
        new(PATIENT),
        entry(None, "DELETE", old),
        entry(None, "HEAD", kept),
    )
    answer = done(facade, posted)
    assert [one["response"]["status"] for one in answer["entry"]] == [
        "200 OK",
        "200 OK",
        "201 Created",
        "204 No Content",
        "200 OK",
    ]
    assert answer["entry"][0]["resource"]["gender"] == "male"  # reads see what the transaction wrote
    assert answer["entry"][0]["response"]["etag"] == 'W/"2"'
    assert "resource" not in answer["entry"][4]
    assert facade.get(old).status_code == 410


def test_prefer_repeats_the_resources(facade: RunningFacade) -> None:
    posted = bundle(new(PATIENT))
    assert "resource" not in done(facade, posted)["entry"][0]
    assert done(facade, posted, Prefer="return=representation")["entry"][0]["resource"]["gender"] == "female"
    told = done(facade, posted, Prefer="return=OperationOutcome")["entry"][0]["response"]["outcome"]
    assert told["resourceType"] == "OperationOutcome"


def test_all_or_nothing(facade: RunningFacade) -> None:
    kept = facade.created(PATIENT)
    before = facade.count()
    posted = bundle(
        new(PATIENT, "urn:uuid:1"),
        entry(None, "DELETE", kept),
        entry({**PATIENT, "id": "x"}, "PUT", "Patient/x", ifMatch='W/"3"'),
    )
    answer = facade.post("", posted)
    assert (answer.status_code, issues(answer)[0]["expression"]) == (412, ["Bundle.entry[2].resource"])
    assert facade.count() == before
    assert facade.get(kept).status_code == 200


def test_conditional_create_in_a_transaction(facade: RunningFacade) -> None:
    identified = {**PATIENT, "identifier": [{"system": INS, "value": "279035121518989"}]}
    condition = {"ifNoneExist": f"identifier={INS}|279035121518989"}
    posted = bundle(new(identified, "urn:uuid:1", **condition), new(plan("urn:uuid:1"), "urn:uuid:2"))
    first, second = done(facade, posted), done(facade, posted)
    assert [one["response"]["status"] for one in first["entry"]] == ["201 Created", "201 Created"]
    assert [one["response"]["status"] for one in second["entry"]] == ["200 OK", "201 Created"]
    assert names(second)[0] == names(first)[0]
    assert facade.get(names(second)[1]).json()["subject"]["reference"] == names(first)[0]


def test_the_same_conditional_create_twice_in_a_transaction(facade: RunningFacade) -> None:
    identified = {**PATIENT, "identifier": [{"system": "urn:oid:1.2.3", "value": "twice"}]}
    before = facade.count()
    answer = facade.post("", bundle(*[new(identified, ifNoneExist="identifier=urn:oid:1.2.3|twice")] * 2))
    assert (answer.status_code, issues(answer)[0]["expression"]) == (412, ["Bundle.entry[0].resource"])
    assert facade.count() == before


def test_conditional_update_and_reference(facade: RunningFacade) -> None:
    query = "identifier=urn:oid:1.2.3|u"
    identified = {**PATIENT, "identifier": [{"system": "urn:oid:1.2.3", "value": "u"}]}
    patient = facade.created(identified)
    posted = bundle(
        entry({**identified, "gender": "other"}, "PUT", f"Patient?{query}", "urn:uuid:1"), new(plan(f"Patient?{query}"))
    )
    answer = done(facade, posted)
    assert names(answer)[0] == patient
    assert facade.get(patient).json()["gender"] == "other"
    assert facade.get(names(answer)[1]).json()["subject"]["reference"] == patient


def identified(value: str, resource_type: str = "Patient", **more: Any) -> dict[str, Any]:
    return {"resourceType": resource_type, "identifier": [{"system": "urn:oid:1.2.3", "value": value}], **more}


def test_conditional_references_lead_to_what_the_transaction_itself_creates(facade: RunningFacade) -> None:
    part_of = {"reference": "Organization?identifier=urn:oid:1.2.3|whole"}
    posted = bundle(
        new(plan("Patient?identifier=urn:oid:1.2.3|created"), "urn:uuid:1"),
        new(identified("created", managingOrganization={"reference": "Organization?identifier=urn:oid:1.2.3|part"})),
        new(identified("part", "Organization", name="Service", partOf=part_of)),
        entry(
            identified("whole", "Organization", name="Structure"), "PUT", "Organization?identifier=urn:oid:1.2.3|whole"
        ),
        new({"resourceType": "CareTeam", "subject": {"reference": "Patient?identifier=urn:oid:1.2.3|created"}}),
    )
    care_plan, patient, part, whole, team = names(done(facade, posted))
    assert facade.get(care_plan).json()["subject"]["reference"] == patient
    assert facade.get(team).json()["subject"]["reference"] == patient
    assert facade.get(patient).json()["managingOrganization"]["reference"] == part
    assert facade.get(part).json()["partOf"]["reference"] == whole
    assert facade.get("CarePlan?patient.identifier=urn:oid:1.2.3|created").json()["total"] == 1


@pytest.mark.parametrize(
    ("entries", "code", "place"),
    [
        ([new(plan("Patient?identifier=urn:oid:1.2.3|nobody"))], "not-found", "[0].resource.subject.reference"),
        (
            [
                new(identified("a", "Organization", partOf={"reference": "Organization?identifier=urn:oid:1.2.3|b"})),
                new(identified("b", "Organization", partOf={"reference": "Organization?identifier=urn:oid:1.2.3|a"})),
            ],
            "not-found",
            "[0].resource.partOf.reference",
        ),
        (
            [new(identified("twins"))] * 2 + [new(plan("Patient?identifier=urn:oid:1.2.3|twins"))],
            "multiple-matches",
            "[2].resource",
        ),
        (
            [
                new(identified("rival", "Organization")),
                new(
                    identified("x", "Organization", partOf={"reference": "Organization?identifier=urn:oid:1.2.3|rival"})
                ),
                new(
                    identified("rival", "Organization", partOf={"reference": "Organization?identifier=urn:oid:1.2.3|x"})
                ),
            ],
            "multiple-matches",
            "[1].resource",
        ),
        ([new(plan("Patient?nothing=1"))], "not-supported", "[0].resource"),
    ],
)
def test_conditional_references_that_lead_nowhere_or_to_several(
    facade: RunningFacade, entries: list[dict[str, Any]], code: str, place: str
) -> None:
    before = facade.count()
    answer = facade.post("", bundle(*entries))
    told = [(issue["code"], issue["expression"]) for issue in issues(answer)]
    assert (answer.status_code in (400, 412), told[0]) == (True, (code, [f"Bundle.entry{place}"]))
    assert facade.count() == before


def test_conditional_reference_that_the_transaction_itself_leads_elsewhere(facade: RunningFacade) -> None:
    former = facade.created(identified("me", "Organization"))
    reference = {"reference": "Organization?identifier=urn:oid:1.2.3|me"}
    renamed = identified("not me", "Organization", id=former.partition("/")[2], partOf=reference)
    answer = facade.post("", bundle(entry(renamed, "PUT", former)))
    (issue,) = issues(answer)
    assert (answer.status_code, issue["code"]) == (412, "conflict")
    assert issue["expression"] == ["Bundle.entry[0].resource.partOf.reference"]
    assert facade.get(former).json()["meta"]["versionId"] == "1"


def test_search_in_a_transaction_sees_its_writes(facade: RunningFacade) -> None:
    identified = {**PATIENT, "identifier": [{"system": "urn:oid:1.2.3", "value": "seen"}]}
    posted = bundle(entry(None, "GET", "Patient?identifier=urn:oid:1.2.3|seen"), new(identified))
    found = done(facade, posted)["entry"][0]["resource"]
    assert [one["search"]["mode"] for one in found["entry"]] == ["match"]


def test_a_search_by_post_is_answered_as_one_by_get_is(facade: RunningFacade) -> None:
    name = facade.created(PATIENT)
    query = f"_id={name.partition('/')[2]}"
    asked = [("GET", f"Patient?{query}"), ("POST", f"Patient/_search?{query}"), ("HEAD", name)]
    by_get, by_post, by_head = done(facade, bundle(*(entry(None, *one) for one in asked)))["entry"]
    assert by_get["resource"]["entry"] == by_post["resource"]["entry"]
    assert "resource" not in by_head


def test_absolute_urls_of_this_server_are_accepted(facade: RunningFacade) -> None:
    posted = bundle(entry({**PATIENT, "id": "abs"}, "PUT", f"{facade.base}/Patient/abs", f"{facade.base}/Patient/abs"))
    assert names(done(facade, posted)) == ["Patient/abs"]


@pytest.mark.parametrize("delete", ["Patient/{id}", "Patient?_id={id}"])
def test_one_resource_is_not_deleted_and_updated_at_once(facade: RunningFacade, delete: str) -> None:
    name = facade.created(PATIENT)
    number = name.partition("/")[2]
    posted = bundle(entry(None, "DELETE", delete.format(id=number)), entry({**PATIENT, "id": number}, "PUT", name))
    answer = facade.post("", posted)
    assert (answer.status_code, issues(answer)[0]["code"]) == (400, "duplicate")
    assert facade.get(name).status_code == 200


def test_conditional_deletes_in_a_transaction(facade: RunningFacade) -> None:
    name = facade.created({**PATIENT, "identifier": [{"value": "gone"}]})
    deletes = [entry(None, "DELETE", f"Patient?identifier={value}") for value in ("gone", "never", "was")]
    statuses = [one["response"]["status"] for one in done(facade, bundle(*deletes))["entry"]]
    assert statuses == ["204 No Content"] * 3
    assert facade.get(name).status_code == 410


def test_empty_transaction(facade: RunningFacade) -> None:
    answer = facade.post("", {"resourceType": "Bundle", "type": "transaction"})
    assert (answer.status_code, answer.json().get("entry")) == (200, None)


def test_batch_entries_stand_alone(facade: RunningFacade) -> None:
    posted = bundle(
        new(PATIENT, "urn:uuid:1"),
        new({**PATIENT, "nam": "x"}),
        new(plan("urn:uuid:1")),
        entry(None, "GET", "Patient/nobody"),
        entry(None, "GET", "Patient?nothing=1"),
        kind="batch",
    )
    answer = done(facade, posted)
    assert [one["response"]["status"].partition(" ")[0] for one in answer["entry"]] == [
        "201",
        "400",
        "422",
        "404",
        "400",
    ]
    outcome = answer["entry"][1]["response"]["outcome"]
    assert outcome["issue"][0]["expression"] == ["Bundle.entry[1].resource.nam"]


@pytest.mark.parametrize("request_", [{"method": "GET", "url": "metadata"}, {"method": "POST", "url": "/"}])
def test_entries_act_on_resources(facade: RunningFacade, request_: dict[str, str]) -> None:
    answer = facade.post("", bundle({"request": request_}))
    assert (answer.status_code in (404, 405), issues(answer)[0]["code"]) == (True, "not-supported")
    assert issues(answer)[0]["expression"] == ["Bundle.entry[0].request.url"]


@pytest.mark.parametrize("body", ["x", [1], {}, {"resourceType": 5}])
@pytest.mark.parametrize("address", ["$validate", "$from-cda", "ValueSet/$expand", "Patient/nobody/$meta-add"])
def test_batch_refuses_what_is_no_resource_for_that_operation_alone(
    application: FlaskClient, address: str, body: Any
) -> None:
    broken = {"resource": body, "request": {"method": "POST", "url": address}}
    answer = application.post("/fhir", json=bundle(broken, new(PATIENT), kind="batch"))
    statuses = [one["response"]["status"].partition(" ")[0] for one in answer.get_json()["entry"]]
    assert (answer.status_code, statuses) == (200, ["400", "201"])


def test_fault_in_an_entry_of_a_batch_is_the_answer_of_that_entry_alone(
    application: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    error = ValueError("SECRET")

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(application.application.extensions["relais"].conformance, "validate", fail)
    faulty = entry(PATIENT, "POST", "$validate")
    answer = application.post("/fhir", json=bundle(faulty, new(PATIENT), kind="batch"))
    first, second = (one["response"] for one in answer.get_json()["entry"])
    assert (first["status"], second["status"]) == ("500 Internal Server Error", "201 Created")
    assert first["outcome"]["issue"][0]["expression"] == ["Bundle.entry[0]"]
    assert "SECRET" not in caplog.text + answer.get_data(as_text=True)


def test_fhirpy_posts_a_transaction(facade: RunningFacade) -> None:
    client = SyncFHIRClient(facade.base)
    answer = client.execute("", method="post", data=bundle(new(PATIENT, "urn:uuid:1"), new(plan("urn:uuid:1"))))
    care_plan = client.reference(*names(answer)[1].split("/")).to_resource()
    assert care_plan["subject"]["reference"] == names(answer)[0]


def test_entries_without_url_are_where_their_body_belongs(facade: RunningFacade) -> None:
    """HAPI's client writes lists of resources so; R4 requires the url."""
    known = {**PATIENT, "id": "without-url"}
    entries = [{"request": {"method": "POST"}, "resource": PATIENT}, {"request": {"method": "PUT"}, "resource": known}]
    entries.append(entry(PATIENT, "POST", "/Patient/"))
    answer = done(facade, {**bundle(*entries), "total": 2})
    assert names(answer)[0].startswith("Patient/")
    assert names(answer)[1] == "Patient/without-url"
    for request, resource in (({"method": "DELETE"}, PATIENT), ({"method": "PUT"}, PATIENT), ({"method": "POST"}, {})):
        refused = facade.post("", bundle({"request": request, "resource": resource}))
        assert refused.status_code in (400, 422)
        assert issues(refused)[0]["expression"][0].startswith("Bundle.entry[0]")


def test_ids_that_the_server_gives_are_random_but_for_the_time() -> None:
    made = [uuid.UUID(new_id()) for _ in range(1000)]
    assert {(one.version, one.variant) for one in made} == {(7, uuid.RFC_4122)}
    assert len({one.int & ~(0xFFFFFFFFFFFF << 80) for one in made}) == 1000  # what is not the time
