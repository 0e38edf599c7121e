"""XDS metadata: their strings, their ebRIM form, and what a reader refuses."""

from __future__ import annotations

import copy
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from relais.cda import xds, xds_places
from relais.cda.errors import Issue
from relais.cda.templates import INS_NIR_TEST
from relais.cda.xds import HAS_MEMBER, LCM, REPLACE, RIM, Association, CodedValue, MetadataAuthor, MetadataError
from relais.cda.xds_places import MetadataPlaces
from relais.cda.xds_types import CX, XCN, XON, escape, is_document_id, is_dtm, is_short_oid, unescape, without_offset
from support.shipments import PATIENT_ID, small_shipment

NS = {"lcm": LCM, "rim": RIM}
OLD_ENTRY = "urn:uuid:6f1c1f0e-3a36-4b53-9c0a-0f6d0f1b8a11"

# What XML can hold; names also hold the delimiters of HL7 v2 more often than chance would have it.
text = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), min_size=1)
names = st.one_of(text, st.text("^&~|\\ FSTREAé", min_size=1)).map(lambda value: " ".join(value.split())).filter(bool)


# --- strings --------------------------------------------------------------------------------------------------


def test_strings_have_the_form_of_the_specification() -> None:
    person = XCN("810101234569", "LEMOINE", "Hélène", "1.2.250.1.71.4.2.1", "D", "IDNPS")
    system = XCN("3750100125/88", "Relais", "2", "1.2.250.1.71.4.2.1", "U", "RI")
    assert str(person) == "810101234569^LEMOINE^Hélène^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS"
    assert str(system) == "3750100125/88^Relais^2^^^^^^&1.2.250.1.71.4.2.1&ISO^U^^^RI"
    assert str(CX("279035121518989", INS_NIR_TEST, "NH")) == "279035121518989^^^&1.2.250.1.213.1.4.10&ISO^NH"
    structure = XON("SSIAD des Lilas", "1750099999", "1.2.250.1.71.4.2.2", "IDNST")
    assert str(structure) == "SSIAD des Lilas^^^^^&1.2.250.1.71.4.2.2&ISO^IDNST^^^1750099999"
    assert str(replace(structure, name="")) == "^^^^^&1.2.250.1.71.4.2.2&ISO^IDNST^^^1750099999"
    assert str(XON("SSIAD des Lilas", "", "", "")) == "SSIAD des Lilas"


def test_delimiters_in_a_name_are_escaped() -> None:
    name = "A^B&C~D|E\\F"
    assert escape(name) == "A\\S\\B\\T\\C\\R\\D\\F\\E\\E\\F"
    assert unescape(escape(name)) == name


@given(names, names, names)
def test_no_name_breaks_the_string_it_stands_in(identifier: str, family: str, given_name: str) -> None:
    person = XCN(identifier, family, given_name, "1.2.250.1.71.4.2.1", "D", "IDNPS")
    assert str(person).count("^") == 12
    assert str(person).count("&") == 2
    assert XCN.parse(str(person)) == person
    structure = XON(family, identifier, "1.2.250.1.71.4.2.2", "IDNST")
    assert XON.parse(str(structure)) == structure
    patient = CX(identifier, "1.2.3", "PI")
    assert CX.parse(str(patient)) == patient
    assert not patient.problems()


@given(st.text())
def test_any_string_can_be_read(anything: str) -> None:
    for kind in (CX, XCN, XON):
        kind.parse(anything).problems()


@pytest.mark.parametrize(
    ("identifier", "problem"),
    [
        ("279035121518989", "assigning authority"),
        ("^^^&1.2.3&ISO^PI", "component 1"),
        ("42^^^&1.2.3&ISO", "neither NH nor PI"),
        ("42^^^ns&1.2.3&ISO^PI", "assigning authority"),
        ("42^^^&1.2.3&DNS^PI", "assigning authority"),
        ("42^^^&1.02.3&ISO^PI", "assigning authority"),
        ("279035121518988^^^&1.2.250.1.213.1.4.10&ISO^NH", "matricule INS"),
        ("2790351215189^^^&1.2.250.1.213.1.4.8&ISO^NH", "matricule INS"),
        ("279035121518989^^^&1.2.250.1.213.1.4.10&ISO^PI", "does not fit"),
        ("279035121518989^^^&1.2.3&ISO^NH", "does not fit"),
        ("0218805328320789819507^^^&1.2.250.1.213.1.4.2&ISO^NH", "obsolete"),
    ],
)
def test_identifiers_of_a_patient_that_are_refused(identifier: str, problem: str) -> None:
    problems = CX.parse(identifier).problems()
    assert any(problem in found for found in problems)
    assert not any(identifier[:10] in found for found in problems if identifier[0] != "^")


