"""CDA → FHIR: header, narrative and original of any CI-SIS document; what is refused, mended or reported."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from relais.cda import templates
from relais.cda.datatypes import fhir_from_ts, urn_from_root
from relais.cda.errors import MappingError
from relais.cda.model import (
    II,
    Address,
    AssignedEntity,
    Author,
    Code,
    Consent,
    DataEnterer,
    Device,
    Document,
    EncompassingEncounter,
    EncounterParticipant,
    EntryAuthor,
    Guardian,
    HealthCareFacility,
    Informant,
    Interval,
    Media,
    NamePart,
    Order,
    Organization,
    Participant,
    PersonName,
    Qualifier,
    Recipient,
    RelatedDocument,
    RelatedEntity,
    Section,
    Telecom,
    Text,
)
from relais.cda.narrative import Element, content, paragraph, plain_text
from relais.cda.reader import read
from relais.cda.writer import write
from relais.mappings import extensions, identity, terminology
from relais.mappings.context import Imported
from relais.mappings.from_cda import to_bundle
from relais.mappings.from_cda.narrative import Words, words, xhtml
from relais.mappings.resources import ResourceSet
from relais.mappings.to_cda.relatives import role_classes
from relais.profiles import narrative as xhtml_rules
from relais.profiles import structure
from support.documents import small_document, small_professional
from support.rules import CANCER_PPS, DISCHARGE_LETTER, EXAMPLES, PPS, UNSTRUCTURED, altered, example, remove

Resource = dict[str, Any]


def bring_in(document: Document) -> Imported:
    """The import of a document, as its bytes are read; always a valid Bundle."""
    data = write(document)
    result = to_bundle(read(data).document, data)
    assert structure.check(result.bundle) == []
    return result


def small(change: Callable[[Document], object]) -> Document:
    """The small document, changed."""
    document = small_document()
    change(document)
    return document


def only(bundle: Resource, resource_type: str) -> Resource:
    """The one resource of that type."""
    (found,) = ResourceSet.of_bundle(bundle).of_type(resource_type)
    return found


def composition(imported: Imported) -> Resource:
    """The Composition."""
    return dict(imported.bundle["entry"][0]["resource"])


def findings(imported: Imported, severity: str) -> set[str]:
    """Paths of the issues of that severity."""
    return {issue.path for issue in imported.issues if issue.severity == severity}


def parts(extension: Resource) -> Resource:
    """The values of the sub-extensions, by url."""
    return {
        one["url"]: value for one in extension["extension"] for name, value in one.items() if name.startswith("value")
    }


# --- the official examples ------------------------------------------------------------------------------------------

NOT_IN_FHIR = (
    (r"\.system_name$", "said by the code system"),
    (r"\.time\.(null_flavor|low_null_flavor|high_null_flavor)$", "no Period"),
    (r"^service_events\[\d\]\.performers\[\d\]\.time\.", "reported"),
    (r"^service_events\[\d\]\.ids\[\d\]\.", "reported"),
    (r"^service_events\[\d\]\.(class_code|performers\[\d\]\.type_code)$", "the default"),
    (r"^patient\.name\.(families|givens)\[\d\]\.qualifier$", "the use of the name"),
    (r"^(patient\.gender|encounter\.code)\.display$", "the label of a code that FHIR has its own words for"),
    (r"^encounter\.code\.code$", "VR without date nor place: there is no encounter"),
    (r"^participants\[\d+\]\.telecoms\[\d\]\.use$", "reported: FHIR has no emergency use"),
    (r"\.original_text\.reference$", "its words are read"),
    (r"^template_ids\[\d\]\.extension$", "checked apart"),
    (r"^participants\[\d+\]\.class_code$", "follows from the profession"),
    (r"\.null_flavor$", "a reason of absence"),
)


def leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every string of a header, with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from leaves(one, f"{path}[{index}]")
    elif isinstance(value, msgspec.Struct):
        for field in msgspec.structs.fields(value):
            yield from leaves(getattr(value, field.name), f"{path}.{field.name}".removeprefix("."))


def forms(path: str, value: str) -> list[str]:
    """How a string of a header may stand in FHIR."""
    field = path.rpartition(".")[2]
    if field in ("root", "system"):
        return [form for form in (terminology.uri_of(value), urn_from_root(value)) if form]
    if field in ("time", "low", "high", "value", "effective_time", "birth_time") and value[0].isdigit():
        return [fhir_from_ts(value)]
    if field == "value":
        return [value, value.partition(":")[2]]
    if field == "use":
        return [{"H": "home", "HP": "home", "WP": "work", "MC": "mobile", "DIR": "work"}.get(value, value)]
    if field == "extension":
        return [value, value[1:]]  # without its type digit
    if path.endswith("related.class_code"):
        return [{"NOK": "QUAL"}.get(value, value)]  # the personne de confiance, as TRE_R260 spells it
    if path.endswith("gender.code"):
        return ["male", "female", "unknown"]
    return [value, value.upper(), value.lower(), value.casefold()]


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_fact_of_the_header_arrives(cisis: Path, name: str) -> None:
    data = example(cisis, name)
    header = read(data).document.header
    bundle = to_bundle(read(data).document, data).bundle
    entries = [entry for entry in bundle["entry"] if entry["resource"]["resourceType"] != "Binary"]
    text = json.dumps([bundle["identifier"], entries], ensure_ascii=False)
    strings = set(re.findall(r'"((?:[^"\\]|\\.)*)"', text))
    folded = {json.loads(f'"{one}"').casefold() for one in strings}
    lost = [
        path
        for path, value in leaves(header, "")
        if not any(form.casefold() in folded for form in forms(path, value))
        and not any(re.search(pattern, path) for pattern, _ in NOT_IN_FHIR)
        and not (path.endswith((".root", ".system")) and _said_otherwise(path, value))
    ]
    assert lost == []


def _said_otherwise(path: str, value: str) -> bool:
    """Domains and code systems that FHIR names by an URL of its own, or implies by the element."""
    return value in (templates.PS_IDNAT, templates.STRUCT_IDNAT, templates.ADMINISTRATIVE_GENDER) or path.startswith(
        ("template_ids", "confidentiality")
    )


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_gives_a_valid_document_bundle(cisis: Path, name: str) -> None:
    data = example(cisis, name)
    bundle = to_bundle(read(data).document, data).bundle
    assert structure.check(bundle) == []
    assert bundle["type"] == "document"
    assert bundle["entry"][0]["resource"]["resourceType"] == "Composition"
    assert bundle == to_bundle(read(data).document, data).bundle


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_original_is_kept_to_the_byte(cisis: Path, name: str) -> None:
    data = example(cisis, name)
    found = ResourceSet.of_bundle(to_bundle(read(data).document, data).bundle)
    (reference,) = found.of_type("DocumentReference")
    attachment = reference["content"][0]["attachment"]
    binary = found.resolve(attachment["url"]) or {}
    assert base64.b64decode(binary["data"]) == data
    assert (attachment["contentType"], attachment["size"]) == ("text/xml", len(data))
    assert base64.b64decode(attachment["hash"]) == hashlib.sha1(data, usedforsecurity=False).digest()
    assert reference["masterIdentifier"]["value"].startswith("urn:")
    provenance = found.of_type("Provenance")[0]
    assert found.resolve(provenance["entity"][0]["what"]) is reference


@pytest.mark.parametrize("name", [PPS, CANCER_PPS, DISCHARGE_LETTER])
def test_every_narrative_is_kept(cisis: Path, name: str) -> None:
    data = example(cisis, name)
    document = read(data).document
    sections = to_bundle(document, data).bundle["entry"][0]["resource"]["section"]

    def compare(before: list[Section], after: list[Resource]) -> int:
        for one, other in zip(before, after, strict=True):
            assert other.get("title") == one.title
            assert plain(other) == plain_text(one.text)
            compare(one.sections, other.get("section", []))
        return len(before)

    assert compare(document.sections, sections) >= 5


def plain(section: Resource) -> str:
    """The text of a section's XHTML, without what says that a document is attached."""
    if "text" not in section or section["text"]["status"] == "empty":
        return ""
    root = xhtml_rules.parse(section["text"]["div"])
    assert root is not None
    text = re.sub(r"\[Document joint : [^]]*\]", "", "".join(str(piece) for piece in root.itertext()))
    return " ".join(text.split())


