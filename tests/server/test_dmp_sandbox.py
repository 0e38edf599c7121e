"""The sandbox DMP: what conforms is registered bit for bit, each violation is refused for its own reason."""

from __future__ import annotations

import re
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from email import message_from_bytes
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from relais.cda import templates, xds
from relais.cda.errors import RelaisError
from relais.cda.model import II, Document
from relais.cda.writer import write
from relais.cda.xds import Association, CodedValue
from relais.mappings.document_metadata import document_entry
from relais.server.delivery.channel import DeliveryError, Shipment, UnsentError
from relais.server.delivery.dmp import DmpChannel
from relais.server.sandbox import Sandbox
from relais.server.sandbox.repository import Repository
from relais.server.sandbox.service_faults import ServiceFault
from relais.server.sandbox.xds_server import RepositoryFault
from support.dmp import dmp_settings, errors, post, raw_answer, raw_request, reason
from support.documents import small_document
from support.shipments import other_document, other_shipment, small_shipment, with_entry


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    with Sandbox(tmp_path / "sandbox") as running:
        yield running


def test_a_conforming_submission_is_stored_bit_for_bit(sandbox: Sandbox) -> None:
    shipment = small_shipment()
    assert errors(raw_answer(sandbox, shipment)) == []
    [stored] = sandbox.documents()
    assert stored.path.read_bytes() == shipment.document
    assert stored.entry == shipment.submission.entries[0]
    assert stored.status == "Approved"


def test_what_another_version_has_written_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "2.25.1").mkdir()
    with pytest.raises(RelaisError, match="not written by this version") as caught:
        Repository(tmp_path)
    assert "2.25.1" in caught.value.issues[0].path
    (tmp_path / "2.25.1").rmdir()
    (tmp_path / "journal.jsonl").write_text('{"lot":"2.25.1"}\n')
    with pytest.raises(RelaisError, match="line 1 is no record"):
        Repository(tmp_path)


def test_what_is_stored_survives_a_restart(sandbox: Sandbox) -> None:
    first = small_shipment()
    assert errors(raw_answer(sandbox, first)) == []
    target = sandbox.documents()[0].entry_uuid
    assert errors(raw_answer(sandbox, other_shipment(7, associations=(rplc(target),)))) == []
    before = sandbox.documents()
    sandbox.stop()
    with Sandbox(sandbox.folder) as again:
        assert again.documents() == before
        assert [document.status for document in before] == ["Deprecated", "Approved"]
        assert again.documents()[0].path.read_bytes() == first.document
        assert errors(raw_answer(again, first)) == ["XDSDuplicateUniqueIdInRegistry"] * 2


@pytest.mark.parametrize(
    ("pattern", "replacement", "expected"),
    [
        (r"<wsa:Action [^>]*>[^<]*", '<wsa:Action soap:mustUnderstand="1">urn:other', "wsa:Action must be"),
        (r' soap:mustUnderstand="true"', "", "wsa:Action must be"),
        (r"<wsa:MessageID>[^<]*", "<wsa:MessageID>urn:uuid:1", "wsa:MessageID must be"),
        (r"<wsa:MessageID>.*?</wsa:MessageID>", "", "exactly one wsa:MessageID"),
        (r"<wsa:To>[^<]*", "<wsa:To>https://127.0.0.1/other", "wsa:To must be"),
        (r"<wsa:ReplyTo>", '<wsa:RelatesTo soap:mustUnderstand="1"/><wsa:ReplyTo>', "not understood"),
        (r"http://www.w3.org/2003/05/soap-envelope", "http://schemas.xmlsoap.org/soap/envelope/", "SOAP 1.2"),
        (r"ProvideAndRegisterDocumentSetRequest", "Other", "must hold a ProvideAndRegister"),
        (r"cid:[^\"]*", "cid:other", "names a part that is not"),
        (r"<xop:Include[^>]*/>", "PGEvPg==", "one xop:Include and nothing else"),
        (r"<xds:Document .*?</xds:Document>", "", "named by no xop:Include"),
        (r"<lcm:SubmitObjectsRequest.*</lcm:SubmitObjectsRequest>", "", "exactly one lcm:SubmitObjectsRequest"),
        (r"Content-Transfer-Encoding: binary", "Content-Transfer-Encoding: base64", "binary"),
        (r"Content-ID: <root[^>]*>", "Content-ID: <other@x>", "start must name"),
        (r"Content-ID: ", "X-Content-ID: ", "its own Content-ID"),
        (r"--\r\n\Z", "", "cut short"),
        (r"<soap:Header>", "<soap:Header><", "not acceptable XML"),
        (r"<soap:Envelope", "<!DOCTYPE x><soap:Envelope", "DTD"),
    ],
)
def test_bad_framing_is_a_fault(sandbox: Sandbox, pattern: str, replacement: str, expected: str) -> None:
    assert expected in reason(raw_answer(sandbox, small_shipment(), (pattern, replacement)))
    assert not sandbox.documents()


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/soap+xml", "not acceptable XML"),
        ("multipart/related", "plain or multipart/related"),
        ("multipart/related; boundary=b", "parameter type must be"),
        ("text/plain", "plain or multipart/related"),
    ],
)
def test_bad_content_type_is_a_fault(sandbox: Sandbox, content_type: str, expected: str) -> None:
    assert expected in reason(raw_answer(sandbox, small_shipment(), content_type=content_type))