@pytest.mark.parametrize("matricule", ["279035121518989", "277076322082910", "255069999999934"])
def test_good_identifiers_of_a_patient(matricule: str) -> None:
    assert CX.parse(f"{matricule}^^^&1.2.250.1.213.1.4.10&ISO^NH").problems() == []
    assert CX.parse("12^^^&1.2.3.4&ISO^PI").problems() == []


def test_structures_name_their_identifier_wholly_or_not_at_all() -> None:
    assert XON.parse("Cabinet").problems() == []
    assert XON.parse("^^^^^&1.3.2&ISO^SIREN^^^123456782").problems() == []
    assert XON.parse("Cabinet^^^^^&1.2.250.1.71.4.2.2&ISO^^^^10B105729400").problems()
    assert XON.parse("Cabinet^^^^^&1.2.250.1.71.4.2.2&ISO^IDNST").problems()
    assert XON.parse("").problems()


def test_times_and_oids() -> None:
    assert all(is_dtm(time) for time in ("2026", "202601", "20260112", "202601120900", "20260112090000"))
    assert not any(is_dtm(time) for time in ("", "20261312", "20260112090000+0100", "2026-01-12", "20260112250000"))
    assert without_offset("20130104153000+0100") == "20130104143000"
    assert without_offset("201301041530+0100") == "201301041430"
    assert without_offset("20130104153000") is None
    assert is_short_oid("1.2.250.1.999.1") and not is_short_oid("urn:oid:1.2.250")
    assert not is_short_oid("1.2." + "1" * 64)
    assert is_document_id("1.2.3^7") and not is_document_id("1.2.3^") and not is_document_id("1.2.3^" + "7" * 17)


# --- ebRIM ----------------------------------------------------------------------------------------------------

SCHEMES = {
    "RegistryPackage": {
        "urn:uuid:a7058bb9-b4e4-4307-ba5b-e3f0ab85e12d",
        "urn:uuid:aa543740-bdda-424e-8c96-df4873be8500",
        "urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446",
        "urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832",
        "urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8",
    },
    "ExtrinsicObject": {
        "urn:uuid:93606bcf-9494-43ec-9b4e-a7748d1a838d",
        "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a",
        "urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f",
        "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d",
        "urn:uuid:f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1",
        "urn:uuid:cccf5598-8b07-4b77-a05e-ae952c785ead",
        "urn:uuid:f0306f51-975f-434e-a61c-c59651d33983",
        "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427",
        "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab",
    },
}


@pytest.fixture
def submission() -> xds.Submission:
    """The small document's submission."""
    return small_shipment().submission


@pytest.fixture
def request_element(submission: xds.Submission) -> etree._Element:
    """Its SubmitObjectsRequest."""
    return xds.submit_objects_request(submission)


@pytest.mark.parametrize("tag", ["RegistryPackage", "ExtrinsicObject"])
def test_objects_bear_their_schemes_in_the_order_of_the_schema(request_element: etree._Element, tag: str) -> None:
    element = request_element.find(f".//{{{RIM}}}{tag}")
    assert element is not None
    order = ["Slot", "Name", "Description", "VersionInfo", "Classification", "ExternalIdentifier"]
    places = [order.index(etree.QName(child).localname) for child in element]
    assert places == sorted(places)
    found = {child.get("classificationScheme") or child.get("identificationScheme") for child in element} - {None}
    assert found == SCHEMES[tag]


def test_every_object_has_its_own_id_and_names_its_parent(request_element: etree._Element) -> None:
    ids = [element.get("id") for element in request_element.iter() if "id" in element.attrib]
    identified = request_element.xpath("//rim:Classification | //rim:ExternalIdentifier", namespaces=NS)
    assert len(ids) == len(set(ids)) == len(identified) + 3  # the set, the document, the association
    for child in identified:
        parent = child.getparent().get("id")
        assert child.get("classifiedObject", child.get("registryObject")) == parent


