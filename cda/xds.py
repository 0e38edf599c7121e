"""XDS metadata: a submission set and its document entries, and their ebRIM 3.0 form.

IHE ITI TF-3 §4.2, restricted by CI-SIS volet Partage de documents de santé. The same form is METADATA.XML of an
IHE_XDM archive (ITI-32) and the metadata of Provide and Register Document Set-b (ITI-41).
Strings follow the HL7 v2 data types of ITI TF-3 table 4.2.3.1.7-2: XCN (person), XON (organisation), CX (identifier),
DTM (UTC, `YYYYMMDDhhmmss`); `xds_types` makes and reads them, `xds_attributes` says where each attribute stands.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lxml import etree

from relais.cda.errors import Issue, RelaisError, Severity
from relais.cda.templates import CONFIDENTIALITY
from relais.cda.xds_attributes import (
    ACTION,
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
from relais.cda.xds_types import CX, without_offset

LCM = "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"
RIM = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
HAS_MEMBER = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember"
REPLACE = "urn:ihe:iti:2007:AssociationType:RPLC"
SIGNS = "urn:ihe:iti:2007:AssociationType:signs"
SET_ID = "SubmissionSet01"
"""The symbolic id of the submission set in what is written here."""


@dataclass(frozen=True, slots=True)
class CodedValue:
    """A code, its label and the OID (or URN) of its system: one ebRIM Classification."""

    code: str
    display: str
    system: str


@dataclass(frozen=True, slots=True)
class MetadataAuthor:
    """author: `person` XCN, `institutions` XON, `specialties` as `code^label^OID`."""

    person: str | None = None
    institutions: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    specialties: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DocumentEntry:
    """The fiche of one document. Times are DTM in UTC; `hash` is SHA-1 in hexadecimal of the exact bytes.

    A sender of ITI-41 may leave hash and size to the repository: they then read as "" and 0, and are not written.
    Of a registered entry `entry_id` is the entryUUID.
    """

    entry_id: str  # symbolic id in the message: Document01
    unique_id: str
    patient_id: str  # CX
    source_patient_id: str  # CX
    mime_type: str
    title: str
    language: str
    creation_time: str
    hash: str
    size: int
    class_code: CodedValue
    type_code: CodedValue
    format_code: CodedValue
    facility_type: CodedValue
    practice_setting: CodedValue
    authors: tuple[MetadataAuthor, ...]
    confidentiality: tuple[CodedValue, ...]
    legal_authenticator: str | None = None  # XCN
    service_start: str | None = None
    service_stop: str | None = None
    source_patient_info: tuple[str, ...] = ()  # "PID-3|…"
    event_codes: tuple[CodedValue, ...] = ()
    reference_ids: tuple[str, ...] = ()  # CXi
    comments: str | None = None
    uri: str | None = None  # file name, IHE_XDM only
    action: str | None = None  # received only, national extra-metadata: C replaces, D deletes a document sent before


@dataclass(frozen=True, slots=True)
class SubmissionSet:
    """The lot de soumission: who sends, what for, when. `submission_time` is DTM in UTC, 14 digits."""

    unique_id: str
    source_id: str
    patient_id: str  # CX
    submission_time: str
    content_type: CodedValue
    author: MetadataAuthor
    title: str | None = None
    comments: str | None = None


@dataclass(frozen=True, slots=True)
class Association:
    """A link between two ids of the message, or from one to the entryUUID that RPLC replaces; `type` is its URN."""

    type: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission set, its entries and the associations beyond HasMember (which is implied)."""

    submission_set: SubmissionSet
    entries: tuple[DocumentEntry, ...]
    associations: tuple[Association, ...] = field(default=())


SUBMISSION_SET_CLASS = "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"
_FOLDER_CLASS = "urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2"
_UUID = "urn:uuid:"
STABLE_DOCUMENT = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"
_ASSOCIATION_TYPE = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:Association"


class MetadataError(RelaisError):
    """XDS metadata that are refused, received or about to be sent; `rule` names the receiver check (`xdm.patient`…)."""


@dataclass(frozen=True, slots=True)
class ExaminedSubmission:
    """What could be read of received metadata, None when they are no submission at all, and what is wrong with them.

    An attribute that is missing but required reads as an empty string and has its issue.
    """

    submission: Submission | None
    issues: tuple[Issue, ...]