def test_a_message_id_serves_once(sandbox: Sandbox) -> None:
    same = (r"<wsa:MessageID>[^<]*", "<wsa:MessageID>urn:uuid:0f3b1ad5-0c55-4d2a-9f0a-0a6d3f1f5f10")
    assert errors(raw_answer(sandbox, small_shipment(), same)) == []
    assert "received before" in reason(raw_answer(sandbox, other_shipment(7), same))


HASH = r'(<rim:Slot name="hash"><rim:ValueList><rim:Value>)\w{40}'
SIZE = r'(<rim:Slot name="size"><rim:ValueList><rim:Value>)\d+'


@pytest.mark.parametrize(
    ("pattern", "replacement", "expected"),
    [
        (r'<rim:Slot name="languageCode">.*?</rim:Slot>', "", {"XDSRegistryMetadataError"}),
        (r"20260112080500", "20260112090500+0100", {"XDSRegistryMetadataError"}),
        (r'targetObject="Document01"', 'targetObject="Document02"', {"XDSRegistryMetadataError"}),
        (
            r'<xds:Document id="Document01"',
            '<xds:Document id="Document02"',
            {"XDSMissingDocument", "XDSMissingDocumentMetadata"},
        ),
        (HASH, r"\g<1>" + "0" * 40, {"XDSRepositoryMetadataError"}),
        (SIZE, r"\g<1>12", {"XDSRepositoryMetadataError"}),
    ],
)
def test_wrong_metadata_are_refused(sandbox: Sandbox, pattern: str, replacement: str, expected: set[str]) -> None:
    assert set(errors(raw_answer(sandbox, small_shipment(), (pattern, replacement)))) == expected
    assert not sandbox.documents()


def test_hash_and_size_may_be_left_to_the_repository(sandbox: Sandbox) -> None:
    shipment = small_shipment()
    slots = r'<rim:Slot name="(?:hash|size)">.*?</rim:Slot>'
    assert errors(raw_answer(sandbox, shipment, (slots, ""))) == []
    assert sandbox.documents()[0].entry.hash == shipment.submission.entries[0].hash


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"title": "Autre titre"}, "InvalidDocumentContent"),
        ({"unique_id": "2.25.99"}, "InvalidDocumentContent"),
        ({"creation_time": "20260112080001"}, "InvalidDocumentContent"),
        ({"type_code": CodedValue("11506-3", "CR de consultation", templates.LOINC)}, "XDSRegistryMetadataError"),
        ({"unique_id": "2.25.301245378217395437813294710347591823401^7"}, "XDSRegistryMetadataError"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(sandbox: Sandbox, change: dict[str, Any], expected: str) -> None:
    assert set(errors(raw_answer(sandbox, with_entry(small_shipment(), **change)))) == {expected}
    assert not sandbox.documents()


def test_entry_and_lot_of_two_patients_are_refused(sandbox: Sandbox) -> None:
    other = (r"(registryObject=\"SubmissionSet01\"[^>]*value=\")279035121518989", r"\g<1>277076322082910")
    assert "XDSPatientIdDoesNotMatch" in errors(raw_answer(sandbox, small_shipment(), other))


def test_no_real_person_enters_the_sandbox(sandbox: Sandbox) -> None:
    document = small_document()
    document.header.patient.ids = [II(templates.INS_NIR, "279035121518989")]
    shipment = small_shipment(document)
    patient = shipment.submission.submission_set.patient_id.replace(templates.INS_NIR_TEST, templates.INS_NIR)
    entry = replace(shipment.submission.entries[0], patient_id=patient, source_patient_id=patient)
    lot = replace(shipment.submission.submission_set, patient_id=patient)
    submission = replace(shipment.submission, submission_set=lot, entries=(entry,))
    assert errors(raw_answer(sandbox, replace(shipment, submission=submission))) == ["XDSUnknownPatientId"]


def test_the_same_document_again_is_a_duplicate(sandbox: Sandbox) -> None:
    shipment = small_shipment()
    raw_answer(sandbox, shipment)
    lot = replace(shipment.submission.submission_set, unique_id="2.25.5")
    again = replace(shipment, submission=replace(shipment.submission, submission_set=lot))
    assert errors(raw_answer(sandbox, again)) == ["XDSDuplicateUniqueIdInRegistry"]
    assert len(sandbox.documents()) == 1


def test_another_document_under_the_same_id_is_refused(sandbox: Sandbox) -> None:
    raw_answer(sandbox, small_shipment())
    document = small_document()
    document.sections = []
    lot = replace(small_shipment().submission.submission_set, unique_id="2.25.5")
    other = small_shipment(document)
    other = replace(other, submission=replace(other.submission, submission_set=lot))
    assert errors(raw_answer(sandbox, other)) == ["XDSNonIdenticalHash"]
    assert len(sandbox.documents()) == 1


def test_a_lot_serves_once(sandbox: Sandbox) -> None:
    raw_answer(sandbox, small_shipment())
    assert errors(raw_answer(sandbox, small_shipment(other_document(7)))) == ["XDSDuplicateUniqueIdInRegistry"]


def test_two_simultaneous_submissions_of_one_document_store_it_once(sandbox: Sandbox) -> None:
    barrier, answers = threading.Barrier(4), []

    def send() -> None:
        barrier.wait()
        answers.append(errors(raw_answer(sandbox, small_shipment())))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, answers)) == [0, 2, 2, 2]
    assert len(sandbox.documents()) == 1


