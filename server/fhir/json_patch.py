"""JSON Patch (RFC 6902) over JSON Pointer (RFC 6901), exact on the numbers and types of FHIR JSON.

`test` compares as JSON does: 1.0 equals 1, true does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from decimal import Decimal
from typing import Any

from relais.server.fhir.outcome import FhirError

_INDEX = re.compile("0|[1-9][0-9]{0,8}").fullmatch
_MEMBERS = {
    "add": ("path", "value"),
    "remove": ("path",),
    "replace": ("path", "value"),
    "move": ("path", "from"),
    "copy": ("path", "from"),
    "test": ("path", "value"),
}
_MOST_OPERATIONS = 1000
_LARGEST_COPY = 1000  # values in what one operation copies


def compile_patch(document: Any) -> Callable[[Any], Any]:
    """A function from a JSON value to the patched one; the value given stays as it is.

    Raises FhirError 400 for what is no JSON Patch. The function raises FhirError 422 for a patch that does not apply.
    """
    if not isinstance(document, list):
        raise _malformed("a JSON Patch is an array of operations", "")
    if len(document) > _MOST_OPERATIONS:
        raise FhirError.of(413, "too-costly", f"more than {_MOST_OPERATIONS} operations")
    steps = [_compile_operation(operation, f"[{index}]") for index, operation in enumerate(document)]

    def apply(value: Any) -> Any:
        value = deepcopy(value)
        for step in steps:
            value = step(value)
        return value

    return apply


def _compile_operation(operation: Any, place: str) -> Callable[[Any], Any]:
    name = operation.get("op") if isinstance(operation, dict) else None
    if not isinstance(name, str) or name not in _MEMBERS:
        raise _malformed(f"op must be one of {', '.join(_MEMBERS)}", place)
    missing = [member for member in _MEMBERS[name] if member not in operation]
    if missing:
        raise _malformed(f"{name} needs {missing[0]}", place)
    path = _pointer(operation["path"], f"{place}.path")
    value = operation.get("value")
    match name:
        case "add":
            return lambda document: _add(document, path, deepcopy(value), place)
        case "remove":
            return lambda document: _remove(document, path, place)[0]
        case "replace":
            return lambda document: _replace(document, path, deepcopy(value), place)
        case "test":
            return lambda document: _test(document, path, value, place)
    source = _pointer(operation["from"], f"{place}.from")
    if name == "copy":
        return lambda document: _add(document, path, _copied(_get(document, source, place), place), place)
    if path[: len(source)] == source and path != source:
        raise _malformed("a value cannot be moved into itself", place)
    return lambda document: _move(document, source, path, place)


def _pointer(text: Any, place: str) -> tuple[str, ...]:
    if not isinstance(text, str) or (text and not text.startswith("/")) or re.search("~(?![01])", text):
        raise _malformed("a JSON Pointer is expected", place)
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in text.split("/")[1:])


def _add(document: Any, path: tuple[str, ...], value: Any, place: str) -> Any:
    if not path:
        return value
    parent, last = _get(document, path[:-1], place), path[-1]
    if isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else _index(last, len(parent), place), value)
    elif isinstance(parent, dict):
        parent[last] = value
    else:
        raise _unappliable(place)
    return document


def _remove(document: Any, path: tuple[str, ...], place: str) -> tuple[Any, Any]:
    """The document without what `path` names, and what it named."""
    value = _get(document, path, place)
    if not path:
        return None, value
    parent = _get(document, path[:-1], place)
    del parent[int(path[-1]) if isinstance(parent, list) else path[-1]]
    return document, value


def _replace(document: Any, path: tuple[str, ...], value: Any, place: str) -> Any:
    if not path:
        return value
    _get(document, path, place)
    parent = _get(document, path[:-1], place)
    parent[int(path[-1]) if isinstance(parent, list) else path[-1]] = value
    return document


def _move(document: Any, source: tuple[str, ...], path: tuple[str, ...], place: str) -> Any:
    document, value = _remove(document, source, place)
    return _add(document, path, value, place)


def _copied(value: Any, place: str) -> Any:
    """A copy of a small value: copies of copies would double without end."""
    waiting, size = [value], 0
    while waiting:
        node = waiting.pop()
        size += 1
        if size > _LARGEST_COPY:
            raise FhirError.of(422, "too-costly", f"more than {_LARGEST_COPY} values to copy", place)
        if isinstance(node, dict | list):
            waiting.extend(node.values() if isinstance(node, dict) else node)
    return deepcopy(value)


def _test(document: Any, path: tuple[str, ...], value: Any, place: str) -> Any:
    if not _equal(_get(document, path, place), value):
        raise FhirError.of(422, "processing", "the test of the patch fails", place)
    return document


def _get(document: Any, path: tuple[str, ...], place: str) -> Any:
    for token in path:
        if isinstance(document, list):
            document = document[_index(token, len(document) - 1, place)]
        elif isinstance(document, dict) and token in document:
            document = document[token]
        else:
            raise _unappliable(place)
    return document


def _index(token: str, highest: int, place: str) -> int:
    if not _INDEX(token) or int(token) > highest:
        raise _unappliable(place)
    return int(token)


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(value, right[name]) for name, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | Decimal) and isinstance(right, int | Decimal):
        return left == right
    return type(left) is type(right) and bool(left == right)


def _malformed(message: str, place: str) -> FhirError:
    return FhirError.of(400, "structure", message, place)


def _unappliable(place: str) -> FhirError:
    return FhirError.of(422, "processing", "the patch names a place that the resource does not have", place)