# --- writing --------------------------------------------------------------------------------------------------


def submit_objects_request(submission: Submission) -> etree._Element:
    """The lcm:SubmitObjectsRequest of a submission, as METADATA.XML and ITI-41 carry it. Raises as `written`."""
    return etree.fromstring(written(submission))


def written(submission: Submission) -> bytes:
    """The same in UTF-8, with the namespaces it needs: an element that can stand in any other.

    Raises MetadataError listing everything that is missing or ill-formed: what is written passes `read_submission`.
    """
    if any(entry.action for entry in submission.entries):
        raise MetadataError(_issue("", "the extra-metadata action is only read, never sent", code="not-supported"))
    text = _encoded(_request(submission))
    judge = _Judge(tolerant=False)
    judge.whole(submission)
    _refuse(judge.issues)
    return text


def lot_request(submission_set: SubmissionSet) -> etree._Element:
    """A lcm:SubmitObjectsRequest that holds a submission set alone, with the id `SubmissionSet01`."""
    return _parsed(_list_of(_package(submission_set)))


def add_association(
    objects: etree._Element, own_id: str, association: Association, slots: Mapping[str, str]
) -> etree._Element:
    """Append an association with its slots (name to value) to a rim:RegistryObjectList."""
    return _appended(objects, _association(own_id, association, slots))


def classify(element: etree._Element, own_id: str, scheme: str, code: CodedValue) -> etree._Element:
    """Append the Classification of a code to an object of the registry."""
    return _appended(element, _classification_of(str(element.get("id")), own_id, scheme, code))


def _parsed(text: str) -> etree._Element:
    """The tree of what is written here: text that is parsed once costs half of a tree made element by element."""
    return etree.fromstring(_encoded(text))


def _encoded(text: str) -> bytes:
    """What is written here in UTF-8: marks are escaped, and a character that no XML holds is refused."""
    try:
        data = text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        raise _uncarried() from None
    if len(data.translate(None, _CONTROLS)) != len(data) or any(one in data for one in _NONCHARACTERS):
        raise _uncarried()
    return data


def _uncarried() -> MetadataError:
    return MetadataError(_issue("", "a value holds a control character that XML cannot carry"))


_CONTROLS = bytes(set(range(0x20)) - set(b"\t\n\r"))
_NONCHARACTERS = ("\ufffe".encode(), "\uffff".encode())


def _appended(parent: etree._Element, text: str) -> etree._Element:
    element = _parsed(f'<rim:RegistryObjectList xmlns:rim="{RIM}">{text}</rim:RegistryObjectList>')[0]
    parent.append(element)
    return element


def _request(submission: Submission) -> str:
    members = [Association(HAS_MEMBER, SET_ID, entry.entry_id) for entry in submission.entries]
    objects = [_package(submission.submission_set), *map(_extrinsic_object, submission.entries)]
    for number, association in enumerate([*members, *submission.associations], 1):
        original = {"SubmissionSetStatus": "Original"} if association.type == HAS_MEMBER else {}
        objects.append(_association(f"Association{number:02}", association, original))
    return _list_of("".join(objects))


def _list_of(objects: str) -> str:
    return (
        f'<lcm:SubmitObjectsRequest xmlns:lcm="{LCM}" xmlns:rim="{RIM}"><rim:RegistryObjectList>{objects}'
        "</rim:RegistryObjectList></lcm:SubmitObjectsRequest>"
    )


def _package(submission_set: SubmissionSet) -> str:
    inside = _inside(SET_ID, SUBMISSION_SET, submission_set)
    return f"<rim:RegistryPackage{_attributes(id=SET_ID)}>{inside}</rim:RegistryPackage>"


def _extrinsic_object(entry: DocumentEntry) -> str:
    named = _attributes(id=entry.entry_id, mimeType=entry.mime_type, objectType=STABLE_DOCUMENT)
    return f"<rim:ExtrinsicObject{named}>{_inside(entry.entry_id, DOCUMENT_ENTRY, entry)}</rim:ExtrinsicObject>"