@pytest.mark.parametrize("name", [CANCER_PPS, DISCHARGE_LETTER])
def test_entries_of_other_models_are_reported(cisis: Path, name: str) -> None:
    data = example(cisis, name)
    document = read(data).document
    result = to_bundle(document, data)
    with_entries = sum(1 for section in document.sections if section.entries)
    reported = [issue for issue in result.issues if issue.message.startswith("only the narrative is kept")]
    assert with_entries > 3
    assert len(reported) >= with_entries
    assert not ResourceSet.of_bundle(result.bundle).of_type("CarePlan")


def test_the_file_of_an_unstructured_document(cisis: Path) -> None:
    data = example(cisis, UNSTRUCTURED)
    document = read(data).document
    found = ResourceSet.of_bundle(to_bundle(document, data).bundle)
    (reference,) = found.of_type("DocumentReference")
    pdf = reference["content"][1]["attachment"]
    assert pdf["contentType"] == "application/pdf"
    body = document.non_xml_body
    assert body is not None and body.data is not None
    assert base64.b64decode((found.resolve(pdf["url"]) or {})["data"]) == body.data
    (section,) = found.of_type("Composition")[0]["section"]
    assert found.resolve(section["entry"][0]) is reference


def test_codes_of_the_place_and_of_the_act(cisis: Path) -> None:
    data = example(cisis, PPS)
    context = only(to_bundle(read(data).document, data).bundle, "DocumentReference")["context"]
    assert [context[name]["coding"][0]["code"] for name in ("facilityType", "practiceSetting")] == [
        "SA51",
        "ETABLISSEMENT",
    ]
    assert context["event"][0]["coding"][0]["code"] == "18776-5"


# --- identity of the document ---------------------------------------------------------------------------------------


def test_identity_and_version() -> None:
    def change(document: Document) -> None:
        document.header.id = II("2.25.1")
        document.header.set_id = II("3c36b17f-b79b-4dd1-abef-f109673428c6")  # a lower-case UUID
        document.header.version_number = 3
        document.header.related_documents = [RelatedDocument([II("2.25.2")], parent_version=2)]
        document.header.confidentiality = Code("R", templates.CONFIDENTIALITY, "Restreint")

    result = bring_in(small(change))
    head = composition(result)
    assert result.bundle["identifier"] == {"system": "urn:ietf:rfc:3986", "value": "urn:oid:2.25.1"}
    assert result.bundle["timestamp"] == "2026-01-12T09:00:00+01:00" == head["date"]
    assert head["identifier"]["value"] == "urn:uuid:3c36b17f-b79b-4dd1-abef-f109673428c6"
    assert extensions.value(head, extensions.COMPOSITION_VERSION) == "3"
    assert head["relatesTo"] == [
        {"code": "replaces", "targetIdentifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:2.25.2"}}
    ]
    assert (head["confidentiality"], head["language"], head["status"]) == ("R", "fr-FR", "final")
    assert {"system", "code", "version"} >= set(head["meta"]["tag"][2])
    assert head["meta"]["tag"][2]["code"] == templates.PPS_PAERPA


def test_only_a_replacement_replaces_and_other_relations_are_kept_as_what_they_are() -> None:
    related = [RelatedDocument([II(f"2.25.{index}")], code) for index, code in enumerate(("APND", "XFRM", "SUCC"), 1)]
    result = bring_in(small(lambda document: setattr(document.header, "related_documents", related)))
    kept = [(one["code"], one["targetIdentifier"]["value"]) for one in composition(result)["relatesTo"]]
    assert kept == [("appends", "urn:oid:2.25.1"), ("transforms", "urn:oid:2.25.2")]
    assert {"relatedDocument[1]", "relatedDocument[2]"} <= findings(result, "information")
    assert "relatedDocument[3]" in findings(result, "warning")


def test_other_bytes_of_one_document_have_the_same_names() -> None:
    document = small_document()
    names = [entry["fullUrl"] for entry in bring_in(document).bundle["entry"]]
    document.header.title = "Autre titre"
    assert [entry["fullUrl"] for entry in bring_in(document).bundle["entry"]] == names
    document.header.id = II("2.25.77")
    assert not set(names) & {entry["fullUrl"] for entry in bring_in(document).bundle["entry"]}


