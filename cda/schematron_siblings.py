"""Schematron rules that compare an element with all its siblings of the same name, by a key instead.

The data types of ART-DECOR write `preceding-sibling::*[local-name()=$name] | following-sibling::*[local-name()=$name]`
to find another with the same attributes: the square of their number, where a key (XSLT 3.0 §20.2) finds it at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from relais.cda.schematron_schema import Check, Extends, Let, collapse

_NAME = r"[\w.\-:]+"
_SAME_NAME = rf"\[\s*local-name\(\)\s*=\s*\$({_NAME})\s*\]"
_SIBLINGS = re.compile(rf"preceding-sibling::\*{_SAME_NAME}\s*\|\s*following-sibling::\*{_SAME_NAME}")
_ALIKE = rf"\[\s*(?P<attribute>@{_NAME})\s*=\s*\$(?P<value>{_NAME})\s*\]"
_WITHOUT = rf"\[\s*not\(\s*(?P<without>@{_NAME})\s*\)\s*\]"
_EMPTY = rf"\[\s*(?P<empty>empty\(\s*\${_NAME}\s*\))\s*\]"
_PREDICATE = re.compile(f"{_ALIKE}|{_WITHOUT}|{_EMPTY}")
_LOOKUP = re.compile(rf"\$(?P<variable>{_NAME})(?P<predicates>(?:\[[^\[\]]*\])+)")


class Key(NamedTuple):
    """Siblings by their name and these attributes, of the elements that lack those others."""

    alike: tuple[str, ...]
    without: tuple[str, ...]

    @property
    def match(self) -> str:
        """The elements that have the key."""
        return "".join(("*", *(f"[{name}]" for name in self.alike), *(f"[not({name})]" for name in self.without)))

    @property
    def use(self) -> str:
        """Its value, of several items; the same expression asks for the siblings of an element."""
        return ", ".join(("generate-id(..)", "local-name()", *(f"string({name})" for name in self.alike)))


def by_key(test: str, items: Iterable[Let | Check | Extends], named: Callable[[Key], str]) -> str:
    """A test of a rule, where it looks among all siblings by a key; `named` gives each key its name.

    `items` stand before it; their variables say what it compares. What is not understood stays as it is.
    """
    lets = {item.name: collapse(item.value) for item in items if isinstance(item, Let)}

    def lookup(found: re.Match[str]) -> str:
        names = _SIBLINGS.fullmatch(lets.get(found["variable"], ""))
        if names is None or any(lets.get(name) != "local-name()" for name in names.groups()):
            return found[0]
        predicates = list(_PREDICATE.finditer(found["predicates"]))
        if "".join(one[0] for one in predicates) != found["predicates"]:
            return found[0]
        if any(one["value"] and lets.get(one["value"]) != one["attribute"] for one in predicates):
            return found[0]
        return _expression(predicates, named)

    return _LOOKUP.sub(lookup, test)


def _expression(predicates: list[re.Match[str]], named: Callable[[Key], str]) -> str:
    """The siblings that meet the predicates, without the element itself."""
    alike = tuple(dict.fromkeys(one["attribute"] for one in predicates if one["attribute"]))
    key = Key(alike, tuple(dict.fromkeys(one["without"] for one in predicates if one["without"])))
    conditions = [
        f"self::*{''.join(f'[{name}]' for name in alike)}",
        *(one["empty"] for one in predicates if one["empty"]),
    ]
    return f"(if ({' and '.join(conditions)}) then key('{named(key)}', ({key.use}))[not(. is current())] else ())"