def _inside(own_id: str, form: ObjectForm, values: SubmissionSet | DocumentEntry) -> str:
    """The children in the order of the schema: slots, name, description, classifications, identifiers."""
    parts = [_slot(slot.name, _slot_values(slot, values)) for slot in form.slots]
    parts += (_localized("Name", values.title), _localized("Description", values.comments))
    ids = iter(_classification_ids(own_id, form, values))
    for author in _as_tuple(getattr(values, form.author_field)):
        slots = "".join(_slot(slot.name, _as_tuple(getattr(author, slot.field))) for slot in AUTHOR_SLOTS)
        parts.append(
            _classification(own_id, next(ids), slots, classificationScheme=form.author_scheme, nodeRepresentation="")
        )
    for coded in form.codes:
        for code in _as_tuple(getattr(values, coded.field)):
            parts.append(_classification_of(own_id, next(ids), coded.scheme, code))
    if form is SUBMISSION_SET:
        parts.append(_classification(own_id, next(ids), "", classificationNode=SUBMISSION_SET_CLASS))
    for its_id, identifier in zip(_identifier_ids(own_id, form), form.identifiers, strict=True):
        named = _attributes(
            id=its_id,
            registryObject=own_id,
            identificationScheme=identifier.scheme,
            value=getattr(values, identifier.field),
        )
        name = _localized("Name", f"{form.name}.{identifier.name}")
        parts.append(f"<rim:ExternalIdentifier{named}>{name}</rim:ExternalIdentifier>")
    return "".join(parts)


def _classification_ids(own_id: str, form: ObjectForm, values: SubmissionSet | DocumentEntry) -> Iterator[str]:
    fields = (form.author_field, *(coded.field for coded in form.codes))
    number = sum(len(_as_tuple(getattr(values, field))) for field in fields) + (form is SUBMISSION_SET)
    return (f"{_symbol(own_id)}_c{one:02}" for one in range(1, number + 1))


def _identifier_ids(own_id: str, form: ObjectForm) -> Iterator[str]:
    return (f"{_symbol(own_id)}_e{one:02}" for one in range(1, len(form.identifiers) + 1))


def _symbol(own_id: str) -> str:
    """What ids of children begin with: one that begins like a UUID must be one, which that of a child is not."""
    return own_id.removeprefix(_UUID)


def _ids(submission: Submission) -> Iterator[str]:
    """The ids of all that is written."""
    objects: list[tuple[str, ObjectForm, SubmissionSet | DocumentEntry]] = [
        (SET_ID, SUBMISSION_SET, submission.submission_set),
        *((entry.entry_id, DOCUMENT_ENTRY, entry) for entry in submission.entries),
    ]
    for own_id, form, values in objects:
        yield own_id
        yield from _classification_ids(own_id, form, values)
        yield from _identifier_ids(own_id, form)
    for number in range(1, len(submission.entries) + len(submission.associations) + 1):
        yield f"Association{number:02}"


def _slot_values(slot: Slot, values: SubmissionSet | DocumentEntry) -> tuple[object, ...]:
    if slot.field == "size" and isinstance(values, DocumentEntry) and values.hash:
        return (values.size,)  # 0 is the size of an empty document
    return _as_tuple(getattr(values, slot.field))


def _association(own_id: str, association: Association, slots: Mapping[str, str]) -> str:
    named = _attributes(
        id=own_id,
        objectType=_ASSOCIATION_TYPE,
        associationType=association.type,
        sourceObject=association.source,
        targetObject=association.target,
    )
    inside = "".join(_slot(name, (value,)) for name, value in slots.items())
    return f"<rim:Association{named}>{inside}</rim:Association>"


def _classification_of(parent: str, own_id: str, scheme: str, code: CodedValue) -> str:
    inside = _slot("codingScheme", (code.system,)) + _localized("Name", code.display)
    return _classification(parent, own_id, inside, classificationScheme=scheme, nodeRepresentation=code.code)


def _classification(parent: str, own_id: str, inside: str, **attributes: str) -> str:
    named = _attributes(id=own_id, classifiedObject=parent, **attributes)
    return f"<rim:Classification{named}>{inside}</rim:Classification>"


def _slot(name: str, values: Iterable[object]) -> str:
    held = "".join(f"<rim:Value>{escaped(_collapsed(str(value)))}</rim:Value>" for value in values)
    return held and f'<rim:Slot name="{name}"><rim:ValueList>{held}</rim:ValueList></rim:Slot>'


def _localized(tag: str, text: str | None) -> str:
    if not text:
        return ""
    value = escaped(_collapsed(text))
    return f'<rim:{tag}><rim:LocalizedString charset="UTF-8" value="{value}" xml:lang="FR"/></rim:{tag}>'