def test_no_set_id_and_no_version() -> None:
    def change(document: Document) -> None:
        document.header.set_id = document.header.version_number = None

    result = bring_in(small(change))
    assert {"setId", "versionNumber"} <= findings(result, "warning")
    assert composition(result)["identifier"] == result.bundle["identifier"]


# --- refused ----------------------------------------------------------------------------------------------------------


def refusal(data: bytes) -> MappingError:
    """The refusal of a document."""
    with pytest.raises(MappingError) as caught:
        to_bundle(read(data).document, data)
    return caught.value


@pytest.mark.parametrize(
    ("xpath", "path"),
    [
        ("/v3:ClinicalDocument/v3:recordTarget", "recordTarget"),
        ("/v3:ClinicalDocument/v3:recordTarget/v3:patientRole", "recordTarget"),
        ("/v3:ClinicalDocument/v3:id", "id/@root"),
        ("/v3:ClinicalDocument/v3:effectiveTime", "effectiveTime/@value"),
    ],
)
def test_a_document_of_nobody_of_no_time_or_without_identity(xpath: str, path: str) -> None:
    error = refusal(altered(write(small_document()), xpath, remove))
    assert [issue.path for issue in error.issues] == [path]


def test_everything_missing_is_said_at_once() -> None:
    data = altered(write(small_document()), "/v3:ClinicalDocument/v3:id", remove)
    data = altered(data, "/v3:ClinicalDocument/v3:recordTarget", remove)
    assert [issue.path for issue in refusal(data).issues] == ["id/@root", "recordTarget"]


def test_a_document_of_two_patients() -> None:
    def twice(element: Any) -> None:
        element.addnext(type(element).__copy__(element))

    error = refusal(altered(write(small_document()), "/v3:ClinicalDocument/v3:recordTarget", twice))
    assert error.issues[0].path == "recordTarget"
    assert "279035121518989" not in str(error)


def test_two_ins_of_one_domain() -> None:
    def change(document: Document) -> None:
        document.header.patient.ids.append(II(templates.INS_NIR_TEST, "277076322082910"))

    error = refusal(write(small(change)))
    assert error.issues[0].path == "recordTarget/patientRole/id"
    assert "277076322082910" not in str(error)


def test_a_patient_without_identifier_nor_name() -> None:
    def change(document: Document) -> None:
        document.header.patient.ids = [II(null_flavor="UNK")]
        document.header.patient.name = PersonName(null_flavor="UNK")

    assert refusal(write(small(change))).issues[0].path == "recordTarget/patientRole"


def unstructured(body: Media) -> bytes:
    """A document whose body is that file."""

    def change(document: Document) -> None:
        document.sections, document.non_xml_body = [], body

    return write(small(change))


@pytest.mark.parametrize(
    ("data", "path", "message"),
    [
        (unstructured(Media("application/pdf", b"bonjour")), "component/nonXMLBody/text/@mediaType", "no file of"),
        (unstructured(Media("image/jpeg", b"%PDF-1.4")), "component/nonXMLBody/text/@mediaType", "no file of"),
        (unstructured(Media("application/pdf")), "component/nonXMLBody/text", "no content"),
        (
            unstructured(Media("application/pdf", b"%PDF-1.4\n%%EOF\n")).replace(b"JVBERi", b"JVBER"),
            "component/nonXMLBody/text",
            "Base64",
        ),
    ],
)
def test_a_file_that_nobody_could_read(data: bytes, path: str, message: str) -> None:
    (issue,) = refusal(data).issues
    assert issue.path == path
    assert message in issue.message
    assert issue.rule == "CI-SIS corps non structuré"


def test_a_pdf_without_end_is_kept_and_said() -> None:
    data = unstructured(Media("application/pdf", b"%PDF-1.4\n1 0 obj"))
    result = to_bundle(read(data).document, data)
    assert "component/nonXMLBody/text" in findings(result, "warning")


def test_a_document_of_two_bodies() -> None:
    def change(document: Document) -> None:
        document.non_xml_body = Media("application/pdf", b"%PDF-1.4\n%%EOF\n")

    assert [issue.path for issue in refusal(write(small(change))).issues] == ["component"]


# --- patient ----------------------------------------------------------------------------------------------------------


def patient_of(change: Callable[[Document], object]) -> tuple[Resource, Imported]:
    """The Patient of the small document, changed."""
    result = bring_in(small(change))
    return only(result.bundle, "Patient"), result


def test_patient() -> None:
    patient, _ = patient_of(lambda document: None)
    assert patient["identifier"][0] | {"type": None} == {
        "use": "official",
        "type": None,
        "system": "urn:oid:1.2.250.1.213.1.4.10",
        "value": "279035121518989",
    }
    assert identity.is_qualified(patient)
    assert patient["name"] == [
        {
            "use": "official",
            "family": "PATTERSON",
            "given": ["DOMINIQUE"],
            "extension": [{"url": extensions.BIRTH_GIVEN_NAMES, "valueString": "DOMINIQUE MARIE-LOUISE"}],
        }
    ]
    assert (patient["gender"], patient["birthDate"]) == ("female", "1979-03-28")


def test_an_ins_with_a_wrong_key_does_not_qualify_the_identity() -> None:
    def change(document: Document) -> None:
        document.header.patient.ids = [II(templates.INS_NIR_TEST, "279035121518988")]

    patient, result = patient_of(change)
    assert not identity.is_qualified(patient)
    assert "recordTarget/patientRole/id" in findings(result, "warning")


def test_legacy_qualifier_is_the_name_in_use() -> None:
    def change(document: Document) -> None:
        name = document.header.patient.name
        name.families.append(NamePart("PATTERSON-DURAND", "SP"))
        name.givens.append(NamePart("Marie", "SP"))

    patient, result = patient_of(change)
    assert patient["name"][1] == {"use": "usual", "family": "PATTERSON-DURAND", "given": ["Marie"]}
    assert "recordTarget/patientRole/patient/name/family" in findings(result, "information")


