"""Looking up, reading and changing documents of the DMP, over the wire of the sandbox."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from lxml import etree

from relais.cda import xds
from relais.cda.xds import Association, CodedValue
from relais.cda.xds_registry import (
    APPROVED,
    ARCHIVED,
    DELETED,
    DEPRECATED,
    HIDDEN_FROM_PATIENT,
    HIDDEN_FROM_PROFESSIONALS,
    HIDDEN_FROM_REPRESENTATIVES,
    RegisteredEntry,
)
from relais.server.delivery import lot_signature, vihf, xds_queries
from relais.server.delivery.channel import DeliveryError, Shipment, entry_uuid, recording
from relais.server.delivery.dmp import DmpChannel
from relais.server.delivery.dmp_identity import Signer
from relais.server.delivery.dmp_patients import DmpPatients
from relais.server.delivery.dmp_soap import Dmp
from relais.server.delivery.dmp_web import web_address
from relais.server.delivery.xds_client import STORED_QUERY, DmpDocuments
from relais.server.delivery.xds_queries import Criteria
from relais.server.sandbox import Sandbox
from relais.server.sandbox.authority import Authority
from relais.server.settings import Settings
from support.dmp import dmp_settings, errors, post, raw_message
from support.shipments import (
    PATIENT_ID,
    other_document,
    other_shipment,
    small_shipment,
    small_submission_set,
    with_entry,
)

OTHER_PATIENT = PATIENT_ID.replace("279035121518989", "277076322082910")


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    with Sandbox(tmp_path / "sandbox") as running:
        yield running


@pytest.fixture
def settings(sandbox: Sandbox) -> Settings:
    return dmp_settings(sandbox)


@pytest.fixture
def documents(settings: Settings) -> Iterator[DmpDocuments]:
    dmp = Dmp(settings)
    yield DmpDocuments(dmp, vihf.requester(settings))
    dmp.close()


def sent(settings: Settings, *numbers: int) -> list[Shipment]:
    shipments = [other_shipment(number) for number in numbers]
    for shipment in shipments:
        DmpChannel(settings).send(shipment)
    return shipments


def lot(number: int) -> xds.SubmissionSet:
    return replace(small_submission_set(), unique_id=f"2.25.9{number}")


def only(documents: DmpDocuments, *status: str) -> RegisteredEntry:
    [entry] = documents.find(PATIENT_ID, Criteria(status=status or (APPROVED,)))
    return entry


# === several documents ==============================================================================================


def test_several_documents_in_one_submission(settings: Settings, documents: DmpDocuments, sandbox: Sandbox) -> None:
    shipments = [small_shipment(other_document(number)) for number in (1, 2, 3)]
    entries = tuple(
        replace(shipment.submission.entries[0], entry_id=f"Document{number:02}")
        for number, shipment in enumerate(shipments, 1)
    )
    content = {entry.entry_id: shipment.document for entry, shipment in zip(entries, shipments, strict=True)}
    submission = replace(shipments[0].submission, entries=entries)
    assert documents.provide_and_register(submission, content) == []
    assert [stored.path.read_bytes() for stored in sandbox.documents()] == list(content.values())
    found = documents.contents(PATIENT_ID, submission.submission_set.unique_id)
    assert len(found.sets) == 1
    assert [entry.is_signature for entry in found.entries] == [False, False, False, True]
    kinds = [association.type for association in found.associations]
    assert sorted(kinds) == sorted([xds.HAS_MEMBER] * 4 + [xds.SIGNS])


def test_a_document_that_is_not_xml_cannot_be_signed(settings: Settings, documents: DmpDocuments) -> None:
    shipment = small_shipment()
    with pytest.raises(DeliveryError, match="not XML") as caught:
        documents.provide_and_register(shipment.submission, {"Document01": b"%PDF-1.4"})
    assert not caught.value.retry


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda data: data.replace(b"AA==", b"AQ=="), "manifest does not hold"),
        (lambda data: data.replace(b"<xades:SigningTime>2026", b"<xades:SigningTime>2025"), "does not verify"),
        (lambda data: data.replace(lot_signature.SOURCE.encode(), b"1.2.3"), "purpose of the signature"),
        (lambda data: b"<a/>", "no ds:Signature"),
        (lambda data: data.replace(b'Id="2.25', b'Id="3.25'), "whose Id is the uniqueId"),
    ],
)
def test_a_lot_with_a_wrong_signature_is_refused(
    documents: DmpDocuments, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, change: object, expected: str
) -> None:
    sign = lot_signature.signed

    def changed(*arguments: object) -> object:
        submission, data = sign(*arguments)  # type: ignore[arg-type]
        data = change(data)  # type: ignore[operator]
        digest = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        entry = replace(submission.entries[-1], size=len(data), hash=digest)
        return replace(submission, entries=(*submission.entries[:-1], entry)), data

    monkeypatch.setattr(lot_signature, "signed", changed)
    shipment = small_shipment()
    with pytest.raises(DeliveryError, match=expected):
        documents.provide_and_register(shipment.submission, {"Document01": shipment.document})
    assert not sandbox.documents()


def revoked(authority: Authority) -> Path:
    path = authority.signing_certificate("revoked-signing")
    authority.revoke(path)
    return path


def expired(authority: Authority) -> Path:
    now = datetime.now(UTC)
    return authority.signing_certificate("old", not_before=now - timedelta(days=9), not_after=now - timedelta(days=1))


@pytest.mark.parametrize(
    ("certificate", "expected"), [(revoked, "was revoked"), (expired, "is out of date")], ids=["revoked", "expired"]
)
def test_a_lot_signed_with_a_certificate_that_may_not_is_refused(
    documents: DmpDocuments,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    certificate: Callable[[Authority], Path],
    expected: str,
) -> None:
    pem = certificate(sandbox.authority).read_bytes()
    chain = x509.load_pem_x509_certificates(pem)
    other = Signer(chain[0], tuple(chain[1:]), load_pem_private_key(pem, None))  # type: ignore[arg-type]  # RSA
    sign = lot_signature.signed
    monkeypatch.setattr(lot_signature, "signed", lambda lot, data, _, digest: sign(lot, data, other, digest))
    shipment = small_shipment()
    with pytest.raises(DeliveryError, match=expected):
        documents.provide_and_register(shipment.submission, {"Document01": shipment.document})
    assert not sandbox.documents()


def test_older_platforms_get_sha_1(sandbox: Sandbox) -> None:
    assert DmpChannel(dmp_settings(sandbox, dmp_lot_digest="sha1")).send(small_shipment()).detail


# === stored queries =================================================================================================


def test_what_was_sent_is_found_with_every_attribute(settings: Settings, documents: DmpDocuments) -> None:
    [shipment] = sent(settings, 7)
    entry = only(documents)
    assert replace(entry.entry, entry_id="Document01") == shipment.submission.entries[0]
    assert (entry.status, entry.version, entry.logical_id) == (APPROVED, "1", entry.entry_uuid)


@pytest.mark.parametrize(
    ("criteria", "found"),
    [
        (Criteria(), True),
        (Criteria(status=(DEPRECATED, ARCHIVED)), False),
        (Criteria(types=(CodedValue("18776-5", "", "2.16.840.1.113883.6.1"),)), True),
        (Criteria(types=(CodedValue("11506-3", "", "2.16.840.1.113883.6.1"),)), False),
        (Criteria(types=(CodedValue("18776-5", "", "1.2.3"),)), False),
        (Criteria(classes=(CodedValue("44", "", "1.2.250.1.213.1.1.4.1"),)), True),
        (Criteria(confidentiality=(CodedValue("N", "", "2.16.840.1.113883.5.25"),)), True),
        (Criteria(practice_settings=(CodedValue("AMBULATOIRE", "", "1.2.250.1.213.1.1.4.9"),)), True),
        (Criteria(facility_types=(CodedValue("SA05", "", "1.2.250.1.71.4.2.4"),)), False),
        (Criteria(events=(CodedValue("X", "", "1.2.3"),)), False),
        (Criteria(author="%LEMOINE%"), True),
        (Criteria(author="LEMOINE"), False),
        (Criteria(author="l'aut(re)"), False),
        (Criteria(created_from="20260112080000"), True),
        (Criteria(created_to="20260112080000"), False),
        (Criteria(created_from="2026", created_to="2027"), True),
        (Criteria(service_from="20260113"), False),
    ],
)
def test_criteria(settings: Settings, documents: DmpDocuments, criteria: Criteria, found: bool) -> None:
    sent(settings, 7)
    assert bool(documents.find(PATIENT_ID, criteria)) is found


def test_documents_are_found_by_reference(settings: Settings, documents: DmpDocuments) -> None:
    accession = "A-17^^^&1.2.250.1.999.7&ISO^urn:ihe:iti:xds:2013:accession"
    DmpChannel(settings).send(with_entry(other_shipment(7), reference_ids=(accession,)))
    sent(settings, 8)
    assert [one.entry.unique_id for one in documents.find_by_reference(PATIENT_ID, [accession, "other"])] == ["2.25.7"]
    assert documents.find_by_reference(PATIENT_ID, ["other"]) == []


def test_nothing_of_another_patient_is_found(settings: Settings, documents: DmpDocuments) -> None:
    sent(settings, 7)
    assert documents.find(OTHER_PATIENT) == []
    assert documents.all(OTHER_PATIENT).entries == ()
    assert documents.get(OTHER_PATIENT, ["2.25.7"]).entries == ()


def test_lots_associations_and_relations(settings: Settings, documents: DmpDocuments) -> None:
    sent(settings, 7)
    first = only(documents)
    DmpChannel(settings).send(other_shipment(8, associations=(rplc("urn:oid:2.25.7"),)))
    second = only(documents)
    assert [one.submission_set.unique_id for one in documents.find_sets(PATIENT_ID).sets] == ["2.25.71", "2.25.81"]
    assert documents.find_sets(PATIENT_ID, since="2027").sets == ()
    [held] = documents.sets_of(PATIENT_ID, [second.entry_uuid]).sets
    assert held.submission_set.unique_id == "2.25.81"
    related = documents.related(PATIENT_ID, "2.25.8")
    assert {one.entry_uuid for one in related.entries} == {first.entry_uuid, second.entry_uuid}
    replacement = Association(xds.REPLACE, second.entry_uuid, first.entry_uuid)
    assert related.associations == (replacement,)
    assert replacement in documents.associations(PATIENT_ID, [first.entry_uuid]).associations
    both = documents.get_with_associations(PATIENT_ID, entry_uuids=[second.entry_uuid])
    assert [one.entry.unique_id for one in both.entries] == ["2.25.8"]
    assert replacement in both.associations
    everything = documents.all(PATIENT_ID)
    assert {one.entry.unique_id for one in everything.entries if not one.is_signature} == {"2.25.8"}


def test_more_documents_than_one_query_names(settings: Settings, documents: DmpDocuments) -> None:
    sent(settings, 7)
    with recording() as exchanges:
        found = documents.get(PATIENT_ID, [*(f"2.25.1{number}" for number in range(40)), "2.25.7"])
    assert [one.entry.unique_id for one in found.entries] == ["2.25.7"]
    assert [exchange.step for exchange in exchanges] == ["ITI-18"] * 3


@pytest.mark.parametrize(
    ("query", "slots", "code"),
    [
        (xds_queries.FIND_DOCUMENTS, [("$XDSDocumentEntryPatientId", "'x'")], "XDSStoredQueryMissingParam"),
        (xds_queries.GET_ASSOCIATIONS, [("$uuid", "x")], "XDSStoredQueryParamNumber"),
        (xds_queries.GET_ASSOCIATIONS, [("$uuid", "('x'")], "XDSStoredQueryParamNumber"),
        (xds_queries.GET_ASSOCIATIONS, [("$uuid", "'x'"), ("$uuid", "'y'")], "XDSStoredQueryParamNumber"),
        (xds_queries.GET_ASSOCIATIONS, [("$uuid", "'x'"), ("$other", "'y'")], "XDSStoredQueryParamNumber"),
        (
            xds_queries.GET_DOCUMENTS,
            [("$XDSDocumentEntryUniqueId", "'x'"), ("$XDSDocumentEntryEntryUUID", "'y'")],
            "XDSStoredQueryParamNumber",
        ),
        ("urn:uuid:0", [], "XDSUnknownStoredQuery"),
    ],
)
def test_queries_that_cannot_be_answered(
    sandbox: Sandbox, settings: Settings, query: str, slots: list[tuple[str, str]], code: str
) -> None:
    url = sandbox.dmp_url.replace("/repository", "/registry")
    payload = etree.tostring(xds_queries.request(query, slots))
    message = raw_message(settings, STORED_QUERY.action, payload, PATIENT_ID, url)
    assert errors(post(sandbox, url, *message)) == [code]


def test_references_instead_of_objects(sandbox: Sandbox, settings: Settings, documents: DmpDocuments) -> None:
    sent(settings, 7)
    url = sandbox.dmp_url.replace("/repository", "/registry")
    slots = [("$XDSDocumentEntryUniqueId", "('2.25.7')")]
    payload = etree.tostring(xds_queries.request(xds_queries.GET_DOCUMENTS, slots, "ObjectRef"))
    answer = post(sandbox, url, *raw_message(settings, STORED_QUERY.action, payload, PATIENT_ID, url))
    assert re.search(rf'ObjectRef [^>]*id="{only(documents).entry_uuid}"', answer)
    assert "ExtrinsicObject" not in answer


# === reading ========================================================================================================


def test_documents_are_read_byte_for_byte(settings: Settings, documents: DmpDocuments) -> None:
    shipments = {shipment.submission.entries[0].unique_id: shipment for shipment in sent(settings, 7, 8, 9)}
    found = documents.retrieve(PATIENT_ID, documents.find(PATIENT_ID))
    assert {one.entry.entry.unique_id: one.content for one in found} == {
        unique_id: shipment.document for unique_id, shipment in shipments.items()
    }
    assert {one.mime_type for one in found} == {"text/xml"}


@pytest.mark.parametrize("size", [49_000, 51_000, 101_000, 10_000_000, 50_000_000])
def test_a_document_of_any_size_is_stored_and_read_byte_for_byte(
    settings: Settings, documents: DmpDocuments, size: int
) -> None:
    shipment = small_shipment()
    padding = b"<!--" + b"x" * (size - len(shipment.document) - 7) + b"-->"
    data = shipment.document.replace(b"<component>", padding + b"<component>", 1)
    assert len(data) == size
    digest = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    DmpChannel(settings).send(with_entry(replace(shipment, document=data), size=size, hash=digest))
    [found] = documents.retrieve(PATIENT_ID, [only(documents)])
    assert found.content == data


def test_what_the_repository_does_not_give_is_left_out(settings: Settings, documents: DmpDocuments) -> None:
    sent(settings, 7)
    entry = only(documents)
    unknown = replace(entry, entry=replace(entry.entry, unique_id="2.25.1000"))
    assert len(documents.retrieve(PATIENT_ID, [entry, unknown])) == 1
    with pytest.raises(DeliveryError, match="XDSDocumentUniqueIdError"):
        documents.retrieve(PATIENT_ID, [unknown])
    with pytest.raises(DeliveryError, match="XDSUnknownRepositoryId"):
        documents.retrieve(PATIENT_ID, [replace(entry, repository_id="1.2.3")])


def test_a_document_that_is_not_the_one_described_is_refused(
    settings: Settings, documents: DmpDocuments, sandbox: Sandbox
) -> None:
    sent(settings, 7)
    entry = only(documents)
    sandbox.documents()[0].path.write_bytes(b"<ClinicalDocument/>")
    with pytest.raises(DeliveryError, match="size or SHA-1"):
        documents.retrieve(PATIENT_ID, [entry])


def test_mode_indirecte_neither_reads_nor_masks(sandbox: Sandbox) -> None:
    settings = dmp_settings(sandbox, dmp_mode="INDIRECTE")
    sent(settings, 7)
    documents = DmpDocuments(Dmp(settings), vihf.requester(settings))
    found = documents.current(PATIENT_ID, "2.25.7")
    assert found is not None
    for refused in (
        lambda: documents.find(PATIENT_ID),
        lambda: documents.retrieve(PATIENT_ID, [found]),
        lambda: documents.archive(lot(1), found),
        lambda: documents.change_visibility(lot(1), found, [HIDDEN_FROM_PATIENT], hide=True),
    ):
        with pytest.raises(DeliveryError, match="mode INDIRECTE"):
            refused()
    assert documents.delete(lot(2), found) == []


# === replacing ======================================================================================================


def rplc(target: str) -> Association:
    return Association(xds.REPLACE, "Document01", target)


@pytest.mark.parametrize("by", ["uniqueId", "entryUUID"])
def test_the_entry_in_force_is_replaced_even_after_it_was_changed(
    settings: Settings, documents: DmpDocuments, sandbox: Sandbox, by: str
) -> None:
    chosen = entry_uuid("2.25.7")
    DmpChannel(settings).send(with_entry(other_shipment(7), entry_id=chosen))
    assert only(documents).entry_uuid == chosen
    documents.change_visibility(lot(1), only(documents), [HIDDEN_FROM_PATIENT], hide=True)
    target = "urn:oid:2.25.7" if by == "uniqueId" else chosen
    receipt = DmpChannel(settings).send(other_shipment(8, associations=(rplc(target),)))
    assert receipt.detail == "stored by the repository"
    former, current = sandbox.documents()
    assert (former.status, former.version, current.status) == ("Deprecated", 2, "Approved")
    assert current.replaces == former.entry_uuid != chosen


def test_a_replacement_of_nothing_is_sent_as_new_and_says_so(settings: Settings, sandbox: Sandbox) -> None:
    receipt = DmpChannel(settings).send(other_shipment(8, associations=(rplc("urn:oid:2.25.7"),)))
    assert "not in the registry: sent as a new one" in receipt.detail
    assert receipt.remark in receipt.detail
    assert receipt.remark
    assert sandbox.documents()[0].replaces is None


def test_a_replacement_sent_twice_ends_delivered(settings: Settings, sandbox: Sandbox) -> None:
    sent(settings, 7)
    shipment = other_shipment(8, associations=(rplc("urn:oid:2.25.7"),))
    DmpChannel(settings).send(shipment)
    assert "an earlier attempt had stored it" in DmpChannel(settings).send(shipment).detail
    assert [stored.status for stored in sandbox.documents()] == ["Deprecated", "Approved"]


def test_what_is_deleted_is_not_replaced(settings: Settings, documents: DmpDocuments, sandbox: Sandbox) -> None:
    sent(settings, 7)
    documents.delete(lot(1), only(documents))
    with pytest.raises(DeliveryError, match="no longer in force") as caught:
        DmpChannel(settings).send(other_shipment(8, associations=(rplc("urn:oid:2.25.7"),)))
    assert not caught.value.retry
    assert len(sandbox.documents()) == 1


# === withdrawing ====================================================================================================


def test_a_document_is_withdrawn_once(settings: Settings, sandbox: Sandbox) -> None:
    [shipment] = sent(settings, 7)
    submission = replace(shipment.submission, submission_set=lot(1))
    withdrawal = replace(shipment, submission=submission, action="withdraw")
    assert DmpChannel(settings).send(withdrawal).detail == "deleted in the registry"
    assert [stored.status for stored in sandbox.documents()] == ["Deleted"]
    assert DmpChannel(settings).send(withdrawal).detail == "deleted already"
    with pytest.raises(DeliveryError, match="as deleted") as refused:
        DmpChannel(settings).send(shipment)
    assert not refused.value.retry


def test_what_was_never_sent_cannot_be_withdrawn(settings: Settings) -> None:
    with pytest.raises(DeliveryError, match="no document to delete"):
        DmpChannel(settings).send(replace(other_shipment(7), action="withdraw"))


# === changing =======================================================================================================


def test_both_masks_that_leave_nobody_to_read_are_not_put_on(settings: Settings, documents: DmpDocuments) -> None:
    sent(settings, 7)
    documents.change_visibility(lot(1), only(documents), [HIDDEN_FROM_PROFESSIONALS], hide=True)
    entry = only(documents)
    with pytest.raises(DeliveryError, match=r"EX_2\.1-1050"), recording() as exchanges:
        documents.change_visibility(lot(2), entry, [HIDDEN_FROM_PATIENT], hide=True)
    assert exchanges == []
    documents.change_visibility(lot(3), entry, [HIDDEN_FROM_PROFESSIONALS], hide=False)


@pytest.mark.parametrize(
    ("as_before", "expected"), [(True, ["N", "MASQUE_PS"]), (False, ["N"])], ids=["nobody said", "the order says"]
)
def test_what_was_hidden_by_hand_is_not_shown_by_the_next_version(
    settings: Settings, documents: DmpDocuments, as_before: bool, expected: list[str]
) -> None:
    sent(settings, 7)
    documents.change_visibility(lot(1), only(documents), [HIDDEN_FROM_PROFESSIONALS], hide=True)
    following = other_shipment(8, associations=(rplc("urn:oid:2.25.7"),))
    receipt = DmpChannel(settings).send(replace(following, as_before=as_before))
    assert ("hidden on the DMP" in receipt.detail) == as_before
    assert [code.code for code in only(documents).entry.confidentiality] == expected


def test_a_version_hidden_from_the_patient_does_not_replace_one_that_was_hidden_from_professionals_by_hand(
    settings: Settings, documents: DmpDocuments
) -> None:
    sent(settings, 7)
    documents.change_visibility(lot(1), only(documents), [HIDDEN_FROM_PROFESSIONALS], hide=True)
    following = replace(other_shipment(8, associations=(rplc("urn:oid:2.25.7"),)), as_before=True)
    masked = (*following.submission.entries[0].confidentiality, HIDDEN_FROM_PATIENT)
    with pytest.raises(DeliveryError, match=r"hideFrom.*EX_2\.1-1050"):
        DmpChannel(settings).send(with_entry(following, confidentiality=masked))
    assert only(documents).entry.unique_id == "2.25.7"


def test_the_registry_refuses_both_masks(sandbox: Sandbox, settings: Settings) -> None:
    shipment = other_shipment(7)
    masks = (*shipment.submission.entries[0].confidentiality, HIDDEN_FROM_PROFESSIONALS, HIDDEN_FROM_PATIENT)
    with pytest.raises(DeliveryError, match="at once"):
        DmpChannel(settings).send(with_entry(shipment, confidentiality=masks))
    assert not sandbox.documents()


def test_masks_are_put_on_and_taken_off(settings: Settings, documents: DmpDocuments) -> None:
    sent(settings, 7)
    first = only(documents)
    assert documents.change_visibility(lot(1), first, [HIDDEN_FROM_PROFESSIONALS], hide=True) == []
    second = only(documents)
    assert [code.code for code in second.entry.confidentiality] == ["N", "MASQUE_PS"]
    assert (second.logical_id, second.version) == (first.logical_id, "2")
    assert second.entry_uuid != first.entry_uuid
    assert replace(second.entry, confidentiality=(), entry_id="") == replace(
        first.entry, confidentiality=(), entry_id=""
    )
    documents.change_visibility(lot(2), second, [HIDDEN_FROM_REPRESENTATIVES], hide=True)
    documents.change_visibility(lot(3), only(documents), [HIDDEN_FROM_PROFESSIONALS], hide=False)
    assert [code.code for code in only(documents).entry.confidentiality] == ["N", "INVISIBLE_REPRESENTANTS_LEGAUX"]
    assert len(documents.retrieve(PATIENT_ID, [only(documents)])) == 1


def test_what_is_masked_is_not_there_for_other_professionals(
    settings: Settings, documents: DmpDocuments, sandbox: Sandbox
) -> None:
    sent(settings, 7)
    documents.change_visibility(lot(1), only(documents), [HIDDEN_FROM_PROFESSIONALS], hide=True)
    stranger = dmp_settings(sandbox, responsible_rpps="10199999999", organization_finess="750000018")
    others = DmpDocuments(Dmp(stranger), vihf.requester(stranger))
    assert others.find(PATIENT_ID) == []
    assert others.get(PATIENT_ID, ["2.25.7"]).entries == ()
    assert len(documents.find(PATIENT_ID)) == 1


def test_the_life_of_an_entry(settings: Settings, documents: DmpDocuments, sandbox: Sandbox) -> None:
    sent(settings, 7)
    documents.archive(lot(1), only(documents))
    documents.archive(lot(2), only(documents, ARCHIVED), back=True)
    documents.delete(lot(3), only(documents))
    deleted = only(documents, DELETED)
    with pytest.raises(DeliveryError, match="XDSMetadataUpdateOperationError"):
        documents.archive(lot(4), deleted, back=True)
    with pytest.raises(DeliveryError, match="XDSDocumentUniqueIdError"):
        documents.retrieve(PATIENT_ID, [deleted])
    assert sandbox.documents()[0].path.exists()


def test_a_version_that_is_no_longer_in_force_is_not_changed(settings: Settings, documents: DmpDocuments) -> None:
    sent(settings, 7)
    read = only(documents)
    documents.change_visibility(lot(1), read, [HIDDEN_FROM_PATIENT], hide=True)
    with pytest.raises(DeliveryError, match=r"XDSMetadataVersionError.*read it again") as caught:
        documents.change_visibility(lot(2), read, [HIDDEN_FROM_PROFESSIONALS], hide=True)
    assert caught.value.issues[0].code == "conflict"


def test_nothing_but_the_visibility_is_changed(settings: Settings, documents: DmpDocuments) -> None:
    sent(settings, 7)
    read = only(documents)
    read.element.find("{*}Name/{*}LocalizedString").set("value", "Autre titre")  # type: ignore[union-attr]
    with pytest.raises(DeliveryError, match="UnmodifiableMetadataError"):
        documents.change_visibility(lot(1), read, [HIDDEN_FROM_PATIENT], hide=True)


def test_only_its_author_changes_a_document(settings: Settings, documents: DmpDocuments, sandbox: Sandbox) -> None:
    sent(settings, 7)
    stranger = dmp_settings(sandbox, responsible_rpps="10199999999", organization_finess="750000018")
    author = xds.MetadataAuthor(
        "810199999999^AUTRE^Jean^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS",
        ("Autre^^^^^&1.2.250.1.71.4.2.2&ISO^IDNST^^^1750000018",),
    )
    others = DmpDocuments(Dmp(stranger), vihf.requester(stranger))
    with pytest.raises(DeliveryError, match="LocalPolicyRestrictionError"):
        others.delete(replace(lot(1), author=author), only(documents))
    assert only(documents).status == APPROVED


def test_changes_survive_a_restart(settings: Settings, documents: DmpDocuments, sandbox: Sandbox) -> None:
    sent(settings, 7, 8)
    first, second = documents.find(PATIENT_ID)
    documents.change_visibility(lot(1), first, [HIDDEN_FROM_PATIENT], hide=True)
    documents.delete(lot(2), second)
    before = sandbox.documents()
    sandbox.stop()
    with Sandbox(sandbox.folder) as again:
        assert again.documents() == before
        assert [(one.status, one.version) for one in before] == [("Approved", 2), ("Deleted", 1)]


# === existence and Web access =======================================================================================


def test_the_existence_of_a_dmp(settings: Settings, sandbox: Sandbox) -> None:
    patients, who = DmpPatients(Dmp(settings)), vihf.requester(settings)
    assert patients.status(PATIENT_ID, who) == "open"
    sandbox.dmp.patients.closed.add("279035121518989")
    assert patients.status(PATIENT_ID, who) == "closed"
    sandbox.dmp.patients.absent.add("279035121518989")
    assert patients.status(PATIENT_ID, who) == "absent"


@pytest.mark.parametrize(("state", "said"), [("closed", "is closed"), ("absent", "does not exist")])
def test_nothing_is_sent_to_a_dmp_that_is_not_open(settings: Settings, sandbox: Sandbox, state: str, said: str) -> None:
    getattr(sandbox.dmp.patients, state).add("279035121518989")
    with recording() as exchanges, pytest.raises(DeliveryError, match=f"{said}: nothing was sent") as caught:
        DmpChannel(settings).send(small_shipment())
    assert not caught.value.retry
    assert [exchange.step for exchange in exchanges] == ["TD0.2"]


def test_an_open_dmp_is_remembered_and_every_exchange_is_evidence(settings: Settings) -> None:
    channel = DmpChannel(settings)
    with recording() as exchanges:
        channel.send(other_shipment(7))
        channel.send(other_shipment(8, associations=(rplc("urn:oid:2.25.7"),)))
    assert [exchange.step for exchange in exchanges] == ["TD0.2", "ITI-41", "ITI-18", "ITI-41"]
    assert all(exchange.response and b"soap:Envelope" in exchange.response for exchange in exchanges)
    assert other_shipment(7).document in exchanges[1].request


def test_web_access(settings: Settings) -> None:
    configured = replace(settings, dmp_web_url="https://dmp.example/{page}?ins={ins}&oid={oid}")
    assert web_address(PATIENT_ID, configured, "Documents") == (
        "https://dmp.example/Documents?ins=279035121518989&oid=1.2.250.1.213.1.4.10"
    )
    for changes, page in (
        ({}, "Autre"),
        ({"dmp_web_url": ""}, "Documents"),
        ({"dmp_web_url": "http://x/{ins}"}, "Documents"),
        ({"dmp_web_url": "https://x/{ins}?as={user}"}, "Documents"),
    ):
        with pytest.raises(DeliveryError):
            web_address(PATIENT_ID, replace(configured, **changes), page)


def test_a_document_larger_than_the_setting_is_not_sent(sandbox: Sandbox) -> None:
    with pytest.raises(DeliveryError, match="dmp_max_size"):
        DmpChannel(dmp_settings(sandbox, dmp_max_size=1000)).send(small_shipment())
    assert not (sandbox.folder / "dmp" / "exchanges").exists()
