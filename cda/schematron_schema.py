"""Reading of ISO Schematron (ISO/IEC 19757-3): includes, abstract patterns and phases resolved into plain rules.

Only query bindings xslt2 and xslt3 are read. What a schema calls for and does not hold (an include that cannot be
opened, an activated pattern that is absent) is kept as `Gap`, so that it is reported as not run.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from lxml import etree

from relais.cda.errors import Issue, RelaisError

ALL_PHASES = "#ALL"
_SCH = "{http://purl.oclc.org/dsdl/schematron}"
_AT = "{urn:relais:schematron}at"
_BINDINGS = ("xslt2", "xslt3")
_FILE_NAME = re.compile(r"'([^'?#]+\.xml)'", re.IGNORECASE)
_PARAMETER = re.compile(r"\$([\w][\w.\-]*)")
_EXPRESSIONS = ("test", "context", "select", "value", "path")


class SchematronError(RelaisError):
    """A schema that cannot be read or compiled at all."""


@dataclass(frozen=True, slots=True)
class Value:
    """An XPath expression inside a message: its value stands in the text."""

    select: str


@dataclass(frozen=True, slots=True)
class Let:
    """A variable."""

    name: str
    value: str
    at: str


@dataclass(frozen=True, slots=True)
class Check:
    """An assert (fails when its test is false) or a report (fires when its test is true)."""

    kind: Literal["assert", "report"]
    test: str
    message: tuple[str | Value, ...]
    role: str
    at: str

    @property
    def fixed_text(self) -> str:
        """The message without what it quotes from the document: each quotation is `…`."""
        return collapse("".join("…" if isinstance(part, Value) else part for part in self.message))


@dataclass(frozen=True, slots=True)
class Extends:
    """Stands for the items of an abstract rule."""

    rule: str
    at: str


@dataclass(frozen=True, slots=True)
class Rule:
    """In its pattern, takes the nodes that `context` matches and that no earlier rule took."""

    context: str
    items: tuple[Let | Check | Extends, ...]
    at: str


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern. Its variables are visible in every pattern, as the CI-SIS rules suppose."""

    name: str
    lets: tuple[Let, ...]
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that the schema calls for and that cannot be run, with the reason."""

    at: str
    reason: str


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema ready for compilation: active patterns only, abstract patterns instantiated.

    Every `at` is `file:line`, the file relative to `root`. `check_count` is the number of asserts and reports
    written in the active patterns. `renamed` gives what is read in place of files that expressions name in other
    capitals; `remarks` say so of them and of the includes.
    """

    path: Path
    root: Path
    phase: str
    namespaces: dict[str, str]
    lets: tuple[Let, ...]
    patterns: tuple[Pattern, ...]
    abstract_rules: dict[str, Rule]
    check_count: int
    gaps: tuple[Gap, ...]
    renamed: Mapping[Path, Path] = field(default_factory=dict)
    remarks: tuple[Gap, ...] = ()

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules of all active patterns."""
        return tuple(rule for pattern in self.patterns for rule in pattern.rules)

    @property
    def named_files(self) -> Iterator[tuple[str, Path]]:
        """The files that its expressions name, and may open, with the place of each expression."""
        rules = (*self.rules, *self.abstract_rules.values())
        lets = (*self.lets, *(let for pattern in self.patterns for let in pattern.lets))
        expressions = [(let.at, let.value) for let in lets]
        for rule in rules:
            expressions.append((rule.at, rule.context))
            expressions += [(item.at, _expression(item)) for item in rule.items]
        for at, expression in expressions:
            for name in _FILE_NAME.findall(expression):
                file = (self.path.parent / name).resolve()
                if _can_be_named(file):
                    yield at, file

    @property
    def unreachable(self) -> tuple[Gap, ...]:
        """The rules that never fire, because an earlier rule of their pattern has the same context."""
        found: list[Gap] = []
        for pattern in self.patterns:
            contexts: set[str] = set()
            for rule in pattern.rules:
                if collapse(rule.context) in contexts:
                    found.append(Gap(rule.at, "never reached: an earlier rule of the pattern has the same context"))
                contexts.add(collapse(rule.context))
        return tuple(found)


def _expression(item: Let | Check | Extends) -> str:
    match item:
        case Let():
            return item.value
        case Check():
            return item.test
        case Extends():
            return ""


def _can_be_named(path: Path) -> bool:
    """Whether the file system can hold a file of that name, be it there or not: one that is too long it cannot."""
    try:
        path.is_file()
    except OSError:
        return False
    return True


def _reason(error: OSError | etree.XMLSyntaxError) -> str:
    """Why a file cannot be read, without its path on this machine."""
    return str(error.strerror) if isinstance(error, OSError) else "not well-formed XML"


def collapse(text: str) -> str:
    """The text with its white space collapsed."""
    return " ".join(text.split())


def line_of(element: etree._Element) -> int:
    """The line on which the start tag of an element ends; 0 when unknown."""
    line = element.sourceline
    return line if isinstance(line, int) else 0


def in_other_capitals(path: Path, root: Path) -> list[Path]:
    """The files whose paths differ from that of an absent one in capitals only, none outside of `root`.

    ANS publishes its rules for a file system that does not tell capitals apart.
    """
    found = [root] if path.is_relative_to(root) else []
    for part in path.relative_to(root).parts if found else ():
        children = (child for folder in found if folder.is_dir() for child in folder.iterdir())
        found = [child for child in children if child.name.lower() == part.lower()]
    return sorted(file for file in found if file.is_file() and file.resolve().is_relative_to(root))


def read_schema(path: Path, phase: str | None = None, root: Path | None = None) -> Schema:
    """Read a schema file and what it includes.

    `phase` is an id or `#ALL`; by default the default phase of the schema. `root` is the folder places are relative
    to, and outside of which no document may be opened (default: the folder of the schema). Raises SchematronError.
    """
    sources = _Sources(root or path.parent)
    tree = sources.load(path)
    if tree.tag != f"{_SCH}schema" or tree.get("queryBinding", "").lower() not in _BINDINGS:
        raise SchematronError(Issue("fatal", "not-supported", "not a Schematron schema with binding xslt2", path.name))
    return sources.schema(path, tree, phase)


def read_pattern(path: Path, namespaces: Mapping[str, str], root: Path | None = None) -> Schema:
    """Read a file that holds one pattern, as a schema that binds `namespaces` would include it.

    Raises SchematronError.
    """
    sources = _Sources(root or path.parent)
    tree = etree.Element(f"{_SCH}schema")
    for prefix, uri in namespaces.items():
        etree.SubElement(tree, f"{_SCH}ns", prefix=prefix, uri=uri)
    tree.append(sources.load(path))
    return sources.schema(path, tree, ALL_PHASES)


class _Sources:
    """The files of one schema, and what they lack."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.gaps: list[Gap] = []
        self.remarks: list[Gap] = []

    def load(self, path: Path) -> etree._Element:
        """Root element of a top-level file, with its includes. Raises SchematronError."""
        try:
            return self._load(path.resolve(), ())
        except (OSError, etree.XMLSyntaxError) as error:
            message = f"rules cannot be read: {_reason(error)}"
            raise SchematronError(Issue("fatal", "not-found", message, path.name)) from error

    def _load(self, path: Path, including: tuple[Path, ...]) -> etree._Element:
        parser = etree.XMLParser(remove_comments=True, remove_pis=True, resolve_entities=False, no_network=True)
        top = etree.fromstring(path.read_bytes(), parser)
        place = Path(os.path.relpath(path, self.root)).as_posix()
        for element in top.iter():
            element.set(_AT, f"{place}:{line_of(element)}")
        for include in list(top.iter(f"{_SCH}include")):
            self._include(include, (*including, path))
        return top

    def _include(self, include: etree._Element, including: tuple[Path, ...]) -> None:
        href, parent = include.get("href", ""), include.getparent()
        if parent is None:
            raise SchematronError(
                Issue("fatal", "structure", "an include cannot be a whole file", include.get(_AT, ""))
            )
        target = self._located((including[-1].parent / unquote(href)).resolve(), _at(include))
        if target in including:
            reason = "it includes itself"
        else:
            try:
                parent.replace(include, self._load(target, including))
            except (OSError, etree.XMLSyntaxError) as error:
                reason = _reason(error)
            else:
                return
        self.gaps.append(Gap(_at(include), f"include {href} cannot be read: {reason}"))
        parent.remove(include)

    def _located(self, named: Path, at: str) -> Path:
        """The file of that name; where there is none, the only one whose name differs in capitals only."""
        try:
            found = [] if named.is_file() else in_other_capitals(named, self.root)
        except OSError:  # said by who opens the file
            return named
        if not found:
            return named
        names = " and ".join(file.relative_to(self.root).as_posix() for file in found)
        wanted = Path(os.path.relpath(named, self.root)).as_posix()
        if len(found) > 1:
            reason = f"{wanted} is absent, and several differ in capitals only, none is read: {names}"
        else:
            reason = f"{wanted} differs in capitals only from the file that is read: {names}"
        self.remarks.append(Gap(at, reason))
        return found[0] if len(found) == 1 else named

    def schema(self, path: Path, tree: etree._Element, phase: str | None) -> Schema:
        """The schema that a tree with all its includes stands for."""
        schema = self._schema(path, tree, phase)
        first = {named: at for at, named in reversed(list(schema.named_files))}
        located = {named: self._located(named, at) for named, at in first.items()}
        renamed = {named: found for named, found in located.items() if found != named}
        return replace(schema, renamed=renamed, remarks=tuple(self.remarks))

    def _schema(self, path: Path, tree: etree._Element, phase: str | None) -> Schema:
        phase = phase or tree.get("defaultPhase") or ALL_PHASES
        patterns = [self._instance(pattern, tree) for pattern in self._active(tree, phase)]
        present = [pattern for pattern in patterns if pattern is not None]
        abstract = tree.iterfind(f".//{_SCH}rule[@abstract='true']")
        return Schema(
            path=path.resolve(),
            root=self.root,
            phase=phase,
            namespaces={ns.get("prefix", ""): ns.get("uri", "") for ns in tree.iter(f"{_SCH}ns")},
            lets=_lets(tree),
            patterns=tuple(_pattern(pattern) for pattern in present),
            abstract_rules={rule.get("id", ""): _rule(rule) for rule in abstract},
            check_count=sum(1 for pattern in present for _ in pattern.iter(f"{_SCH}assert", f"{_SCH}report")),
            gaps=tuple(self.gaps),
        )

    def _active(self, tree: etree._Element, phase: str) -> list[etree._Element]:
        """The concrete patterns of a phase, in document order."""
        concrete = [pattern for pattern in tree.iter(f"{_SCH}pattern") if pattern.get("abstract") != "true"]
        if phase == ALL_PHASES:
            return concrete
        active = tree.findall(f"{_SCH}phase[@id='{phase}']/{_SCH}active")
        if not active:
            raise SchematronError(Issue("fatal", "not-found", f"the schema has no phase {phase}", _at(tree)))
        names = {pattern.get("id") for pattern in concrete}
        for item in active:
            if item.get("pattern") not in names:
                self.gaps.append(Gap(_at(item), f"pattern {item.get('pattern')}, activated, is absent"))
        wanted = {item.get("pattern") for item in active}
        return [pattern for pattern in concrete if pattern.get("id") in wanted]

    def _instance(self, pattern: etree._Element, tree: etree._Element) -> etree._Element | None:
        """The pattern itself, or the abstract pattern it names with its parameters replaced."""
        name = pattern.get("is-a")
        if name is None:
            return pattern
        abstract = tree.find(f".//{_SCH}pattern[@abstract='true'][@id='{name}']")
        if abstract is None:
            self.gaps.append(Gap(_at(pattern), f"abstract pattern {name} is absent"))
            return None
        values = {item.get("name", ""): item.get("value", "") for item in pattern.iter(f"{_SCH}param")}
        instance = copy.deepcopy(abstract)
        instance.set("id", pattern.get("id", ""))
        for element in instance.iter():
            _substitute(element, values)
        return instance


