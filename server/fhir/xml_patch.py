"""XML Patch (RFC 5261) on the XML form of a resource: add, replace and remove of elements and attributes.

Selectors are those of RFC 5261 §4.1 without id(), and predicates may compare a path below the element.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from lxml import etree

from relais.mappings.context import Resource
from relais.profiles.xml import XmlFormatError, from_xml, to_xml
from relais.server.fhir.outcome import FhirError

Node = Any  # an lxml element, which the stubs cannot tell from its factory

_MOST_OPERATIONS = 1000
_NAME = r"(?:[A-Za-z_][\w.\-]*:)?(?:[A-Za-z_][\w.\-]*|\*)"
_BELOW = rf"(?:@[A-Za-z_][\w.\-]*|{_NAME}(?:/{_NAME})*(?:/@[A-Za-z_][\w.\-]*)?|\.)"
_PREDICATE = rf"\[(?:\d{{1,6}}|{_BELOW}\s*=\s*(?:'[^']*'|\"[^\"]*\"))\]"
_SELECTOR = re.compile(rf"/?{_NAME}(?:{_PREDICATE})*(?:/{_NAME}(?:{_PREDICATE})*)*(?:/@[A-Za-z_][\w.\-]*)?").fullmatch
_QUOTED_OR_NAME = re.compile(r"'[^']*'|\"[^\"]*\"|@[\w.\-]+|[A-Za-z_][\w.\-]*:(?:[\w.\-]+|\*)|[A-Za-z_][\w.\-]*")
_DEFAULT = "default"


def compile_patch(root: Node) -> Callable[[Resource], Resource]:
    """A function from a resource to the patched one; `root` is the diff element.

    Raises FhirError 400 for what is no XML Patch. The function raises FhirError 422 for one that does not apply.
    """
    if etree.QName(root).localname != "diff":
        raise FhirError.of(400, "structure", "an XML Patch is a diff element", "/")
    operations = [child for child in root if isinstance(child.tag, str)]
    if len(operations) > _MOST_OPERATIONS:
        raise FhirError.of(413, "too-costly", f"more than {_MOST_OPERATIONS} operations")
    steps = [_compile_operation(node, f"/diff/*[{number}]") for number, node in enumerate(operations, 1)]

    def apply(resource: Resource) -> Resource:
        document = to_xml(resource)
        for step in steps:
            document = step(document)
        try:
            return from_xml(document)
        except XmlFormatError as error:
            raise FhirError.of(
                422, "processing", f"the patch leaves no resource: {error.issue.message}", error.issue.path
            ) from error

    return apply


def _compile_operation(node: Node, place: str) -> Callable[[Node], Node]:
    kind = etree.QName(node).localname
    if kind not in _KINDS:
        raise FhirError.of(400, "structure", "add, replace or remove is expected", place)
    select = _selector(node.get("sel", ""), node.nsmap, place)

    def run(document: Node) -> Node:
        found = select(document)
        if len(found) != 1:
            raise _unappliable(f"the selector finds {len(found)} nodes instead of one", place)
        _KINDS[kind](found[0], node, place)
        return document

    return run


def _selector(text: str, namespaces: Mapping[str | None, str], place: str) -> Callable[[Node], list[Any]]:
    if len(text) > 1000 or not _SELECTOR(text):
        raise FhirError.of(400, "not-supported", "the selector is none that RFC 5261 allows", place)
    names = {prefix or _DEFAULT: uri for prefix, uri in namespaces.items()}

    def prefixed(match: re.Match[str]) -> str:
        token = match[0]
        bare = token[0] not in "'\"@" and ":" not in token
        return f"{_DEFAULT}:{token}" if bare and _DEFAULT in names else token

    expression = _QUOTED_OR_NAME.sub(prefixed, text)
    try:
        compiled = etree.XPath(expression if text.startswith("/") else f"/{expression}", namespaces=names, regexp=False)
    except etree.XPathError as error:
        raise FhirError.of(400, "structure", "the selector cannot be read", place) from error

    def select(document: Node) -> list[Any]:
        try:
            found: Any = compiled(etree.ElementTree(document))
        except etree.XPathError as error:
            raise FhirError.of(400, "structure", "the selector uses a prefix that is not declared", place) from error
        return list(found)

    return select


def _add(target: Any, operation: Node, place: str) -> None:
    kind, position = operation.get("type", ""), operation.get("pos")
    if isinstance(target, str):
        raise _unappliable("nothing can be added to an attribute", place)
    if kind:
        if not kind.startswith("@") or kind[1:] in target.attrib:
            raise _unappliable("only a new attribute (type='@name') or elements can be added", place)
        target.set(kind[1:], operation.text or "")
        return
    new = [deepcopy(child) for child in operation if isinstance(child.tag, str)]
    if position in ("before", "after") and target.getparent() is None:
        raise _unappliable("a resource has no siblings", place)
    match position:
        case None:
            target.extend(new)
        case "prepend":
            target[:0] = new
        case "before":
            for node in new:
                target.addprevious(node)
        case "after":
            for node in reversed(new):
                target.addnext(node)
        case _:
            raise FhirError.of(400, "structure", "pos is before, after or prepend", place)


def _replace(target: Any, operation: Node, place: str) -> None:
    if isinstance(target, str):
        target.getparent().set(target.attrname, operation.text or "")  # type: ignore[attr-defined]
        return
    new = [deepcopy(child) for child in operation if isinstance(child.tag, str)]
    if len(new) != 1 or target.getparent() is None:
        raise _unappliable("an element below the resource is replaced by one element", place)
    target.getparent().replace(target, new[0])


def _remove(target: Any, _operation: Node, place: str) -> None:
    parent = target.getparent()
    if isinstance(target, str):
        del parent.attrib[target.attrname]  # type: ignore[attr-defined]
    elif parent is None:
        raise _unappliable("the resource itself cannot be removed by a patch", place)
    else:
        parent.remove(target)


_KINDS: dict[str, Callable[[Any, Node, str], None]] = {"add": _add, "replace": _replace, "remove": _remove}


def _unappliable(message: str, place: str) -> FhirError:
    return FhirError.of(422, "processing", message, place)