def test_an_id_that_begins_like_a_uuid_is_one(submission: xds.Submission) -> None:
    """Registries check it: ids are UUIDs or symbols (ITI TF-3, 4.2.3)."""
    entry = f"urn:uuid:{UUID(int=7)}"
    request = xds.submit_objects_request(replace(submission, entries=(replace(submission.entries[0], entry_id=entry),)))
    ids = [element.get("id", "") for element in request.iter() if "id" in element.attrib]
    assert [one for one in ids if one.startswith("urn:uuid:")] == [entry]


def test_a_document_is_an_original_member_of_the_set(request_element: etree._Element) -> None:
    (association,) = request_element.xpath("//rim:Association", namespaces=NS)
    assert association.get("associationType") == HAS_MEMBER
    assert (association.get("sourceObject"), association.get("targetObject")) == ("SubmissionSet01", "Document01")
    assert association.get("objectType") == "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:Association"
    assert association.xpath("rim:Slot[@name='SubmissionSetStatus']//rim:Value/text()", namespaces=NS) == ["Original"]


def test_what_is_written_is_read_back(submission: xds.Submission) -> None:
    entry = replace(
        submission.entries[0],
        uri="DOC00001.XML",
        comments="Deuxième version",
        service_stop="20260112",
        event_codes=(CodedValue("AMB", "Ambulatoire", "2.16.840.1.113883.5.4"),),
        reference_ids=("12^^^&1.2.3&ISO^urn:ihe:iti:xds:2013:order",),
        confidentiality=(
            *submission.entries[0].confidentiality,
            CodedValue("MASQUE_PS", "Masqué aux professionnels de santé", "1.2.250.1.213.1.1.4.13"),
        ),
        authors=(submission.entries[0].authors[0], replace(submission.entries[0].authors[0], roles=("Coordinatrice",))),
    )
    second = replace(submission.entries[0], entry_id="Document02", unique_id="2.25.77")
    whole = xds.Submission(
        replace(submission.submission_set, title="Plan", comments="Suivi"),
        (entry, second),
        (Association(REPLACE, "Document01", OLD_ENTRY),),
    )
    assert xds.read_submission(xds.submit_objects_request(whole)) == whole


@given(title=names, comments=names, display=names, family=names, role=names)
def test_any_text_survives(title: str, comments: str, display: str, family: str, role: str) -> None:
    whole = small_shipment().submission
    person = str(XCN("810101234569", family, "", "1.2.250.1.71.4.2.1", "D", "IDNPS"))
    entry = replace(
        whole.entries[0],
        title=title,
        comments=comments,
        type_code=replace(whole.entries[0].type_code, display=display),
        authors=(MetadataAuthor(person, roles=(role,)),),
    )
    whole = replace(whole, entries=(entry,))
    parsed = etree.fromstring(etree.tostring(xds.submit_objects_request(whole)))
    assert xds.read_submission(parsed) == whole


def test_an_empty_document_has_the_size_0() -> None:
    shipment = small_shipment()
    empty = replace(shipment.submission.entries[0], size=0, hash="da39a3ee5e6b4b0d3255bfef95601890afd80709")
    element = xds.submit_objects_request(replace(shipment.submission, entries=(empty,)))
    assert element.xpath("string(//rim:Slot[@name='size'])", namespaces=NS).strip() == "0"
    assert xds.read_submission(element).entries[0].size == 0


def test_hash_and_size_may_be_left_to_the_repository(submission: xds.Submission) -> None:
    entry = replace(submission.entries[0], hash="", size=0)
    element = xds.submit_objects_request(replace(submission, entries=(entry,)))
    assert not element.xpath("//rim:Slot[@name='hash' or @name='size' or @name='URI']", namespaces=NS)
    assert xds.read_submission(element).entries == (entry,)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"creation_time": "20260112090000+0100"}, "creationTime"),
        ({"service_start": None}, "serviceStartTime"),
        ({"legal_authenticator": None}, "legalAuthenticator"),
        ({"title": " "}, "title"),
        ({"unique_id": "F3B2A1D0-1111-4222-8333-444455556666"}, "uniqueId"),
        ({"unique_id": "2.25.301245378217395437813294710347591823499"}, "uniqueId"),
        ({"patient_id": "277076322082910^^^&1.2.250.1.213.1.4.10&ISO^NH"}, "patientId"),
        ({"hash": "B6F95D6AEB2F73FFF8EEC010BE4995B8"}, "hash"),
        ({"confidentiality": ()}, "confidentialityCode"),
        ({"confidentiality": (CodedValue("MASQUE_PS", "Masqué", "1.2.250.1.213.1.1.4.13"),)}, "confidentialityCode"),
        ({"class_code": CodedValue("11", "Synthèse", "1.2.250.1.213.1.1.4.12")}, "classCode"),
        ({"type_code": CodedValue("18776-5", "", "2.16.840.1.113883.6.1")}, "typeCode"),
        ({"authors": ()}, "author"),
        ({"authors": (MetadataAuthor(institutions=("Cabinet",)),)}, "authorPerson"),
        ({"source_patient_info": ("PATTERSON",)}, "sourcePatientInfo"),
        ({"mime_type": ""}, "mimeType"),
        ({"language": "french"}, "languageCode"),
    ],
)
def test_metadata_unfit_to_be_sent(submission: xds.Submission, changes: dict[str, object], place: str) -> None:
    entry = replace(submission.entries[0], **changes)  # type: ignore[arg-type]
    with pytest.raises(MetadataError) as caught:
        xds.submit_objects_request(replace(submission, entries=(entry,)))
    assert any(place in issue.path for issue in caught.value.issues)
    assert "27903512151" not in str(caught.value) and "PATTERSON" not in str(caught.value)


