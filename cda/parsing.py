"""The one XML parser of Relais: hardened, for bytes nobody here wrote.

No DTD, hence no entity but the five of W3C XML 1.0 §4.6, no network, a bounded size, depth and number of tags; a text
node may be as large as the input, because documents carry PDF files in Base64.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import Any, NoReturn
from xml.parsers import expat

from lxml import etree

from relais.cda.errors import Issue, UnreadableError

V3 = "urn:hl7-org:v3"
SDTC = "urn:hl7-org:sdtc"
XSI = "http://www.w3.org/2001/XMLSchema-instance"

MAX_SIZE = 60_000_000
MAX_DEPTH = 100
MAX_TAGS = 1_000_000
"""Counted before anything is built: a tree and what judges it take two kilobytes for each element."""
MAX_ATTRIBUTES = 1_000
"""Of one element: libxml2 looks for one among all of them, so that reading them takes the square of their number."""

_PREFIXES = {V3: "", SDTC: "sdtc:", XSI: "xsi:"}
_PROLOG_CHUNK = 1_024
_DEPTH_REFUSED = f"elements nest deeper than {MAX_DEPTH}"
_CROWDED = etree.XPath(f"/descendant::*/attribute::*[{MAX_ATTRIBUTES + 1}]/..")
_TOO_DEEP = etree.XPath(f"({'/*' * (MAX_DEPTH + 1)})[1]")


def parse(data: bytes, max_size: int = MAX_SIZE) -> etree._ElementTree:
    """The tree of an XML document, comments and processing instructions included.

    Raises UnreadableError (with line and column where there is one) for what is not well-formed XML, has a document
    type declaration, exceeds `max_size` bytes, MAX_TAGS tags or MAX_ATTRIBUTES on an element, or nests deeper than
    MAX_DEPTH elements.
    """
    if len(data) > max_size:
        _refuse("too-costly", f"larger than {max_size} bytes")
    _check_prolog(data)
    if len(data) > MAX_TAGS and data.count(b"<") > MAX_TAGS:
        _refuse("too-costly", f"more than {MAX_TAGS} tags")
    parser = etree.XMLParser(resolve_entities=False, load_dtd=False, no_network=True, huge_tree=True)
    try:
        tree = etree.ElementTree(etree.fromstring(data, parser))
    except etree.XMLSyntaxError as error:
        if _reason(error) == "resource limit":  # the only one left to libxml2: more than 2,048 levels
            _refuse("too-costly", _DEPTH_REFUSED, *error.position)
        _refuse("structure", f"not well-formed XML ({_reason(error)})", *error.position)
    too_deep: Any = _TOO_DEEP(tree)
    if too_deep:
        _refuse("too-costly", _DEPTH_REFUSED, too_deep[0].sourceline)
    if data.count(b"=") > MAX_ATTRIBUTES:
        _check_attributes(tree)
    return tree


@lru_cache(maxsize=1024)
def local_name(tag: str) -> str:
    """The tag of an element as Relais writes it: no prefix in HL7 V3, `sdtc:`, `xsi:`, else Clark notation.

    Without a namespace it is `{}name`, so that nobody takes it for one of HL7 V3.
    """
    namespace, _, name = tag[1:].partition("}") if tag.startswith("{") else ("", "", tag)
    return f"{_PREFIXES[namespace]}{name}" if namespace in _PREFIXES else f"{{{namespace}}}{name}"


@lru_cache(maxsize=1024)
def attribute_name(name: str) -> str:
    """The name of an attribute as Relais writes it: without a namespace, as those of HL7 V3 are, the name alone."""
    return local_name(name) if name.startswith("{") else name


class Places:
    """XPaths of elements of one tree that does not change: siblings are counted once, however many are asked for."""

    def __init__(self) -> None:
        self._steps: dict[etree._Element, str] = {}  # the keys keep the elements alive, so that they stay the same

    def of(self, element: etree._Element) -> str:
        """The XPath of an element, with a position wherever siblings share its name."""
        steps = []
        node: etree._Element | None = element
        while node is not None:
            if node not in self._steps:
                self._count(node)
            steps.append(self._steps[node])
            node = node.getparent()
        return "/" + "/".join(reversed(steps))

    def _count(self, element: etree._Element) -> None:
        """Write the step of an element and of all its siblings."""
        parent = element.getparent()
        siblings = [element] if parent is None else [one for one in parent if isinstance(one.tag, str)]
        totals, seen = Counter(one.tag for one in siblings), Counter[str]()
        for one in siblings:
            seen[one.tag] += 1
            name = local_name(str(one.tag))
            self._steps[one] = f"{name}[{seen[one.tag]}]" if totals[one.tag] > 1 else name


def _check_prolog(data: bytes) -> None:
    """Refuse a document type declaration before the real parser sees it: there entities would already be at work."""
    prolog = expat.ParserCreate()
    inside = False

    def doctype(*_: object) -> NoReturn:
        _refuse("security", "a document type declaration (DTD) is refused", prolog.CurrentLineNumber)

    def root(*_: object) -> None:
        nonlocal inside
        inside = True
        prolog.StartElementHandler = None  # the first says it all

    prolog.StartDoctypeDeclHandler = doctype
    prolog.StartElementHandler = root
    try:
        for start in range(0, len(data), _PROLOG_CHUNK):
            prolog.Parse(data[start : start + _PROLOG_CHUNK])
            if inside:
                return
        prolog.Parse(b"", True)
    except (LookupError, ValueError):
        _refuse("structure", "encoding not supported: UTF-8 is expected", line=1)
    except expat.ExpatError as error:
        if not inside:
            _refuse("structure", f"not XML ({expat.ErrorString(error.code)})", error.lineno, error.offset + 1)


def _check_attributes(tree: etree._ElementTree) -> None:
    crowded: Any = _CROWDED(tree)
    if crowded:
        _refuse("too-costly", f"more than {MAX_ATTRIBUTES} attributes on an element", crowded[0].sourceline)


def _reason(error: etree.XMLSyntaxError) -> str:
    """The name of the parser's error: its message may quote the text, which may be health data."""
    name: str = error.error_log.last_error.type_name  # type: ignore[attr-defined]  # missing from lxml-stubs
    return name.removeprefix("ERR_").replace("_", " ").lower()


def _refuse(code: str, message: str, line: int | None = None, column: int | None = None) -> NoReturn:
    place = f"line {line}, column {column}" if column is not None else f"line {line}" if line is not None else ""
    raise UnreadableError(Issue("fatal", code, message, place, "XML 1.0"))
