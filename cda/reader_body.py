"""Reads the body of a document: sections with their narratives, and the clinical statements of their entries."""

from __future__ import annotations

from functools import lru_cache, partial

from msgspec.structs import replace

from relais.cda.losses import is_implied
from relais.cda.model import EntryParticipant, ExternalReference, Product, Relationship, Section, Statement
from relais.cda.narrative import Element, Node, is_name
from relais.cda.parsing import V3, local_name
from relais.cda.reader_parties import ROLE, device, entry_author, entry_performer, informant
from relais.cda.reader_tables import XML, Account, Fields, Read, Slot, below, each, inside, one, reader
from relais.cda.reader_types import (
    code,
    code_of,
    flag,
    ii,
    integer,
    interval,
    media,
    name,
    string,
    text,
    value,
)


def _narrative(element: XML, account: Account) -> list[Node]:
    nodes: list[Node] = []
    if text := element.text:
        nodes.append(text)
        account.texts.append(text)
    for child in element[:]:
        if name := _narrative_name(child.tag):
            items = child.items()
            attributes = {key: said for key, said in items if is_name(key)} if items else {}
            if len(attributes) != len(items):
                account.is_complete = False
            nodes.append(Element(name, attributes, _narrative(child, account)))
        else:
            account.is_complete = False
        if tail := child.tail:
            account.texts.append(tail)
            previous = nodes.pop() if nodes and isinstance(nodes[-1], str) else ""
            nodes.append(f"{previous}{tail}")
    return nodes


@lru_cache(maxsize=256)
def _narrative_name(tag: str) -> str | None:
    """The name of a narrative element; None for an element that a narrative does not have."""
    name = local_name(tag)  # one outside HL7 V3 has a prefix
    return name if is_name(name) else None


def _fill_narrative(found: Fields, element: XML, account: Account) -> None:
    if nodes := _narrative(element, account):
        found["text"] = nodes
    for key, said in element.items():
        if key == "ID" and said:
            found["text_id"] = said
        elif not is_implied(element.tag, key, said):
            account.is_complete = False


def _fill_subject(found: Fields, element: XML, account: Account) -> None:
    """Note that a section or an entry is about somebody else: a relative, a foetus. `write` writes no subject."""
    account.is_complete = False
    related = [child for child in element[:] if child.tag == f"{{{V3}}}relatedSubject"]
    if not related or dict(related[0].items()).get("classCode") != "PAT":
        found["of_another"] = True


_subject = Slot(fill=_fill_subject)

_product = reader(
    Product,
    {
        "manufacturedProduct": inside(
            {
                "templateId": each("template_ids", ii),
                "manufacturedMaterial": inside({"code": one("code", code), "name": one("name", string)}),
            }
        )
    },
)
_entry_participant = reader(
    partial(EntryParticipant, type_code=""),
    {
        "templateId": each("template_ids", ii),
        "time": one("time", interval),
        "participantRole": inside(
            {
                "playingEntity": inside(
                    {
                        "code": one("entity_code", code),
                        "name": one("name", name),
                        "desc": one("description", string),
                    },
                    {"classCode": "entity_class"},
                ),
                "scopingEntity": inside({"id": one("scoping_id", ii), "desc": one("scoping_description", string)}),
                "playingDevice": one("device", device),
            }
            | ROLE,
            {"classCode": "role_class"},
        ),
    },
    {"typeCode": "type_code"},
)


def _external(kind: str) -> Slot:
    read_target = reader(
        partial(ExternalReference, type_code="", kind=kind),
        {
            "id": each("ids", ii),
            "code": one("code", code),
            "text": one("text", text),
            "setId": one("set_id", ii),
            "versionNumber": one("version_number", integer),
        },
    )
    return one("target", read_target)


def _make_reference(type_code: str = "", target: ExternalReference | None = None) -> ExternalReference | None:
    return replace(target, type_code=type_code) if target else None


_EXTERNALS = ("externalDocument", "externalAct", "externalObservation", "externalProcedure")
_reference = reader(_make_reference, {kind: _external(kind) for kind in _EXTERNALS}, {"typeCode": "type_code"})


def _make_relationship(
    type_code: str = "",
    statement: Statement | None = None,
    inversion: bool | None = None,
    sequence_number: int | None = None,
) -> Relationship | None:
    return Relationship(type_code, statement, inversion, sequence_number) if statement else None


def _statement(kind: str) -> Slot:
    """The first statement below an entry, an entryRelationship or an organizer's component."""
    children = {
        "templateId": each("template_ids", ii),
        "id": each("ids", ii),
        "code": one("code", code),
        "sdtc:text" if kind == "organizer" else "text": one("text", text),
        "statusCode": one("status", code_of),
        "effectiveTime": one("time", interval),
        "priorityCode": one("priority", code),
        "languageCode": one("language", code_of),
        "value": each("values", media if kind == "observationMedia" else value),
        "interpretationCode": each("interpretations", code),
        "methodCode": each("methods", code),
        "targetSiteCode": each("target_sites", code),
        "subject": _subject,
        "performer": entry_performer,
        "author": each("authors", entry_author),
        "informant": each("informants", informant),
        "participant": each("participants", _entry_participant),
        "reference": each("references", _reference),
        "precondition": each("criteria", below("criterion", below("text", text))),
        "product" if kind == "supply" else "consumable": one("product", _product),
    }
    if kind == "organizer":
        children["component"] = each("relationships", lambda element, account: _component(element, account))
    else:
        children["entryRelationship"] = each("relationships", lambda element, account: _relationship(element, account))
    attributes = {"classCode": "class_code", "moodCode": "mood_code", "negationInd": "", "ID": "xml_id"}
    make = partial(Statement, kind, class_code="")
    return one("statement", reader(make, children, attributes, ("negation", flag("negationInd"))))


_STATEMENTS = {
    kind: _statement(kind)
    for kind in (
        "observation",
        "act",
        "encounter",
        "organizer",
        "procedure",
        "substanceAdministration",
        "supply",
        "observationMedia",
    )
}
_RELATED = {"sequenceNumber": one("sequence_number", integer)} | _STATEMENTS
_RELATION = {"typeCode": "type_code", "inversionInd": ""}
_INVERSION = ("inversion", flag("inversionInd"))
_relationship = reader(_make_relationship, _RELATED, _RELATION, _INVERSION)
_stated_component = reader(partial(_make_relationship, type_code="COMP"), _RELATED, _RELATION, _INVERSION)


def _component(element: XML, account: Account) -> Relationship | None:
    """The component of an organizer, which `write` writes without attributes."""
    if element.get("typeCode") not in (None, "COMP") or element.get("inversionInd") is not None:
        account.is_complete = False
    return _stated_component(element, account)


_entry: Read[Statement] = reader(lambda statement: statement, _STATEMENTS)
section: Read[Section] = reader(
    Section,
    {
        "section": inside(
            {
                "templateId": each("template_ids", ii),
                "id": one("id", ii),
                "code": one("code", code),
                "title": one("title", string),
                "text": Slot(fill=_fill_narrative),
                "subject": _subject,
                "author": each("authors", entry_author),
                "entry": each("entries", _entry),
                "component": each("sections", lambda element, account: section(element, account)),
            }
        )
    },
)


SECTIONS = {"structuredBody": inside({"component": each("sections", section)})}
FILE = {"nonXMLBody": inside({"text": one("non_xml_body", media)})}
"""The two bodies a document may have, in its `component`."""