def test_further_names_are_kept_beside_the_names_of_birth_and_in_use() -> None:
    def change(document: Document) -> None:
        name = document.header.patient.name
        name.families += [NamePart("DURAND", "CL"), NamePart("LEBLOND", "SP"), NamePart("DOMI", "PFX")]
        name.givens += [NamePart("Dominique", "CL"), NamePart("Marie", "SP")]

    patient, result = patient_of(change)
    assert patient["name"][1:] == [
        {"use": "usual", "family": "DURAND", "given": ["Dominique"]},
        {"family": "LEBLOND", "given": ["Marie"]},
        {"family": "DOMI"},
    ]
    assert "recordTarget/patientRole/patient/name" in findings(result, "information")
    assert "recordTarget/patientRole/patient/name/family" not in findings(result, "information")


def test_a_name_in_one_piece_is_kept() -> None:
    def change(document: Document) -> None:
        document.header.patient.name = PersonName(text="Dominique PATTERSON")

    patient, _ = patient_of(change)
    assert patient["name"] == [{"use": "official", "text": "Dominique PATTERSON"}]


@pytest.mark.parametrize(
    ("code", "gender"), [("M", "male"), ("F", "female"), ("UN", "unknown"), ("X", None), (None, None)]
)
def test_gender(code: str | None, gender: str | None) -> None:
    def change(document: Document) -> None:
        flavor = None if code else "MSK"
        document.header.patient.gender = Code(code, templates.ADMINISTRATIVE_GENDER, null_flavor=flavor)

    patient, _ = patient_of(change)
    assert patient.get("gender") == gender
    if gender is None:
        reason = patient["_gender"]["extension"][0]["valueCode"]
        assert reason == ("unknown" if code else "masked")


def test_a_birth_date_that_no_calendar_knows() -> None:
    def change(document: Document) -> None:
        document.header.patient.birth_time = "19470230"

    patient, _ = patient_of(change)
    assert patient["birthDate"] == "1947-02"
    assert {"url": f"{extensions.FR_CORE}fr-core-lunar-date", "valueString": "1947-02-30"} in patient["extension"]


def test_birth_at_an_hour_and_death() -> None:
    def change(document: Document) -> None:
        patient = document.header.patient
        patient.birth_time, patient.deceased_time, patient.deceased = "197903281145+0200", "20260101", True
        patient.multiple_birth, patient.multiple_birth_order = True, 2

    patient, _ = patient_of(change)
    assert patient["birthDate"] == "1979-03-28"
    assert patient["_birthDate"]["extension"][0]["valueDateTime"] == "1979-03-28T11:45:00+02:00"
    assert (patient["deceasedDateTime"], patient["multipleBirthInteger"]) == ("2026-01-01", 2)


def test_guardian() -> None:
    def change(document: Document) -> None:
        guardian = Guardian(
            ids=[II("1.2.3", "G1")],
            code=Code("TUTEUR", terminology.LEGAL_PROTECTION, "Tuteur"),
            person=PersonName([NamePart("NESSI")], [NamePart("Jeanne")], prefix="MME"),
            telecoms=[Telecom("tel:0147150000", "H")],
        )
        document.header.patient.guardians = [guardian, Guardian(organization=Organization(names=["UDAF"]))]

    patient, result = patient_of(change)
    person, structure_contact = patient["contact"]
    codes = [one["coding"][0]["code"] for one in person["relationship"]]
    assert codes == ["GUARD", "TUTEUR"]
    assert person["name"] == {"family": "NESSI", "given": ["Jeanne"], "prefix": ["MME"]}
    assert ResourceSet.of_bundle(result.bundle).resolve(structure_contact["organization"])
    assert "recordTarget/patientRole/patient/guardian[1]/id[1]" in findings(result, "information")


def test_address_and_absence() -> None:
    def change(document: Document) -> None:
        document.header.patient.addresses = [
            Address(
                house_number="28", street_name="avenue de Breteuil", unit_id="Esc. A", postal_code="75007", city="PARIS"
            ),
            Address(lines=["Lieu-dit La Grange", "49000 ANGERS"]),
            Address(null_flavor="MSK"),
        ]
        document.header.patient.telecoms = [Telecom("mailto:a@exemple.fr"), Telecom(null_flavor="NASK")]

    patient, _ = patient_of(change)
    first, second, third = patient["address"]
    assert first["line"] == ["Esc. A", "28 avenue de Breteuil"]
    assert [len(line["extension"]) for line in first["_line"]] == [1, 2]
    assert second["line"] == ["Lieu-dit La Grange", "49000 ANGERS"]
    assert third["extension"][0]["valueCode"] == "masked"
    assert patient["telecom"][0] == {"system": "email", "value": "a@exemple.fr"}
    assert patient["telecom"][1]["extension"][0]["valueCode"] == "not-asked"


# --- professionals and structures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("root", "extension", "system", "value"),
    [
        (templates.PS_IDNAT, "810101234567", identity.RPPS, "10101234567"),
        (templates.PS_IDNAT, "10101234567", identity.RPPS, "10101234567"),  # without its type digit
        (templates.PS_IDNAT, "0759876543", identity.ADELI, "759876543"),
        (templates.PS_IDNAT, "3750100125/1453", "urn:oid:1.2.250.1.71.4.2.1", "3750100125/1453"),
        (templates.PS_IDNAT, "124789224582101", "urn:oid:1.2.250.1.71.4.2.1", "124789224582101"),
        ("1.2.3.4", "42", "urn:oid:1.2.3.4", "42"),
    ],
)
def test_numbers_of_professionals(root: str, extension: str, system: str, value: str) -> None:
    def change(document: Document) -> None:
        document.header.authors[0].assigned.ids = [II(root, extension)]

    people = ResourceSet.of_bundle(bring_in(small(change)).bundle).of_type("Practitioner")
    assert {"system": system, "value": value} in [number for one in people for number in one["identifier"]]


@pytest.mark.parametrize(
    ("extension", "system", "value"),
    [
        ("1750099996", identity.FINESS, "750099996"),
        ("2219102270", identity.SIRENE, "219102270"),
        ("321910227000012", identity.SIRENE, "21910227000012"),
        ("2801234567897", "urn:oid:1.2.250.1.71.4.2.2", "2801234567897"),
    ],
)
def test_numbers_of_structures(extension: str, system: str, value: str) -> None:
    def change(document: Document) -> None:
        document.header.custodian.ids = [II(templates.STRUCT_IDNAT, extension)]

    result = bring_in(small(change))
    keeper = ResourceSet.of_bundle(result.bundle).resolve(composition(result)["custodian"]) or {}
    assert keeper["identifier"] == [{"system": system, "value": value}]


