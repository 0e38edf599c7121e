"""PID against the CDA it travels with: the same person, by every identifier and trait that both state.

CI-SIS volet §PID, PAM.FR 2.11, référentiel INS. A difference in an identifier of one domain, in the INS or in a trait
refuses the message: the document would be filed with someone else.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from relais.cda.datatypes import is_oid
from relais.cda.identifiers import ins_is_valid
from relais.cda.model import NamePart, Patient
from relais.cda.templates import INS_ROOTS
from relais.mappings.hl7v2.context import Context
from relais.mappings.hl7v2.er7 import Segment

_RULE = "hl7v2.patient"
_SAME_GENDER = {"UN": "U"}  # CDA's code of what PID-8 calls U


@dataclass(frozen=True, slots=True)
class PatientId:
    """One repetition of PID-3; `authority` is the OID of its domain."""

    value: str
    authority: str

    @property
    def is_ins(self) -> bool:
        """Whether it is a matricule INS."""
        return self.authority in INS_ROOTS


def read_patient(context: Context, patient: Patient | None) -> tuple[PatientId, ...]:
    """The identifiers of PID-3; adds what is wrong with them, with PID, or against `patient` of the document."""
    pid = context.message.first("PID")
    ids = tuple(_read_id(context, pid, number) for number, _ in enumerate(pid.repetitions(3), start=1))
    has_ins = sum(identifier.is_ins for identifier in ids)
    if has_ins > 1:
        context.findings.error("198", pid.place(3), "two matricules INS", _RULE)
    if has_ins:
        _check_qualified(context, pid)
    context.time(pid, 7)
    if patient is not None:
        _compare_ids(context, pid, ids, patient)
        _compare_traits(context, pid, patient)
    return ids


def _read_id(context: Context, pid: Segment, number: int) -> PatientId:
    value = context.text(pid, 3, 1, repetition=number)
    authority = context.authority(pid, 3, 4, number)
    kind = context.text(pid, 3, 5, repetition=number)
    error = context.findings.error
    if not value:
        error("101", pid.place(3, number, 1), "the identifier is empty", _RULE)
    if not is_oid(authority):
        error("102", pid.place(3, number, 4), "the assigning authority has no OID", _RULE)
    if (kind == "INS") != (authority in INS_ROOTS):
        error("102", pid.place(3, number, 5), "type INS and an INS authority go together", _RULE)
    if authority in INS_ROOTS:
        if not ins_is_valid(value):
            error("102", pid.place(3, number, 1), "not a matricule INS with its key", _RULE)
        if authority not in context.policy.ins_roots:
            message = f"an INS of this domain may not arrive here ({context.policy.ins_environment})"
            error("103", pid.place(3, number, 4), message, "hl7v2.ins-environment")
    return PatientId(value, authority)


def _check_qualified(context: Context, pid: Segment) -> None:
    """An INS travels with a qualified identity only: status VALI and the four traits."""
    if context.text(pid, 32) != "VALI":
        context.findings.refuse("906", pid.place(32), "an INS goes with the status VALI (identité qualifiée)", _RULE)
    birth = _name(pid, "L")
    traits = {
        pid.place(5): pid.text(5, 1, repetition=birth) if birth else "",
        pid.place(5, component=2): pid.text(5, 2, repetition=birth) if birth else "",
        pid.place(7): pid.text(7),
        pid.place(8): pid.text(8),
    }
    for place, value in traits.items():
        if not value.strip():
            context.findings.refuse("905", place, "a trait of the INS is missing", _RULE)


def _name(pid: Segment, kind: str) -> int | None:
    """Number of the repetition of PID-5 of that name type (XPN-7)."""
    numbers = range(1, len(pid.repetitions(5)) + 1)
    return next((number for number in numbers if pid.text(5, 7, repetition=number).strip() == kind), None)


def _compare_ids(context: Context, pid: Segment, ids: tuple[PatientId, ...], patient: Patient) -> None:
    stated = {(ii.root, ii.extension) for ii in patient.ids if ii.root and ii.extension}
    ours = {(identifier.authority, identifier.value) for identifier in ids}
    domains, our_domains = {root for root, _ in stated}, {root for root, _ in ours}
    for number, identifier in enumerate(ids, start=1):
        if identifier.authority in domains and (identifier.authority, identifier.value) not in stated:
            message = "another identifier than the document's in the same domain"
            context.findings.refuse("904", pid.place(3, number), message, _RULE)
    ins_here, ins_there = our_domains.intersection(INS_ROOTS), domains.intersection(INS_ROOTS)
    if ins_here and not ins_there:
        context.findings.refuse("903", pid.place(3), "the document bears no INS, the message does", _RULE)
    elif ins_here != ins_there:
        context.findings.refuse("904", pid.place(3), "the document bears an INS that the message lacks", _RULE)
    elif not our_domains & domains:
        context.findings.refuse("902", pid.place(3), "message and document have no identifier in common", _RULE)
    if (our_domains ^ domains).difference(INS_ROOTS):
        message = "a local identifier stands on one side only, in the message or in the document"
        context.findings.warn("102", pid.place(3), message, _RULE)


def _compare_traits(context: Context, pid: Segment, patient: Patient) -> None:
    """Birth name with birth name; where a side does not tell which name it is, with any name of the document."""
    number = _name(pid, "L") or 1
    only_birth = pid.text(5, 7, repetition=number).strip() == "L"
    gender = (patient.gender and patient.gender.code) or ""
    compared = (
        (pid.place(7), pid.text(7)[:8], [(patient.birth_time or "")[:8]]),
        (pid.place(8), pid.text(8), [_SAME_GENDER.get(gender, gender)]),
        (pid.place(5, number, 1), pid.text(5, repetition=number), _candidates(patient.name.families, only_birth)),
        (pid.place(5, number, 2), pid.text(5, 2, repetition=number), _candidates(patient.name.givens, only_birth)),
    )
    for place, here, there in compared:
        allowed = {_plain(text) for text in there if text}
        if here and allowed and _plain(here) not in allowed:
            context.findings.refuse("904", place, "differs from the document", _RULE)


def _candidates(parts: list[NamePart], only_birth: bool) -> list[str]:
    """The birth name; without one, or when any will do, every name and the first of each list of given names."""
    birth = [part.text for part in parts if part.qualifier == "BR"]
    if birth and only_birth:
        return birth
    return [text for part in parts for text in (part.text, *part.text.split()[:1])]


def _plain(text: str) -> str:
    """`text` without case, accents and punctuation, so that LŒUF D'ÉTÉ is LOEUF-D ETE."""
    decomposed = unicodedata.normalize("NFKD", text.casefold().replace("œ", "oe").replace("æ", "ae"))
    return "".join(char for char in decomposed if char.isalnum())
