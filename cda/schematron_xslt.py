"""From Schematron rules to XSLT 3.0: one mode per pattern, one template per rule, one `xsl:try` per check.

A check that raises an error, or that uses a variable which raised one, gives `raised` and stops nothing else.
An abstract rule becomes one named template, whoever extends it, because copying it multiplies the compile time;
only where it shares variables with the extending rule is it copied. `doc`, `doc-available` and `document` are
replaced by functions that open files of the rules only, whatever path a document under test may suggest; documents
given as the parameter `library`, by URI, are not read again, as Saxon would at every run. The search of a whole such
document for an element with a given text becomes a key, whose index Saxon keeps with the document, and so does that of
siblings that are alike (`relais.cda.schematron_siblings`).

Matching costs more than testing: a pattern is cut into groups of rules that cannot take the same node, each applied
to the few nodes that its contexts may match (`relais.cda.schematron_contexts`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lxml import etree

from relais.cda import schematron_siblings as siblings
from relais.cda.errors import Issue
from relais.cda.schematron_contexts import Selection, groups
from relais.cda.schematron_schema import Check, Extends, Gap, Let, Rule, Schema, SchematronError, Value, line_of

OUT = "urn:relais:schematron"
_OUT = f"{{{OUT}}}"
_XSL = "{http://www.w3.org/1999/XSL/Transform}"
_NUMBER = f"{_OUT}expression"
_ERROR = re.compile(r"on line (\d+) column \d+[^\n]*\n\s+(\w{4}\d{4}\s+[^\n]*)")
_VARIABLE = re.compile(r"\$\s*([\w][\w.\-]*)")
# Where a node is. The function `path` would count siblings for each finding.
_PLACE = {"element": "{_out:element(.)}", "attribute": "{_out:attribute(.)}"}
_LITERAL = re.compile(r"\s*(?:'[^']*'|\"[^\"]*\"|\d+)\s*")
_DOCUMENT_CALL = re.compile(r"(?<![\w:.\-$])(doc|doc-available|document)(?=\s*\()")
_LOOKUP = re.compile(
    r"(?P<document>(?<![\w:.\-$])doc\s*\((?:[^()]|\([^()]*\))*\))\s*//\s*(?P<name>[A-Za-z_][\w:.\-]*)"
    r"\[\s*text\(\)\s*=\s*(?P<value>string\(\s*\$[\w.\-]+\s*\))\s*\]"
)
_OPENED = re.compile(r"(?<![\w:.\-$])(?:doc|document)\s*\(\s*'([^']*)'")

# Our prefixes begin with an underscore, those of the schema are its own.
_NAMESPACES = {
    "_xsl": "http://www.w3.org/1999/XSL/Transform",
    "_xs": "http://www.w3.org/2001/XMLSchema",
    "_err": "http://www.w3.org/2005/xqt-errors",
    "_map": "http://www.w3.org/2005/xpath-functions/map",
    "_out": OUT,
}
_FUNCTIONS = """
<_xsl:stylesheet version="3.0" %s>
  <_xsl:output method="xml" encoding="us-ascii" omit-xml-declaration="yes"/>
  <_xsl:mode use-accumulators="_out:elements"/>
  <_xsl:accumulator name="_out:elements" as="_xs:integer" initial-value="0">
    <_xsl:accumulator-rule match="*" select="$value + 1"/>
  </_xsl:accumulator>
  <!-- The element of a node as its number in document order, 0 above the root. -->
  <_xsl:function name="_out:element" as="_xs:integer">
    <_xsl:param name="node" as="node()"/>
    <_xsl:sequence select="($node/ancestor-or-self::*[1]!accumulator-before('_out:elements'), 0)[1]"/>
  </_xsl:function>
  <!-- The Clark name of an attribute. -->
  <_xsl:function name="_out:attribute" as="_xs:string?">
    <_xsl:param name="node" as="node()"/>
    <_xsl:sequence select="$node/self::attribute()!concat('{', namespace-uri(), '}', local-name())"/>
  </_xsl:function>
  <_xsl:param name="_out:library" as="map(_xs:string, document-node())" select="_map:merge(())"/>
  <_xsl:function name="_out:uri" as="_xs:string">
    <_xsl:param name="uri" as="_xs:anyURI"/>
    <_xsl:sequence select="replace(string($uri), '^file:/+', 'file:/')"/>
  </_xsl:function>
  <_xsl:function name="_out:usable" as="_xs:boolean">
    <_xsl:param name="values" as="item()*"/>
    <_xsl:variable name="raised" select="$values[. instance of element(_out:raised)][1]"/>
    <_xsl:sequence select="if (empty($raised)) then true()
      else error(QName('http://www.w3.org/2005/xqt-errors', string($raised/@code)), string($raised))"/>
  </_xsl:function>
  <_xsl:function name="_out:file" as="_xs:string?">
    <_xsl:param name="href" as="_xs:string"/>
    <_xsl:variable name="uri" select="_out:uri(resolve-uri($href))"/>
    <_xsl:sequence select="($_out:replaced[@file = $uri]/string(@by),
      $uri[starts-with(., $_out:root) and not(matches(., '%%2[ef]', 'i'))])[1]"/>
  </_xsl:function>
  <_xsl:function name="_out:doc-available" as="_xs:boolean">
    <_xsl:param name="href" as="_xs:string?"/>
    <_xsl:variable name="file" select="_out:file(string($href))"/>
    <_xsl:sequence select="exists($file) and (_map:contains($_out:library, $file) or doc-available($file))"/>
  </_xsl:function>
  <_xsl:function name="_out:read" as="document-node()">
    <_xsl:param name="file" as="_xs:string"/>
    <_xsl:sequence select="if (_map:contains($_out:library, $file)) then $_out:library($file)
      else if (doc-available($file)) then doc($file)
      else error(QName('http://www.w3.org/2005/xqt-errors', 'FODC0002'),
        concat('a file of the rules is absent, or no XML: ', substring-after($file, $_out:root)))"/>
  </_xsl:function>
  <_xsl:function name="_out:doc" as="document-node()?">
    <_xsl:param name="href" as="_xs:string?"/>
    <_xsl:variable name="file" select="$href ! _out:file(.)"/>
    <_xsl:sequence select="if (exists($file) or empty($href)) then $file ! _out:read(.)
      else error(QName('http://www.w3.org/2005/xqt-errors', 'FODC0002'), 'not a file of the rules')"/>
  </_xsl:function>
  <_xsl:function name="_out:document" as="document-node()*">
    <_xsl:param name="href" as="_xs:string*"/>
    <_xsl:sequence select="$href ! _out:doc(.)"/>
  </_xsl:function>
