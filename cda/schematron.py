"""ISO Schematron run with SaxonC: compile once, validate many documents.

Compiling the biggest CI-SIS profile takes seconds and a compiled schema serves one thread; SaxonC holds the
interpreter lock, so servers run this in processes of their own (`relais.cda.validation_pool`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lxml import etree
from saxonche import PySaxonApiError, PySaxonProcessor

from relais.cda.errors import Issue
from relais.cda.parsing import Places, attribute_name
from relais.cda.schematron_schema import (
    ALL_PHASES,
    Gap,
    Schema,
    SchematronError,
    collapse,
    line_of,
    read_pattern,
    read_schema,
)
from relais.cda.schematron_xslt import OUT, Located, Stylesheet, file_uri, generate

__all__ = [
    "ALL_PHASES",
    "CompiledSchema",
    "Finding",
    "NotRun",
    "Processor",
    "Result",
    "SchematronError",
    "Source",
    "compile_schema",
    "line_of",
    "read_pattern",
    "read_schema",
]

_ENTITIES = {"&amp;": "&#38;", "&lt;": "&#60;", "&gt;": "&#62;", "&quot;": "&#34;"}
UNREADABLE = "the engine of the rules does not read this document: names or attributes beyond its limits"


@dataclass(frozen=True, slots=True)
class Finding:
    """A failed assert or a report that fired.

    `text` is the official message, which may quote the document: show it to who sent the document, log `fixed_text`.
    `path` is the XPath of the node, `line` that of its element.
    `rule` is `file:line` of the check, `test` its XPath, `context` that of the rule which took the node.
    """

    text: str
    fixed_text: str
    role: str
    path: str
    line: int
    rule: str
    test: str = ""
    context: str = ""


@dataclass(frozen=True, slots=True)
class NotRun:
    """A check, or a part of a schema, that could not be run. `code` is an XPath error code, if any."""

    rule: str
    reason: str
    code: str = ""
    path: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """What a schema says of a document. `fired` rules of zero means that nothing applies, which is no pass."""

    fired: int
    checked: int
    failed: tuple[Finding, ...]
    reports: tuple[Finding, ...]
    not_run: tuple[NotRun, ...]


class Source:
    """A document under test, parsed once for every schema. Raises SchematronError for one that Saxon does not take."""

    def __init__(self, processor: Processor, tree: etree._ElementTree) -> None:
        self.root = tree.getroot()
        self._places = Places()
        # ASCII with character references: independent of the locale. The root only: no DTD reaches Saxon.
        text = etree.tostring(self.root, with_tail=False).decode("ascii")
        for entity, character in _ENTITIES.items():  # Java counts the first kind, and stops at 100,000
            text = text.replace(entity, character)
        try:
            self.node = processor.saxon.parse_xml(xml_text=text)
        except PySaxonApiError as error:  # more than 200 attributes, a name of more than 1,000 characters
            raise SchematronError(Issue("fatal", "too-costly", UNREADABLE)) from error

    @cached_property
    def _elements(self) -> list[etree._Element]:
        return list(self.root.iter("*"))

    def place(self, found: etree._Element) -> tuple[str, int]:
        """XPath and line number of the node that an element of the stylesheet's result is about."""
        number = int(found.get("element", ""))
        if not number:
            return "/", line_of(self.root)
        element, attribute = self._elements[number - 1], found.get("attribute", "").removeprefix("{}")
        path = self._places.of(element)
        return f"{path}/@{attribute_name(attribute)}" if attribute else path, line_of(element)


