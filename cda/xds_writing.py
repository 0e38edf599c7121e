"""Writes XDS metadata in their ebRIM 3.0 form, once they are judged: what is written here can be read.

Children stand in the order of the schema. The form is written as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from lxml import etree

from relais.cda.errors import Issue
from relais.cda.xds_attributes import AUTHOR_SLOTS, DOCUMENT_ENTRY, SUBMISSION_SET, ObjectForm, Slot
from relais.cda.xds_judge import NO_DOCUMENT, Judge, Parts, collapsed, issue, refuse
from relais.cda.xds_model import (
    ASSOCIATION_TYPE,
    HAS_MEMBER,
    LCM,
    RIM,
    SET_ID,
    STABLE_DOCUMENT,
    SUBMISSION_SET_CLASS,
    Association,
    CodedValue,
    DocumentEntry,
    MetadataAuthor,
    MetadataError,
    Submission,
    SubmissionSet,
)

_UUID = "urn:uuid:"


def submit_objects_request(submission: Submission) -> etree._Element:
    """The lcm:SubmitObjectsRequest of a submission, as METADATA.XML and ITI-41 carry it. Raises as `written`."""
    return etree.fromstring(written(submission))


def written(submission: Submission) -> bytes:
    """The same in UTF-8, with the namespaces it needs: an element that can stand in any other.

    Raises MetadataError listing everything that is missing or ill-formed: what is written passes `read_submission`.
    """
    if any(entry.action for entry in submission.entries):
        raise MetadataError(issue("", "the extra-metadata action is only read, never sent", code="not-supported"))
    text = _encoded(_request(submission))
    refuse(_judge_whole(submission))
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
    attributes, inside = _code(code, scheme)
    named = f'id="{escaped(own_id)}" classifiedObject="{escaped(str(element.get("id")))}" {attributes}'
    return _appended(element, f"<rim:Classification {named}>{inside}</rim:Classification>")


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
    return MetadataError(issue("", "a value holds a control character that XML cannot carry"))


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
    return f'<rim:RegistryPackage id="{SET_ID}">{inside}</rim:RegistryPackage>'


def _extrinsic_object(entry: DocumentEntry) -> str:
    named = f'id="{escaped(entry.entry_id)}" mimeType="{escaped(entry.mime_type)}" objectType="{STABLE_DOCUMENT}"'
    return f"<rim:ExtrinsicObject {named}>{_inside(entry.entry_id, DOCUMENT_ENTRY, entry)}</rim:ExtrinsicObject>"


def _inside(own_id: str, form: ObjectForm, values: SubmissionSet | DocumentEntry) -> str:
    """The children in the order of the schema: slots, name, description, classifications, identifiers."""
    parts = [_slot(slot.name, held) for slot in form.slots if (held := _slot_values(slot, values))]
    parts += (_localized("Name", values.title), _localized("Description", values.comments))
    classifications = [
        *(_author(author, form.author_scheme) for author in _as_tuple(getattr(values, form.author_field))),
        *(_code(code, coded.scheme) for coded in form.codes for code in _as_tuple(getattr(values, coded.field))),
    ]
    if form is SUBMISSION_SET:
        classifications.append(_Classification(f'classificationNode="{SUBMISSION_SET_CLASS}"', ""))
    named, symbol = escaped(own_id), escaped(_symbol(own_id))
    parts += [
        f'<rim:Classification id="{symbol}_c{number:02}" classifiedObject="{named}" {attributes}>{inside}'
        "</rim:Classification>"
        for number, (attributes, inside) in enumerate(classifications, 1)
    ]
    parts += [
        f'<rim:ExternalIdentifier id="{symbol}_e{number:02}" registryObject="{named}"'
        f' identificationScheme="{one.scheme}" value="{escaped(getattr(values, one.field))}">'
        f"{_localized('Name', f'{form.name}.{one.name}')}</rim:ExternalIdentifier>"
        for number, one in enumerate(form.identifiers, 1)
    ]
    return "".join(parts)


class _Classification(NamedTuple):
    """What one says of its object, as text: `attributes` beside its ids, and what is `inside`."""

    attributes: str
    inside: str


def _author(author: MetadataAuthor, scheme: str) -> _Classification:
    slots = [_slot(slot.name, held) for slot in AUTHOR_SLOTS if (held := _as_tuple(getattr(author, slot.field)))]
    return _Classification(f'classificationScheme="{scheme}" nodeRepresentation=""', "".join(slots))


def _code(code: CodedValue, scheme: str) -> _Classification:
    return _Classification(
        f'classificationScheme="{scheme}" nodeRepresentation="{escaped(code.code)}"',
        _slot("codingScheme", (code.system,)) + _localized("Name", code.display),
    )


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
    inside = "".join(_slot(name, (value,)) for name, value in slots.items())
    return (
        f'<rim:Association id="{escaped(own_id)}" objectType="{ASSOCIATION_TYPE}"'
        f' associationType="{escaped(association.type)}" sourceObject="{escaped(association.source)}"'
        f' targetObject="{escaped(association.target)}">{inside}</rim:Association>'
    )


def _slot(name: str, values: Iterable[object]) -> str:
    held = "".join([f"<rim:Value>{escaped(collapsed(str(value)))}</rim:Value>" for value in values])
    return f'<rim:Slot name="{name}"><rim:ValueList>{held}</rim:ValueList></rim:Slot>'


def _localized(tag: str, text: str | None) -> str:
    if not text:
        return ""
    value = escaped(collapsed(text))
    return f'<rim:{tag}><rim:LocalizedString charset="UTF-8" value="{value}" xml:lang="FR"/></rim:{tag}>'


def escaped(text: str) -> str:
    """`text` as it stands in an attribute or between tags."""
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", text) if _SPECIAL.search(text) else text


_SPECIAL = re.compile('[&<>"\t\n\r]')


def _as_tuple(value: Any) -> tuple[Any, ...]:
    """The values to write of one field: none for None, an empty string or a size of 0."""
    if isinstance(value, tuple):
        return value
    return (value,) if value else ()


def _judge_whole(submission: Submission) -> list[Issue]:
    """What reading the submission that is about to be written would find."""
    judge = Judge(tolerant=False)
    judge.ids(list(_ids(submission)))
    if not submission.entries:
        judge.invalid(NO_DOCUMENT)
    judge.submission_set(_parts_of(SUBMISSION_SET, submission.submission_set))
    for number, entry in enumerate(submission.entries, 1):
        judge.entry(_parts_of(DOCUMENT_ENTRY, entry), entry.entry_id, entry.mime_type, number)
    known = {SET_ID, *(entry.entry_id for entry in submission.entries)}
    for number, one in enumerate(submission.associations, len(submission.entries) + 1):
        judge.association(f"Association[{number}]", one, known)
    judge.together(submission.submission_set, submission.entries)
    return judge.issues


def _parts_of(form: ObjectForm, values: SubmissionSet | DocumentEntry) -> Parts:
    """What `_inside` writes."""
    return Parts(
        {slot.name: _texts(_slot_values(slot, values)) for slot in form.slots},
        collapsed(values.title or ""),
        collapsed(values.comments or ""),
        [
            {slot.name: _texts(_as_tuple(getattr(author, slot.field))) for slot in AUTHOR_SLOTS}
            for author in _as_tuple(getattr(values, form.author_field))
        ],
        {
            coded.scheme: [
                (code.code, collapsed(code.display), _texts((code.system,)))
                for code in _as_tuple(getattr(values, coded.field))
            ]
            for coded in form.codes
        },
        {identifier.scheme: [getattr(values, identifier.field)] for identifier in form.identifiers},
    )


def _texts(values: Iterable[object]) -> list[str]:
    return [text for value in values if (text := collapsed(str(value)))]
