"""The document in its OBX, and what the message says of it beside: type, identity, what it replaces, what is done.

CI-SIS volet §OBX, §OBR, §TXA, §ORC. The bytes decoded are the document, whatever its own encoding declaration says.
"""

from __future__ import annotations

import base64
import re

from relais.cda.errors import UnreadableError
from relais.cda.model import II, Document, Header
from relais.cda.reader import read
from relais.mappings.hl7v2 import tables
from relais.mappings.hl7v2.context import Context
from relais.mappings.hl7v2.er7 import Segment
from relais.mappings.hl7v2.order import Action
from relais.mappings.terminology import concept

_BREAKS = re.compile(r"\\\.br\\|\\X0[AaDd]\\|\s")


def read_action(context: Context) -> Action | None:
    """What the order does, once ORC-1, OBX-11 of the document and the event agree; None when they do not."""
    orc, obx = context.message.first("ORC"), context.message.first("OBX")
    stated = {"orc": (orc, 1), "obx": (obx, 11)}
    if context.type == "MDM":
        stated["trigger"] = (context.message.header, 9)
    actions = []
    for column, (segment, number) in stated.items():
        row = tables.row("actions", column, context.text(segment, number, 2 if column == "trigger" else 1))
        if row is None:
            context.findings.error("103", segment.place(number), "not a code of an action", "hl7v2.action")
        else:
            actions.append(row["action"])
    if len(set(actions)) > 1:
        message = "ORC-1, OBX-11 of the document and the event do not say the same action"
        context.findings.refuse("906", orc.place(1), message, "hl7v2.action")
    if len(actions) < len(stated) or len(set(actions)) > 1:
        return None
    action: dict[str, Action] = {"initial": "initial", "replace": "replace", "delete": "delete"}
    return action[actions[0]]


def read_document(context: Context) -> bytes | None:
    """The bytes of the document; None when they cannot be had."""
    obx = context.message.first("OBX")
    context.fixed(obx, 1, "1")
    context.fixed(obx, 2, "ED")
    context.fixed(obx, 5, "")
    for component, expected in ((2, "text"), (3, "XML"), (4, "Base64")):
        context.fixed(obx, 5, expected, component, case=False)
    written = obx.field(5).split("^")
    if len(obx.repetitions(5)) > 1 or len(written) > 5:
        context.findings.error("102", obx.place(5), "more than one document, or more than five components", "hl7v2.obx")
        return None
    return decode(context, obx, drop=False)


def decode(context: Context, obx: Segment, *, drop: bool) -> bytes | None:
    """The bytes of OBX-5.5; None when they cannot be had: an error, or a warning when the receiver may `drop` them.

    Line breaks are taken out and lost padding is put back, and both are said; a strict receiver refuses the latter.
    """
    place = obx.place(5, component=5)
    written = [*obx.field(5).split("^"), "", "", "", "", ""][4]
    text = _BREAKS.sub("", written)
    if text != written:
        context.findings.warn("102", place, "line breaks in the base64 are ignored", "hl7v2.base64")
    if not text:
        context.findings.error("101", place, "required", "hl7v2.base64")
        return None
    missing = -len(text) % 4
    if missing in (1, 2) and not context.policy.strict:
        context.findings.warn("102", place, "the padding of the base64 is restored", "hl7v2.base64")
        text += "=" * missing
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error, or characters outside ASCII
        if drop and not context.policy.strict:
            context.findings.warn("102", place, "not base64: this text is left out", "hl7v2.base64")
        else:
            context.findings.error("102", place, "not base64 with its padding", "hl7v2.base64")
        return None


def read_cda(context: Context, data: bytes) -> Document | None:
    """The document as a CDA; None, and an error, when it is none."""
    try:
        return read(data).document
    except UnreadableError as error:
        reasons = "; ".join(issue.message for issue in error.issues)
        message = f"the document is not a CDA: {reasons}"
        context.findings.refuse("906", context.place_of_document(), message, "hl7v2.cda")
        return None


def check_document(context: Context, action: Action | None, header: Header | None) -> None:
    """What OBR, OBX and TXA say of the document, against its header when it has one."""
    _check_type(context, header)
    if context.type == "MDM":
        _check_txa(context, action, header)
    if header is None:
        return
    replaced = replaced_ids(header)
    obx = context.place_of_document()
    if action == "replace" and not replaced:
        message = "a replacement is ordered, the document replaces none (relatedDocument, RPLC)"
        context.findings.refuse("906", obx, message, "hl7v2.replacement")
    if action == "initial" and replaced:
        context.findings.warn("207", obx, "the document replaces another, the order is initial", "hl7v2.replacement")


def replaced_ids(header: Header) -> list[II]:
    """What a document replaces: of its relatedDocument those of type RPLC, for an addendum (APND) replaces nothing."""
    return [ii for related in header.related_documents if related.type_code == "RPLC" for ii in related.parent_ids]


def _check_type(context: Context, header: Header | None) -> None:
    obr, obx = context.message.first("OBR"), context.message.first("OBX")
    code, label, system = (context.required(obr, 4, component) for component in (1, 2, 3))
    oid = tables.TERMINOLOGIES.get(system)
    known = concept("J07", code, oid) if oid else None
    if code and known is None:
        context.findings.error("103", obr.place(4), "not a type of document of JDV_J07", "hl7v2.type")
    others: list[tuple[Segment, int, tuple[str, ...]]] = [(obx, 3, (code, label, system))]
    if context.type == "MDM":
        others.append((context.message.first("TXA"), 2, (code,)))
    for segment, number, expected in others:
        found = tuple(context.text(segment, number, part) for part in range(1, len(expected) + 1))
        if found != expected:
            context.findings.refuse("906", segment.place(number), "not the type of OBR-4", "hl7v2.type")
    if header is not None and (code, oid) != (header.code.code, header.code.system):
        context.findings.refuse("906", obr.place(4), "not the type of the document", "hl7v2.type")


def _check_txa(context: Context, action: Action | None, header: Header | None) -> None:
    txa = context.message.first("TXA")
    context.fixed(txa, 1, "1")
    context.fixed(txa, 3, "TEXT")
    context.fixed(txa, 17, "AU")
    for number in (6, 7):
        context.time(txa, number)
    own, replaced = _document_id(context, txa, 12), _document_id(context, txa, 13)
    if action == "replace" and replaced is None:
        context.findings.error("101", txa.place(13), "required by a replacement", "hl7v2.replacement")
    if action == "initial" and replaced is not None:
        context.findings.warn("102", txa.place(13), "an initial sending replaces nothing", "hl7v2.replacement")
    if header is None:
        return
    if own is not None and not _same(own, header.id):
        context.findings.refuse("906", txa.place(12), "not the id of the document", "hl7v2.document-id")
    parents = replaced_ids(header)
    if replaced is not None and parents and not any(_same(replaced, ii) for ii in parents):
        message = "not the document that this one replaces"
        context.findings.refuse("906", txa.place(13), message, "hl7v2.replacement")


def _document_id(context: Context, txa: Segment, number: int) -> II | None:
    """`<root>`, or `<extension>^^<root>^ISO`; a namespace is said and ignored."""
    first, root = context.text(txa, number), context.text(txa, number, 3)
    if context.text(txa, number, 2):
        message = "the namespace is ignored"
        context.findings.warn("102", txa.place(number, component=2), message, "hl7v2.document-id")
    if not first:
        return None
    return II(root, first) if root else II(first)


def _same(one: II, other: II) -> bool:
    return (one.root, one.extension) == (other.root, other.extension)