class Processor:
    """SaxonC, allowed to open local files only. One per thread."""

    def __init__(self) -> None:
        self.saxon: Any = PySaxonProcessor(license=False)
        self.saxon.set_configuration_property("http://saxon.sf.net/feature/allowedProtocols", "file")
        self._asked_for: set[Path] = set()
        self._documents: dict[Any, Any] = {}
        self._library = self.saxon.make_map({})

    def compile(self, schema: Schema, replaced: Mapping[Path, Path] | None = None) -> CompiledSchema:
        """Compile a schema; `replaced` gives files to read in place of others. Raises SchematronError.

        Expressions that do not compile are left out, and listed in the `not_run` of every result.
        """
        refused: dict[Located, str] = {}
        replaced = replaced or {}
        replaced = {**replaced, **{named: replaced.get(file, file) for named, file in schema.renamed.items()}}
        self.library(replaced.get(file, file) for _at, file in schema.named_files)
        while True:
            sheet = generate(schema, replaced, refused)
            try:
                executable = self.saxon.new_xslt30_processor().compile_stylesheet(stylesheet_text=sheet.text)
            except PySaxonApiError as error:
                blamed = sheet.refused(str(error))
                if not blamed.keys() - refused.keys():
                    message = f"the rules do not compile: {collapse(str(error))}"
                    raise SchematronError(Issue("fatal", "not-supported", message, schema.path.name)) from error
                refused |= blamed
            else:
                return CompiledSchema(self, schema, sheet, executable)

    def library(self, files: Iterable[Path]) -> Any:
        """Every document that rules opened so far by its URI, those of the files included: each is read once.

        Files that are absent or no XML are left to the rule that opens them.
        """
        for file in files:
            if file in self._asked_for:
                continue
            self._asked_for.add(file)
            if file.is_file():
                with contextlib.suppress(PySaxonApiError):
                    self._documents[self.saxon.make_string_value(file_uri(file))] = self.saxon.parse_xml(
                        xml_file_name=str(file)
                    )
                    self._library = self.saxon.make_map(self._documents)
        return self._library

    def source(self, tree: etree._ElementTree) -> Source:
        """A parsed document, ready for `CompiledSchema.validate`."""
        return Source(self, tree)


class CompiledSchema:
    """A schema that Saxon is ready to run."""

    def __init__(self, processor: Processor, schema: Schema, sheet: Stylesheet, executable: Any) -> None:
        self.processor, self.schema = processor, schema
        self.unreachable = schema.unreachable
        self._sheet, self._executable = sheet, executable
        self._contexts = [collapse(rule.context) for rule in sheet.rules]
        self._said = [(check.fixed_text, collapse(check.test)) for check in sheet.checks]

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """The parts of the schema that cannot be run, whatever the document."""
        return (*self.schema.gaps, *self._sheet.gaps)

    def validate(self, source: Source, opened: Iterable[Path] = ()) -> Result:
        """Test a document; `opened` are files that its rules will probably open. Raises SchematronError when the whole
        run stops.
        """
        try:
            self._executable.set_parameter(f"{{{OUT}}}library", self.processor.library(opened))
            text = self._executable.transform_to_string(xdm_node=source.node)
        except PySaxonApiError as error:
            message = "the run of the rules stopped"
            raise SchematronError(Issue("fatal", "exception", message, self.schema.path.name)) from error
        return self._result(etree.fromstring(text, etree.XMLParser(huge_tree=True)), source)

    def _result(self, output: etree._Element, source: Source) -> Result:
        fired: list[int] = []
        findings: dict[str, list[Finding]] = {"assert": [], "report": []}
        for item in output.iter(f"{{{OUT}}}fired", f"{{{OUT}}}found"):
            if item.tag == f"{{{OUT}}}fired":
                fired.append(int(item.get("rule", "")))
                continue
            number = int(item.get("check", ""))
            check, (fixed_text, test) = self._sheet.checks[number], self._said[number]
            path, line = source.place(item)
            text = collapse(str(item.xpath("string()")))
            context = self._contexts[fired[-1]]
            found = Finding(text, fixed_text, check.role, path, line, check.at, test, context)
            findings[check.kind].append(found)
        raised = [self._raised(item, source) for item in output.iter(f"{{{OUT}}}raised")]
        return Result(
            fired=len(fired),
            checked=sum(self._sheet.check_counts[rule] for rule in fired) - len(raised),
            failed=tuple(findings["assert"]),
            reports=tuple(findings["report"]),
            not_run=(*(NotRun(gap.at, gap.reason) for gap in self.gaps), *raised),
        )

    def _raised(self, item: etree._Element, source: Source) -> NotRun:
        check = self._sheet.checks[int(item.get("check", ""))]
        path, line = source.place(item)
        return NotRun(check.at, collapse(item.text or ""), item.get("code", ""), path, line)


def compile_schema(path: Path, phase: str | None = None, root: Path | None = None) -> CompiledSchema:
    """Read and compile a schema file with a processor of its own; see `read_schema`. Raises SchematronError."""
    return Processor().compile(read_schema(path, phase, root))
