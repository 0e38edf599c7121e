"""Stored queries of ITI-18: their identifiers, their slots and the syntax of values.

IHE ITI TF-2 §3.18.4.1.2. Texts stand between single quotes, lists between parentheses; times are numbers, without
quotes. `From` is inclusive and `To` is not; a slot given twice means that both must hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from lxml import etree

from relais.cda.xds import RIM, CodedValue
from relais.cda.xds_registry import APPROVED

QUERY = "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"

FIND_DOCUMENTS = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
FIND_SETS = "urn:uuid:f26abbcb-ac74-4422-8a30-edb644bbc1a9"
FIND_BY_REFERENCE = "urn:uuid:12941a89-e02e-4be5-967c-ce4bfc8fe492"
GET_DOCUMENTS = "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"
GET_ASSOCIATIONS = "urn:uuid:a7ae438b-4bc2-4642-93e9-be891f7bb155"
GET_DOCUMENTS_AND_ASSOCIATIONS = "urn:uuid:bab9529a-4a10-40b3-a01f-f68a615d247a"
GET_SETS = "urn:uuid:51224314-5390-4169-9b91-b1980040715a"
GET_SET_AND_CONTENTS = "urn:uuid:e8e3cb2c-e39c-46b9-99e4-c12f57260b83"
GET_RELATED = "urn:uuid:d90e5407-b356-4d91-a89f-873917b4b0e6"
GET_ALL = "urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3"

Slots = Iterable[tuple[str, str]]
ReturnType = Literal["LeafClass", "ObjectRef"]


@dataclass(frozen=True, slots=True)
class Criteria:
    """What documents are looked for. Times are DTM in UTC; codes of one field are alternatives."""

    status: tuple[str, ...] = (APPROVED,)
    types: tuple[CodedValue, ...] = ()
    classes: tuple[CodedValue, ...] = ()
    formats: tuple[CodedValue, ...] = ()
    practice_settings: tuple[CodedValue, ...] = ()
    facility_types: tuple[CodedValue, ...] = ()
    confidentiality: tuple[CodedValue, ...] = ()
    events: tuple[CodedValue, ...] = ()
    author: str = ""  # part of authorPerson, % for any characters
    created_from: str = ""
    created_to: str = ""
    service_from: str = ""  # of the start of the act
    service_to: str = ""

    def slots(self) -> list[tuple[str, str]]:
        """The slots of FindDocuments beside the patient."""
        prefix = "$XDSDocumentEntry"
        coded = {
            "TypeCode": self.types,
            "ClassCode": self.classes,
            "FormatCode": self.formats,
            "PracticeSettingCode": self.practice_settings,
            "HealthcareFacilityTypeCode": self.facility_types,
            "ConfidentialityCode": self.confidentiality,
            "EventCodeList": self.events,
        }
        found = [(f"{prefix}Status", texts(self.status))]
        found += [(prefix + name, texts(map(_code, codes))) for name, codes in coded.items() if codes]
        if self.author:
            found.append((f"{prefix}AuthorPerson", texts([self.author])))
        times = {
            "CreationTimeFrom": self.created_from,
            "CreationTimeTo": self.created_to,
            "ServiceStartTimeFrom": self.service_from,
            "ServiceStartTimeTo": self.service_to,
        }
        return found + [(prefix + name, time) for name, time in times.items() if time]


def text(value: str) -> str:
    """One text, as a slot of a query writes it."""
    return "'" + value.replace("'", "''") + "'"


def texts(values: Iterable[str]) -> str:
    """Texts of which any will do."""
    return "(" + ",".join(map(text, values)) + ")"


def _code(code: CodedValue) -> str:
    return f"{code.code}^^{code.system}"


def request(query: str, slots: Slots, return_type: ReturnType = "LeafClass") -> etree._Element:
    """The query:AdhocQueryRequest of a stored query."""
    root = etree.Element(f"{{{QUERY}}}AdhocQueryRequest", nsmap={"query": QUERY, "rim": RIM})
    etree.SubElement(root, f"{{{QUERY}}}ResponseOption", returnType=return_type, returnComposedObjects="true")
    adhoc = etree.SubElement(root, f"{{{RIM}}}AdhocQuery", id=query)
    for name, value in slots:
        slot = etree.SubElement(adhoc, f"{{{RIM}}}Slot", name=name)
        values = etree.SubElement(slot, f"{{{RIM}}}ValueList")
        etree.SubElement(values, f"{{{RIM}}}Value").text = value
    return root
