"""What a registry answers is read as it stands, and what is sent back to change it keeps all the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lxml import etree

from relais.cda import xds, xds_registry
from relais.cda.xds import RIM, CodedValue
from relais.cda.xds_registry import (
    APPROVED,
    DELETED,
    HIDDEN_FROM_PATIENT,
    HIDDEN_FROM_PROFESSIONALS,
    RegisteredEntry,
)
from support.shipments import small_shipment, small_submission_set

NS = {"rim": RIM}
UUID = "urn:uuid:0f3b1ad5-0c55-4d2a-9f0a-0a6d3f1f5f10"
FOREIGN = "urn:example:slot"


@pytest.fixture
def answered() -> etree._Element:
    """A RegistryObjectList as a registry might answer it: ids of its own, and a slot that Relais does not know."""
    objects = xds.submit_objects_request(small_shipment().submission)[0]
    entry = objects.find("rim:ExtrinsicObject", NS)
    assert entry is not None
    for name, value in (("id", UUID), ("lid", UUID), ("status", APPROVED)):
        entry.set(name, value)
    for child in entry:
        for link in ("classifiedObject", "registryObject"):
            if child.get(link):
                child.set(link, UUID)
    slots = [("repositoryUniqueId", " 1.2.3 "), (FOREIGN, "kept")]
    for name, value in slots:
        slot = etree.Element(f"{{{RIM}}}Slot", name=name)
        etree.SubElement(etree.SubElement(slot, f"{{{RIM}}}ValueList"), f"{{{RIM}}}Value").text = value
        entry.insert(0, slot)
    entry.insert(len(entry.findall("rim:Slot", NS)), etree.Element(f"{{{RIM}}}VersionInfo", versionName="3"))
    return objects


@pytest.fixture
def entry(answered: etree._Element) -> RegisteredEntry:
    return xds_registry.read_objects(answered).entries[0]


def test_everything_a_registry_adds_is_read(answered: etree._Element, entry: RegisteredEntry) -> None:
    assert replace(entry.entry, entry_id="Document01") == small_shipment().submission.entries[0]
    assert (entry.entry_uuid, entry.logical_id, entry.version) == (UUID, UUID, "3")
    assert (entry.status, entry.repository_id, entry.is_signature) == (APPROVED, "1.2.3", False)
    found = xds_registry.read_objects(answered)
    assert found.sets[0].submission_set == small_submission_set()
    assert [one.type for one in found.associations] == [xds.HAS_MEMBER]


def test_what_is_missing_reads_as_empty() -> None:
    objects = etree.fromstring(
        f'<RegistryObjectList xmlns="{RIM}"><ExtrinsicObject/><ObjectRef id="x"/></RegistryObjectList>'
    )
    found = xds_registry.read_objects(objects)
    assert (found.entries[0].entry.unique_id, found.entries[0].status, found.references) == ("", "", ("x",))


def test_a_change_of_visibility_keeps_what_relais_does_not_know(entry: RegisteredEntry) -> None:
    lot = replace(small_submission_set(), unique_id="2.25.9")
    codes = xds_registry.with_masks(entry.entry, HIDDEN_FROM_PATIENT, hide=True)
    request = xds_registry.visibility_change(lot, entry, codes)
    [sent] = request.iter(f"{{{RIM}}}ExtrinsicObject")
    assert (sent.get("lid"), sent.get("status"), sent.get("id")) == (UUID, None, "Document01")
    assert sent.xpath(f"string(rim:Slot[@name='{FOREIGN}'])", namespaces=NS).strip() == "kept"
    assert {one.get("classifiedObject") for one in sent.findall("rim:Classification", NS)} == {"Document01"}
    assert {one.get("registryObject") for one in sent.findall("rim:ExternalIdentifier", NS)} == {"Document01"}
    read = xds.registered_entry(sent)
    assert [code.code for code in read.confidentiality] == ["N", "INVISIBLE_PATIENT"]
    assert replace(read, confidentiality=(), entry_id="") == replace(entry.entry, confidentiality=(), entry_id="")
    [member] = request.iter(f"{{{RIM}}}Association")
    slots = {slot.get("name"): slot.xpath("string()").strip() for slot in member}
    assert slots == {"SubmissionSetStatus": "Original", "PreviousVersion": "3"}
    assert entry.element.get("id") == UUID


def test_a_change_of_status_says_from_what_to_what(entry: RegisteredEntry) -> None:
    request = xds_registry.status_change(small_submission_set(), entry, DELETED)
    [association] = request.iter(f"{{{RIM}}}Association")
    assert association.get("targetObject") == UUID
    assert association.get("associationType") == "urn:ihe:iti:2010:AssociationType:UpdateAvailabilityStatus"
    slots = {slot.get("name"): slot.xpath("string()").strip() for slot in association}
    assert slots == {"OriginalStatus": APPROVED, "NewStatus": "urn:asip:ci-sis:2010:StatusType:Deleted"}
    assert not list(request.iter(f"{{{RIM}}}ExtrinsicObject"))


def test_masks(entry: RegisteredEntry) -> None:
    described = entry.entry
    both = replace(
        described, confidentiality=(*described.confidentiality, HIDDEN_FROM_PATIENT, HIDDEN_FROM_PROFESSIONALS)
    )
    again = xds_registry.with_masks(both, HIDDEN_FROM_PATIENT, hide=True)
    assert sorted(code.code for code in again) == ["INVISIBLE_PATIENT", "MASQUE_PS", "N"]
    assert [code.code for code in xds_registry.with_masks(both, HIDDEN_FROM_PATIENT, hide=False)] == ["N", "MASQUE_PS"]
    own = CodedValue("MASQUE_PS", "autre", "1.2.3")
    foreign = replace(described, confidentiality=(own,))
    assert xds_registry.with_masks(foreign, HIDDEN_FROM_PROFESSIONALS, hide=False) == (own,)
