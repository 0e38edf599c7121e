"""How a part of the document model is read from an element: by a table of its children and attributes.

A table says what each child of an element (by name, `sdtc:` prefixed for that namespace) fills. Every element is gone
through once; of children that the model has once the first counts. Readers account for what they take in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar, overload

from lxml import etree

from relais.cda.losses import is_implied
from relais.cda.parsing import SDTC, V3

Part = TypeVar("Part")
Fields = dict[str, Any]
"""What was found of a part of the model: its fields by name."""


class XML(Protocol):
    """An element of lxml as the readers use it; its stubs know neither slices nor that XML gives text."""

    @property
    def tag(self) -> str: ...
    @property
    def text(self) -> str | None: ...
    @property
    def tail(self) -> str | None: ...
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int) -> XML: ...
    @overload
    def __getitem__(self, index: slice) -> list[XML]: ...  # the children: iteration takes longer
    def get(self, name: str) -> str | None: ...
    def keys(self) -> list[str]: ...
    def items(self) -> list[tuple[str, str]]: ...


class Account:
    """What the readers take in of a document.

    They clear `is_complete` at an element or attribute that they do not know, make nothing of, or take otherwise than
    `write` would write it. Text is reckoned up at the end, since it may stand anywhere.
    """

    __slots__ = ("is_complete", "texts")

    def __init__(self) -> None:
        self.is_complete = True
        self.texts: list[str] = []  # the text nodes that were taken in, each of them once

    def is_balanced(self, clinical: etree._Element) -> bool:
        """Whether everything in the document was taken in: written again, it would lose nothing."""
        if not self.is_complete:
            return False
        taken = _visible("".join(self.texts).encode())
        return taken == _visible(etree.tostring(clinical, method="text", encoding="UTF-8", with_tail=False))


def _visible(text: bytes) -> int:
    """How many bytes of UTF-8 are no white space of XML."""
    return len(text.translate(None, b" \t\r\n"))


# --- tables ---------------------------------------------------------------------------------------------------

Read = Callable[[XML, Account], Part | None]
Fill = Callable[[Fields, XML, Account], None]


class Slot(NamedTuple):
    """What a child says: the field that `read` gives, or the fields that `fill` puts among those found so far."""

    field: str = ""
    read: Read[Any] | None = None
    fill: Fill | None = None
    repeats: bool = False


Children = Mapping[str, Slot]
Attributes = Mapping[str, str]
"""Attribute → field; no field when the attribute is taken in elsewhere."""
Supposed = Mapping[str, Mapping[str, str]]
"""Children that `write` always writes, for which the model has no field, with their attributes."""


def one(field: str, read_part: Read[Any]) -> Slot:
    """The field is what `read_part` makes of the child."""
    return Slot(field, read_part)


def each(field: str, read_part: Read[Any]) -> Slot:
    """The field lists what `read_part` makes of each child of that name."""
    return Slot(field, read_part, repeats=True)


def inside(
    children: Children,
    attributes: Attributes | None = None,
    supposed: Supposed | None = None,
    *,
    repeats: bool = False,
) -> Slot:
    """The child has no part of its own in the model: what it holds belongs to that of its parent."""
    return Slot(fill=filler(children, attributes, supposed), repeats=repeats)


def moment(value: str, null_flavor: str) -> Slot:
    """One field is the value of the child, another its nullFlavor."""
    return inside({}, {"value": value, "nullFlavor": null_flavor})


# --- readers --------------------------------------------------------------------------------------------------


def reader(
    make: Callable[..., Part | None],
    children: Children,
    attributes: Attributes | None = None,
    own: tuple[str, Read[Any]] | None = None,
    supposed: Supposed | None = None,
) -> Read[Part]:
    """Reads a part of the model, which `make` makes of the fields found; None when the element says nothing.

    `own` is a field, and what gives it from the element itself.
    """
    fill = filler(children, attributes, supposed)

    def read_part(element: XML, account: Account) -> Part | None:
        found: Fields = {}
        fill(found, element, account)
        if own and (content := own[1](element, account)) is not None:
            found[own[0]] = content
        return make(**found) if found else None

    return read_part


def leaf(make: Callable[[], Part], attributes: Attributes) -> Read[Part]:
    """Reads a part of the model of which attributes alone say everything; None when the element says nothing."""

    def read_leaf(element: XML, account: Account) -> Part | None:
        part = None
        for name, value in element.items():
            if value and (field := attributes.get(name)):
                if part is None:
                    part = make()
                setattr(part, field, value)
            elif not is_implied(element.tag, name, value):
                account.is_complete = False
        if len(element):
            account.is_complete = False
        return part

    return read_leaf


def below(name: str, read_part: Read[Part]) -> Read[Part]:
    """Reads the first child of that name instead of the element."""
    return reader(same, {name: one("part", read_part)})


def same(part: Part) -> Part:
    """The part itself, of which the element is nothing but the holder."""
    return part


def moved(read_part: Read[Part]) -> Read[Part]:
    """Reads what `write` writes in another place."""

    def read_moved(element: XML, account: Account) -> Part | None:
        account.is_complete = False
        return read_part(element, account)

    return read_moved


def filler(children: Children, attributes: Attributes | None = None, supposed: Supposed | None = None) -> Fill:
    """Puts what an element says among the fields found so far, and accounts for all its attributes and children."""
    known = attributes or {}
    slots = {_clark(name): (slot.field, slot.read, slot.fill, slot.repeats) for name, slot in children.items()}
    fixed = {_clark(name): [stated] for name, stated in (supposed or {}).items()}

    def fill(found: Fields, element: XML, account: Account) -> None:
        for name, value in element.items():
            if (field := known.get(name)) and value:
                found[field] = value
            elif (field is None or not value) and not is_implied(element.tag, name, value):
                account.is_complete = False
        if not len(element):
            return
        past: tuple[str, ...] = ()  # children that the model has once and that have come
        for child in element[:]:
            tag = child.tag
            if past and tag in past:
                account.is_complete = False
                continue
            try:
                field, read_part, fill_part, repeats = slots[tag]
            except KeyError:
                if tag not in fixed:
                    account.is_complete = False
                continue
            if read_part:
                part = read_part(child, account)
                if part is None:
                    account.is_complete = False
                    past = past if repeats else (*past, tag)
                elif field not in found:
                    found[field] = [part] if repeats else part
                elif repeats:
                    found[field].append(part)
                else:
                    account.is_complete = False
            elif fill_part:
                before = len(found)
                fill_part(found, child, account)
                if len(found) == before:
                    account.is_complete = False
                past = past if repeats else (*past, tag)

    def fill_checked(found: Fields, element: XML, account: Account) -> None:
        fill(found, element, account)
        for tag, stated in fixed.items():
            if [dict(child.items()) for child in element[:] if child.tag == tag and not len(child)] != stated:
                account.is_complete = False

    return fill_checked if fixed else fill


def _clark(name: str) -> str:
    prefix, _, local = name.rpartition(":")
    return f"{{{SDTC if prefix else V3}}}{local}"