@pytest.mark.parametrize(
    ("code", "system", "expected"),
    [
        ("G15_10/SM26", terminology.PROFESSION_KNOW_HOW, {"10", "G15_10/SM26", "SM26"}),
        ("G15_60", terminology.PROFESSION_KNOW_HOW, {"60", "G15_60"}),
        ("G15_40/SCD01", terminology.PROFESSION_KNOW_HOW, {"40", "G15_40/SCD01", "SCD01"}),
        ("G15_10/C25", terminology.PROFESSION_KNOW_HOW, {"10", "G15_10/C25"}),
        ("G15_10/DSM205", terminology.PROFESSION_KNOW_HOW, {"10", "G15_10/DSM205"}),
        ("G15_21/A", terminology.PROFESSION_KNOW_HOW, {"21", "G15_21/A"}),
        ("330", "1.2.250.1.213.1.6.1.107", {"330"}),
    ],
)
def test_professions(code: str, system: str, expected: set[str]) -> None:
    def change(document: Document) -> None:
        document.header.authors[0].assigned.code = Code(code, system, "…")

    result = bring_in(small(change))
    role = ResourceSet.of_bundle(result.bundle).resolve(composition(result)["author"][0]) or {}
    concepts = [*role["code"], *role.get("specialty", ())]
    assert {coding["code"] for concept in concepts for coding in concept["coding"]} == expected


def test_one_person_repeated_is_one_resource() -> None:
    result = bring_in(small_document())  # author, legalAuthenticator, performer
    found = ResourceSet.of_bundle(result.bundle)
    assert len(found.of_type("Practitioner")) == len(found.of_type("PractitionerRole")) == 1
    head = composition(result)
    assert head["attester"][0]["mode"] == "legal"
    assert head["attester"][0]["time"] == "2026-01-12T09:00:00+01:00"
    assert head["attester"][0]["party"] == head["event"][0]["detail"][0]
    assert head["author"][0]["reference"] == head["attester"][0]["party"]["reference"]


def test_one_number_given_to_two_persons_is_two_resources() -> None:
    def change(document: Document) -> None:
        other = small_professional()
        other.person = PersonName([NamePart("AUTRE")], [NamePart("Paul")])
        document.header.authors.append(Author(document.header.authors[0].time, other))

    found = ResourceSet.of_bundle(bring_in(small(change)).bundle)
    assert [one["name"][0]["family"] for one in found.of_type("Practitioner")] == ["LEMOINE", "AUTRE"]


def test_an_address_spelt_twice_is_kept_once() -> None:
    def change(document: Document) -> None:
        document.header.authors[0].assigned.addresses = [Address(city="Angers")]
        legal = document.header.legal_authenticator
        assert legal is not None
        legal.assigned.addresses = [Address(city="ANGERS"), Address(city="NANTES")]

    result = bring_in(small(change))
    person = only(result.bundle, "Practitioner")
    assert [one["city"] for one in person["address"]] == ["Angers", "NANTES"]
    assert "legalAuthenticator/assignedEntity/address" in findings(result, "information")


def test_device_and_patient_as_authors() -> None:
    def change(document: Document) -> None:
        software = AssignedEntity(
            ids=[II(templates.PS_IDNAT, "1750099996/LC-1")],
            code=Code("DISPOSITIF", "1.2.250.1.213.1.1.4.6", "Dispositif médical"),
            device=Device("Modèle", "Logiciel"),
        )
        person = AssignedEntity(ids=[II(templates.INS_NIR_TEST, "279035121518989")])
        document.header.authors += [Author("20260112", software), Author("20260112", person)]

    result = bring_in(small(change))
    found = ResourceSet.of_bundle(result.bundle)
    kinds = [(found.resolve(author) or {})["resourceType"] for author in composition(result)["author"]]
    assert kinds == ["PractitionerRole", "Device", "Patient"]
    names = only(result.bundle, "Device")["deviceName"]
    assert {one["type"]: one["name"] for one in names} == {"user-friendly-name": "Logiciel", "model-name": "Modèle"}
    assert extensions.value(composition(result)["author"][1], extensions.AUTHOR_TIME) == "2026-01-12"


def test_a_document_without_author() -> None:
    def change(document: Document) -> None:
        document.header.authors = []

    author = composition(bring_in(small(change)))["author"]
    assert author == [{"extension": [{"url": f"{extensions.HL7}data-absent-reason", "valueCode": "unknown"}]}]


def test_relatives() -> None:
    def change(document: Document) -> None:
        sister = PersonName([NamePart("NESSI")], [NamePart("Sophie")])
        sis = Code("SIS", templates.ROLE_CODE, "Soeur")
        document.header.informants = [
            Informant(related=RelatedEntity("ECON", sis, name=sister)),
            Informant(related=RelatedEntity("NOK", sis, name=sister)),
            Informant(related=RelatedEntity("PAT")),
            Informant(assigned=small_professional()),
        ]

    result = bring_in(small(change))
    found = ResourceSet.of_bundle(result.bundle)
    (sister,) = found.of_type("RelatedPerson")
    codes = [one["coding"][0]["code"] for one in sister["relationship"]]
    assert codes == ["ECON", "QUAL", "SIS"]
    informants = [
        found.resolve(parts(one)["party"]) or {}
        for one in extensions.extensions(composition(result), extensions.INFORMANT)
    ]
    assert [one["resourceType"] for one in informants] == ["RelatedPerson", "Patient", "PractitionerRole"]


@pytest.mark.parametrize("name", [None, PersonName([NamePart("nessi")], [NamePart("CLAIRE")])])
def test_the_patient_as_informant(name: PersonName | None) -> None:
    def change(document: Document) -> None:
        document.header.patient.name = PersonName([NamePart("NESSI", "BR")], [NamePart("Claire", "BR")])
        document.header.informants = [Informant(related=RelatedEntity("PAT", name=name))]

    result = bring_in(small(change))
    (informant,) = extensions.extensions(composition(result), extensions.INFORMANT)
    target = ResourceSet.of_bundle(result.bundle).resolve(parts(informant)["party"]) or {}
    assert target["resourceType"] == "Patient"


