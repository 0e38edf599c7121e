"""FHIR JSON (R4 §2.6.2) in and out: nothing a client wrote is lost, nothing ambiguous is accepted.

Requests are read by the standard library's scanner, which shows every pair of an object: RFC 8259 leaves the meaning
of a duplicate name open, so Relais refuses it. What Relais itself stored is read by msgspec, three times as fast.
Numbers keep their digits both ways (`1.00` stays `1.00`).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from decimal import Decimal
from typing import Any

import msgspec

from relais.cda.errors import Issue, UnreadableError
from relais.mappings.context import Resource

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_RULE = "FHIR R4 JSON"
_CONTROL = re.compile(rb"\\(?:u00(?:0[0-8bBcCeEfF]|1[0-9a-fA-F])|[bf])")
_NO_CHARACTERS = (b"\xef\xbf\xbe", b"\xef\xbf\xbf")  # U+FFFE, U+FFFF
_SHOWN = 40  # characters of a name that nobody asked for
_LONGEST_NUMBER = 100  # digits, or powers of ten: no measure needs them, and their arithmetic would cost much


def parse(data: bytes, max_depth: int) -> Resource:
    """The resource written in `data` (UTF-8 JSON, decimals as `Decimal`).

    Raises UnreadableError as `parse_value`, and for what is not an object with a `resourceType`.
    """
    value = parse_value(data, max_depth)
    if not isinstance(value, dict) or not isinstance(value.get("resourceType"), str):
        raise _unreadable("not a FHIR resource: an object with resourceType is expected")
    return value


def parse_value(data: bytes, max_depth: int) -> Any:
    """Any JSON value. Raises UnreadableError: not UTF-8, not JSON, a name given twice, NaN or Infinity, a NUL or half a
    surrogate pair, nested deeper than `max_depth`.
    """
    if data.startswith(_BYTE_ORDER_MARK):
        data = data[len(_BYTE_ORDER_MARK) :]
    try:
        value = _decode_request(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _unreadable(f"not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise _too_deep(max_depth) from error
    except json.JSONDecodeError as error:
        raise _unreadable(f"not JSON: {error.msg} at line {error.lineno} column {error.colno}") from error
    except (ValueError, ArithmeticError) as error:
        raise _unreadable(f"a number has more than {_LONGEST_NUMBER} digits") from error
    if isinstance(value, dict | list) and not _within(value, max_depth):
        raise _too_deep(max_depth)
    _refuse_unstorable_text(value, data)
    return value


def dump(resource: Resource) -> bytes:
    """The resource as compact UTF-8 JSON, in the order of its elements."""
    return _encoder.encode(resource)


def load(data: bytes) -> Resource:
    """Read back what `dump` wrote."""
    resource: Resource = _stored_decoder.decode(data)
    return resource


def pretty(data: bytes) -> bytes:
    """The same JSON, indented for a human reader (`_pretty=true`)."""
    return msgspec.json.format(data, indent=2)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        raise _unreadable(f"the same name stands twice in one object: {', '.join(name[:_SHOWN] for name in twice[:3])}")
    return value


def _number(text: str) -> Decimal:
    number = Decimal(text)
    if len(text) > _LONGEST_NUMBER or abs(number.adjusted()) > _LONGEST_NUMBER:
        raise _unreadable(f"a number has more than {_LONGEST_NUMBER} digits")
    return number


def _refuse_constant(constant: str) -> None:
    raise _unreadable(f"{constant} is not a JSON number")


_decode_request = json.JSONDecoder(
    parse_float=_number, object_pairs_hook=_object, parse_constant=_refuse_constant
).decode
_stored_decoder = msgspec.json.Decoder(float_hook=Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number")


def _within(value: dict[str, Any] | list[Any], budget: int) -> bool:
    if not budget:
        return False
    children = value.values() if type(value) is dict else value
    return all(_within(child, budget - 1) for child in children if type(child) is dict or type(child) is list)


def _refuse_unstorable_text(value: Any, data: bytes) -> None:
    """R4 strings hold no control character (§2.24.0.1), and half a surrogate pair is no text.

    In JSON both can only be written as an escape; the two code points that XML lacks besides stand for themselves too.
    """
    if b"\\" not in data and _NO_CHARACTERS[0] not in data and _NO_CHARACTERS[1] not in data:
        return
    try:
        written = dump(value)
    except UnicodeEncodeError as error:
        raise _unreadable("a string holds half a surrogate pair") from error
    if _CONTROL.search(written.replace(rb"\\", b"")) or any(one in written for one in _NO_CHARACTERS):
        raise _unreadable("a string holds NUL or another control character")


def _unreadable(message: str) -> UnreadableError:
    return UnreadableError(Issue("fatal", "structure", message, rule=_RULE))


def _too_deep(max_depth: int) -> UnreadableError:
    return _unreadable(f"nested deeper than {max_depth} levels")
