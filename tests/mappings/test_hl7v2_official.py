"""The official example messages: each gives its verdict, and each of its published defects is found.

They carry a patient with an INS of the test domain although MSH-11 says P, and lines end with LF in the files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from relais.cda.templates import INS_NIR_TEST
from relais.mappings.hl7v2 import er7
from relais.mappings.hl7v2.acknowledgement import read_acknowledgement
from relais.mappings.hl7v2.patient import PatientId
from relais.mappings.hl7v2.reading import Policy, examine, read
from support.hl7v2 import INS, POLICY, STRICT

INITIAL = "mdm-init/message_MDM_CR_Radio_INIT_N1_Base64.er7"
NOT_A_CDA = "mdm-init/message_MDM_CR_Radio_INIT_N1.er7"
REPLACEMENT = "mdm-replace/message_MDM_CR_Radio_RPLC_N1.er7"
DELETION = "mdm-delete/message_MDM_CR_Radio_DEL_N1.er7"
RESULT = "oru-init/message_ORU_CR_Bio_INIT_N3_SEGUR.hl7"

NO_LABEL = {"PRT-4.2 label of the role missing", "PRT[2]-4.2 label of the role missing"}
SPACE = {"PRT-5.9 space in the namespace", "PRT[2]-5.9 space in the namespace"}
COMBINATION = "OBX[2]-5 combination not listed"
NAMESPACES = {"TXA-12.2 namespace", "TXA-13.2 namespace"}
FILE_AUTHORITY = "PID-18.4 authority"
PADDING = "OBX-5.5 padding"

WORDS = {
    "the label of the role is missing": "label of the role missing",
    "a space in the namespace, which is ignored": "space in the namespace",
    "spaces around the value are ignored": "spaces around",
    "not a combination that the volet lists": "combination not listed",
    "the namespace is ignored": "namespace",
    "not the authority of PV1-19": "authority",
    "the padding of the base64 is restored": "padding",
    "not base64 with its padding": "padding",
    "not base64: this text is left out": "body left out",
    "has not the shape of a FINESS (9 characters)": "FINESS",
    "the OID stands where the namespace belongs": "bare OID",
    "a local identifier stands on one side only, in the message or in the document": "local id on one side",
    "not a matricule INS with its key": "no matricule",
    "the patient to send to is not the one of PID-3": "other patient",
    "not the mailbox of the patient of PID-3": "other mailbox",
}


@pytest.fixture(scope="module")
def examples(cisis: Path) -> Path:
    return cisis / "hl7v2"


def verdict(path: Path, policy: Policy) -> tuple[str, set[str], set[str]]:
    """The answer, the errors and the warnings, in short."""
    examined = examine(er7.from_file(path.read_bytes()), policy)
    told = {
        severity: {
            f"{finding.place} {WORDS.get(finding.message, finding.message.partition(':')[0])}"
            for finding in examined.findings
            if finding.severity == severity
        }
        for severity in ("error", "warning")
    }
    return examined.acknowledgement, told["error"], told["warning"]


@pytest.mark.parametrize(
    ("name", "answer", "expected_errors", "expected_warnings"),
    [
        (INITIAL, "AA", set(), {"TXA-12.2 namespace", "PRT-8.10 spaces around", *NO_LABEL, *SPACE, COMBINATION}),
        (
            NOT_A_CDA,
            "AE",
            {"OBX-5 the document is not a CDA"},
            {FILE_AUTHORITY, *NO_LABEL, *SPACE, COMBINATION},
        ),
        (REPLACEMENT, "AA", set(), {*NAMESPACES, FILE_AUTHORITY, *NO_LABEL, *SPACE, COMBINATION}),
        (DELETION, "AA", set(), {PADDING, *NAMESPACES, FILE_AUTHORITY, *NO_LABEL, *SPACE, COMBINATION}),
        (
            RESULT,
            "AE",
            {"PRT[3]-5 no matricule", "PRT[3]-5 other patient", "PRT[3]-15.4 other mailbox"},
            {
                *NO_LABEL,
                *SPACE,
                FILE_AUTHORITY,
                "PRT[3]-4.2 label of the role missing",
                "PRT[4]-4.2 label of the role missing",
                "PRT[3]-5.9 bare OID",
                "PRT-8.10 FINESS",
                "PID-3 local id on one side",
                "OBX[12]-5.5 body left out",
            },
        ),
    ],
)
def test_verdicts_of_a_tolerant_receiver(
    examples: Path, name: str, answer: str, expected_errors: set[str], expected_warnings: set[str]
) -> None:
    assert verdict(examples / name, POLICY) == (answer, expected_errors, expected_warnings)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        (INITIAL, {COMBINATION}),
        (NOT_A_CDA, {COMBINATION, "OBX-5 the document is not a CDA"}),
        (REPLACEMENT, {COMBINATION}),
        (DELETION, {COMBINATION, PADDING}),
        (
            RESULT,
            {
                "OBX[12]-5.5 padding",
                "PRT[3]-5 no matricule",
                "PRT[3]-5 other patient",
                "PRT[3]-15.4 other mailbox",
            },
        ),
    ],
)
def test_verdicts_of_a_strict_receiver(examples: Path, name: str, more: set[str]) -> None:
    answer, errors, _ = verdict(examples / name, STRICT)
    assert (answer, errors) == ("AE", more)


@pytest.mark.parametrize("name", [INITIAL, REPLACEMENT, DELETION, RESULT])
def test_a_test_ins_does_not_enter_production(examples: Path, name: str) -> None:
    answer, errors, _ = verdict(examples / name, Policy(ins_environment="production"))
    assert answer == "AE"
    assert "PID-3.4 an INS of this domain may not arrive here (production)" in errors


@pytest.mark.parametrize("name", [INITIAL, REPLACEMENT, DELETION, RESULT])
def test_files_are_not_what_stands_on_the_wire(examples: Path, name: str) -> None:
    examined = examine((examples / name).read_bytes(), POLICY)
    assert [finding.code for finding in examined.findings] == ["199"]


def test_what_the_messages_say(examples: Path) -> None:
    received = read(er7.from_file((examples / REPLACEMENT).read_bytes()), POLICY)
    order = received.order
    assert (order.action, order.message, order.control_id, order.processing) == ("replace", "MDM", "015", "P")
    assert order.flags.visibility_change_only
    assert order.flags.to_dmp
    assert order.flags.to_professionals
    assert not order.flags.to_patient
    assert order.sender is not None
    assert order.sender.person is not None
    assert (order.sender.person.family, order.sender.person.id) == ("Eric", "801234564895")
    assert order.sender.structure is not None
    assert (order.sender.structure.id, order.sender.structure.id_type) == ("300017985", "FINEG")
    assert [party.mailbox for party in order.recipients] == ["adam.hoda@test-ci-sis.mssante.fr"]
    assert order.body_for_professionals.startswith("Cher confrère")
    assert (order.encounter.kind, order.encounter.number) == ("I", "000897406")
    assert received.patient_ids == (PatientId(INS, INS_NIR_TEST),)
    assert received.cda.header.version_number == 2


@pytest.mark.parametrize("name", [INITIAL, REPLACEMENT, DELETION])
def test_the_document_is_the_published_one(examples: Path, name: str) -> None:
    """The files beside differ from what is embedded in white space and in one mail address."""
    embedded = read(er7.from_file((examples / name).read_bytes()), POLICY).document
    beside = [path for path in (examples / name).parent.iterdir() if path.suffix.upper() == ".XML"]
    assert _content(embedded) in [_content(path.read_bytes()) for path in beside]


def _content(data: bytes) -> bytes:
    return re.sub(rb"(?<=mailto:)[^\"]*|\s+", b"", data.removeprefix(b"\xef\xbb\xbf"))


def acknowledgements(examples: Path) -> Iterator[Path]:
    yield from sorted(examples.glob("*/ack.er7"))


def test_acknowledgements(examples: Path) -> None:
    found = [read_acknowledgement(er7.from_file(path.read_bytes())) for path in acknowledgements(examples)]
    assert [(ack.code, ack.acknowledges, ack.event, ack.control_id, ack.errors) for ack in found] == [
        ("AA", "015", "T04", "016", ()),
        ("AA", "015", "T10", "016", ()),
    ]


def test_another_patients_document_is_caught(examples: Path) -> None:
    """What the published deletion of results gets wrong, made from the message at hand: PID of somebody else."""
    data = er7.from_file((examples / DELETION).read_bytes())
    other = data.replace(b"PID|||279035121518989", b"PID|||277076322082910")
    findings = examine(other, POLICY).findings.errors
    assert [(finding.application, str(finding.place)) for finding in findings] == [("904", "PID-3")]