def test_a_control_character_is_refused(submission: xds.Submission) -> None:
    entry = replace(submission.entries[0], title="Plan\x01")
    with pytest.raises(MetadataError, match="control character"):
        xds.submit_objects_request(replace(submission, entries=(entry,)))


def test_every_error_is_listed_at_once(submission: xds.Submission) -> None:
    entry = replace(submission.entries[0], title="", language="", hash="x", unique_id="x", service_start="hier")
    with pytest.raises(MetadataError) as caught:
        xds.submit_objects_request(replace(submission, entries=(entry,)))
    assert len(caught.value.issues) == 5


# --- reading --------------------------------------------------------------------------------------------------

Damage = Callable[[etree._Element], None]


def _remove(path: str) -> Damage:
    def damage(root: etree._Element) -> None:
        for element in root.xpath(path, namespaces=NS):
            element.getparent().remove(element)

    return damage


def _set(path: str, attribute: str, value: str) -> Damage:
    def damage(root: etree._Element) -> None:
        (element,) = root.xpath(path, namespaces=NS)
        element.set(attribute, value)

    return damage


def _double(path: str) -> Damage:
    def damage(root: etree._Element) -> None:
        (element,) = root.xpath(path, namespaces=NS)
        element.addnext(copy.deepcopy(element))

    return damage


def _rules(issues: tuple[Issue, ...]) -> set[str]:
    return {issue.rule for issue in issues if issue.severity == "error"}


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (_remove("//rim:RegistryObjectList"), "xdm.metadata-invalid"),
        (_remove("//rim:RegistryPackage"), "xdm.metadata-invalid"),
        (_remove("//rim:Classification[@classificationNode]"), "xdm.metadata-invalid"),
        (_double("//rim:RegistryPackage"), "xdm.metadata-invalid"),
        (_remove("//rim:ExtrinsicObject"), "xdm.metadata-invalid"),
        (_double("//rim:Association"), "xdm.metadata-invalid"),
        (_remove("//rim:Association"), "xdm.association"),
        (_set("//rim:Association", "targetObject", "Document09"), "xdm.association"),
        (_set("//rim:Association", "sourceObject", "SubmissionSet09"), "xdm.association"),
        (_set("//rim:Association", "associationType", "urn:ihe:iti:2010:AssociationType:RPLC"), "xdm.association"),
        (_remove("//rim:Association/rim:Slot"), "xdm.association"),
        (_set("//rim:ExtrinsicObject", "id", "documentO1"), "xdm.association"),
        (_set("//rim:ExtrinsicObject", "objectType", "urn:uuid:34268e47-fdf5-41a6-ba33-82133c465248"), "attribute"),
        (_double("//rim:Slot[@name='creationTime']"), "attribute"),
        (_double("//rim:Slot[@name='creationTime']//rim:Value"), "attribute"),
        (_double("//rim:Classification[contains(@classificationScheme, 'f0306f51')]"), "attribute"),
        (_set("//rim:ExternalIdentifier[contains(@identificationScheme, '554ac39e')]", "value", "ici"), "attribute"),
    ],
)
def test_metadata_that_a_reader_refuses(request_element: etree._Element, damage: Damage, rule: str) -> None:
    damage(request_element)
    with pytest.raises(MetadataError) as caught:
        xds.read_submission(request_element)
    assert any(rule in found for found in _rules(caught.value.issues))
    places = MetadataPlaces(request_element)
    assert all(places.element(issue.path) is not None for issue in caught.value.issues)


