"""FHIR R4 XML (http://hl7.org/fhir/R4/xml.html) ⇄ the JSON form, driven by the tables of the definitions.

Works on lxml elements: parsing untrusted bytes is the caller's, with a parser that refuses DTDs. Nothing is dropped:
what the tables do not know is refused with its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple, NoReturn

from lxml import etree

from relais.profiles import definitions, narrative
from relais.profiles.issues import Issue

Resource = dict[str, Any]

FHIR = "http://hl7.org/fhir"

_DEFAULT_NAMESPACE: dict[Any, str] = {None: FHIR}  # the stubs of lxml do not know that the prefix may be None
_NOTHING: AbstractSet[str] = frozenset()
_ON_THE_ROOT = frozenset({"{http://www.w3.org/2001/XMLSchema-instance}schemaLocation"})
_ON_A_PRIMITIVE = frozenset({"value"})
_XHTML_DIV = f"{{{narrative.XHTML}}}div"
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,99})").fullmatch
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?").fullmatch


class XmlFormatError(ValueError):
    """Content that is no FHIR R4 XML, or a resource that has no XML form. `issue` names the place."""

    def __init__(self, issue: Issue) -> None:
        self.issue = issue
        super().__init__(str(issue))


class _Slot(NamedTuple):
    """Where a JSON property stands in XML."""

    position: int
    type_name: str
    is_primitive: bool
    is_many: bool
    is_attribute: bool


@cache
def _layout(type_name: str) -> dict[str, _Slot]:
    """The properties of a type in the order of XML."""
    primitives = definitions.primitive_types()
    return {
        name: _Slot(position, found, found in primitives, element.many, element.xml_attribute)
        for position, element in enumerate(definitions.elements(type_name))
        for name, found in element.json_names().items()
    }


# XML → JSON -----------------------------------------------------------------------------------------------------------


def from_xml(root: etree._Element) -> Resource:
    """The resource that an XML element holds, as JSON: numbers as `int` and `Decimal`, XHTML as a string.

    A value that its type does not allow stays a string, for the structure check to report. Raises XmlFormatError for
    unknown or misplaced elements, attributes and text.
    """
    return _read_resource(root, etree.QName(root).localname, is_root=True)


def _read_resource(node: etree._Element, path: str, *, is_root: bool = False) -> Resource:
    name = etree.QName(node)
    if name.namespace != FHIR or name.localname not in definitions.resource_types():
        _refuse(path, "must be a resource of FHIR R4 in the namespace http://hl7.org/fhir")
    ignored = _ON_THE_ROOT if is_root else _NOTHING
    return {"resourceType": name.localname, **_read_object(node, name.localname, path, ignored)}


def _read_object(node: etree._Element, type_name: str, path: str, ignored: AbstractSet[str] = _NOTHING) -> Resource:
    layout = _layout(type_name)
    found = dict(_attributes(node, layout, path, ignored))
    last = -1
    for child in _children(node, path):
        name = _child_name(child, path)
        slot = layout.get(name)
        if slot is None or slot.is_attribute:
            _refuse(f"{path}.{name}", "is no element that R4 defines here")
        if slot.position < last or (slot.position == last and not slot.is_many):
            _refuse(f"{path}.{name}", "is out of order or repeated")
        last = slot.position
        _read_child(child, name, slot, found, path)
    return found


def _attributes(
    node: etree._Element, layout: Mapping[str, _Slot], path: str, ignored: AbstractSet[str]
) -> Iterator[tuple[str, str]]:
    for key, value in node.attrib.items():
        slot = layout.get(str(key))
        if slot is not None and slot.is_attribute:
            yield str(key), str(value)
        elif key not in ignored:
            _refuse(path, "has an attribute that R4 does not define here")


def _children(node: etree._Element, path: str) -> Iterator[etree._Element]:
    """The child elements; comments and processing instructions are no content, other text is refused."""
    texts = [node.text, *(child.tail for child in node)]
    if any(text and text.strip() for text in texts):
        _refuse(path, "has text between its elements")
    for child in node:
        if isinstance(child, etree._Entity):
            _refuse(path, "has an entity reference")
        if isinstance(child.tag, str):
            yield child


def _child_name(child: etree._Element, path: str) -> str:
    name = etree.QName(child)
    if name.namespace != FHIR and child.tag != _XHTML_DIV:
        _refuse(path, "has a child in another namespace")
    return name.localname


def _read_child(child: etree._Element, name: str, slot: _Slot, found: Resource, path: str) -> None:
    place = f"{path}.{name}[{_count(found, name)}]" if slot.is_many else f"{path}.{name}"
    if slot.type_name == "xhtml":
        found[name] = _read_xhtml(child, place)
    elif slot.is_primitive:
        value, extended = _read_primitive(child, slot, place)
        _add_primitive(found, name, slot, value, extended)
    else:
        value = (
            _read_inner(child, place) if slot.type_name == "Resource" else _read_object(child, slot.type_name, place)
        )
        if slot.is_many:
            found.setdefault(name, []).append(value)
        else:
            found[name] = value


def _read_inner(node: etree._Element, path: str) -> Resource:
    inner = list(_children(node, path))
    if len(inner) != 1 or node.attrib:
        _refuse(path, "must hold one resource and nothing else")
    return _read_resource(inner[0], path)


def _read_xhtml(node: etree._Element, path: str) -> str:
    if node.tag != _XHTML_DIV:
        _refuse(path, "must be a div in the namespace http://www.w3.org/1999/xhtml")
    alone = etree.fromstring(etree.tostring(node, with_tail=False))
    etree.cleanup_namespaces(alone)
    return etree.tostring(alone, encoding="unicode")


def _read_primitive(node: etree._Element, slot: _Slot, path: str) -> tuple[Any, Resource]:
    """The value (None without one) and the id and extensions."""
    extended = _read_object(node, "Element", path, _ON_A_PRIMITIVE)
    text = node.get("value")
    return None if text is None else _READERS.get(slot.type_name, str)(text), extended


def _add_primitive(found: Resource, name: str, slot: _Slot, value: Any, extended: Resource) -> None:
    """Put a primitive into its property and its `_` property; the arrays of a repeating one are padded with null.

    An element with neither value nor extensions becomes null, for the structure check to report.
    """
    parts = {name: value, f"_{name}": extended or None}
    present = [key for key, each in parts.items() if each is not None] or [name]
    if not slot.is_many:
        found.update({key: parts[key] for key in present})
        return
    padding = [None] * _count(found, name)
    for key, each in parts.items():
        if key in found:
            found[key].append(each)
        elif key in present:
            found[key] = [*padding, each]


def _count(found: Resource, name: str) -> int:
    """How many elements of that name have been read."""
    return max(len(found.get(key, ())) for key in (name, f"_{name}"))


def _read_boolean(text: str) -> Any:
    return {"true": True, "false": False}.get(text, text)


def _read_integer(text: str) -> Any:
    return int(text) if _INTEGER(text) else text


def _read_decimal(text: str) -> Any:
    if _INTEGER(text) and text != "-0":
        return int(text)
    return Decimal(text) if _DECIMAL(text) else text


_READERS: dict[str, Callable[[str], Any]] = {
    "boolean": _read_boolean,
    "decimal": _read_decimal,
    "integer": _read_integer,
    "positiveInt": _read_integer,
    "unsignedInt": _read_integer,
}


# JSON → XML -----------------------------------------------------------------------------------------------------------


def to_xml(resource: Resource) -> etree._Element:
    """The XML form of a resource that passes the structure check, elements in the order of the specification.

    Raises XmlFormatError for what has no place in XML.
    """
    name = resource.get("resourceType")
    if not isinstance(name, str) or name not in definitions.resource_types():
        _refuse("", "resourceType must name a resource type of FHIR R4")
    root = etree.Element(f"{{{FHIR}}}{name}", nsmap=_DEFAULT_NAMESPACE)
    _write_object(root, {key: value for key, value in resource.items() if key != "resourceType"}, name, name)
    return root


def _write_object(node: etree._Element, value: Any, type_name: str, path: str) -> None:
    if not isinstance(value, dict):
        _refuse(path, "must be a JSON object")
    layout = _layout(type_name)
    for key in value:
        if key.removeprefix("_") not in layout:
            _refuse(path, "has a property that R4 does not define here")
    for name, slot in layout.items():
        if slot.is_attribute:
            if name in value:
                _set(node, name, value[name], f"{path}.{name}")
        elif name in value or f"_{name}" in value:
            _write_property(node, name, slot, value.get(name), value.get(f"_{name}"), f"{path}.{name}")


def _write_property(node: etree._Element, name: str, slot: _Slot, value: Any, extended: Any, path: str) -> None:
    if not slot.is_many:
        _write_one(node, name, slot, value, extended, path)
        return
    values, extensions = value or [], extended or []
    if not (isinstance(values, list) and isinstance(extensions, list)):
        _refuse(path, "must be an array")
    for index in range(max(len(values), len(extensions))):
        each = values[index] if index < len(values) else None
        its_extensions = extensions[index] if index < len(extensions) else None
        _write_one(node, name, slot, each, its_extensions, f"{path}[{index}]")


def _write_one(node: etree._Element, name: str, slot: _Slot, value: Any, extended: Any, path: str) -> None:
    if slot.type_name == "xhtml":
        node.append(_xhtml(value, path))
        return
    child = etree.SubElement(node, f"{{{FHIR}}}{name}")
    if slot.type_name == "Resource":
        if not isinstance(value, dict):
            _refuse(path, "must be a resource")
        child.append(to_xml(value))
    elif not slot.is_primitive:
        _write_object(child, value, slot.type_name, path)
    elif value is None and extended is None:
        _refuse(path, "has neither a value nor extensions")
    else:
        if value is not None:
            _set(child, "value", value, path)
        if extended is not None:
            _write_object(child, extended, "Element", path)


def _xhtml(value: Any, path: str) -> etree._Element:
    root = narrative.parse(value) if isinstance(value, str) else None
    if root is None or root.tag != _XHTML_DIV:
        _refuse(path, "must be one well-formed div element in the XHTML namespace, without DTD")
    return root


def _set(node: etree._Element, attribute: str, value: Any, path: str) -> None:
    """Write a primitive as an attribute; `str` of a Decimal keeps its digits."""
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, str | int | Decimal):
        text = str(value)
    else:
        _refuse(path, "must be a primitive value")
    try:
        node.set(attribute, text)
    except ValueError:
        _refuse(path, "has a character that XML cannot carry")


def _refuse(path: str, message: str) -> NoReturn:
    raise XmlFormatError(Issue("error", "structure", message, path, "xml"))
