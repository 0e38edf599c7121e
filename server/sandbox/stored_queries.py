"""Stored queries of ITI-18 as the sandbox registry answers them (ITI TF-2 §3.18.4.1.2).

Every slot is read by its syntax and known by name: a slot that a query does not have is an error, not a wish that goes
unheard. What a caller may not see is left out as if it did not exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lxml import etree

from relais.cda.xds import CodedValue
from relais.server.sandbox.registry import (
    HAS_MEMBER,
    STATUS_URNS,
    RegisteredAssociation,
    Registry,
    StoredDocument,
    StoredSet,
)
from relais.server.sandbox.soap import RegistryError

RIM = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
QUERY = "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"

_LIST = re.compile(r"\(\s*'(?:[^']|'')*'(?:\s*,\s*'(?:[^']|'')*')*\s*\)")
_TEXT = re.compile(r"'((?:[^']|'')*)'")
_NUMBER = re.compile(r"-?[0-9]+")
_REPEATABLE = ("EventCodeList", "ConfidentialityCode", "ReferenceIdList")

Slots = Mapping[str, list[tuple[str, ...]]]
"""By name, each occurrence (all must hold) with its alternatives."""


class QueryError(Exception):
    """A query that cannot be answered."""

    def __init__(self, code: str, context: str) -> None:
        super().__init__(context)
        self.error = RegistryError(code, context)


@dataclass(frozen=True, slots=True)
class Found:
    """What a query answers, in this order."""

    documents: Sequence[StoredDocument] = ()
    sets: Sequence[StoredSet] = ()
    associations: Sequence[RegisteredAssociation] = ()


Visible = Callable[[StoredDocument], bool]


def answer(request: etree._Element, registry: Registry, visible: Visible) -> list[etree._Element]:
    """The objects that answer a query:AdhocQueryRequest, to a caller who sees what is `visible`. Raises QueryError."""
    adhoc = request.find(f"{{{RIM}}}AdhocQuery")
    option = request.find(f"{{{QUERY}}}ResponseOption")
    if request.tag != f"{{{QUERY}}}AdhocQueryRequest" or adhoc is None or option is None:
        raise QueryError("XDSRegistryError", "an AdhocQueryRequest with ResponseOption and AdhocQuery is needed")
    query = _QUERIES.get(adhoc.get("id", "").removeprefix("urn:uuid:"))
    if query is None:
        raise QueryError("XDSUnknownStoredQuery", "this stored query is not known")
    slots = _read_slots(adhoc)
    _check_slots(slots, query)
    found = query.run(registry, slots, visible)
    seen = {document.entry_uuid for document in registry.versions() if not visible(document)}
    documents = [document for document in found.documents if visible(document)]
    associations = [one for one in found.associations if not {one.source, one.target} & seen]
    if option.get("returnType") == "ObjectRef":
        ids = [
            *(one.entry_uuid for one in documents),
            *(one.entry_uuid for one in found.sets),
            *(one.own_id for one in associations),
        ]
        return [etree.Element(f"{{{RIM}}}ObjectRef", id=one) for one in ids]
    return [
        *(one.registry_object() for one in documents),
        *(one.registry_object() for one in found.sets),
        *(one.registry_object() for one in associations),
    ]


# --- slots ----------------------------------------------------------------------------------------------------------


def _read_slots(adhoc: etree._Element) -> Slots:
    slots: dict[str, list[tuple[str, ...]]] = {}
    for slot in adhoc.iterfind(f"{{{RIM}}}Slot"):
        name = slot.get("name", "")
        values = [value.text or "" for value in slot.iterfind(f"{{{RIM}}}ValueList/{{{RIM}}}Value")]
        alternatives = tuple(text for value in values for text in _alternatives(name, value.strip()))
        if not alternatives:
            raise QueryError("XDSStoredQueryParamNumber", f"{name} has no value")
        slots.setdefault(name, []).append(alternatives)
    return slots


def _alternatives(name: str, value: str) -> Iterator[str]:
    if _NUMBER.fullmatch(value):
        yield value
    elif name.endswith(("TimeFrom", "TimeTo")):
        raise QueryError("XDSStoredQueryParamNumber", f"{name} is no number: a time stands without quotes")
    elif _LIST.fullmatch(value) or _TEXT.fullmatch(value):
        yield from (text.replace("''", "'") for text in _TEXT.findall(value))
    else:
        raise QueryError("XDSStoredQueryParamNumber", f"{name} is neither a number, a quoted text nor a list of them")


def _check_slots(slots: Slots, query: Query) -> None:
    for group in query.required:
        given = [name for name in group if name in slots]
        if not given:
            raise QueryError("XDSStoredQueryMissingParam", f"{' or '.join(group)} is needed")
        if len(given) > 1:
            raise QueryError("XDSStoredQueryParamNumber", f"only one of {' and '.join(group)} is allowed")
    known = {name for group in query.required for name in group} | set(query.optional)
    for name, occurrences in slots.items():
        if name not in known:
            raise QueryError("XDSStoredQueryParamNumber", f"this query has no slot {name}")
        if len(occurrences) > 1 and not name.endswith(_REPEATABLE):
            raise QueryError("XDSStoredQueryParamNumber", f"{name} is given twice")


def _any(slots: Slots, name: str) -> tuple[str, ...]:
    return slots[name][0]


# --- queries --------------------------------------------------------------------------------------------------------

_ENTRY = "$XDSDocumentEntry"
_SET = "$XDSSubmissionSet"


def _codes(*names: str) -> Callable[[StoredDocument], set[str]]:
    def values(document: StoredDocument) -> set[str]:
        found: list[CodedValue] = []
        for name in names:
            value = getattr(document.entry, name)
            found += value if isinstance(value, tuple) else [value]
        return {f"{code.code}^^{code.system}" for code in found}

    return values


def _reference_ids(document: StoredDocument) -> set[str]:
    return set(document.entry.reference_ids)


_CODED = {
    "ClassCode": _codes("class_code"),
    "TypeCode": _codes("type_code"),
    "PracticeSettingCode": _codes("practice_setting"),
    "HealthcareFacilityTypeCode": _codes("facility_type"),
    "EventCodeList": _codes("event_codes"),
    "ConfidentialityCode": _codes("confidentiality"),
    "FormatCode": _codes("format_code"),
    "ReferenceIdList": _reference_ids,
}
_TIMES = {
    "CreationTime": "creation_time",
    "ServiceStartTime": "service_start",
    "ServiceStopTime": "service_stop",
}


def _matches(document: StoredDocument, slots: Slots) -> bool:
    if document.entry.patient_id not in _any(slots, f"{_ENTRY}PatientId"):
        return False
    if STATUS_URNS[document.status] not in _any(slots, f"{_ENTRY}Status"):
        return False
    for name, values in _CODED.items():
        if not all(values(document) & set(wanted) for wanted in slots.get(_ENTRY + name, ())):
            return False
    for name, attribute in _TIMES.items():
        value = _padded(getattr(document.entry, attribute) or "")
        start, end = (slots.get(f"{_ENTRY}{name}{side}") for side in ("From", "To"))
        if (start and value < _padded(start[0][0])) or (end and value >= _padded(end[0][0])):
            return False
    authors = slots.get(f"{_ENTRY}AuthorPerson")
    return not authors or any(
        _like(pattern, author.person or "") for pattern in authors[0] for author in document.entry.authors
    )


def _padded(time: str) -> str:
    """A DTM of any precision as the instant at which it begins."""
    return (time + "0101000000"[len(time) - 4 :])[:14] if len(time) >= 4 else time


def _like(pattern: str, text: str) -> bool:
    expression = "".join(".*" if char == "%" else "." if char == "_" else re.escape(char) for char in pattern)
    return re.fullmatch(expression, text, re.DOTALL) is not None


def _find_documents(registry: Registry, slots: Slots, visible: Visible) -> Found:
    return Found([document for document in registry.versions() if _matches(document, slots)])


def _find_sets(registry: Registry, slots: Slots, visible: Visible) -> Found:
    found = [one for one in registry.sets() if one.submission_set.patient_id in _any(slots, f"{_SET}PatientId")]
    start, end = (slots.get(f"{_SET}SubmissionTime{side}") for side in ("From", "To"))
    if start:
        found = [one for one in found if one.submission_set.submission_time >= _padded(start[0][0])]
    if end:
        found = [one for one in found if one.submission_set.submission_time < _padded(end[0][0])]
    return Found(sets=found)


def _named(registry: Registry, slots: Slots) -> list[StoredDocument]:
    unique_ids = slots.get(f"{_ENTRY}UniqueId", [()])[0]
    uuids = slots.get(f"{_ENTRY}EntryUUID", [()])[0]
    return [one for one in registry.versions() if one.entry.unique_id in unique_ids or one.entry_uuid in uuids]


def _touching(registry: Registry, ids: Iterable[str]) -> list[RegisteredAssociation]:
    wanted = set(ids)
    return [one for one in registry.associations() if wanted & {one.source, one.target}]


def _get_documents(registry: Registry, slots: Slots, visible: Visible) -> Found:
    return Found(_named(registry, slots))


def _get_associations(registry: Registry, slots: Slots, visible: Visible) -> Found:
    return Found(associations=_touching(registry, _any(slots, "$uuid")))


def _get_documents_and_associations(registry: Registry, slots: Slots, visible: Visible) -> Found:
    documents = [one for one in _named(registry, slots) if visible(one)]
    return Found(documents, associations=_touching(registry, (one.entry_uuid for one in documents)))


def _get_sets(registry: Registry, slots: Slots, visible: Visible) -> Found:
    wanted = set(_any(slots, "$uuid"))
    members = [one for one in registry.associations() if one.type == HAS_MEMBER and one.target in wanted]
    holders = {one.source for one in members}
    return Found(sets=[one for one in registry.sets() if one.entry_uuid in holders], associations=members)


def _get_set_and_contents(registry: Registry, slots: Slots, visible: Visible) -> Found:
    unique_ids, uuids = (slots.get(f"{_SET}{name}", [()])[0] for name in ("UniqueId", "EntryUUID"))
    sets = [one for one in registry.sets() if one.submission_set.unique_id in unique_ids or one.entry_uuid in uuids]
    holders = {one.entry_uuid for one in sets}
    associations = _touching(registry, holders)
    members = {one.target for one in associations if one.type == HAS_MEMBER}
    return Found([one for one in registry.versions() if one.entry_uuid in members], sets, associations)


def _get_related(registry: Registry, slots: Slots, visible: Visible) -> Found:
    named = {one.entry_uuid for one in _named(registry, slots) if visible(one)}
    types = _any(slots, "$AssociationTypes")
    associations = [one for one in _touching(registry, named) if one.type in types]
    ends = {end for one in associations for end in (one.source, one.target)}
    return Found([one for one in registry.versions() if one.entry_uuid in ends], associations=associations)


def _get_all(registry: Registry, slots: Slots, visible: Visible) -> Found:
    patients, statuses = _any(slots, "$patientId"), _any(slots, f"{_ENTRY}Status")
    documents = [
        one
        for one in registry.versions()
        if one.entry.patient_id in patients and STATUS_URNS[one.status] in statuses and visible(one)
    ]
    sets = [one for one in registry.sets() if one.submission_set.patient_id in patients]
    ids = {one.entry_uuid for one in documents} | {one.entry_uuid for one in sets}
    associations = [one for one in registry.associations() if {one.source, one.target} <= ids]
    return Found(documents, sets, associations)


@dataclass(frozen=True, slots=True)
class Query:
    """A stored query: of each group of required slots exactly one is given."""

    run: Callable[[Registry, Slots, Visible], Found]
    required: tuple[tuple[str, ...], ...]
    optional: tuple[str, ...] = ()


_DOCUMENT_IDS = ((f"{_ENTRY}UniqueId", f"{_ENTRY}EntryUUID"),)
_SEARCH = (
    *(_ENTRY + name for name in _CODED if name != "ReferenceIdList"),
    *(f"{_ENTRY}{name}{side}" for name in _TIMES for side in ("From", "To")),
    f"{_ENTRY}AuthorPerson",
)
_FIND = ((f"{_ENTRY}PatientId",), (f"{_ENTRY}Status",))
_QUERIES = {
    "14d4debf-8f97-4251-9a74-a90016b0af0d": Query(_find_documents, _FIND, _SEARCH),
    "12941a89-e02e-4be5-967c-ce4bfc8fe492": Query(_find_documents, (*_FIND, (f"{_ENTRY}ReferenceIdList",)), _SEARCH),
    "f26abbcb-ac74-4422-8a30-edb644bbc1a9": Query(
        _find_sets,
        ((f"{_SET}PatientId",), (f"{_SET}Status",)),
        (f"{_SET}SubmissionTimeFrom", f"{_SET}SubmissionTimeTo"),
    ),
    "5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4": Query(_get_documents, _DOCUMENT_IDS),
    "a7ae438b-4bc2-4642-93e9-be891f7bb155": Query(_get_associations, (("$uuid",),)),
    "bab9529a-4a10-40b3-a01f-f68a615d247a": Query(_get_documents_and_associations, _DOCUMENT_IDS),
    "51224314-5390-4169-9b91-b1980040715a": Query(_get_sets, (("$uuid",),)),
    "e8e3cb2c-e39c-46b9-99e4-c12f57260b83": Query(_get_set_and_contents, ((f"{_SET}EntryUUID", f"{_SET}UniqueId"),)),
    "d90e5407-b356-4d91-a89f-873917b4b0e6": Query(_get_related, (*_DOCUMENT_IDS, ("$AssociationTypes",))),
    "10b545ea-725c-446d-9b95-8aeb444eddf3": Query(
        _get_all,
        (("$patientId",), (f"{_ENTRY}Status",), (f"{_SET}Status",), ("$XDSFolderStatus",)),
    ),
}