</_xsl:stylesheet>
""" % " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in _NAMESPACES.items())  # noqa: UP031 - braces are XPath

_Items = Sequence[Let | Check | Extends]


@dataclass(frozen=True, slots=True)
class Located:
    """An expression and its place in the rules: what a compiler may refuse."""

    text: str
    at: str


@dataclass(frozen=True, slots=True)
class Stylesheet:
    """A generated stylesheet; its result numbers the lists `rules` and `checks`.

    `check_counts` says how many checks one firing of each rule evaluates; `gaps` lists what was left out.
    """

    text: str
    rules: list[Rule]
    checks: list[Check]
    check_counts: list[int]
    gaps: list[Gap]
    expressions: list[Located]

    def refused(self, error: str) -> dict[Located, str]:
        """The expressions that an error message of the compiler blames, by line number, with the reason."""
        reasons = {int(line): reason for line, reason in _ERROR.findall(error)}
        refused: dict[Located, str] = {}
        for element in etree.fromstring(self.text).iter():
            number = element.get(_NUMBER)
            if number and (reason := reasons.get(line_of(element))):
                refused[self.expressions[int(number)]] = reason
        return refused


class _Scope(NamedTuple):
    """The variables in scope: those of the rule, and those, of whatever level, whose value may be an error."""

    local: frozenset[str] = frozenset()
    fallible: frozenset[str] = frozenset()

    def guard(self, expression: str) -> str:
        """The expression in parentheses, evaluated only if none of the variables it uses holds an error."""
        used = sorted(set(_VARIABLE.findall(expression)) & self.fallible)
        if not used:
            return f"({expression})"
        return f"if (_out:usable(({', '.join('$' + name for name in used)}))) then ({expression}) else ()"


def generate(schema: Schema, replaced: Mapping[Path, Path], refused: Mapping[Located, str]) -> Stylesheet:
    """The stylesheet of a schema. Raises SchematronError when two patterns give a variable different values.

    `replaced` redirects documents that the rules open. `refused` gives the expressions that do not compile, with the
    reason: what rests on them is left out.
    """
    return _Generator(schema, replaced, refused).stylesheet()


class _Generator:
    def __init__(self, schema: Schema, replaced: Mapping[Path, Path], refused: Mapping[Located, str]) -> None:
        self.schema, self.refused = schema, refused
        self.rules: list[Rule] = []
        self.checks: list[Check] = []
        self.counts: list[int] = []
        self.gaps: dict[Gap, None] = {}
        self.expressions: list[Located] = []
        self.templates: dict[str, tuple[str, int]] = {}
        self.modes: list[str] = []
        self.starts: dict[str, str] = {}
        self.keys: dict[str, str] = {}
        self.indexes: dict[str, str] = {}
        self.siblings: dict[siblings.Key, str] = {}
        self.top = _functions(schema.namespaces)
        self.top.set("{http://www.w3.org/XML/1998/namespace}base", schema.path.as_uri())
        self.globals = self._globals()
        self._documents(replaced)

    def stylesheet(self) -> Stylesheet:
        main = etree.SubElement(self.top, f"{_XSL}template", match="/")
        result = etree.SubElement(main, f"{_OUT}result")
        for pattern in self.schema.patterns:
            for rules, selection in groups(pattern.rules):
                mode = f"group-{len(self.modes)}"
                self.modes.append(mode)
                etree.SubElement(self.top, f"{_XSL}mode", {"name": mode, "on-no-match": "deep-skip"})
                # deep-skip would still walk from the document node to its children, which the selection already holds
                etree.SubElement(self.top, f"{_XSL}template", match="/", mode=mode, priority="0")
                etree.SubElement(result, f"{_XSL}apply-templates", select=self._select(selection), mode=mode)
                for rank, rule in enumerate(rules):
                    self._rule(rule, mode, priority=len(rules) - rank)
        self._shared(result)
        text = etree.tostring(self.top, pretty_print=True).decode("ascii")
        return Stylesheet(text, self.rules, self.checks, self.counts, list(self.gaps), self.expressions)

    def _select(self, selection: Selection) -> str:
        """The expression of a selection; what it shares with others, the start of a path or a key, is noted."""
        paths = []
        for path in selection.paths:
            start = f"$_out:start-{self.starts.setdefault(path.start, str(len(self.starts)))}"
            paths.append(f"{start}/{path.rest}" if path.rest else start)
        for use, value in selection.keyed:
            name = f"_out:key-{self.keys.setdefault(use, str(len(self.keys)))}"
            paths.append(f"key('{name}', {value})")
        return " | ".join(paths)

    def _shared(self, result: etree._Element) -> None:
        """Declare the keys, and the starts of paths that selections use."""
        for use, number in self.keys.items():
            etree.SubElement(self.top, f"{_XSL}key", name=f"_out:key-{number}", match=f"*[{use}]", use=use)
        for name, number in self.indexes.items():
            etree.SubElement(self.top, f"{_XSL}key", name=f"_out:index-{number}", match=name, use="text()")
        for key in self.siblings:
            name = self._sibling_key(key)
            etree.SubElement(self.top, f"{_XSL}key", name=name, match=key.match, use=key.use, composite="yes")
        for start, number in self.starts.items():
            result.insert(0, etree.Element(f"{_XSL}variable", name=f"_out:start-{number}", select=start))

    def _globals(self) -> _Scope:
        """Declare the variables of the schema and of its patterns."""
        declared: dict[str, Let] = {}
        for let in (*self.schema.lets, *(let for pattern in self.schema.patterns for let in pattern.lets)):
            known = declared.setdefault(let.name, let)
            if known.value != let.value:
                message = f"variable {let.name} has two values, here and at {known.at}"
                raise SchematronError(Issue("fatal", "not-supported", message, let.at))
        scope = _Scope()
        for let in declared.values():
            scope = self._let(self.top, let, scope)
        return _Scope(fallible=scope.fallible)

    def _documents(self, replaced: Mapping[Path, Path]) -> None:
        """Declare what the rules may open: the files under the root, some of them replaced."""
        root = etree.SubElement(self.top, f"{_XSL}variable", name="_out:root")
        root.set("select", f"'{file_uri(self.schema.root)}/'")
        files = etree.SubElement(self.top, f"{_XSL}variable", {"name": "_out:replaced", "as": "element()*"})
        for file, by in replaced.items():
            etree.SubElement(files, f"{_OUT}replaced", file=file_uri(file), by=file_uri(by))

    def _rule(self, rule: Rule, mode: str, priority: int) -> None:
        if reason := self.refused.get(Located(rule.context, rule.at)):
            self._gap(rule.at, f"the context of the rule does not compile: {reason}")
            return
        for href in _OPENED.findall(rule.context):
            # XSLT takes an error in a context for "does not match": said here, or the rule would stay silent
            file = (self.schema.path.parent / href).resolve()
            if not _is_there(self.schema.renamed.get(file, file)):
                self._gap(rule.at, f"the context of the rule opens {href}, which is absent")
        template = etree.SubElement(self.top, f"{_XSL}template", mode=mode, priority=str(priority))
        self._expression(template, "match", rule.context, rule.at)
        etree.SubElement(template, f"{_OUT}fired", rule=str(len(self.rules)))
        self.rules.append(rule)
        self.counts.append(self._items(template, rule.items, self.globals, ())[0])

    def _items(
        self, parent: etree._Element, items: _Items, scope: _Scope, extending: tuple[str, ...]
    ) -> tuple[int, _Scope]:
        """Write the items of a rule; how many checks they evaluate, and the scope after them.

        `extending` names the abstract rules being written.
        """
        count = 0
        for index, item in enumerate(items):
            match item:
                case Let():
                    scope = self._let(parent, item, scope)
                case Check():
                    count += self._check(parent, item, items[:index], scope)
                case Extends():
                    more, scope = self._extends(parent, item, items[index + 1 :], scope, extending)
                    count += more
        return count, scope

    def _extends(
        self,
        parent: etree._Element,
        item: Extends,
        later: _Items,
        scope: _Scope,
        extending: tuple[str, ...],
    ) -> tuple[int, _Scope]:
        abstract = self.schema.abstract_rules.get(item.rule)
        if abstract is None or item.rule in extending:
            self._gap(item.at, f"abstract rule {item.rule} is {'absent' if abstract is None else 'circular'}")
            return 0, scope
        free, declared = self._variables(abstract.items)
        if free & scope.local or declared & self._variables(later)[0]:
            return self._items(parent, abstract.items, scope, (*extending, item.rule))
        name, count = self._named_template(item.rule, abstract, extending)
        etree.SubElement(parent, f"{_XSL}call-template", name=name)
        return count, scope

    def _named_template(self, rule: str, abstract: Rule, extending: tuple[str, ...]) -> tuple[str, int]:
        """Name of the template of an abstract rule, written when first asked for, and how many checks it evaluates."""
        if rule not in self.templates:
            name = f"_out:abstract-{len(self.templates)}"
            self.templates[rule] = name, 0
            template = etree.SubElement(self.top, f"{_XSL}template", name=name)
            count, _ = self._items(template, abstract.items, self.globals, (*extending, rule))
            self.templates[rule] = name, count
        return self.templates[rule]

    def _variables(self, items: _Items, extending: tuple[str, ...] = ()) -> tuple[set[str], set[str]]:
        """The names that items use before declaring them, and the names they declare."""
        free: set[str] = set()
        declared: set[str] = set()
        for item in items:
            used, new = set[str](), set[str]()
            match item:
                case Let():
                    used, new = set(_VARIABLE.findall(item.value)), {item.name}
                case Check():
                    selects = (part.select for part in item.message if isinstance(part, Value))
                    used = set(_VARIABLE.findall(" ".join((item.test, *selects))))
                case Extends(rule=name) if name in self.schema.abstract_rules and name not in extending:
                    used, new = self._variables(self.schema.abstract_rules[name].items, (*extending, name))
            free |= used - declared
            declared |= new
        return free, declared

    def _let(self, parent: etree._Element, let: Let, scope: _Scope) -> _Scope:
        """Declare a variable; the scope with it."""
        local = scope.local | {let.name}
        if _LITERAL.fullmatch(let.value):
            etree.SubElement(parent, f"{_XSL}variable", name=let.name, select=let.value)
            return _Scope(local, scope.fallible - {let.name})
        variable = etree.SubElement(parent, f"{_XSL}variable", {"name": let.name, "as": "item()*"})
        if reason := self.refused.get(Located(let.value, let.at)):
            etree.SubElement(variable, f"{_OUT}raised", code=reason[:8]).text = reason[8:].strip()
            self._gap(let.at, f"variable {let.name} does not compile: {reason}")
        else:
            attempt = etree.SubElement(variable, f"{_XSL}try")
            self._expression(attempt, "select", let.value, let.at, scope.guard(let.value))
            _catch(attempt)
        return _Scope(local, scope.fallible | {let.name})

    def _check(self, parent: etree._Element, check: Check, before: _Items, scope: _Scope) -> int:
        """Write a check, which stands after those items; 1, or 0 when its test does not compile."""
        if reason := self.refused.get(Located(check.test, check.at)):
            self._gap(check.at, f"the test does not compile: {reason}")
            return 0
        number = str(len(self.checks))
        self.checks.append(check)
        attempt = etree.SubElement(parent, f"{_XSL}try")
        condition = etree.SubElement(attempt, f"{_XSL}if")
        test = siblings.by_key(check.test, before, self._sibling_key)
        wanted = f"not(({test}))" if check.kind == "assert" else test
        self._expression(condition, "test", check.test, check.at, scope.guard(wanted))
        found = etree.SubElement(condition, f"{_OUT}found", {"check": number, **_PLACE})
        self._message(found, check)
        _catch(attempt, {"check": number, **_PLACE})
        return 1

    def _message(self, parent: etree._Element, check: Check) -> None:
        """Write a message; one that raises an error falls back on its fixed text, and the finding stands."""
        attempt = etree.SubElement(parent, f"{_XSL}try")
        for part in check.message:
            if isinstance(part, Value) and Located(part.select, check.at) not in self.refused:
                self._expression(etree.SubElement(attempt, f"{_XSL}value-of"), "select", part.select, check.at)
            else:
                etree.SubElement(attempt, f"{_XSL}text").text = "…" if isinstance(part, Value) else part
        fallback = etree.SubElement(attempt, f"{_XSL}catch")
        etree.SubElement(fallback, f"{_XSL}text").text = check.fixed_text

    def _expression(self, element: etree._Element, name: str, text: str, at: str, written: str = "") -> None:
        """Set an attribute of an XSLT element to an expression of the schema, and remember which one it is."""
        element.set(name, _DOCUMENT_CALL.sub(r"_out:\1", _LOOKUP.sub(self._lookup, written or text)))
        element.set(_NUMBER, str(len(self.expressions)))
        self.expressions.append(Located(text, at))

    def _lookup(self, found: re.Match[str]) -> str:
        """The search of a document for an element with that text, by a key."""
        number = self.indexes.setdefault(found["name"], str(len(self.indexes)))
        return f"{found['document']}/key('_out:index-{number}', {found['value']}, .)"

    def _sibling_key(self, key: siblings.Key) -> str:
        return f"_out:siblings-{self.siblings.setdefault(key, str(len(self.siblings)))}"

    def _gap(self, at: str, reason: str) -> None:
        self.gaps[Gap(at, reason)] = None


def _functions(namespaces: Mapping[str, str]) -> etree._Element:
    """A stylesheet with our functions, that binds the prefixes of a schema."""
    bound = {prefix: uri for prefix, uri in namespaces.items() if prefix not in ("", "xml")}
    top = etree.Element(f"{_XSL}stylesheet", nsmap={**bound, **_NAMESPACES}, version="3.0")
    functions = etree.fromstring(_FUNCTIONS, etree.XMLParser(remove_blank_text=True))
    top.extend(list(functions))
    return top


def _catch(attempt: etree._Element, attributes: Mapping[str, str] | None = None) -> None:
    """Turn an error into a `raised` element."""
    catch = etree.SubElement(attempt, f"{_XSL}catch")
    raised = etree.SubElement(
        catch, f"{_OUT}raised", code="{local-name-from-QName($_err:code)}", attrib=dict(attributes or {})
    )
    etree.SubElement(raised, f"{_XSL}value-of", select="$_err:description")


def file_uri(path: Path) -> str:
    """The URI of a file as Java writes it: one slash after `file:`."""
    return path.resolve().as_uri().replace("file:///", "file:/", 1)


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False
