"""Which nodes the rules of a Schematron pattern may take, told from their contexts alone.

A context is an XSLT match pattern. Without its predicates, a path of names selects at least the nodes that it matches,
and two such paths whose names differ select no node in common. ISO/IEC 19757-3 has a node taken by the first rule that
matches it, so rules that may share a node stay together, in their order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from relais.cda.schematron_schema import Rule

_STRING = re.compile(r"'[^']*'|\"[^\"]*\"")
_PREDICATE = re.compile(r"\[[^\[\]]*\]")
_NAME = r"[A-Za-z_][\w.\-]*"
_STEP = re.compile(rf"(?:{_NAME}:)?(?:{_NAME}|\*)")
_KEYED = re.compile(
    rf"\s*(?://\s*)?(?:(?:{_NAME}:)?{_NAME}|\*)\[\s*(?P<use>{_NAME}(?::{_NAME})?/@{_NAME})\s*=\s*"
    r"(?P<value>'[^']*'|\"[^\"]*\")\s*\](?:\[[^|]*\])?\s*"
)


class Path(NamedTuple):
    """A path without predicates: the XPath it starts with, and its other steps."""

    start: str
    rest: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """Nodes: those of some paths, and those with a value (an XPath literal) at a relative path such as `id/@root`."""

    paths: tuple[Path, ...] = ()
    keyed: tuple[tuple[str, str], ...] = ()


_ROOT = Path("/")
_ELEMENTS = Selection((Path("(/ | //*)"),))  # twice as fast as all nodes
_NODES = Selection((Path("(/ | //node() | //@*)"),))


def groups(rules: Sequence[Rule]) -> Iterator[tuple[list[Rule], Selection]]:
    """The rules of a pattern, in groups that cannot take the same node, each with the nodes to try it on."""
    contexts = [_Context.of(rule.context) for rule in rules]
    if any(context is None for context in contexts):
        yield list(rules), (_ELEMENTS if all(_takes_elements(rule.context) for rule in rules) else _NODES)
        return
    known = [context for context in contexts if context is not None]
    for numbers in _together(known):
        yield [rules[number] for number in numbers], _selection([known[number] for number in numbers])


@dataclass(frozen=True, slots=True)
class _Context:
    """The paths of a context without predicates, each as its steps from the last `//`, and its key if it has one."""

    paths: tuple[Path, ...]
    tails: tuple[tuple[str, ...], ...]
    key: tuple[str, str] | None

    @classmethod
    def of(cls, text: str) -> _Context | None:
        """The context, or None when it is more than paths of names."""
        paths, tails = [], []
        for alternative in _plain(text).split("|"):
            path = "".join(alternative.split())
            absolute = path.startswith("/") and not path.startswith("//")
            steps = path.removeprefix("//").removeprefix("/").split("/") if path != "/" else []
            if path != "/" and not all(step == "" or _STEP.fullmatch(step) for step in steps):
                return None
            if "" in steps[:1] or "" in steps[-1:]:
                return None
            paths.append(_path(steps, "/" if absolute else "//"))
            last = len(steps) - steps[::-1].index("") if "" in steps else 0
            tails.append(tuple(steps[last:]))
        found = _KEYED.fullmatch(text) if [len(tail) for tail in tails] == [1] else None
        return cls(tuple(paths), tuple(tails), (found["use"], found["value"]) if found else None)


def _path(steps: Sequence[str], start: str) -> Path:
    return Path(start + steps[0], "/".join(steps[1:])) if steps else _ROOT


def _together(contexts: Sequence[_Context]) -> list[list[int]]:
    """Numbers of the contexts, those that may match the same node in one list, in order."""
    found: list[list[int]] = []
    for number, context in enumerate(contexts):
        shared = [group for group in found if any(_may_meet(context, contexts[other]) for other in group)]
        merged = sorted([number, *(other for group in shared for other in group)])
        found = [*(group for group in found if group not in shared), merged]
    return sorted(found)


def _may_meet(one: _Context, other: _Context) -> bool:
    return any(_compatible(first, second) for first in one.tails for second in other.tails)


def _compatible(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether a node may be at the end of both paths: from the last step back, no two local names differ."""
    if not (one and other):
        return one == other  # the document node, which no name is
    pairs = zip(map(_local, reversed(one)), map(_local, reversed(other)), strict=False)
    return all(first == second or "*" in (first, second) for first, second in pairs)


def _local(step: str) -> str:
    """A step without its prefix: two prefixes may be bound to one namespace."""
    return step.rpartition(":")[2]


def _selection(contexts: Iterable[_Context]) -> Selection:
    paths: dict[Path, None] = {}
    keyed: dict[tuple[str, str], None] = {}
    for context in contexts:
        if context.key:
            keyed[context.key] = None
        else:
            paths.update(dict.fromkeys(context.paths))
    return Selection(tuple(paths), tuple(keyed))


def _plain(text: str) -> str:
    """A context without its literals and predicates."""
    context, found = _STRING.sub("", text), 1
    while found:
        context, found = _PREDICATE.subn("", context)
    return context


def _takes_elements(context: str) -> bool:
    """Whether the context can only match elements or the document: outside predicates, no attribute, no node test."""
    plain = _plain(context)
    return "@" not in plain and "(" not in plain