@pytest.mark.parametrize(
    ("place", "xpath"),
    [
        ("", "/*"),
        ("SubmissionSet.submissionTime", "//rim:Slot[@name='submissionTime']"),
        ("SubmissionSet.author[1].authorPerson", "//rim:RegistryPackage/rim:Classification[1]/rim:Slot[2]"),
        ("DocumentEntry[1].title", "//rim:ExtrinsicObject/rim:Name"),
        ("DocumentEntry[1].patientId", "//rim:ExtrinsicObject/rim:ExternalIdentifier[1]"),
        ("DocumentEntry[1].author[2].authorPerson", "//rim:ExtrinsicObject"),
        ("DocumentEntry[1].mimeType", "//rim:ExtrinsicObject"),
        (
            "DocumentEntry[1].typeCode.codingScheme",
            "//rim:Classification[contains(@classificationScheme, 'f0306f51')]/*",
        ),
        ("Association[1]", "//rim:Association"),
        ("Classification[2]", "(//rim:Classification)[2]"),
    ],
)
def test_a_place_leads_to_its_element(request_element: etree._Element, place: str, xpath: str) -> None:
    assert MetadataPlaces(request_element).element(place) is request_element.xpath(xpath, namespaces=NS)[0]


@pytest.mark.parametrize(
    "place",
    [
        "README.TXT",
        "IHE_XDM/SUBSET01/DOC00001.XML",
        "DocumentEntry[9].hash",
        "line 3",
        "A[0]",
        "DocumentEntry[0]",
        f"DocumentEntry[{'9' * 5000}]",
    ],
)
def test_a_place_elsewhere_leads_nowhere(request_element: etree._Element, place: str) -> None:
    assert MetadataPlaces(request_element).element(place) is None


def test_number_zero_leads_to_what_it_would_stand_in(request_element: etree._Element) -> None:
    places = MetadataPlaces(request_element)
    assert places.element("DocumentEntry[1].author[0]") is places.element("DocumentEntry[1]")


