"""Reads any CI-SIS CDA R2 document into the document model, and says what the model cannot hold.

Tolerant: official rules judge a document, not its reader. Element names and order are those of HL7 CDA R2 with the
extensions of ANS. Comments, processing instructions and schema locations are no content and are passed over.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from itertools import chain
from typing import cast

from lxml import etree

from relais.cda.errors import Issue, UnreadableError, limited
from relais.cda.losses import losses
from relais.cda.model import Document, Header, Patient
from relais.cda.parsing import V3, parse
from relais.cda.reader_body import FILE, SECTIONS
from relais.cda.reader_header import HEADER
from relais.cda.reader_tables import XML, Account, Fields, Fill, filler, inside
from relais.cda.style_sheets import document_of
from relais.cda.writer import write

__all__ = ["ReadDocument", "parse", "read", "read_header"]

_NONCHARACTER = "\U0010fffe".encode()
_REFERENCES = re.compile(rb"&#(x0*10fffe|0*1114110);", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ReadDocument:
    """A document as read; `issues` lists, with its XPath, every element and attribute that the model cannot hold."""

    document: Document
    issues: list[Issue]


def read(data: bytes) -> ReadDocument:
    """The document in `data`, also inside the style sheet of a self-displaying one (*auto-présentable*).

    Nothing can be dropped unseen: the reader accounts for what it takes in. Unless that is every element, attribute and
    text, the document is written again and compared with the original, which finds what the model cannot hold.
    Raises UnreadableError for what is not XML (see `parse`) or not a ClinicalDocument.
    """
    tree = parse(data)
    clinical = _clinical_document(tree)
    etree.strip_tags(clinical, etree.Comment, etree.ProcessingInstruction)
    account = Account()
    document = _document(clinical, account)
    document.self_displaying = clinical is not tree.getroot()
    if account.is_balanced(clinical) and not _may_hold_noncharacter(data):
        return ReadDocument(document, [])
    return ReadDocument(document, list(limited(losses(clinical, parse(write(document)).getroot()))))


def read_header(tree: etree._ElementTree) -> Document:
    """The document in a tree, which is left as it is, without its sections: for those who need only the header.

    What the model cannot hold is not told. Raises UnreadableError for what is not a ClinicalDocument.
    """
    clinical = _clinical_document(tree)
    if next(clinical.iter(etree.Comment, etree.ProcessingInstruction), None) is not None:
        clinical = copy.deepcopy(clinical)
        etree.strip_tags(clinical, etree.Comment, etree.ProcessingInstruction)
    document = _document(clinical, Account(), _fill_header)
    document.self_displaying = tree.getroot().tag != clinical.tag
    return document


def _clinical_document(tree: etree._ElementTree) -> etree._Element:
    clinical = document_of(tree).getroot()
    if clinical.tag != f"{{{V3}}}ClinicalDocument":
        message = "not a CDA document: the root must be ClinicalDocument in the namespace urn:hl7-org:v3"
        raise UnreadableError(Issue("fatal", "structure", message, f"/{etree.QName(clinical).localname}", "CDA R2"))
    return clinical


def _may_hold_noncharacter(data: bytes) -> bool:
    """Whether U+10FFFE may stand in a document, which `write` refuses: as such, as a reference, or in UTF-16."""
    return (
        (b"\xf4" in data and _NONCHARACTER in data)  # one byte is looked for fifty times as fast as four
        or (b"&" in data and _REFERENCES.search(data) is not None)
        or b"\0" in data[:8]
    )


_ALWAYS = {"realmCode": {"code": "FR"}, "typeId": {"root": "2.16.840.1.113883.1.3", "extension": "POCD_HD000040"}}
_fill_document = filler(HEADER | {"component": inside(SECTIONS | FILE)}, supposed=_ALWAYS)
_fill_header = filler(HEADER | {"component": inside(FILE)}, supposed=_ALWAYS)


def _document(clinical: etree._Element, account: Account, fill: Fill = _fill_document) -> Document:
    found: Fields = {}
    fill(found, cast(XML, clinical), account)
    found.setdefault("language", None)
    patient, *others = chain(*found.pop("record_targets", [[Patient()]]))
    body = {name: found.pop(name) for name in ("sections", "non_xml_body") if name in found}
    return Document(Header(patient=patient, other_patients=others, **found), **body)