def test_a_name_in_one_text_that_is_not_the_patients_is_another_person() -> None:
    def change(document: Document) -> None:
        document.header.patient.name = PersonName([NamePart("NESSI", "BR")], [NamePart("Claire", "BR")])
        document.header.informants = [Informant(related=RelatedEntity("PAT", name=PersonName(text="MARTIN Paul")))]

    helped = only(bring_in(small(change)).bundle, "RelatedPerson")
    assert helped["name"] == [{"text": "MARTIN Paul"}]


def test_the_person_whom_the_patient_helps() -> None:
    def change(document: Document) -> None:
        name = PersonName([NamePart("NESSI")], [NamePart("Lucie")])
        daughter = Code("DAUC", templates.ROLE_CODE, "Fille")
        document.header.informants = [Informant(related=RelatedEntity("PAT", daughter, [], [Telecom("tel:1")], name))]

    result = bring_in(small(change))
    helped = only(result.bundle, "RelatedPerson")
    assert helped["name"] == [{"family": "NESSI", "given": ["Lucie"]}]
    assert [one["coding"][0]["code"] for one in helped["relationship"]] == ["PAT", "DAUC"]
    assert helped["telecom"] == [{"system": "phone", "value": "1"}]
    assert role_classes(helped["relationship"]) == ["PAT"]


def test_participants_and_care_team() -> None:
    def change(document: Document) -> None:
        document.header.authors[0].function_code = Code("PCP", templates.PARTICIPATION_FUNCTION, "Médecin traitant")
        document.header.participants = [
            Participant(
                "PRF",
                function_code=Code("353", "1.2.250.1.213.1.6.1.107", "Membre de l'équipe de soins"),
                time=Interval(low="202601"),
                ids=[II(templates.PS_IDNAT, "810100000019")],
                name=PersonName([NamePart("LEFRANC")]),
            ),
            Participant("INF", class_code="AGNT", organization=Organization(names=["CCAS"])),
            Participant("INF"),
        ]

    result = bring_in(small(change))
    found = ResourceSet.of_bundle(result.bundle)
    first, second = extensions.extensions(composition(result), extensions.PARTICIPANT)
    assert parts(first)["type"]["coding"][0]["code"] == "PRF"
    assert parts(first)["function"]["coding"][0]["code"] == "353"
    assert parts(first)["time"] == {"start": "2026-01"}
    assert (found.resolve(parts(second)["party"]) or {})["resourceType"] == "Organization"
    members = only(result.bundle, "CareTeam")["participant"]
    assert [member.get("role", [{}])[0].get("coding", [{}])[0].get("code") for member in members] == [
        "PCP",
        "353",
        None,
    ]
    assert members[1]["period"] == {"start": "2026-01"}
    assert "participant[3]/associatedEntity" in findings(result, "warning")
    assert "participant[2]/associatedEntity/@classCode" in findings(result, "information")


def test_the_function_of_an_author_in_words_alone() -> None:
    def change(document: Document) -> None:
        words = Text("Pharmacienne de la réunion")
        document.header.authors[0].function_code = Code(null_flavor="NA", original_text=words)

    (member,) = only(bring_in(small(change)).bundle, "CareTeam")["participant"]
    assert member["role"] == [{"text": "Pharmacienne de la réunion"}]


def test_the_words_of_a_code_are_kept() -> None:
    words = Text("en ces mots")

    def change(document: Document) -> None:
        header = document.header
        header.code.original_text = words
        header.confidentiality = Code("N", "2.16.840.1.113883.5.25", original_text=words)
        assigned = small_professional()
        assigned.code = Code("G15_10/SM26", "1.2.250.1.213.1.1.4.5", original_text=words)
        structure = Organization(names=["CCAS"], industry_class=Code("SOCIAL", "1.2.3", original_text=words))
        header.authors[0].assigned = assigned
        header.participants = [
            Participant("INF", organization=structure),
            Participant("INF", code=Code(null_flavor="OTH", original_text=words), name=PersonName([NamePart("ROC")])),
        ]
        header.service_events[0].code = Code("1", "1.2.3", original_text=words)
        header.consents = [Consent([], Code("IDSCL", templates.ACT_CODE, original_text=words))]
        header.encounter = EncompassingEncounter(
            [II("1.2.3", "V1")],
            discharge_disposition=Code("HOM", "1.2.3", original_text=words),
            facility=HealthCareFacility(code=Code("SA01", "1.2.3", original_text=words), name="Maison"),
        )
        document.sections[0].code = Code("1", "1.2.3", original_text=words)

    result = bring_in(small(change))
    found, head = ResourceSet.of_bundle(result.bundle), composition(result)
    described = next(one for one in found.of_type("DocumentReference") if "docStatus" in one)
    author = found.resolve(head["author"][0]) or {}
    assert [one["coding"][0]["code"] for one in author["code"]] == ["10"]
    stated = [
        head["type"],
        head["event"][0]["code"][0],
        head["section"][0]["code"],
        described["securityLabel"][0],
        described["context"]["facilityType"],
        author["code"][0],
        only(result.bundle, "Encounter")["hospitalization"]["dischargeDisposition"],
        only(result.bundle, "Location")["type"][0],
        only(result.bundle, "Consent")["category"][0],
        *(one["type"][0] for one in found.of_type("Organization") if one.get("name") == "CCAS"),
        *(code for one in found.of_type("PractitionerRole") for code in one.get("code", ()) if "coding" not in code),
    ]
    assert len(stated) == 11
    assert {one.get("text") for one in stated} == {"en ces mots"}