def _substitute(element: etree._Element, values: Mapping[str, str]) -> None:
    """Replace the `$name` of an abstract pattern's parameters; other variables stay."""

    def replaced(text: str) -> str:
        return _PARAMETER.sub(lambda found: values.get(found[1], found[0]), text)

    for name in _EXPRESSIONS:
        if name in element.attrib:
            element.set(name, replaced(element.get(name, "")))
    element.text = replaced(element.text) if element.text else None
    element.tail = replaced(element.tail) if element.tail else None


def _at(element: etree._Element) -> str:
    return element.get(_AT, "")


def _pattern(element: etree._Element) -> Pattern:
    rules = (rule for rule in element.iterfind(f"{_SCH}rule") if rule.get("abstract") != "true")
    return Pattern(element.get("id", ""), _lets(element), tuple(_rule(rule) for rule in rules))


def _lets(element: etree._Element) -> tuple[Let, ...]:
    return tuple(Let(let.get("name", ""), let.get("value", ""), _at(let)) for let in element.iterfind(f"{_SCH}let"))


def _rule(element: etree._Element) -> Rule:
    return Rule(element.get("context", ""), tuple(_items(element)), _at(element))


def _items(rule: etree._Element) -> Iterable[Let | Check | Extends]:
    for item in rule:
        match etree.QName(item).localname:
            case "let":
                yield Let(item.get("name", ""), item.get("value", ""), _at(item))
            case "extends":
                yield Extends(item.get("rule", ""), _at(item))
            case "assert":
                yield Check("assert", item.get("test", ""), tuple(_message(item)), item.get("role", ""), _at(item))
            case "report":
                yield Check("report", item.get("test", ""), tuple(_message(item)), item.get("role", ""), _at(item))


def _message(element: etree._Element) -> Iterable[str | Value]:
    """The parts of a message; white space alone between two of them is left out, as the ISO skeleton does."""
    if _has_words(element.text):
        yield str(element.text)
    for child in element:
        match etree.QName(child).localname:
            case "value-of":
                yield Value(child.get("select", ""))
            case "name":
                yield Value(f"name({child.get('path', '.')})")
            case _:
                yield from _message(child)
        if _has_words(child.tail):
            yield str(child.tail)


def _has_words(text: str | None) -> bool:
    return bool(text and text.strip())
