"""The metadata OBX: ten flags in a fixed order to a platform, mail and four flags to an LPS, mail bodies, NTE.

CI-SIS volet, table MetaDMPMSS; volet "Transmission au LPS" §OBX.
"""

from __future__ import annotations

from typing import NamedTuple

from relais.mappings.hl7v2 import tables
from relais.mappings.hl7v2.context import Context
from relais.mappings.hl7v2.document import decode
from relais.mappings.hl7v2.er7 import Segment
from relais.mappings.hl7v2.order import Flags, ReceivedMail

BODIES = ("CORPSMAIL_PS", "CORPSMAIL_PATIENT")
_RULE = "hl7v2.metadata"
_YES_NO_TABLES = ("expandedYes-NoIndicator", "HL70136")  # the second is that of older volets


class Metadata(NamedTuple):
    """What the OBX after the document say; `places` leads from a flag to its segment."""

    flags: Flags
    places: dict[str, Segment]
    bodies: dict[str, str]
    patient_may_reply: bool
    mail: ReceivedMail | None


def read_metadata(context: Context) -> Metadata:
    """Everything after the document; adds what is wrong with it."""
    remaining = context.message.all("OBX")[1:]
    for number, obx in enumerate(remaining, start=2):
        context.fixed(obx, 1, str(number))
        context.fixed(obx, 11, "F")
    mail = _mail(context, remaining.pop(0)) if context.to_lps and remaining else None
    expected = tables.metadata(to_lps=context.to_lps)
    bodies = remaining[len(expected) :]
    values, places = {}, {}
    if _in_order(context, [row["code"] for row in expected], remaining):
        for row, obx in zip(expected, remaining, strict=False):
            values[row["flag"]] = _flag(context, obx, row["label"])
            places[row["flag"]] = obx
        texts = _bodies(context, bodies)
    else:
        texts = {}
    return Metadata(Flags(**values), places, texts, not _conversation_ends(context), mail)


def _in_order(context: Context, expected: list[str], found: list[Segment]) -> bool:
    codes = [context.text(obx, 3) for obx in found]
    if codes[: len(expected)] == expected and all(code in BODIES for code in codes[len(expected) :]):
        return True
    position = next((at for at, pair in enumerate(zip(codes, expected, strict=False)) if pair[0] != pair[1]), None)
    if position is None:
        position = min(len(codes), len(expected))
    wanted = expected[position] if position < len(expected) else f"nothing but {', '.join(BODIES)}"
    place = (found[position] if position < len(found) else context.message.all("OBX")[-1]).place(3)
    message = f"the metadata are {len(expected)}, each once, in their order: {wanted} is expected here or next"
    context.findings.error("198", place, message, _RULE)
    return False


def _flag(context: Context, obx: Segment, label: str) -> bool:
    context.fixed(obx, 2, "CWE" if context.type == "MDM" else "CE")
    context.fixed(obx, 3, "MetaDMPMSS", 3)
    if context.text(obx, 3, 2) != label:
        context.findings.warn("103", obx.place(3, component=2), "not the label of this code", _RULE)
    value, table = context.text(obx, 5), context.text(obx, 5, 3)
    if value not in ("Y", "N"):
        context.findings.error("103", obx.place(5), "Y or N is expected", _RULE)
    if table not in _YES_NO_TABLES:
        context.fixed(obx, 5, _YES_NO_TABLES[0], 3)
    elif table != _YES_NO_TABLES[0]:
        context.findings.warn("103", obx.place(5, component=3), "the table of an older volet", _RULE)
    return value == "Y"


def _bodies(context: Context, found: list[Segment]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for obx in found:
        code = context.text(obx, 3)
        if code in texts:
            context.findings.error("198", obx.place(3), "a mail body is given twice", _RULE)
        context.fixed(obx, 3, "MetaDMPMSS", 3)
        texts[code] = _text(context, obx)
    return texts


def _text(context: Context, obx: Segment) -> str:
    """A mail body: base64 of text in UTF-8."""
    context.fixed(obx, 2, "ED")
    context.fixed(obx, 5, "text", 2, case=False)
    context.fixed(obx, 5, "Base64", 4, case=False)
    data = decode(context, obx, drop=True)
    if data is None:
        return ""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        context.findings.error("102", obx.place(5, component=5), "the text is not UTF-8", _RULE)
        return ""


def _mail(context: Context, obx: Segment) -> ReceivedMail:
    return ReceivedMail(context.required(obx, 3), context.text(obx, 3, 2), _text(context, obx))


def _conversation_ends(context: Context) -> bool:
    """Whether the NTE under DESTMSSANTEPAT says FIN: the patient is not expected to answer."""
    code = ""
    for segment in context.message.segments:
        if segment.name == "OBX":
            code = segment.text(3).strip()
        elif segment.name == "NTE" and code == "DESTMSSANTEPAT" and segment.text(4).strip() == "FIN":
            return True
    return False
