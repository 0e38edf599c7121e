"""FHIRPath Patch (https://hl7.org/fhir/R4/fhirpatch.html): operations in a Parameters resource.

Works on the XML form, where an element of any kind, with its id and extensions, is one node among its siblings. Paths
are the subset of FHIRPath that selects elements: names, indexers, where, extension, first, last.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, NamedTuple

from lxml import etree

from relais.mappings.context import Resource
from relais.profiles import definitions
from relais.profiles.xml import FHIR, XmlFormatError, from_xml, to_xml
from relais.server.fhir.outcome import FhirError

Node = Any  # an lxml element, which the stubs cannot tell from its factory
Nodes = list[Node]
_Step = Callable[[Nodes], Nodes]

_MOST_OPERATIONS = 1000
_LONGEST_PATH = 1000
_TOKEN = re.compile(
    r"""\s*(?: (?P<string>'(?:[^'\\]++|\\.)*+') | (?P<number>\d+(?:\.\d+)?) | (?P<name>[A-Za-z_][A-Za-z0-9_]*|`[^`]+`)
    | (?P<symbol>[.()\[\]=]) )""",
    re.VERBOSE,
)


class _Operation(NamedTuple):
    """One operation; `value` is the node that carries the new content."""

    kind: str
    path: str
    name: str
    value: Node | None
    position: int
    source: int
    destination: int
    place: str


def compile_patch(parameters: Resource) -> Callable[[Resource], Resource]:
    """A function from a resource to the patched one. `parameters` has passed the structure check.

    Raises FhirError 400 for what is no FHIRPath Patch. The function raises FhirError 422 for one that does not apply.
    """
    operations = list(_operations(parameters))
    if not operations:
        raise _malformed("a FHIRPath Patch has operations", "Parameters.parameter")
    if len(operations) > _MOST_OPERATIONS:
        raise FhirError.of(413, "too-costly", f"more than {_MOST_OPERATIONS} operations")
    paths = [_Path(operation.path, f"{operation.place}.path").compile() for operation in operations]

    def apply(resource: Resource) -> Resource:
        root = to_xml(resource)
        for operation, select in zip(operations, paths, strict=True):
            _KINDS[operation.kind](select([root]), operation)
        try:
            return from_xml(root)
        except XmlFormatError as error:
            raise FhirError.of(422, "processing", f"the patch leaves no resource: {error.issue.message}") from error

    return apply


# Operations -----------------------------------------------------------------------------------------------------------


def _add(found: Nodes, operation: _Operation) -> None:
    parent = _single(found, operation)
    _put(parent, _element(parent, operation), operation)


def _insert(found: Nodes, operation: _Operation) -> None:
    if not found:
        raise _unappliable("nothing to insert beside: add makes the first one", operation)
    new = _replacement(found[0], operation)
    if operation.position > len(found):
        raise _unappliable("the index is behind the end of the list", operation)
    if operation.position == len(found):
        found[-1].addnext(new)
    else:
        found[operation.position].addprevious(new)


def _delete(found: Nodes, operation: _Operation) -> None:
    if found:
        node = _single(found, operation)
        _parent(node, operation).remove(node)


def _replace(found: Nodes, operation: _Operation) -> None:
    node = _single(found, operation)
    _parent(node, operation).replace(node, _replacement(node, operation))


def _move(found: Nodes, operation: _Operation) -> None:
    if max(operation.source, operation.destination) >= len(found):
        raise _unappliable("source or destination is behind the end of the list", operation)
    moved = found.pop(operation.source)
    _parent(moved, operation).remove(moved)
    if operation.destination == len(found):
        if found:
            found[-1].addnext(moved)
    else:
        found[operation.destination].addprevious(moved)


_KINDS: dict[str, Callable[[Nodes, _Operation], None]] = {
    "add": _add,
    "insert": _insert,
    "delete": _delete,
    "replace": _replace,
    "move": _move,
}
_NEEDS = {
    "add": ("path", "name", "value"),
    "insert": ("path", "value", "index"),
    "delete": ("path",),
    "replace": ("path", "value"),
    "move": ("path", "source", "destination"),
}


def _operations(parameters: Resource) -> Iterator[_Operation]:
    given = to_xml(parameters)
    for number, parameter in enumerate(given.iterfind(_tag("parameter"))):
        place = f"Parameters.parameter[{number}]"
        if _text(parameter, "name") != "operation":
            raise _malformed("each parameter is an operation", place)
        parts = {_text(part, "name"): part for part in parameter.iterfind(_tag("part"))}
        kind = _value(parts.get("type"))
        if kind not in _KINDS:
            raise _malformed(f"type must be one of {', '.join(_KINDS)}", place)
        for name in _NEEDS[kind]:
            if name not in parts:
                raise _malformed(f"{kind} needs {name}", place)
        yield _Operation(
            kind,
            _value(parts["path"]),
            _value(parts.get("name")),
            parts.get("value"),
            _number(parts.get("index"), f"{place}.index"),
            _number(parts.get("source"), f"{place}.source"),
            _number(parts.get("destination"), f"{place}.destination"),
            place,
        )


def _value(part: Node | None) -> str:
    """The primitive value of a part, whatever its type."""
    if part is None:
        return ""
    return next((child.get("value", "") for child in part if _name(child).startswith("value")), "")


def _number(part: Node | None, place: str) -> int:
    text = _value(part)
    if part is not None and not (text.isascii() and text.isdecimal() and len(text) < 9):
        raise _malformed("a whole number from 0 is expected", place)
    return int(text) if text else 0


def _text(node: Node, name: str) -> str:
    found = node.find(_tag(name))
    return "" if found is None else found.get("value", "")


# New content ----------------------------------------------------------------------------------------------------------


def _element(parent: Node, operation: _Operation) -> Node:
    """The new child of `parent` that an add asks for."""
    content, suffix = _content(operation)
    for element in definitions.elements(_type_of(parent)):
        names = element.json_names()
        if operation.name in names and not element.is_choice:
            return _renamed(content, operation.name)
        if element.is_choice and element.stem == operation.name and element.stem + suffix in names:
            return _renamed(content, element.stem + suffix)
    raise _unappliable("R4 defines no such element of that type here", operation)


def _replacement(node: Node, operation: _Operation) -> Node:
    """The new content under the name of the node it replaces; of a choice, under the name of its own type."""
    content, suffix = _content(operation)
    name = _name(node)
    for element in definitions.elements(_type_of(node.getparent())) if node.getparent() is not None else ():
        if element.is_choice and name in element.json_names() and suffix:
            name = element.stem + suffix
    return _renamed(content, name)


def _content(operation: _Operation) -> tuple[Node, str]:
    """The node that carries the value, and the type that its name ends with (none for an anonymous type)."""
    part = operation.value
    if part is None:
        raise _unappliable("no value", operation)
    for child in part:
        name = _name(child)
        if name.startswith("value"):
            return deepcopy(child), name.removeprefix("value")
        if name == "resource":
            return deepcopy(child), ""
    return _anonymous(part, operation), ""


def _anonymous(part: Node, operation: _Operation) -> Node:
    """A backbone element, given as the parts of the value: each part is one of its elements."""
    made = etree.Element(_tag("value"))
    for inner in part.iterfind(_tag("part")):
        name = _text(inner, "name")
        content, suffix = _content(operation._replace(value=inner))
        if not re.fullmatch("[A-Za-z]+", name):
            raise _malformed("an element name is expected", operation.place)
        content.tag = _tag(name)
        content.set("type", suffix)  # for `_settle`, once the element has its place
        made.append(content)
    if len(made) == 0:
        raise _malformed("the value is empty", operation.place)
    return made


def _renamed(content: Node, name: str) -> Node:
    content.tag = _tag(name)
    content.tail = None
    return content


def _put(parent: Node, new: Node, operation: _Operation) -> None:
    """Put a child behind those that the definition places before it. Raises FhirError when there can be only one."""
    order = {
        name: (position, element.many)
        for position, element in enumerate(definitions.elements(_type_of(parent)))
        for name in element.json_names()
    }
    position, many = order[_name(new)]
    before = [child for child in parent if order.get(_name(child), (0, False))[0] <= position]
    if not many and before and order[_name(before[-1])][0] == position:
        raise _unappliable("the element is there already, and there can be only one: replace it", operation)
    if before:
        before[-1].addnext(new)
    else:
        parent.insert(0, new)
    _settle(new)


def _settle(node: Node) -> None:
    """Give the parts of an anonymous type their names as choices and their order."""
    if not any("type" in child.attrib for child in node):
        return
    elements = definitions.elements(_type_of(node))
    order = {name: position for position, element in enumerate(elements) for name in element.json_names()}
    stems = {element.stem: element for element in elements if element.is_choice}
    for child in node:
        suffix = child.attrib.pop("type", "")
        if _name(child) in stems:
            child.tag = _tag(_name(child) + suffix)
    node[:] = sorted(node, key=lambda child: order.get(_name(child), len(order)))
    for child in node:
        _settle(child)


# Paths ----------------------------------------------------------------------------------------------------------------


class _Path:
    """Compiles one path; each method reads one level of the grammar."""

    def __init__(self, text: str, place: str) -> None:
        self._place = place
        self._tokens = self._read(text)
        self._position = 0

    def compile(self) -> _Step:
        """A function from the root of a resource to the nodes that the path selects."""
        select = self._path(at_root=True)
        if self._position != len(self._tokens):
            raise self._unsupported()
        return select

    def _path(self, *, at_root: bool = False) -> _Step:
        named = at_root and self._tokens[1:2] != ["("]
        steps = [_start(self._name()) if named else self._invocation()]
        while True:
            if self._take("."):
                steps.append(self._invocation())
            elif self._take("["):
                steps.append(_at(self._whole_number()))
                self._expect("]")
            else:
                return _chained(steps)

    def _invocation(self) -> _Step:
        name = self._name()
        if not self._take("("):
            return _children(name)
        match name:
            case "where":
                step = _where(self._criteria())
            case "extension":
                step = _extension(self._string())
            case "first":
                step = _first
            case "last":
                step = _last
            case "exists":
                step = _same
            case _:
                raise self._unsupported()
        self._expect(")")
        return step

    def _criteria(self) -> list[tuple[_Step, str | None]]:
        criteria = [self._criterion()]
        while self._take("and"):
            criteria.append(self._criterion())
        return criteria

    def _criterion(self) -> tuple[_Step, str | None]:
        path = self._path()
        return (path, self._literal()) if self._take("=") else (path, None)

    def _literal(self) -> str:
        token = self._next()
        return _unquoted(token) if token.startswith("'") else token

    def _string(self) -> str:
        token = self._next()
        if not token.startswith("'"):
            raise self._unsupported()
        return _unquoted(token)

    def _whole_number(self) -> int:
        token = self._next()
        if not token.isdecimal() or len(token) > 9:
            raise self._unsupported()
        return int(token)

    def _name(self) -> str:
        token = self._next()
        if not re.match("[A-Za-z_`]", token):
            raise self._unsupported()
        return token.strip("`")

    def _read(self, text: str) -> list[str]:
        tokens, position, text = [], 0, text.strip()
        if len(text) > _LONGEST_PATH:
            raise self._unsupported()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise self._unsupported()
            tokens.append(match[0].strip())
            position = match.end()
        return tokens

    def _take(self, token: str) -> bool:
        taken = self._position < len(self._tokens) and self._tokens[self._position] == token
        self._position += taken
        return taken

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise self._unsupported()

    def _next(self) -> str:
        if self._position >= len(self._tokens):
            raise self._unsupported()
        self._position += 1
        return self._tokens[self._position - 1]

    def _unsupported(self) -> FhirError:
        message = "a path of names, indexers, where, extension, first and last is expected"
        return FhirError.of(400, "not-supported", message, self._place)


def _start(name: str) -> _Step:
    """A path begins with the resource type, or with an element of the resource."""
    step = _children(name)
    return lambda nodes: nodes if _name(nodes[0]) == name else step(nodes)


def _chained(steps: list[_Step]) -> _Step:
    def select(nodes: Nodes) -> Nodes:
        for step in steps:
            nodes = step(nodes)
        return nodes

    return select


def _children(name: str) -> _Step:
    def select(nodes: Nodes) -> Nodes:
        return [child for node in nodes for child in _named(node, name)]

    return select


def _named(node: Node, name: str) -> Iterator[Node]:
    """The children of that name, of any type of a choice; an attribute is given as its text."""
    if isinstance(node, str):
        return
    type_name = _type_of(node)
    if type_name == "Resource":
        node = node[0]
        type_name = _name(node)
    for element in definitions.elements(type_name) if type_name in definitions.types() else ():
        if element.xml_attribute and element.name == name and name in node.attrib:
            yield node.get(name)
        elif element.stem == name:
            tags = {_tag(one) for one in element.json_names()}
            yield from (child for child in node if child.tag in tags)


def _where(criteria: list[tuple[_Step, str | None]]) -> _Step:
    def holds(node: Node) -> bool:
        return all(
            (any(_same_value(found, wanted) for found in path([node])) if wanted is not None else bool(path([node])))
            for path, wanted in criteria
        )

    return lambda nodes: [node for node in nodes if holds(node)]


def _same_value(found: Node, wanted: str) -> bool:
    return bool((found if isinstance(found, str) else found.get("value")) == wanted)


def _extension(url: str) -> _Step:
    return lambda nodes: [
        child for node in nodes for child in node.iterfind(_tag("extension")) if child.get("url") == url
    ]


def _at(index: int) -> _Step:
    return lambda nodes: nodes[index : index + 1]


def _first(nodes: Nodes) -> Nodes:
    return nodes[:1]


def _last(nodes: Nodes) -> Nodes:
    return nodes[-1:]


def _same(nodes: Nodes) -> Nodes:
    return nodes


def _unquoted(token: str) -> str:
    return re.sub(r"\\(.)", r"\1", token[1:-1])


# Nodes ----------------------------------------------------------------------------------------------------------------


def _tag(name: str) -> str:
    return f"{{{FHIR}}}{name}"


def _name(node: Node) -> str:
    return str(etree.QName(node).localname)


def _type_of(node: Node) -> str:
    """The R4 type of a node; empty for what R4 does not define."""
    parent = node.getparent()
    if parent is None or _type_of(parent) == "Resource":
        return _name(node)
    owner = _type_of(parent)
    if owner not in definitions.types():
        return ""
    for element in definitions.elements(owner):
        if found := element.json_names().get(_name(node)):
            return "Element" if found in definitions.primitive_types() else found
    return ""


def _single(found: Nodes, operation: _Operation) -> Node:
    if len(found) != 1 or isinstance(found[0], str):
        raise _unappliable(f"the path selects {len(found)} elements instead of one", operation)
    return found[0]


def _parent(node: Node, operation: _Operation) -> Node:
    parent = node.getparent()
    if parent is None:
        raise _unappliable("the resource itself cannot be changed", operation)
    return parent


def _malformed(message: str, place: str) -> FhirError:
    return FhirError.of(400, "structure", message, place)


def _unappliable(message: str, operation: _Operation) -> FhirError:
    return FhirError.of(422, "processing", message, operation.place)