def test_what_has_no_place_beside_a_code_is_said() -> None:
    words, modality = Text("mots"), Qualifier(Code("121139", "1.2.840.10008.2.16.4", "Modalité d'imagerie"))

    def change(document: Document) -> None:
        header = document.header
        header.patient.gender = Code(
            "F", "2.16.840.1.113883.5.1", original_text=words, translations=[Code("1", "1.2.3")]
        )
        header.service_events[0].code = Code(
            "24727-0", "2.16.840.1.113883.6.1", translations=[Code("CT", "1.2.3", qualifiers=[modality])]
        )
        header.orders = [Order([II("1.2.3", "O1")], Code(null_flavor="NA", original_text=words))]
        header.encounter = EncompassingEncounter(
            [II("1.2.3", "V1")],
            Code("AMB", "2.16.840.1.113883.5.4", translations=[Code("2", "1.2.3", original_text=words)]),
        )

    assert findings(bring_in(small(change)), "information") >= {
        "recordTarget/patientRole/patient/administrativeGenderCode/originalText",
        "recordTarget/patientRole/patient/administrativeGenderCode/translation",
        "documentationOf[1]/serviceEvent/code/translation[1]/qualifier",
        "inFulfillmentOf[1]/order/code",
        "componentOf/encompassingEncounter/code/translation",
        "componentOf/encompassingEncounter/code/translation[1]/originalText",
    }


def test_what_is_said_of_one_party_in_two_places() -> None:
    kind = ("AMBULATOIRE", "1.2.250.1.213.1.1.4.9")

    def change(document: Document) -> None:
        first, second = small_professional(), small_professional()
        first.code, second.code = (Code("10", "1.2.3", original_text=words) for words in (None, Text("interne")))
        assert second.organization is not None
        second.organization.names.append("Les Tilleuls")
        second.organization.industry_class = Code(*kind, original_text=Text("en ville"))
        document.header.authors = [Author("20260112", first), Author("20260112", second)]
        document.header.custodian = Organization([II("1.2.3", "S1")], ["Centre"])

    result = bring_in(small(change))
    named = [one for one in ResourceSet.of_bundle(result.bundle).of_type("Organization") if "alias" in one]
    assert [one["alias"] for one in named] == [["Les Tilleuls"]]
    assert [one["type"][0]["coding"][0]["code"] for one in named] == [kind[0]]
    assert findings(result, "information") >= {
        "author[2]/assignedAuthor/code",
        "author[2]/assignedAuthor/standardIndustryClassCode",
    }


def test_a_profession_without_a_name() -> None:
    nurse, place = Code("60", "1.2.3", "Infirmier"), Address(city="LYON")

    def change(document: Document) -> None:
        document.header.participants = [
            Participant("INF", code=nurse, addresses=[place], organization=Organization(names=["SSIAD"])),
            Participant("INF", code=nurse, telecoms=[Telecom("tel:1")]),
        ]

    result = bring_in(small(change))
    (structure,) = [one for one in ResourceSet.of_bundle(result.bundle).of_type("Organization") if "address" in one]
    assert (structure["name"], structure["address"]) == ("SSIAD", [{"city": "LYON"}])
    assert "participant[2]/associatedEntity" in findings(result, "warning")


def test_authors_of_a_section() -> None:
    def change(document: Document) -> None:
        document.sections[0].authors = [
            EntryAuthor(small_professional(), "20260112"),
            EntryAuthor(AssignedEntity([II(null_flavor="NI")])),
        ]

    result = bring_in(small(change))
    assert len(composition(result)["section"][0]["author"]) == 1
    path = "component/structuredBody/component[1]/section"
    assert f"{path}/author[1]/time" in findings(result, "information")
    assert f"{path}/author[2]" in findings(result, "warning")


def test_the_general_practitioner_of_the_patient() -> None:
    def change(document: Document) -> None:
        code = Code("PCP", templates.PARTICIPATION_FUNCTION, "Médecin traitant")
        document.header.participants = [Participant("INF", function_code=code, name=PersonName([NamePart("CHÊNE")]))]

    result = bring_in(small(change))
    (doctor,) = only(result.bundle, "Patient")["generalPractitioner"]
    assert (ResourceSet.of_bundle(result.bundle).resolve(doctor) or {})["resourceType"] == "PractitionerRole"


def test_recipients_data_enterer_orders_consents() -> None:
    def change(document: Document) -> None:
        header = document.header
        header.recipients = [
            Recipient(ids=[II(templates.PS_IDNAT, "810100000019")], name=PersonName([NamePart("LEFRANC")])),
            Recipient(name=PersonName([NamePart("NESSI")])),
        ]
        header.data_enterer = DataEnterer(small_professional(), "20260112")
        header.orders = [Order([II("1.2.3", "O1")], Code("x", "1.2.3.4"))]
        header.consents = [Consent([II("1.2.3", "C1")], Code("IDSCL", templates.ACT_CODE, "Consentement"))]

    result = bring_in(small(change))
    found, head = ResourceSet.of_bundle(result.bundle), composition(result)
    recipients = [
        (found.resolve(parts(one)["party"]) or {})["resourceType"]
        for one in extensions.extensions(head, extensions.INFORMATION_RECIPIENT)
    ]
    assert recipients == ["PractitionerRole", "RelatedPerson"]
    (enterer,) = extensions.extensions(head, extensions.DATA_ENTERER)
    assert parts(enterer)["time"] == "2026-01-12"
    order = extensions.value(head, extensions.EVENT_BASED_ON)
    assert order["identifier"] == {"system": "urn:oid:1.2.3", "value": "O1"}
    assert "inFulfillmentOf[1]/order/code" in findings(result, "information")
    consent = found.resolve(extensions.value(head, extensions.CONSENT)) or {}
    assert (consent["status"], consent["provision"]) == ("active", {"type": "permit"})
    assert consent["category"][0]["coding"][0]["code"] == "IDSCL"


# --- encounter --------------------------------------------------------------------------------------------------------


def test_no_encounter_for_a_virtual_one_without_date() -> None:
    result = bring_in(small_document())
    assert "encounter" not in composition(result)
    context = only(result.bundle, "DocumentReference")["context"]
    assert context["facilityType"]["coding"][0]["code"] == "SA07"


@pytest.mark.parametrize("number", ["810101234564", "810100000019"])
def test_who_answers_for_a_virtual_encounter(number: str) -> None:
    def change(document: Document) -> None:
        other = small_professional()
        other.ids = [II(templates.PS_IDNAT, number)]
        assert document.header.encounter is not None
        document.header.encounter.responsible = other

    result = bring_in(small(change))
    author_answers = number == "810101234564"
    assert ("encounter" in composition(result)) is not author_answers
    if not author_answers:
        (participant,) = only(result.bundle, "Encounter")["participant"]
        assert participant["type"][0]["coding"][0]["code"] == "RESP"