def _attributes(**values: str) -> str:
    return "".join([f' {name}="{escaped(value)}"' for name, value in values.items()])


def escaped(text: str) -> str:
    """`text` as it stands in an attribute or between tags."""
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", text) if _SPECIAL.search(text) else text


_SPECIAL = re.compile('[&<>"\t\n\r]')


def _collapsed(text: str) -> str:
    return " ".join(text.split())


def _as_tuple(value: Any) -> tuple[Any, ...]:
    """The values to write of one field: none for None, an empty string or a size of 0."""
    if isinstance(value, tuple):
        return value
    return (value,) if value else ()


# --- reading --------------------------------------------------------------------------------------------------


def read_submission(element: etree._Element) -> Submission:
    """The submission that a lcm:SubmitObjectsRequest holds.

    Every R attribute must be present and well-formed, ids must resolve, each entry must be a member of the set, and
    set and entries must be of one patient. Raises MetadataError listing every error.
    """
    examined = _Reader(tolerant=False).examine(element)
    _refuse(examined.issues)
    assert examined.submission is not None  # noqa: S101 - else there is an error
    return examined.submission


def _refuse(issues: Iterable[Issue]) -> None:
    errors = [issue for issue in issues if issue.severity in ("error", "fatal")]
    if errors:
        raise MetadataError(errors)


def examine(element: etree._Element) -> ExaminedSubmission:
    """The same for reception: what can be read is given with every issue, and times with an offset are normalised.

    Value sets are not checked here: see `relais.mappings.document_metadata.check_codes`.
    """
    return _Reader(tolerant=True).examine(element)


def registered_entry(element: etree._Element) -> DocumentEntry:
    """The attributes of a rim:ExtrinsicObject as a registry answers it; what is missing reads as empty."""
    return _Reader(tolerant=True).read_entry(element, 1)


def registered_set(element: etree._Element) -> SubmissionSet:
    """The attributes of a submission set as a registry answers it; what is missing reads as empty."""
    return _Reader(tolerant=True).read_set(element)


