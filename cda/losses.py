"""Finds what of a document is not in its copy: how `reader` proves that nothing is dropped unseen.

Attributes that only repeat the fixed or default value of the schema (CDA_extended.xsd) are no loss, nor is the order
of elements, which the schema fixes.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from itertools import zip_longest

from lxml import etree

from relais.cda.errors import Issue
from relais.cda.parsing import XSI, Places, attribute_name, local_name

_XML = etree._Element

_XSI_TYPE = f"{{{XSI}}}type"
_IMPLIED = {
    ("classCode", "ACT"): {"order", "externalAct"},
    ("classCode", "ASSIGNED"): {"assignedEntity", "assignedAuthor", "assignedCustodian", "intendedRecipient"},
    ("classCode", "BIRTHPL"): {"birthplace"},
    ("classCode", "CONS"): {"consent"},
    ("classCode", "DEV"): {"assignedAuthoringDevice", "playingDevice"},
    ("classCode", "DOC"): {"externalDocument"},
    ("classCode", "DOCBODY"): {"structuredBody", "nonXMLBody"},
    ("classCode", "DOCCLIN"): {"ClinicalDocument", "parentDocument"},
    ("classCode", "DOCSECT"): {"section"},
    ("classCode", "ENC"): {"encompassingEncounter"},
    ("classCode", "ENT"): {"playingEntity", "scopingEntity"},
    ("classCode", "GUARD"): {"guardian"},
    ("classCode", "MANU"): {"manufacturedProduct"},
    ("classCode", "MMAT"): {"manufacturedMaterial"},
    ("classCode", "OBS"): {"externalObservation", "criterion"},
    ("classCode", "ORG"): {
        "representedOrganization",
        "representedCustodianOrganization",
        "receivedOrganization",
        "scopingOrganization",
        "guardianOrganization",
    },
    ("classCode", "PAT"): {"patientRole"},
    ("classCode", "PLC"): {"place", "location"},
    ("classCode", "PROC"): {"externalProcedure"},
    ("classCode", "PSN"): {
        "patient",
        "assignedPerson",
        "associatedPerson",
        "relatedPerson",
        "guardianPerson",
        "informationRecipient",
    },
    ("classCode", "ROL"): {"participantRole"},
    ("classCode", "SDLOC"): {"healthCareFacility"},
    ("contextConductionInd", "true"): {"entry", "entryRelationship", "component"},
    ("contextControlCode", "OP"): {
        "recordTarget",
        "author",
        "dataEnterer",
        "informant",
        "legalAuthenticator",
        "participant",
    },
    ("determinerCode", "INSTANCE"): {
        "patient",
        "assignedPerson",
        "associatedPerson",
        "relatedPerson",
        "guardianPerson",
        "informationRecipient",
        "representedOrganization",
        "representedCustodianOrganization",
        "receivedOrganization",
        "scopingOrganization",
        "guardianOrganization",
        "place",
        "location",
        "assignedAuthoringDevice",
        "playingDevice",
        "playingEntity",
        "scopingEntity",
    },
    ("determinerCode", "KIND"): {"manufacturedMaterial"},
    ("moodCode", "EVN"): {
        "ClinicalDocument",
        "parentDocument",
        "consent",
        "serviceEvent",
        "encompassingEncounter",
        "section",
        "structuredBody",
        "nonXMLBody",
        "externalAct",
        "externalDocument",
        "externalObservation",
        "externalProcedure",
    },
    ("moodCode", "EVN.CRT"): {"criterion"},
    ("moodCode", "RQO"): {"order"},
    ("representation", "TXT"): {"text", "value"},
    ("typeCode", "AUT"): {"author"},
    ("typeCode", "AUTH"): {"authorization"},
    ("typeCode", "AUTHEN"): {"authenticator"},
    ("typeCode", "COMP"): {"component", "componentOf", "entry"},
    ("typeCode", "CSM"): {"consumable"},
    ("typeCode", "CST"): {"custodian"},
    ("typeCode", "DOC"): {"documentationOf"},
    ("typeCode", "ENT"): {"dataEnterer"},
    ("typeCode", "FLFS"): {"inFulfillmentOf"},
    ("typeCode", "INF"): {"informant"},
    ("typeCode", "LA"): {"legalAuthenticator"},
    ("typeCode", "LOC"): {"location"},
    ("typeCode", "PRCN"): {"precondition"},
    ("typeCode", "PRCP"): {"informationRecipient"},
    ("typeCode", "PRD"): {"product"},
    ("typeCode", "RCT"): {"recordTarget"},
    ("typeCode", "RESP"): {"responsibleParty"},
    ("xsi:type", "CD"): {"value"},
    ("xsi:type", "ED"): {"value"},
    ("xsi:type", "IVL_TS"): {"effectiveTime", "time"},
}
"""Attributes that say what the schema says anyway, by element: fixed and default values, declared types."""

_SAME_TYPE = {"CE": "CD", "CV": "CD", "CS": "CD"}
"""A CD holds whatever these can say, and the model writes a CD."""

_SAME_BOOLEAN = {"1": "true", "0": "false"}
_SCHEMA_LOCATIONS = ("xsi:schemaLocation", "xsi:noNamespaceSchemaLocation")


def is_implied(tag: str, name: str, value: str) -> bool:
    """Whether an attribute says of an element of that tag what the schema says anyway, or only where the schema is."""
    local = attribute_name(name)
    if local == "xsi:type":
        value = _type(value)
    return local in _SCHEMA_LOCATIONS or local_name(tag) in _IMPLIED.get((local, value), ())


def losses(source: _XML, copy: _XML) -> Iterator[Issue]:
    """An issue for each attribute, text and element of `source` that `copy` lacks or says otherwise.

    A missing element is one issue, whatever it contains. An element that only the copy has is an issue too: the model
    supposes what the source did not say. Comments must have been removed.
    """
    places = Places()
    for original, twin in _pairs(source, copy):
        if twin is None:
            yield _loss(places.of(original), "empty element" if _is_empty(original) else "element")
        elif isinstance(twin, str):
            yield _loss(f"{places.of(original)}/{local_name(twin)}", "absence of the element")
        else:
            if original.items() != twin.items():
                yield from _attribute_losses(original, twin, places)
            if not _same_text(original, twin):
                yield _loss(places.of(original), "text")


_Pair = tuple[_XML, _XML | str | None]
"""An element and its copy; None when there is no copy. An element and the tag of a child that only its copy has."""


def _pairs(source: _XML, copy: _XML) -> Iterator[_Pair]:
    """Every element with its copy, in document order; where an element has none, what is below it is left out."""
    if _shape(source) == _shape(copy):
        yield from zip(source.iter(), copy.iter(), strict=True)
        return
    waiting: list[_Pair] = [(source, copy)]
    while waiting:
        original, twin = pair = waiting.pop()
        yield pair
        if isinstance(twin, _XML):
            children, copies = list(original), list(twin)
            same = [child.tag for child in children] == [child.tag for child in copies]
            pairs = zip(children, copies, strict=True) if same else _paired_by_tag(original, children, copies)
            waiting += reversed(list(pairs))


def _shape(root: _XML) -> list[tuple[str, int]]:
    """The tags and numbers of children in document order, which say what tree it is."""
    return [(element.tag, len(element)) for element in root.iter()]


def _paired_by_tag(source: _XML, children: list[_XML], copies: list[_XML]) -> Iterator[_Pair]:
    """The children with their copies, when some have none or stand in another order; empty ones go without first."""
    ours, twins = _by_tag(children), _by_tag(copies)
    for tag in ours | twins:
        originals, same = ours.get(tag, []), twins.get(tag, [])
        if len(originals) > len(same):
            yield from ((original, None) for original in originals if _is_empty(original))
            originals = [original for original in originals if not _is_empty(original)]
        for original, twin in zip_longest(originals, same):
            yield (source, tag) if original is None else (original, twin)


def _attribute_losses(source: _XML, copy: _XML, places: Places) -> Iterator[Issue]:
    for name, value in ((str(name), str(value)) for name, value in source.items()):
        if not _is_attribute_kept(source, name, value, copy.get(name)):
            local = attribute_name(name)
            yield _loss(f"{places.of(source)}/@{local}", "attribute")


def _is_attribute_kept(source: _XML, name: str, value: str, copied: str | None) -> bool:
    if copied is None:
        return is_implied(source.tag, name, value)
    if name == _XSI_TYPE:
        return _type(copied) == _type(value)
    return copied in (value, _SAME_BOOLEAN.get(value))


def _type(name: str) -> str:
    local = name.rpartition(":")[2]
    return _SAME_TYPE.get(local, local)


def _same_text(source: _XML, copy: _XML) -> bool:
    if source.text == copy.text and not len(source) and not len(copy):
        return True
    said, copied = _direct_text(source), _direct_text(copy)
    if said == copied:
        return True
    if not said or copy.get("representation") != "B64":
        return False
    if source.get("representation") != "B64":
        return said.encode() == b64decode(copied)
    return "".join(said.split()) == copied


def _direct_text(element: _XML) -> str:
    pieces = [element.text, *[child.tail for child in element]]
    return " ".join([stripped for piece in pieces if piece and (stripped := piece.strip(" \t\r\n"))])


def _by_tag(children: list[_XML]) -> dict[str, list[_XML]]:
    groups: dict[str, list[_XML]] = {}
    for child in children:
        groups.setdefault(str(child.tag), []).append(child)
    return groups


def _is_empty(element: _XML) -> bool:
    return not element.attrib and not len(element) and not _direct_text(element)


def _loss(path: str, what: str) -> Issue:
    return Issue("information", "not-supported", f"{what} not carried over by the document model", path, "CDA R2")
