"""The base check of FHIR R4 4.0.1 (http://hl7.org/fhir/R4/json.html, datatypes.html, references.html) on parsed JSON.

Each type of the tables is compiled once into closures over plain dicts. A finding with the code `structure` or `value`
means that the resource cannot be read as R4; any other says which rule a readable resource breaks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from relais.profiles import definitions, narrative
from relais.profiles.definitions import Element, Invariant
from relais.profiles.invariants import COMPUTABLE_NAME, PREDICATES, Predicate
from relais.profiles.issues import UNREADABLE_CODES, Issue, Severity
from relais.profiles.messages import Language, Message, rule_text
from relais.profiles.places import Where, render
from relais.profiles.primitives import TESTS, PrimitiveTest

MAX_ISSUES = 100
"""A check lists so many findings and counts the rest."""

_SHOWN_CODES = 20
_NO_CONTAINED: Mapping[str, str] = {}
_PROPERTY_NAME = re.compile(r"_?[A-Za-z][A-Za-z0-9]{0,63}").fullmatch
_RELATIVE_REFERENCE = re.compile(r"([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?").fullmatch
_ABSOLUTE_REFERENCE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:\S+").fullmatch
_CONDITIONAL_REFERENCE = re.compile(r"([A-Z][A-Za-z]+)\?\S+").fullmatch


def check(resource: Any, language: Language = "en") -> list[Issue]:
    """Every finding of the base check on a resource as parsed from JSON (numbers as `int` and `Decimal`).

    Takes any JSON value and never raises. Warnings are among the findings: see `Issue.severity`.
    """
    findings = _Findings(language)
    try:
        _check_resource(resource, None, findings)
    except RecursionError:
        return [Issue("fatal", "structure", Message("json-depth").render(language), rule="json-depth")]
    return findings.all()


class _Findings:
    """The findings of one check, and the container whose local references are being checked."""

    __slots__ = ("contained", "issues", "language", "unlisted", "unreadable")

    def __init__(self, language: Language) -> None:
        self.language: Language = language
        self.issues: list[Issue] = []
        self.unlisted = 0
        self.unreadable = 0
        self.contained = _NO_CONTAINED  # type by id of the contained resources

    def add(self, where: Where | None, code: str, message: Message, rule: str, severity: Severity = "error") -> None:
        self.unreadable += code in UNREADABLE_CODES
        if len(self.issues) < MAX_ISSUES:
            self.issues.append(Issue(severity, code, message.render(self.language), render(where), rule))
        else:
            self.unlisted += 1

    def all(self) -> list[Issue]:
        if self.unlisted:
            message = Message("issue-limit", count=self.unlisted).render(self.language)
            self.issues.append(Issue("information", "incomplete", message, rule="issue-limit"))
        return self.issues


Check = Callable[[Any, Where, _Findings], None]
"""Checks a value at a place."""
FieldCheck = Callable[[Any, dict[str, Any], Where, _Findings], None]
"""Checks the value of one JSON property; the second argument is the object that owns it, the third its place."""


# Resources ------------------------------------------------------------------------------------------------------------


def _check_resource(value: Any, where: Where | None, findings: _Findings) -> None:
    """Check a resource that is a container of its own: the root, a Bundle entry, a parameter."""
    if (known := _resource_type(value, where, findings)) is None:
        return
    outer = findings.contained
    inner = value.get("contained")
    findings.contained = _types_by_id(inner) if inner else _NO_CONTAINED
    place = where or (None, known, None)
    before = findings.unreadable
    _checker(known)(value, place, findings)
    if inner and findings.unreadable == before:
        _check_containment(value, place, findings)
    findings.contained = outer


def _check_contained(value: Any, where: Where, findings: _Findings) -> None:
    if known := _resource_type(value, where, findings):
        _checker(known)(value, where, findings)


def _resource_type(value: Any, where: Where | None, findings: _Findings) -> str | None:
    if type(value) is not dict:
        findings.add(where, "structure", Message("r4-resource"), "json-resource")
        return None
    name = value.get("resourceType")
    if type(name) is str and name in definitions.resource_types():
        return name
    findings.add(where, "structure", Message("r4-resource-type"), "resource-type")
    return None


def _types_by_id(contained: Any) -> dict[str, str]:
    resources = contained if isinstance(contained, list) else ()
    return {
        each["id"]: each.get("resourceType", "")
        for each in resources
        if isinstance(each, dict) and isinstance(each.get("id"), str)
    }


def _check_containment(resource: dict[str, Any], where: Where, findings: _Findings) -> None:
    """dom-2 to dom-5, and that ids inside a resource name one thing each; the resource is known to be well formed."""
    named = _local_references(resource)
    seen: set[str] = set()
    for index, each in enumerate(resource["contained"]):
        place = (where, "contained", index)
        meta = each.get("meta", {})
        broken = {
            "dom-2": "contained" in each,
            "dom-3": f"#{each.get('id')}" not in named and "#" not in _local_references(each),
            "dom-4": "versionId" in meta or "lastUpdated" in meta,
            "dom-5": "security" in meta,
        }
        for key, is_broken in broken.items():
            if is_broken:
                findings.add(place, "invariant", rule_text(_filed_under("DomainResource")[key]), key)
        if each.get("id") in seen:
            findings.add(place, "invariant", Message("r4-contained-id"), "contained-id")
        seen.add(each.get("id", ""))


def _local_references(resource: dict[str, Any]) -> set[str]:
    """Every `#…` that stands where a reference or a URI stands, contained resources included."""
    found: set[str] = set()
    waiting: list[Any] = [resource]
    names = _uri_names()
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting.extend(node)
        elif isinstance(node, dict):
            for key, value in node.items():
                if isinstance(value, dict | list):
                    waiting.append(value)
                if key in names:
                    texts = value if isinstance(value, list) else (value,)
                    found.update(text for text in texts if isinstance(text, str) and text.startswith("#"))
    return found


@cache
def _uri_names() -> frozenset[str]:
    """The JSON properties that hold URIs, and `reference`."""
    uris = ("uri", "url", "canonical")
    named = (element.json_names() for found in definitions.types().values() for element in found.elements)
    return frozenset(name for names in named for name, type_name in names.items() if type_name in uris) | {"reference"}


# Objects --------------------------------------------------------------------------------------------------------------


@cache
def _checker(name: str) -> Check:
    """The check of a resource type, data type or backbone element; made when first needed."""
    fields: dict[str, FieldCheck] = {}
    is_filled = False
    elements = definitions.elements(name)
    required = frozenset(each.name for each in elements if each.required and not each.is_choice)
    required_choices = tuple((each, _choice_keys(each)) for each in elements if each.required and each.is_choice)
    rules = tuple(_rules(name))
    is_resource = definitions.type_definition(name).kind == "resource"

    def check_object(value: Any, where: Where, findings: _Findings) -> None:
        nonlocal is_filled
        if not is_filled:
            fields.update(_fields(name))
            is_filled = True
        if type(value) is not dict or not value:
            findings.add(where, "structure", Message("r4-object"), "json-object")
            return
        before = findings.unreadable
        for key, item in value.items():
            field = fields.get(key)
            if field is None:
                _report_unknown(key, where, findings)
            else:
                field(item, value, where, findings)
        present = value.keys()
        if not present >= required:
            _report_missing(required, value, where, findings)
        for element, keys in required_choices:
            if present.isdisjoint(keys):
                findings.add((where, element.stem, None), "required", Message("r4-required"), "cardinality")
        if findings.unreadable != before:
            return
        if not is_resource and len(value) == 1 and "id" in value:
            findings.add(where, "invariant", Message("r4-empty"), "ele-1")
        for rule, holds in rules:
            if not holds(value):
                severity: Severity = "warning" if rule.severity == "warning" else "error"
                findings.add(where, "invariant", rule_text(rule), rule.key, severity)

    return check_object


def _report_unknown(key: Any, where: Where, findings: _Findings) -> None:
    if isinstance(key, str) and _PROPERTY_NAME(key):
        findings.add((where, key, None), "structure", Message("r4-unknown"), "unknown-element")
    else:
        findings.add(where, "structure", Message("r4-property"), "unknown-element")


def _report_missing(required: frozenset[str], value: dict[str, Any], where: Where, findings: _Findings) -> None:
    for name in sorted(required - value.keys()):
        if f"_{name}" not in value:
            findings.add((where, name, None), "required", Message("r4-required"), "cardinality")


def _choice_keys(element: Element) -> frozenset[str]:
    names = element.json_names()
    return frozenset(names) | {f"_{name}" for name, type_name in names.items() if _is_primitive(type_name)}


def _rules(name: str) -> Iterator[tuple[Invariant, Predicate]]:
    filed = _filed_under(name)
    bases = [name]
    while base := definitions.type_definition(bases[-1]).base:
        bases.append(base)
    for each in bases:
        for key, predicate in PREDICATES.get(each, {}).items():
            yield _filed_under(each)[key], predicate
    if computable := next((rule for rule in filed.values() if rule.expression.startswith("name.matches(")), None):
        yield computable, COMPUTABLE_NAME


@cache
def _filed_under(name: str) -> dict[str, Invariant]:
    """The invariants that stand on a type or directly on one of its elements."""
    paths = (path for path in definitions.all_invariants() if name in (path, path.rpartition(".")[0]))
    return {rule.key: rule for path in paths for rule in definitions.invariants(path)}


# Properties -----------------------------------------------------------------------------------------------------------


def _fields(name: str) -> dict[str, FieldCheck]:
    """The check of each JSON property of a type."""
    found: dict[str, FieldCheck] = {}
    if definitions.type_definition(name).kind == "resource":
        found["resourceType"] = _accept
    for element in definitions.elements(name):
        for key, type_name in element.json_names().items():
            step = f"{element.stem}.ofType({type_name})" if element.is_choice else key
            field = _field(element, type_name, step, key)
            found[key] = _sole_choice(field, element, key) if element.is_choice else field
            if _is_primitive(type_name) and _may_be_extended(element, type_name):
                extensions = _extensions_of(element, step, key)
                found[f"_{key}"] = _sole_choice(extensions, element, key) if element.is_choice else extensions
    return found


def _accept(value: Any, owner: dict[str, Any], where: Where, findings: _Findings) -> None:
    """The resourceType: already checked."""


def _is_primitive(type_name: str) -> bool:
    return type_name in definitions.primitive_types()


def _may_be_extended(element: Element, type_name: str) -> bool:
    """Ids, the url of an extension and XHTML take no extensions."""
    return not (element.xml_attribute or type_name in ("id", "xhtml"))


def _field(element: Element, type_name: str, step: str, key: str) -> FieldCheck:
    if not _is_primitive(type_name):
        check_value = _complex_check(element, type_name)
        return _complex_list(check_value, step) if element.many else _complex_single(check_value, step)
    if element.many:
        return _primitive_list(_primitive_check(element, type_name), step, f"_{key}")
    codes = _bound_codes(element)
    return _bound_code(element, codes, step) if codes else _primitive_single(element, type_name, step)


def _sole_choice(field: FieldCheck, element: Element, key: str) -> FieldCheck:
    """The field, and that no other type of the same choice is present beside it."""
    keys = _choice_keys(element)
    mine = frozenset({key, f"_{key}"})

    def check_choice(value: Any, owner: dict[str, Any], where: Where, findings: _Findings) -> None:
        field(value, owner, where, findings)
        present = keys & owner.keys()
        if len(present) > 1 and not present <= mine and next(each for each in owner if each in present) not in mine:
            findings.add((where, element.stem, None), "structure", Message("r4-choice"), "choice")

    return check_choice


def _complex_single(check_value: Check, step: str) -> FieldCheck:
    def check_single(value: Any, owner: dict[str, Any], where: Where, findings: _Findings) -> None:
        if type(value) is list:
            findings.add((where, step, None), "structure", Message("r4-single"), "cardinality")
        else:
            check_value(value, (where, step, None), findings)

    return check_single


def _complex_list(check_value: Check, step: str) -> FieldCheck:
    def check_list(value: Any, owner: dict[str, Any], where: Where, findings: _Findings) -> None:
        if type(value) is not list or not value:
            findings.add((where, step, None), "structure", Message("r4-array"), "json-array")
            return
        index = 0
        for each in value:
            check_value(each, (where, step, index), findings)
            index += 1  # noqa: SIM113 - cheaper here than enumerate

    return check_list


def _primitive_single(element: Element, type_name: str, step: str) -> FieldCheck:
    check_value = _primitive_check(element, type_name)
    test = TESTS[type_name]
    if type_name == "xhtml":
        return lambda value, owner, where, findings: check_value(value, (where, step, None), findings)

    def check_single(value: Any, owner: dict[str, Any], where: Where, findings: _Findings) -> None:
        if not test(value):
            check_value(value, (where, step, None), findings)

    return check_single


def _bound_code(element: Element, codes: frozenset[str], step: str) -> FieldCheck:
    check_value = _primitive_check(element, "code")

    def check_code(value: Any, owner: dict[str, Any], where: Where, findings: _Findings) -> None:
        if type(value) is not str or value not in codes:
            check_value(value, (where, step, None), findings)

    return check_code


def _primitive_list(check_value: Check, step: str, extended: str) -> FieldCheck:
    def check_list(value: Any, owner: dict[str, Any], where: Where, findings: _Findings) -> None:
        if type(value) is not list or not value:
            findings.add((where, step, None), "structure", Message("r4-array"), "json-array")
            return
        extensions = owner.get(extended)
        for index, each in enumerate(value):
            if each is not None:
                check_value(each, (where, step, index), findings)
            elif not (type(extensions) is list and index < len(extensions) and extensions[index]):
                findings.add((where, step, index), "structure", Message("r4-null"), "json-null")

    return check_list


def _extensions_of(element: Element, step: str, key: str) -> FieldCheck:
    """The check of `_name`, which carries the id and the extensions of the primitive element `name`."""
    check_element = _checker("Element")

    def check_one(value: Any, has_value: bool, where: Where, findings: _Findings) -> None:
        if has_value and type(value) is dict and value.keys() == {"id"}:
            if not TESTS["string"](value["id"]):
                findings.add((where, "id", None), "value", _expected("string"), "string")
        else:
            check_element(value, where, findings)

    def check_single(value: Any, owner: dict[str, Any], where: Where, findings: _Findings) -> None:
        check_one(value, key in owner, (where, step, None), findings)

    def check_list(value: Any, owner: dict[str, Any], where: Where, findings: _Findings) -> None:
        if type(value) is not list or not value:
            findings.add((where, step, None), "structure", Message("r4-array"), "json-array")
            return
        values = owner.get(key, [None] * len(value))
        if type(values) is not list or not values:
            return  # the finding is that of the values
        if len(values) != len(value):
            message = Message("r4-padding")
            findings.add((where, step, None), "structure", message, "json-null")
        for index, each in enumerate(value):
            if each is not None:
                has_value = index < len(values) and values[index] is not None
                check_one(each, has_value, (where, step, index), findings)
            elif key not in owner:
                findings.add((where, step, index), "structure", Message("r4-null"), "json-null")

    return check_list if element.many else check_single


# Values ---------------------------------------------------------------------------------------------------------------


def _primitive_check(element: Element, type_name: str) -> Check:
    test = TESTS[type_name]
    if type_name == "xhtml":
        return _narrative_check(test)
    codes = _bound_codes(element)

    def check_primitive(value: Any, where: Where, findings: _Findings) -> None:
        if not test(value):
            is_scalar = not isinstance(value, dict | list) and value is not None
            findings.add(where, "value" if is_scalar else "structure", _expected(type_name), type_name)
        elif codes and value not in codes:
            findings.add(where, "code-invalid", _not_bound(element.binding, codes), "binding")

    return check_primitive


def _narrative_check(test: PrimitiveTest) -> Check:
    def check_narrative(value: Any, where: Where, findings: _Findings) -> None:
        if not test(value):
            findings.add(where, "structure", _expected("xhtml"), "xhtml")
            return
        for problem in narrative.problems(value):
            findings.add(where, problem.code, Message(problem.message), problem.rule)

    return check_narrative


def _bound_codes(element: Element) -> frozenset[str]:
    """The codes a `code` element is bound to, whatever their system; empty when R4 does not enumerate them."""
    value_set = definitions.value_set(element.binding) if element.binding else None
    return frozenset[str]().union(*value_set.values()) if value_set else frozenset()


def _not_bound(url: str, codes: frozenset[str]) -> Message:
    if len(codes) > _SHOWN_CODES:
        return Message("r4-binding", value_set=url)
    return Message("r4-binding-listed", value_set=url, codes=", ".join(sorted(codes)))


def _expected(type_name: str) -> Message:
    return Message("r4-value", expected=Message(f"type-{type_name}"))


def _complex_check(element: Element, type_name: str) -> Check:
    if type_name == "Resource":
        return _check_contained if element.name == "contained" else _check_resource
    if type_name == "Reference":
        return _reference_check(frozenset(element.targets))
    if element.binding and type_name == "CodeableConcept":
        return _bound_concept(element)
    if element.simple_quantity and type_name == "Quantity":
        return _simple_quantity_check()
    return _checker(type_name)


def _bound_concept(element: Element) -> Check:
    check_concept = _checker("CodeableConcept")
    value_set = definitions.value_set(element.binding)

    def check_bound(value: Any, where: Where, findings: _Findings) -> None:
        before = findings.unreadable
        check_concept(value, where, findings)
        if value_set is None or findings.unreadable != before:
            return
        codings = value.get("coding", ())
        if not any(coding.get("code") in value_set.get(coding.get("system"), ()) for coding in codings):
            codes = frozenset[str]().union(*value_set.values())
            findings.add(where, "code-invalid", _not_bound(element.binding, codes), "binding")

    return check_bound


@cache
def _simple_quantity_check() -> Check:
    check_quantity = _checker("Quantity")

    def check_simple(value: Any, where: Where, findings: _Findings) -> None:
        check_quantity(value, where, findings)
        if type(value) is dict and "comparator" in value:
            findings.add((where, "comparator", None), "invariant", Message("r4-comparator"), "sqty-1")

    return check_simple


# References -----------------------------------------------------------------------------------------------------------


@cache
def _reference_check(targets: frozenset[str]) -> Check:
    check_reference = _checker("Reference")

    def check_target(value: Any, where: Where, findings: _Findings) -> None:
        check_reference(value, where, findings)
        if type(value) is not dict:
            return
        stated = value.get("type")
        named = None
        if type(text := value.get("reference")) is str:
            named = _named_type(text, where, findings)
            if named and type(stated) is str and stated != named and stated in definitions.resource_types():
                findings.add((where, "type", None), "invariant", Message("r4-reference-type"), "ref-type")
        target = named or stated
        if targets and type(target) is str and target not in targets and target in definitions.resource_types():
            message = Message("r4-target", types=", ".join(sorted(targets)))
            findings.add(where, "invariant", message, "reference-target")

    return check_target


def _named_type(text: str, where: Where, findings: _Findings) -> str | None:
    """The resource type that a reference names, or None when it does not say."""
    if relative := _RELATIVE_REFERENCE(text):
        name = relative[1]
        if name not in definitions.resource_types():
            place = (where, "reference", None)
            findings.add(place, "value", Message("r4-reference-resource"), "reference-format")
        return name
    if text.startswith("#"):
        if text != "#" and text[1:] not in findings.contained:
            findings.add((where, "reference", None), "invariant", Message("r4-reference-contained"), "ref-1")
        return findings.contained.get(text[1:])
    if conditional := _CONDITIONAL_REFERENCE(text):
        return conditional[1]
    if not _ABSOLUTE_REFERENCE(text):
        message = Message("r4-reference")
        findings.add((where, "reference", None), "value", message, "reference-format")
        return None
    last_steps = text.partition("/_history/")[0].rsplit("/", 2)[-2:]
    is_typed = len(last_steps) == 2 and _RELATIVE_REFERENCE("/".join(last_steps)) is not None
    return last_steps[0] if is_typed and last_steps[0] in definitions.resource_types() else None