def _issue(
    path: str, message: str, *, rule: str = "xdm.metadata-attribute", severity: Severity = "error", code: str = "value"
) -> Issue:
    return Issue(severity, code, message, path, rule)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What an object of the registry consists of, whichever way it is known: as a tree or as the values to write.

    Values are without superfluous white space; codes stand with all their coding schemes.
    """

    slots: dict[str, list[str]]
    title: str
    comments: str
    authors: list[dict[str, list[str]]]
    codes: dict[str, list[tuple[str, str, list[str]]]]  # by scheme: code, label, systems
    identifiers: dict[str, list[str]]  # by scheme


def _parts_of(form: ObjectForm, values: SubmissionSet | DocumentEntry) -> _Parts:
    """What `_inside` writes."""
    return _Parts(
        {slot.name: _texts(_slot_values(slot, values)) for slot in form.slots},
        _collapsed(values.title or ""),
        _collapsed(values.comments or ""),
        [
            {slot.name: _texts(_as_tuple(getattr(author, slot.field))) for slot in AUTHOR_SLOTS}
            for author in _as_tuple(getattr(values, form.author_field))
        ],
        {
            coded.scheme: [
                (code.code, _collapsed(code.display), _texts((code.system,)))
                for code in _as_tuple(getattr(values, coded.field))
            ]
            for coded in form.codes
        },
        {identifier.scheme: [getattr(values, identifier.field)] for identifier in form.identifiers},
    )


def _texts(values: Iterable[object]) -> list[str]:
    return [text for value in values if (text := _collapsed(str(value)))]


class _Judge:
    """Judges metadata by what they say; collects issues as it goes."""

    def __init__(self, *, tolerant: bool) -> None:
        self.tolerant = tolerant
        self.issues: list[Issue] = []
        self._judged: dict[tuple[Check, str], tuple[str, ...]] = {}
        """What is wrong with values: patient and author come again in every object."""

    def report(self, path: str, message: str, **details: Any) -> None:
        """Note one issue."""
        self.issues.append(_issue(path, message, **details))

    def whole(self, submission: Submission) -> None:
        """Judge a submission that is about to be written: what reading it would find."""
        self.ids(list(_ids(submission)))
        if not submission.entries:
            self._invalid(_NO_DOCUMENT)
        self.submission_set(_parts_of(SUBMISSION_SET, submission.submission_set))
        for number, entry in enumerate(submission.entries, 1):
            self.entry(_parts_of(DOCUMENT_ENTRY, entry), entry.entry_id, entry.mime_type, number)
        known = {SET_ID, *(entry.entry_id for entry in submission.entries)}
        for number, one in enumerate(submission.associations, len(submission.entries) + 1):
            self.association(f"Association[{number}]", one, known)
        self.together(submission.submission_set, submission.entries)

    def _invalid(self, message: str) -> None:
        self.report("", message, rule="xdm.metadata-invalid", code="structure")

    def _missing(self, path: str) -> None:
        self.report(path, "is missing", code="required")

    def _dangling(self, path: str, message: str, severity: Severity = "error") -> None:
        self.report(path, message, rule="xdm.association", severity=severity, code="not-found")

    # structure

    def ids(self, found: Iterable[str | None]) -> None:
        """Every object must have one of its own."""
        ids = Counter(found)
        if ids.pop(None, 0) + ids.pop("", 0):
            self._invalid("an object, Classification, ExternalIdentifier or Association has no id")
        if any(number > 1 for number in ids.values()):
            self._invalid("the same id is used twice")

    def association(self, path: str, one: Association, known: Collection[str | None]) -> None:
        """Its ends must be objects of the message, `known`, but for the document that one replaces."""
        if one.type not in (HAS_MEMBER, REPLACE, SIGNS):
            self._dangling(path, "associationType is none of HasMember, RPLC (of 2007) and signs")
        if one.source not in known:
            self._dangling(path, "sourceObject names no object of the message")
        if one.type == REPLACE and one.target in known:
            self._dangling(path, "RPLC replaces an object of the same message")
        if one.type != REPLACE and one.target not in known:
            self._dangling(path, "targetObject names no object of the message")

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

    def submission_set(self, parts: _Parts) -> SubmissionSet:
        """The submission set that these are."""
        return SubmissionSet(**self._object(parts, SUBMISSION_SET, "SubmissionSet"))

    def entry(self, parts: _Parts, own_id: str, mime_type: str, number: int) -> DocumentEntry:
        """The entry that these are."""
        path = f"DocumentEntry[{number}]"
        values = self._object(parts, DOCUMENT_ENTRY, path)
        values["size"] = int(size) if SIZE.fullmatch(size := values.get("size", "")) else 0
        values.setdefault("hash", "")
        if not mime_type:
            self._missing(f"{path}.mimeType")
        if not values["title"]:
            self._missing(f"{path}.title")
        confidentiality = values["confidentiality"]
        if len(confidentiality) > 4 or not any(code.system == CONFIDENTIALITY for code in confidentiality):
            self.report(f"{path}.confidentialityCode", "1 to 4 codes are expected, one of them of HL7 Confidentiality")
        return DocumentEntry(entry_id=own_id, mime_type=mime_type, **values)

    def _object(self, parts: _Parts, form: ObjectForm, path: str) -> dict[str, Any]:
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
            self._missing(f"{path}.author")
        return found or (MetadataAuthor(),)

    def _codes(
        self, given: Sequence[tuple[str, str, list[str]]], spec: Coded, path: str
    ) -> CodedValue | tuple[CodedValue, ...]:
        path = f"{path}.{spec.name}"
        found = tuple([self._code(*one, spec, path) for one in given])
        if spec.required and not found:
            self._missing(path)
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
            self._missing(path)
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


class _Reader(_Judge):
    """One reading of a SubmitObjectsRequest."""

    def examine(self, root: etree._Element) -> ExaminedSubmission:
        """Read everything that can be read."""
        submission = self._submission(root)
        return ExaminedSubmission(submission, tuple(self.issues))

    def _submission(self, root: etree._Element) -> Submission | None:
        lists = root.findall(f"{{{RIM}}}RegistryObjectList")
        if root.tag != f"{{{LCM}}}SubmitObjectsRequest" or len(lists) != 1:
            self._invalid("an lcm:SubmitObjectsRequest with one rim:RegistryObjectList is expected")
            return None
        objects = lists[0]
        package = self._submission_package(objects)
        if package is None:
            return None
        self._check_ids(objects)
        documents = objects.findall(f"{{{RIM}}}ExtrinsicObject")
        if not documents:
            self._invalid(_NO_DOCUMENT)
        submission_set = self.read_set(package)
        entries = tuple(self.read_entry(document, number) for number, document in enumerate(documents, 1))
        associations = self._read_associations(objects, str(package.get("id", "")), entries)
        self.together(submission_set, entries)
        return Submission(submission_set, entries, associations)

    # structure

    def _submission_package(self, objects: etree._Element) -> etree._Element | None:
        """The one RegistryPackage classified as submission set; folders are said and left."""
        classes = {
            (classification.get("classifiedObject"), classification.get("classificationNode"))
            for classification in objects.iter(f"{{{RIM}}}Classification")
        }
        packages = objects.findall(f"{{{RIM}}}RegistryPackage")
        found = [package for package in packages if (package.get("id"), SUBMISSION_SET_CLASS) in classes]
        folders = [package for package in packages if (package.get("id"), _FOLDER_CLASS) in classes]
        if folders:
            self.report("Folder", "folders are not used in France and are left aside", severity="warning")
        if len(found) + len(folders) < len(packages):
            self._invalid("a RegistryPackage is classified neither as submission set nor as folder")
        if len(found) != 1:
            self._invalid(f"exactly one submission set is expected, {len(found)} found")
            return None
        return found[0]

    def _check_ids(self, objects: etree._Element) -> None:
        self.ids([element.get("id") for element in objects.iter(*_IDENTIFIED)])
        if any(child.tag not in _REGISTRY_OBJECTS for child in objects.iterchildren(tag=etree.Element)):
            self.report("", "an object that these metadata do not know is left aside", severity="warning")
        for parent in objects.iter(f"{{{RIM}}}RegistryPackage", f"{{{RIM}}}ExtrinsicObject"):
            links = {child.get("classifiedObject") for child in parent.iterchildren(_CLASSIFICATION)}
            links |= {child.get("registryObject") for child in parent.iterchildren(_EXTERNAL_IDENTIFIER)}
            if links - {parent.get("id")}:
                name = etree.QName(parent).localname
                self._dangling(name, "its classifications or identifiers name another object as their own")

    def _read_associations(
        self, objects: etree._Element, set_id: str, entries: Sequence[DocumentEntry]
    ) -> tuple[Association, ...]:
        """Check HasMember, which `Submission` implies, and give the other associations."""
        entry_ids = {entry.entry_id for entry in entries}
        known = {package.get("id") for package in objects.findall(f"{{{RIM}}}RegistryPackage")} | entry_ids
        members: set[str] = set()
        others: list[Association] = []
        for number, element in enumerate(objects.findall(f"{{{RIM}}}Association"), 1):
            path = f"Association[{number}]"
            kind, source, target = (element.get(name, "") for name in _ASSOCIATION_ENDS)
            if element.get("objectType") != _ASSOCIATION_TYPE:
                self._dangling(path, "objectType is not that of an Association", "warning")
            association = Association(kind, source, target)
            self.association(path, association, known)
            if kind != HAS_MEMBER:
                others.append(association)
            elif source == set_id:
                members.add(target)
                self._check_original(element, path)
        for number, entry in enumerate(entries, 1):
            if entry.entry_id not in members:
                self._dangling(f"DocumentEntry[{number}]", "no HasMember association puts it into the submission set")
        return tuple(others)

    def _check_original(self, association: etree._Element, path: str) -> None:
        status = [value for slot in association.iterchildren(_SLOT) for value in self._slot_values(slot, path)]
        if status != ["Original"]:
            self._dangling(path, "slot SubmissionSetStatus is not Original")

    # attributes

    def read_set(self, element: etree._Element) -> SubmissionSet:
        """The submission set of a RegistryPackage."""
        return self.submission_set(self._parts(element, SUBMISSION_SET, "SubmissionSet"))

    def read_entry(self, element: etree._Element, number: int) -> DocumentEntry:
        """The entry of an ExtrinsicObject."""
        path = f"DocumentEntry[{number}]"
        if element.get("objectType") != STABLE_DOCUMENT:
            self.report(f"{path}.objectType", "is not that of a stable document")
        parts = self._parts(element, DOCUMENT_ENTRY, path)
        return self.entry(parts, element.get("id", ""), element.get("mimeType", ""), number)

    def _parts(self, element: etree._Element, form: ObjectForm, path: str) -> _Parts:
        children = _by_tag(element)
        authors: list[dict[str, list[str]]] = []
        codes: dict[str, list[tuple[str, str, list[str]]]] = {}
        names = {coded.scheme: f"{path}.{coded.name}" for coded in form.codes}
        for classification in children.get(_CLASSIFICATION, ()):
            scheme = classification.get("classificationScheme", "")
            if scheme == form.author_scheme:
                slots = _by_tag(classification).get(_SLOT, ())
                authors.append(self._read_slots(slots, f"{path}.author[{len(authors) + 1}]"))
            elif scheme:  # the class node has none
                codes.setdefault(scheme, []).append(self._read_code(classification, names.get(scheme, path)))
        identifiers: dict[str, list[str]] = {}
        for external in children.get(_EXTERNAL_IDENTIFIER, ()):
            identifiers.setdefault(external.get("identificationScheme", ""), []).append(external.get("value", ""))
        return _Parts(
            self._read_slots(children.get(_SLOT, ()), path),
            _localized_in(children.get(_NAME, ())),
            _localized_in(children.get(_DESCRIPTION, ())),
            authors,
            codes,
            identifiers,
        )

    def _read_code(self, classification: etree._Element, path: str) -> tuple[str, str, list[str]]:
        children = _by_tag(classification)
        systems = [
            value
            for slot in children.get(_SLOT, ())
            if slot.get("name") == "codingScheme"
            for value in self._slot_values(slot, path)
        ]
        return classification.get("nodeRepresentation", ""), _localized_in(children.get(_NAME, ())), systems

    def _read_slots(self, given: Iterable[etree._Element], path: str) -> dict[str, list[str]]:
        slots: dict[str, list[str]] = {}
        for slot in given:
            name = slot.get("name", "")
            if name.endswith(f":{ACTION}"):
                name = ACTION
            if name in slots:
                self.report(path, "a slot is given twice", code="structure")
                slots[name] += self._slot_values(slot, path)
            else:
                slots[name] = self._slot_values(slot, path)
        return slots

    def _slot_values(self, slot: etree._Element, path: str) -> list[str]:
        """The values of a slot, white space collapsed; empty ones are no values."""
        raw = [_text(value) for held in slot if held.tag == _VALUE_LIST for value in held if value.tag == _VALUE]
        values = [" ".join(text.split()) for text in raw]
        if raw != values:
            name = slot.get("name", "")
            self.report(f"{path}.{name}", "superfluous white space in a value", severity="warning")
        return values if all(values) else [value for value in values if value]


def _by_tag(element: etree._Element) -> dict[str, list[etree._Element]]:
    """The children of an element: gone through once, however many kinds there are."""
    found: dict[str, list[etree._Element]] = {}
    for child in element:
        tag = child.tag
        if tag in found:
            found[tag].append(child)
        else:
            found[tag] = [child]
    return found


def _localized_in(names: Iterable[etree._Element]) -> str:
    for named in names:
        for localized in named:
            if localized.tag == _LOCALIZED_STRING:
                return _collapsed(localized.get("value", ""))
    return ""


_NAME, _DESCRIPTION, _LOCALIZED_STRING, _SLOT, _VALUE_LIST, _VALUE = (
    f"{{{RIM}}}{tag}" for tag in ("Name", "Description", "LocalizedString", "Slot", "ValueList", "Value")
)
_CLASSIFICATION, _EXTERNAL_IDENTIFIER = f"{{{RIM}}}Classification", f"{{{RIM}}}ExternalIdentifier"
_IDENTIFIED = (
    f"{{{RIM}}}RegistryPackage",
    f"{{{RIM}}}ExtrinsicObject",
    _CLASSIFICATION,
    _EXTERNAL_IDENTIFIER,
    f"{{{RIM}}}Association",
)
_NO_DOCUMENT = "no ExtrinsicObject: the submission holds no document"
_REGISTRY_OBJECTS = (*_IDENTIFIED, f"{{{RIM}}}ObjectRef")
_ASSOCIATION_ENDS = ("associationType", "sourceObject", "targetObject")


def _text(value: etree._Element) -> str:
    return str(value.xpath("string()")) if len(value) else value.text or ""


def _patient(text: str) -> tuple[str, str]:
    """Who a CX names: number and domain."""
    identifier = CX.parse(text)
    return identifier.id, identifier.oid