# --- replacement ---


def rplc(target: str) -> Association:
    return Association(xds.REPLACE, "Document01", target)


def test_a_replacement_deprecates_what_it_replaces(sandbox: Sandbox) -> None:
    raw_answer(sandbox, small_shipment())
    target = sandbox.documents()[0].entry_uuid
    assert errors(raw_answer(sandbox, other_shipment(7, associations=(rplc(target),)))) == []
    assert [(document.status, document.replaces) for document in sandbox.documents()] == [
        ("Deprecated", None),
        ("Approved", target),
    ]
    assert errors(raw_answer(sandbox, other_shipment(8, associations=(rplc(target),)))) == [
        "XDSRegistryDeprecatedDocumentError"
    ]


def test_an_entry_uuid_chosen_by_the_sender_is_kept_and_serves_once(sandbox: Sandbox) -> None:
    chosen = f"urn:uuid:{uuid4()}"
    assert errors(raw_answer(sandbox, with_entry(small_shipment(), entry_id=chosen))) == []
    assert sandbox.documents()[0].entry_uuid == chosen
    assert errors(raw_answer(sandbox, with_entry(other_shipment(7), entry_id=chosen))) == ["XDSRegistryMetadataError"]
    replacement = with_entry(other_shipment(7, associations=(rplc(chosen),)), entry_id="Document01")
    assert errors(raw_answer(sandbox, replacement)) == []


def test_the_document_to_replace_must_be_known(sandbox: Sandbox) -> None:
    unknown = f"urn:uuid:{uuid4()}"
    assert errors(raw_answer(sandbox, other_shipment(7, associations=(rplc(unknown),)))) == ["XDSReplaceFailed"]
    assert not sandbox.documents()


def derived(document: Document, target: str) -> Shipment:
    """A replacement of `target` by another document, with the metadata that the document gives."""
    data = write(document)
    entry = document_entry(document, data)
    shipment = other_shipment(7, entries=(entry,), associations=(rplc(target),))
    lot = replace(shipment.submission.submission_set, patient_id=entry.patient_id)
    return replace(shipment, document=data, submission=replace(shipment.submission, submission_set=lot))


def test_a_document_of_another_patient_is_not_replaced(sandbox: Sandbox) -> None:
    raw_answer(sandbox, small_shipment())
    document = other_document(7)
    document.header.patient.ids = [II(templates.INS_NIR_TEST, "277076322082910")]
    answer = raw_answer(sandbox, derived(document, sandbox.documents()[0].entry_uuid))
    assert errors(answer) == ["XDSPatientIdDoesNotMatch"]
    assert [stored.status for stored in sandbox.documents()] == ["Approved"]


