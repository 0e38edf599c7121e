"""The forms in which one document goes out: structured (N3) or a PDF/A under the same header (N1), and the style sheet
that a browser shows it with (CI-SIS Structuration minimale; xml-stylesheet, https://www.w3.org/TR/xml-stylesheet/).
"""

from __future__ import annotations

import re
from typing import Literal, get_args

from relais.cda.errors import Issue, RelaisError
from relais.cda.model import Document
from relais.cda.pdf import to_pdf
from relais.cda.writer import write
from relais.mappings.context import Deployment, DocumentVersion
from relais.mappings.to_cda.unstructured import unstructured

CDA_TYPES = ("text/xml", "application/xml")
"""Media types of a CDA document; the first is the one that Relais writes."""

Level = Literal["n1", "n3"]
LEVELS: tuple[Level, ...] = get_args(Level)

_RELATIVE_ADDRESS = re.compile(r"(?:\.\./)*(?:[A-Za-z0-9_\-.]+/)*[A-Za-z0-9_\-.]+\.xslt?")
_ROOT = b"<ClinicalDocument"


def at_level(
    document: Document, level: Level, deployment: Deployment, version: DocumentVersion | None = None
) -> Document:
    """The structured document itself, or its unstructured form with the same narrative as PDF/A-1.

    `version` places the unstructured form in its own lineage. Raises RelaisError when the PDF cannot be made.
    """
    if level == "n3":
        return document
    return unstructured(document, to_pdf(document), version=version, deployment=deployment)


def serialised(document: Document, style_sheet: str = "") -> bytes:
    """The bytes of a document; with `style_sheet`, a relative address of an XSL, the instruction to show it with that.

    The sheet must stand where the address says: it is for documents that the caller stores beside it, not for those
    that Relais sends. Raises RelaisError for an address that leads out of the caller's folders.
    """
    content = write(document)
    if not style_sheet:
        return content
    if not _RELATIVE_ADDRESS.fullmatch(style_sheet):
        message = "the relative address of a style sheet (.xsl) is expected"
        raise RelaisError(Issue("error", "value", message, "stylesheet", "xml-stylesheet 1.0"))
    declaration, root, rest = content.partition(_ROOT)
    return declaration + f'<?xml-stylesheet type="text/xsl" href="{style_sheet}"?>'.encode() + root + rest