def test_encounter() -> None:
    def change(document: Document) -> None:
        other = small_professional()
        other.ids = [II(templates.PS_IDNAT, "810100000019")]
        document.header.encounter = EncompassingEncounter(
            ids=[II("1.2.3", "SEJ-1")],
            code=Code("IMP", templates.ACT_CODE, "Hospitalisation"),
            time=Interval(low="20260101", high="20260110"),
            discharge_disposition=Code("ORG-101", "1.2.250.1.213.2.14", "Domicile"),
            responsible=other,
            participants=[EncounterParticipant("ATND", small_professional(), Interval(low="20260101"))],
            facility=HealthCareFacility(
                [II(templates.STRUCT_IDNAT, "1750099996")],
                Code("SA01", "1.2.250.1.71.4.2.4", "Établissement public de santé"),
                "Hôpital inventé",
                Address(city="PARIS"),
            ),
        )

    result = bring_in(small(change))
    found = ResourceSet.of_bundle(result.bundle)
    encounter = found.resolve(composition(result)["encounter"]) or {}
    assert (encounter["status"], encounter["class"]["code"]) == ("finished", "IMP")
    assert encounter["period"] == {"start": "2026-01-01", "end": "2026-01-10"}
    assert [one["type"][0]["coding"][0]["code"] for one in encounter["participant"]] == ["RESP", "ATND"]
    assert encounter["hospitalization"]["dischargeDisposition"]["coding"][0]["code"] == "ORG-101"
    place = found.resolve(encounter["location"][0]["location"]) or {}
    assert (place["name"], place["address"]["city"]) == ("Hôpital inventé", "PARIS")


# --- body -------------------------------------------------------------------------------------------------------------


def test_a_section_without_text() -> None:
    def change(document: Document) -> None:
        document.sections = [Section(title="Vide"), Section(title="Mère", sections=[Section(text=["Fille"])])]

    first, second = composition(bring_in(small(change)))["section"]
    assert first["text"]["status"] == "empty"
    assert "text" not in second
    assert plain(second["section"][0]) == "Fille"


def test_a_text_body_without_media_type() -> None:
    def change(document: Document) -> None:
        document.sections, document.non_xml_body = [], Media(data=b"%PDF-1.4")

    result = bring_in(small(change))
    attachment = only(result.bundle, "DocumentReference")["content"][1]["attachment"]
    assert attachment["contentType"] == "application/octet-stream"
    assert "component/nonXMLBody/text/@mediaType" in findings(result, "warning")


# --- narrative --------------------------------------------------------------------------------------------------------


def test_narrative_as_xhtml() -> None:
    text = [
        paragraph("Un ", content("gras", style="Bold"), " et ", content("souligné", id="x", style="Underline Italics")),
        Element("list", {"listType": "ordered"}, [Element("item", {}, ["A & <B>"])]),
        Element("list", {}, [Element("item", {}, [Element("linkHtml", {"href": "https://exemple.fr"}, ["lien"])])]),
        Element("linkHtml", {"href": "javascript:alert(1)"}, ["piège"]),
        Element("table", {"border": "1"}, [Element("tbody", {}, [Element("tr", {}, [Element("td", {}, ["x"])])])]),
        Element("renderMultiMedia", {"referencedObject": "m1"}),
        Element("footnote", {}, ["note"]),
        Element("br"),
    ]
    div = xhtml(text)
    assert div == (
        '<div xmlns="http://www.w3.org/1999/xhtml"><p>Un <span><b>gras</b></span> et '
        '<span id="x" style="text-decoration: underline"><i>souligné</i></span></p><ol><li>A &amp; &lt;B&gt;</li></ol>'
        '<ul><li><a href="https://exemple.fr">lien</a></li></ul><a>piège</a>'
        '<table border="1"><tbody><tr><td>x</td></tr></tbody></table>'
        "<span>[Document joint : m1] </span><span>note</span><br/></div>"
    )
    assert list(xhtml_rules.problems(div)) == []


@pytest.mark.parametrize(
    ("style", "markup"),
    [
        ("BoldItalics", "<i><b>x</b></i>"),
        ("bold", "<b>x</b>"),
        ("Emphasis", "<em>x</em>"),
        ("xUnknown", "x"),
        ("notbold NoUnderline", "x"),
    ],
)
def test_styles_in_xhtml(style: str, markup: str) -> None:
    assert f"<span>{markup}</span>" in (xhtml([content("x", style=style)]) or "")


@pytest.mark.parametrize("space", [" ", "\t", "\u00a0", "\u2003"])
def test_a_link_that_runs_a_script_is_none_whatever_breaks_it(space: str) -> None:
    div = xhtml([Element("linkHtml", {"href": f"java{space}script:alert(1)"}, ["piège"])]) or ""
    assert "href" not in div


def test_an_address_that_is_broken_over_lines_is_one_in_xhtml() -> None:
    div = xhtml([Element("linkHtml", {"href": "https://exemple.fr/wado?a=1\n  &b=2"}, ["images"])]) or ""
    assert '<a href="https://exemple.fr/wado?a=1&amp;b=2">images</a>' in div


@pytest.mark.parametrize("text", [[], ["  \n"], [Element("br")], [paragraph()]])
def test_nothing_to_read(text: list[Any]) -> None:
    assert xhtml(text) is None


def test_words_keep_lines_and_nothing_else_of_the_layout() -> None:
    text = ["\n  Une\n   ligne ", Element("br"), " deux\u00a0: x", paragraph("trois"), "quatre"]
    assert words(text) == "Une ligne\ndeux\u00a0: x\ntrois\nquatre"


def test_words_by_reference() -> None:
    cell = Element("td", {}, [content("Marcher", id="o1"), paragraph("Priorité : haute"), content("B", id="o2")])
    found = Words([Section(text=[cell], sections=[Section(text=["tout"], text_id="s")])])
    assert (found.find("#o1"), found.find("o1"), found.find("#none"), found.find("#s")) == (
        "Marcher",
        "Marcher",
        None,
        "tout",
    )
    assert (found.beside("#o1"), found.beside("#o2"), found.beside("#s")) == ("Priorité : haute", "", "")