def test_only_its_author_replaces_a_document(sandbox: Sandbox) -> None:
    raw_answer(sandbox, small_shipment())
    document = other_document(7)
    author = document.header.authors[0].assigned
    assert author.organization
    author.ids, author.organization.ids = [II(templates.PS_IDNAT, "810109999994")], []
    author.organization.names = ["Autre cabinet"]
    answer = raw_answer(sandbox, derived(document, sandbox.documents()[0].entry_uuid))
    assert errors(answer) == ["XDSReplaceFailed"]


def test_a_submission_that_was_not_finished_is_forgotten(sandbox: Sandbox) -> None:
    raw_answer(sandbox, small_shipment())
    raw_answer(sandbox, other_shipment(7))
    sandbox.stop()
    journal = sandbox.folder / "dmp" / "documents" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-1])
    with Sandbox(sandbox.folder) as again:
        assert [one.entry.unique_id for one in again.documents()] == [small_document().header.id.root]
        assert errors(raw_answer(again, other_shipment(7))) == []
        again.stop()
        with Sandbox(sandbox.folder) as once_more:
            assert len(once_more.documents()) == 2


@contextmanager
def full_disk(length: int) -> Iterator[None]:
    """Inside the block no file grows beyond a length."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


def test_a_submission_for_which_there_is_no_room_is_not_taken(sandbox: Sandbox) -> None:
    raw_answer(sandbox, small_shipment())
    journal = sandbox.folder / "dmp" / "documents" / "journal.jsonl"
    before = journal.read_bytes()
    with full_disk(len(before) + 10):
        assert "Internal Server Error" in raw_answer(sandbox, other_shipment(7))
    assert journal.read_bytes() == before
    assert len(sandbox.documents()) == 1
    assert errors(raw_answer(sandbox, other_shipment(7))) == []


def test_signatures_of_lots_are_kept_with_them(sandbox: Sandbox) -> None:
    shipment = small_shipment()
    content_type, body = raw_request(sandbox, shipment)
    assert errors(post(sandbox, sandbox.dmp_url, content_type, body)) == []
    sandbox.stop()
    with Sandbox(sandbox.folder) as again, again.dmp._repository.reading() as registry:
        document, signature = registry.versions()
        assert document.content() == shipment.document
        assert signature.content() in body
        assert signature.content().startswith(b"<?xml")


# --- faults ---


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (RepositoryFault.BUSY, "XDSRepositoryBusy"),
        (RepositoryFault.UNAVAILABLE, "HTTP 503"),
        (RepositoryFault.HTML_PAGE, "cannot be read"),
        (RepositoryFault.SILENT_BEFORE, "no answer in time"),
        (RepositoryFault.DROPPED_BEFORE, "cut before an answer"),
    ],
)
def test_what_was_not_stored_is_sent_again(sandbox: Sandbox, fault: RepositoryFault, text: str) -> None:
    sandbox.dmp.faults.play(fault)
    channel = DmpChannel(dmp_settings(sandbox, sender_timeout=1))
    with pytest.raises(DeliveryError, match=text) as caught:
        channel.send(small_shipment())
    assert caught.value.retry
    assert not sandbox.documents()
    channel.send(small_shipment())
    assert len(sandbox.documents()) == 1


@pytest.mark.parametrize(
    "fault",
    [
        RepositoryFault.SILENT_AFTER,
        RepositoryFault.DROPPED_AFTER,
        RepositoryFault.MALFORMED,
        RepositoryFault.HALF_ANSWER,
        RepositoryFault.WRONG_RELATION,
    ],
)
def test_a_lost_answer_is_settled_by_asking_the_registry(sandbox: Sandbox, fault: RepositoryFault) -> None:
    sandbox.dmp.faults.play(fault)
    channel = DmpChannel(dmp_settings(sandbox, sender_timeout=1))
    assert "the registry holds this document: the answer was lost" in channel.send(small_shipment()).detail
    assert len(sandbox.documents()) == 1


def test_a_request_that_is_not_answered_holds_up_no_other(sandbox: Sandbox) -> None:
    sandbox.dmp.faults.play(RepositoryFault.SILENT_AFTER)
    content_type, body = raw_request(sandbox, small_shipment())

    def send() -> None:
        with suppress(OSError):
            post(sandbox, sandbox.dmp_url, content_type, body)

    silent = threading.Thread(target=send)
    silent.start()
    while not sandbox.documents():
        time.sleep(0.01)
    assert errors(raw_answer(sandbox, other_shipment(7))) == []
    assert silent.is_alive()
    sandbox.stop()
    silent.join()


def test_when_the_registry_cannot_be_asked_the_next_attempt_settles_the_doubt(sandbox: Sandbox) -> None:
    sandbox.dmp.faults.play(RepositoryFault.HALF_ANSWER)
    sandbox.dmp.registry_faults.play(ServiceFault.UNAVAILABLE)
    channel = DmpChannel(dmp_settings(sandbox))
    with pytest.raises(DeliveryError, match="may have been stored") as caught:
        channel.send(small_shipment())
    assert caught.value.retry
    assert "an earlier attempt had stored it" in channel.send(small_shipment()).detail
    assert len(sandbox.documents()) == 1


def test_every_attempt_at_a_lot_has_the_same_signature_and_its_own_assertion(sandbox: Sandbox) -> None:
    first, second = (raw_request(sandbox, small_shipment())[1] for _ in range(2))
    signature = re.compile(rb'<ds:Signature [^>]*Id="2.25.*?</ds:Signature>', re.DOTALL)
    assert signature.findall(first) == signature.findall(second) != []
    assertion = re.compile(rb"<saml:Assertion.*?</saml:Assertion>", re.DOTALL)
    assert assertion.findall(first) != assertion.findall(second)


def test_a_registry_that_holds_other_bytes_under_our_identifier_ends_the_delivery(sandbox: Sandbox) -> None:
    channel = DmpChannel(dmp_settings(sandbox))
    channel.send(small_shipment())
    document = small_document()
    document.sections = []
    lot = replace(small_shipment().submission.submission_set, unique_id="2.25.5")
    other = small_shipment(document)
    other = replace(other, submission=replace(other.submission, submission_set=lot))
    with pytest.raises(DeliveryError, match="send ours under another identifier") as caught:
        channel.send(other)
    assert (caught.value.issues[0].rule, caught.value.retry) == ("XDSNonIdenticalHash", False)


def test_a_duplicate_that_the_registry_does_not_show_is_no_success(sandbox: Sandbox) -> None:
    sandbox.dmp.faults.play(RepositoryFault.DUPLICATE)
    with pytest.raises(DeliveryError, match="XDSDuplicateUniqueIdInRegistry") as caught:
        DmpChannel(dmp_settings(sandbox)).send(small_shipment())
    assert not caught.value.retry


def test_a_slow_answer_is_waited_for(sandbox: Sandbox) -> None:
    sandbox.dmp.faults.play(RepositoryFault.SLOW)
    assert DmpChannel(dmp_settings(sandbox)).send(small_shipment()).detail == "stored by the repository"


def test_an_unknown_code_is_final(sandbox: Sandbox) -> None:
    sandbox.dmp.faults.play(RepositoryFault.UNKNOWN_CODE)
    with pytest.raises(DeliveryError, match="SandboxInventedError") as caught:
        DmpChannel(dmp_settings(sandbox, sender_timeout=1)).send(small_shipment())
    assert not caught.value.retry


def test_a_stopped_repository_refuses_connections_and_comes_back(sandbox: Sandbox) -> None:
    channel = DmpChannel(dmp_settings(sandbox, sender_timeout=1))
    sandbox.dmp.stop()
    with pytest.raises(UnsentError, match=r"cannot be reached \(.+\): nothing was sent") as caught:
        channel.send(small_shipment())
    assert caught.value.retry
    sandbox.dmp.start()
    channel.send(small_shipment())


def test_every_exchange_is_recorded(sandbox: Sandbox) -> None:
    raw_answer(sandbox, small_shipment())
    raw_answer(sandbox, small_shipment())
    records = sorted((sandbox.folder / "dmp" / "exchanges").iterdir())
    exchanges = [message_from_bytes(record.read_bytes()).get_payload() for record in records]
    assert [[part.get_content_type() for part in parts] for parts in exchanges] == [["multipart/related"] * 2] * 2
    assert b"XDSDuplicateUniqueIdInRegistry" in exchanges[1][1].as_bytes()


def test_exchanges_of_one_connection_are_one_record(sandbox: Sandbox) -> None:
    channel = DmpChannel(dmp_settings(sandbox))  # asks first whether the DMP is open
    channel.send(small_shipment())
    [record] = (sandbox.folder / "dmp" / "exchanges").iterdir()
    message = message_from_bytes(record.read_bytes())
    assert not message.defects
    asked, _, sent, answer = message.get_payload()
    assert [part["Content-Location"] for part in (asked, sent)] == [
        sandbox.dmp_url.replace("repository", "patients"),
        sandbox.dmp_url,
    ]
    assert small_shipment().document in sent.as_bytes()
    assert b"ResponseStatusType:Success" in answer.as_bytes()