def test_places_in_one_object_cost_one_look_at_its_children(
    request_element: etree._Element, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = request_element.xpath("//rim:ExtrinsicObject", namespaces=NS)[0]
    looked_at: list[etree._Element] = []

    def named(element: etree._Element) -> str:
        looked_at.append(element)
        return "author"

    monkeypatch.setattr(xds_places, "_name", named)
    places = MetadataPlaces(request_element)
    found = [places.element(f"DocumentEntry[1].author[{number}]") for number in range(1, len(entry) + 1)]
    assert found == looked_at == list(entry)


@pytest.mark.parametrize(
    "search",
    [
        lambda root: xds_places.numbered(root, [root[0][-1]]) == ["ExtrinsicObject[20001]"],
        lambda root: MetadataPlaces(root).element("DocumentEntry[1]") is root[0],
    ],
)
def test_search_of_one_place_keeps_nothing_of_the_other_objects(search: Callable[[etree._Element], bool]) -> None:
    root = etree.fromstring(f"<list><ExtrinsicObject>{'<ExtrinsicObject/>' * 20_000}</ExtrinsicObject></list>")
    tracemalloc.start()
    try:
        assert search(root)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000


def test_each_object_that_holds_the_child_of_another_is_named(request_element: etree._Element) -> None:
    """Once, by the first such child, whose number counts all of its kind in the document."""
    children = request_element.xpath("//rim:ExtrinsicObject/rim:Classification", namespaces=NS)
    children += request_element.xpath("//rim:RegistryPackage/rim:ExternalIdentifier", namespaces=NS)[1:]
    for child in children:
        child.set("classifiedObject" if child.tag.endswith("}Classification") else "registryObject", "other")
    found = [one.path for one in xds.examine(request_element).issues if "names another object" in one.message]
    places = MetadataPlaces(request_element)
    assert {places.element(path) for path in found} == {
        request_element.xpath("//rim:ExtrinsicObject/rim:Classification", namespaces=NS)[0],
        request_element.xpath("//rim:RegistryPackage/rim:ExternalIdentifier", namespaces=NS)[1],
    }
    assert len(found) == 2


def test_an_object_without_id_is_named(request_element: etree._Element) -> None:
    """The first of them, by its number in the order of the document."""
    second = request_element.xpath("(//rim:ExternalIdentifier)[2]", namespaces=NS)[0]
    del second.attrib["id"]
    [issue] = [one for one in xds.examine(request_element).issues if "has no id" in one.message]
    assert issue.path == "ExternalIdentifier[2]"
    assert MetadataPlaces(request_element).element(issue.path) is second


@pytest.mark.parametrize("tag", SCHEMES)
def test_no_child_can_go_missing_unseen(submission: xds.Submission, tag: str) -> None:
    """Whatever child is taken away, either the submission read differs or it is refused."""
    whole = xds.submit_objects_request(submission)
    children = whole.xpath(f"count(//rim:{tag}/*)", namespaces=NS)
    assert children > 5
    for number in range(1, int(children) + 1):
        element = copy.deepcopy(whole)
        _remove(f"//rim:{tag}/*[{number}]")(element)
        try:
            read = xds.read_submission(element)
        except MetadataError:
            continue
        assert read != submission


def test_a_root_of_another_kind_is_no_submission() -> None:
    examined = xds.examine(etree.fromstring("<a/>"))
    assert examined.submission is None
    assert _rules(examined.issues) == {"xdm.metadata-invalid"}


def test_two_patients_in_one_lot_are_refused(request_element: etree._Element) -> None:
    other = PATIENT_ID.replace("279035121518989", "277076322082910")
    _set("//rim:ExtrinsicObject/rim:ExternalIdentifier[contains(@identificationScheme, '58a6')]", "value", other)(
        request_element
    )
    assert "xdm.patient" in _rules(xds.examine(request_element).issues)


def test_reception_normalises_times_with_an_offset(request_element: etree._Element) -> None:
    (value,) = request_element.xpath("//rim:Slot[@name='submissionTime']//rim:Value", namespaces=NS)
    value.text = "20260112090500+0100"
    examined = xds.examine(request_element)
    assert examined.submission is not None
    assert examined.submission.submission_set.submission_time == "20260112080500"
    assert [issue.severity for issue in examined.issues] == ["warning"]
    with pytest.raises(MetadataError, match="offset"):
        xds.read_submission(request_element)


def test_reception_keeps_the_action_that_is_never_sent(request_element: etree._Element) -> None:
    document = request_element.find(f".//{{{RIM}}}ExtrinsicObject")
    assert document is not None
    slot = etree.SubElement(document, f"{{{RIM}}}Slot", name="urn:example:action")
    values = etree.SubElement(slot, f"{{{RIM}}}ValueList")
    etree.SubElement(values, f"{{{RIM}}}Value").text = "D"
    read = xds.read_submission(request_element)
    assert read.entries[0].action == "D"
    with pytest.raises(MetadataError, match="never sent"):
        xds.submit_objects_request(read)


def test_what_is_not_carried_over_is_said(request_element: etree._Element) -> None:
    objects = request_element.find(f"{{{RIM}}}RegistryObjectList")
    document = request_element.find(f".//{{{RIM}}}ExtrinsicObject")
    assert objects is not None and document is not None
    etree.SubElement(document, f"{{{RIM}}}Slot", name="repositoryUniqueId")
    folder = etree.SubElement(objects, f"{{{RIM}}}RegistryPackage", id="Folder01")
    node = "urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2"
    etree.SubElement(folder, f"{{{RIM}}}Classification", id="f1", classifiedObject="Folder01", classificationNode=node)
    etree.SubElement(objects, f"{{{RIM}}}Service", id="s1")
    examined = xds.examine(request_element)
    assert [issue.severity for issue in examined.issues] == ["warning"] * 3


def test_a_size_of_absurd_length_is_refused(request_element: etree._Element) -> None:
    (value,) = request_element.xpath("//rim:Slot[@name='size']//rim:Value", namespaces=NS)
    value.text = "9" * 5000
    assert _rules(xds.examine(request_element).issues) == {"xdm.metadata-attribute"}


def test_white_space_inside_values_is_collapsed_and_said(request_element: etree._Element) -> None:
    (value,) = request_element.xpath(
        "//rim:ExtrinsicObject//rim:Slot[@name='authorInstitution']//rim:Value", namespaces=NS
    )
    value.text = value.text.replace(" ", "\n    ")
    examined = xds.examine(request_element)
    assert examined.submission == small_shipment().submission
    assert [issue.severity for issue in examined.issues] == ["warning"]
