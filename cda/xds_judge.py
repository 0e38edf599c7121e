"""Judges XDS metadata by what they say, whether they were received or are about to be written.

Cardinalities and forms of `xds_attributes`, ids that resolve, one patient for the set and its entries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relais.cda.errors import Issue, Severity
from relais.cda.templates import CONFIDENTIALITY
from relais.cda.xds_attributes import (
    AUTHOR_SLOTS,
    DOCUMENT_ENTRY,
    SIZE,
    SUBMISSION_SET,
    Check,
    Coded,
    ObjectForm,
    Slot,
    nothing,
    utc_time,
)
from relais.cda.xds_model import (
    HAS_MEMBER,
    REPLACE,
    SIGNS,
    Association,
    CodedValue,
    DocumentEntry,
    MetadataAuthor,
    MetadataError,
    SubmissionSet,
)
from relais.cda.xds_types import CX, without_offset

NO_DOCUMENT = "no ExtrinsicObject: the submission holds no document"


def issue(
    path: str, message: str, *, rule: str = "xdm.metadata-attribute", severity: Severity = "error", code: str = "value"
) -> Issue:
    """An issue of metadata, of the receiver check `rule`."""
    return Issue(severity, code, message, path, rule)


def refuse(issues: Iterable[Issue]) -> None:
    """Raise MetadataError for the errors among issues, if there are any."""
    errors = [one for one in issues if one.severity in ("error", "fatal")]
    if errors:
        raise MetadataError(errors)


def collapsed(text: str) -> str:
    """`text` without superfluous white space."""
    return " ".join(text.split())


@dataclass(frozen=True, slots=True)
class Parts:
    """What an object of the registry consists of, whichever way it is known: as a tree or as the values to write.

    Values are without superfluous white space; codes stand with all their coding schemes.
    """

    slots: dict[str, list[str]]
    title: str
    comments: str
    authors: list[dict[str, list[str]]]
    codes: dict[str, list[tuple[str, str, list[str]]]]  # by scheme: code, label, systems
    identifiers: dict[str, list[str]]  # by scheme


class Judge:
    """Judges metadata by what they say; collects issues as it goes."""

    def __init__(self, *, tolerant: bool) -> None:
        self.tolerant = tolerant
        self.issues: list[Issue] = []
        self._judged: dict[tuple[Check, str], tuple[str, ...]] = {}
        """What is wrong with values: patient and author come again in every object."""

    def report(self, path: str, message: str, **details: Any) -> None:
        """Note one issue."""
        self.issues.append(issue(path, message, **details))

    def invalid(self, message: str, path: str = "") -> None:
        """Note that they are not what metadata consist of."""
        self.report(path, message, rule="xdm.metadata-invalid", code="structure")

    def missing(self, path: str) -> None:
        """Note that something required is not there."""
        self.report(path, "is missing", code="required")

    def dangling(self, path: str, message: str, severity: Severity = "error") -> None:
        """Note a link that leads nowhere, or that there is none."""
        self.report(path, message, rule="xdm.association", severity=severity, code="not-found")

    # structure

    def ids(self, found: Iterable[str | None], place: Callable[[int], str] = lambda _: "") -> None:
        """Every object must have one of its own; `place` tells where the object of that number stands."""
        first: dict[str, int] = {}
        without = again = None
        for number, one in enumerate(found):
            if not one:
                without = number if without is None else without
            elif first.setdefault(one, number) != number and again is None:
                again = number
        if without is not None:
            self.invalid("an object, Classification, ExternalIdentifier or Association has no id", place(without))
        if again is not None:
            self.invalid("the same id is used twice", place(again))

    def association(self, path: str, one: Association, known: Collection[str | None]) -> None:
        """Its ends must be objects of the message, `known`, but for the document that one replaces."""
        if one.type not in (HAS_MEMBER, REPLACE, SIGNS):
            self.dangling(path, "associationType is none of HasMember, RPLC (of 2007) and signs")
        if one.source not in known:
            self.dangling(path, "sourceObject names no object of the message")
        if one.type == REPLACE and one.target in known:
            self.dangling(path, "RPLC replaces an object of the same message")
        if one.type != REPLACE and one.target not in known:
            self.dangling(path, "targetObject names no object of the message")

    def together(self, submission_set: SubmissionSet, entries: Sequence[DocumentEntry]) -> None:
        """One patient, and identifiers that differ."""
        patient = _patient(submission_set.patient_id)
        for number, entry in enumerate(entries, 1):
            if _patient(entry.patient_id) != patient:
                path = f"DocumentEntry[{number}].patientId"
                self.report(path, "is not the patient of the submission set", rule="xdm.patient", code="conflict")
        unique_ids = Counter(entry.unique_id for entry in entries)
        if submission_set.unique_id in unique_ids:
            self.report("SubmissionSet.uniqueId", "is that of a document", code="duplicate")
        if any(number > 1 for number in unique_ids.values()):
            self.report("DocumentEntry.uniqueId", "two documents have the same uniqueId", code="duplicate")

    # attributes

    def submission_set(self, parts: Parts) -> SubmissionSet:
        """The submission set that these are."""
        return SubmissionSet(**self._object(parts, SUBMISSION_SET, "SubmissionSet"))

    def entry(self, parts: Parts, own_id: str, mime_type: str, number: int) -> DocumentEntry:
        """The entry that these are."""
        path = f"DocumentEntry[{number}]"
        values = self._object(parts, DOCUMENT_ENTRY, path)
        values["size"] = int(size) if SIZE.fullmatch(size := values.get("size", "")) else 0
        values.setdefault("hash", "")
        if not mime_type:
            self.missing(f"{path}.mimeType")
        if not values["title"]:
            self.missing(f"{path}.title")
        confidentiality = values["confidentiality"]
        if len(confidentiality) > 4 or not any(code.system == CONFIDENTIALITY for code in confidentiality):
            self.report(f"{path}.confidentialityCode", "1 to 4 codes are expected, one of them of HL7 Confidentiality")
        return DocumentEntry(entry_id=own_id, mime_type=mime_type, **values)

    def _object(self, parts: Parts, form: ObjectForm, path: str) -> dict[str, Any]:
        """The fields of a SubmissionSet or DocumentEntry that slots, names, classifications and identifiers give."""
        values: dict[str, Any] = self._slots(parts.slots, form.slots, path)
        if form is SUBMISSION_SET and len(values["submission_time"]) not in (0, 14):
            self.report(f"{path}.submissionTime", "has not 14 digits")
        values["comments"] = parts.comments or None
        values["title"] = parts.title or (None if form is SUBMISSION_SET else "")
        authors = self._authors(parts.authors, path)
        values[form.author_field] = authors if form is DOCUMENT_ENTRY else authors[0]
        if form is SUBMISSION_SET and len(authors) > 1:
            self.report(f"{path}.author", "one author is expected")
        for coded in form.codes:
            values[coded.field] = self._codes(parts.codes.get(coded.scheme, []), coded, path)
        if parts.codes.keys() - {coded.scheme for coded in form.codes}:
            self.report(path, "a classification of an unknown scheme is left aside", severity="warning")
        return values | self._identifiers(parts.identifiers, form, path)

    def _authors(self, authors: Sequence[dict[str, list[str]]], path: str) -> tuple[MetadataAuthor, ...]:
        found = tuple(
            MetadataAuthor(**self._slots(slots, AUTHOR_SLOTS, f"{path}.author[{number}]"))
            for number, slots in enumerate(authors, 1)
        )
        if not found:
            self.missing(f"{path}.author")
        return found or (MetadataAuthor(),)

    def _codes(
        self, given: Sequence[tuple[str, str, list[str]]], spec: Coded, path: str
    ) -> CodedValue | tuple[CodedValue, ...]:
        path = f"{path}.{spec.name}"
        found = tuple([self._code(*one, spec, path) for one in given])
        if spec.required and not found:
            self.missing(path)
        if spec.repeats:
            return found
        if len(found) > 1:
            self.report(path, "is given more than once")
        return found[0] if found else CodedValue("", "", "")

    def _code(self, code: str, display: str, systems: list[str], spec: Coded, path: str) -> CodedValue:
        found = CodedValue(code, display, systems[0] if systems else "")
        if not (code and display and systems) or len(systems) > 1:
            self.report(path, "a code, one coding scheme and a label are expected", code="required")
        elif spec.systems and found.system not in spec.systems:
            self.report(path, "the coding scheme is none of those this attribute is coded with")
        return found

    def _identifiers(self, by_scheme: Mapping[str, list[str]], form: ObjectForm, path: str) -> dict[str, str]:
        values: dict[str, str] = {}
        for identifier in form.identifiers:
            found = by_scheme.get(identifier.scheme, [])
            values[identifier.field] = found[0] if found else ""
            self._check_values(found, identifier.problems, f"{path}.{identifier.name}", required=True)
        if by_scheme.keys() - {identifier.scheme for identifier in form.identifiers}:
            self.report(path, "an external identifier of an unknown scheme is left aside", severity="warning")
        return values

    def _slots(self, slots: Mapping[str, list[str]], specs: Sequence[Slot], path: str) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for spec in specs:
            found = slots.get(spec.name, [])
            if found or spec.required:
                found = self._checked_slot(found, spec, f"{path}.{spec.name}")
            if spec.repeats:
                values[spec.field] = tuple(found)
            elif found or spec.required:
                values[spec.field] = found[0] if found else ""
        if slots.keys() - {spec.name for spec in specs}:
            self.report(path, "a slot that these metadata do not know is left aside", severity="warning")
        return values

    def _checked_slot(self, found: list[str], spec: Slot, path: str) -> list[str]:
        """The values of a slot that has some or should."""
        if spec.problems is utc_time:
            found = [self._in_utc(text, path) for text in found]
        self._check_values(found, spec.problems, path, spec.required, spec.repeats)
        if spec.doubts is not nothing:
            for message in {one for text in found for one in self._judgement(spec.doubts, text)}:
                self.report(path, message, severity="warning")
        return found

    def _check_values(
        self, values: Sequence[str], problems: Check, path: str, required: bool = False, repeats: bool = False
    ) -> None:
        if required and not any(values):
            self.missing(path)
        if len(values) > 1 and not repeats:
            self.report(path, "is given more than once")
        for text in values:
            for message in self._judgement(problems, text) if text else ():
                self.report(path, message)

    def _judgement(self, check: Check, text: str) -> tuple[str, ...]:
        found = self._judged.get((check, text))
        if found is None:
            found = self._judged[check, text] = tuple(check(text))
        return found

    def _in_utc(self, text: str, path: str) -> str:
        normalised = without_offset(text)
        if normalised is None:
            return text
        severity: Severity = "warning" if self.tolerant else "error"
        self.report(path, "carries an offset, where XDS wants UTC without offset", severity=severity)
        return normalised


def _patient(text: str) -> tuple[str, str]:
    """Who a CX names: number and domain."""
    identifier = CX.parse(text)
    return identifier.id, identifier.oid
