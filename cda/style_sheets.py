"""What shows a document: a style sheet that it names (xml-stylesheet 1.0), or the one around it (*auto-présentable*).

CI-SIS lets a document name a style sheet by a relative address, or stand inside an XSL, in an element Contenu. Neither
is ever run here.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator

from lxml import etree

from relais.cda.errors import Issue, Severity
from relais.cda.parsing import V3

INSTRUCTION = "/processing-instruction('xml-stylesheet')"
"""Where issues about the instruction are."""

_XSLT = "http://www.w3.org/1999/XSL/Transform"
_ROOTS = (f"{{{_XSLT}}}stylesheet", f"{{{_XSLT}}}transform")
_CLINICAL = f"{{{V3}}}ClinicalDocument"
_CONTENT = f"{{urn:asip-sante:ci-sis}}Contenu/{_CLINICAL}"
_LOADING = (f"{{{_XSLT}}}import", f"{{{_XSLT}}}include")
_TYPES = ("text/xsl", "text/xml", "application/xml", "application/xslt+xml", "text/css")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:|//|/|\\")
_RULE = "relais-style-sheet"


def document_of(tree: etree._ElementTree) -> etree._ElementTree:
    """The CDA document in a tree: the tree itself, or what stands in the style sheet; lines stay those of the file."""
    inside = tree.getroot().find(_CONTENT) if tree.getroot().tag in _ROOTS else None
    return tree if inside is None else etree.ElementTree(copy.deepcopy(inside))


def instruction_of(tree: etree._ElementTree) -> etree._Element | None:
    """The first xml-stylesheet instruction before the root."""
    before = tree.getroot().itersiblings(etree.ProcessingInstruction, preceding=True)
    found = [node for node in before if getattr(node, "target", "") == "xml-stylesheet"]
    return found[-1] if found else None


def relative_address(tree: etree._ElementTree) -> str | None:
    """The relative address of the style sheet that a document names; None where it names none, or one elsewhere."""
    instruction = instruction_of(tree)
    href = (instruction.get("href") if instruction is not None else None) or ""
    return None if not href.strip() or href.startswith("#") or _ADDRESS.match(href.strip()) else href.strip()


def check(tree: etree._ElementTree) -> list[Issue]:
    """What is wrong with how a document is to be shown. No issue quotes the document."""
    return [*_instruction(tree), *_style_sheet(tree)]


def _instruction(tree: etree._ElementTree) -> Iterator[Issue]:
    instruction = instruction_of(tree)
    if instruction is None:
        return
    href = instruction.get("href")
    if href is None:
        yield _issue("the instruction names no style sheet: it has no href", INSTRUCTION, "required")
    elif _ADDRESS.match(href.strip()):
        message = "the style sheet stands outside: whoever opens the document loads it from there"
        yield _issue(message, INSTRUCTION, "security")
    if instruction.get("type") not in _TYPES:
        message = "the type of the instruction is not that of a style sheet (text/xsl)"
        yield _issue(message, INSTRUCTION, "value", "warning")


def _style_sheet(tree: etree._ElementTree) -> Iterator[Issue]:
    """What is wrong with the style sheet around a document."""
    root = tree.getroot()
    if root.tag not in _ROOTS or root.find(_CONTENT) is None:
        return
    place = "/*"
    if instruction_of(tree) is None:
        message = "no xml-stylesheet instruction: a browser does not apply the style sheet around the document"
        yield _issue(message, place, "required", "warning")
    if any(True for _ in root.iter(*_LOADING)):
        yield _issue("the style sheet around the document loads another one", place, "security")
    elif reason := _refusal(root):
        yield _issue(f"what stands around the document is no XSLT style sheet: {reason}", place, "structure")


def _refusal(root: etree._Element) -> str:
    """Why an XSLT processor refuses a style sheet; empty when it takes it."""
    if not root.get("version"):
        return "it has no version"
    if root.find(f"{{{_XSLT}}}template") is None:
        return "it has no template"
    alone = copy.deepcopy(root)
    for content in alone.findall(_CONTENT):
        content.clear()
    try:
        etree.XSLT(alone)
    except etree.XSLTParseError:
        return "it does not compile"
    return ""


def _issue(message: str, path: str, code: str, severity: Severity = "error") -> Issue:
    return Issue(severity, code, message, path, _RULE)
