"""Terminology operations (http://hl7.org/fhir/R4/terminology-service.html) over the packages and what is stored:
`$expand`, `$validate-code`, `$lookup`, `$subsumes`, `$translate`. What is not known here is refused, never guessed.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, NoReturn

from relais.mappings.context import Resource
from relais.profiles.code_systems import Coding, Concept
from relais.profiles.messages import Message
from relais.profiles.terminology import Check, Terminology, TerminologyError
from relais.server.fhir.capabilities import EXPANSION_PARAMETERS
from relais.server.fhir.exchange import Call, Reply
from relais.server.fhir.json_format import dump
from relais.server.fhir.operations import operation
from relais.server.fhir.outcome import FhirError
from relais.server.fhir.parameters import all_parameters
from relais.server.fhir.repository import instant

if TYPE_CHECKING:
    from relais.server.fhir.facade import Facade

MOST_EXPANDED = 1000
"""Most codes that one answer of `$expand` lists: more are asked for by `count` and `offset`."""

_DEFINITION = "http://hl7.org/fhir/OperationDefinition/"
_VALIDATE_IN_SET = frozenset(
    {
        *("url", "valueSet", "valueSetVersion", "code", "system", "systemVersion", "display"),
        *("coding", "codeableConcept", "displayLanguage"),
    }
)
_VALIDATE_IN_SYSTEM = frozenset({"url", "code", "version", "display", "coding", "codeableConcept", "displayLanguage"})
_LOOKUP = frozenset({"code", "system", "version", "coding", "displayLanguage", "property"})
_SUBSUMES = frozenset({"codeA", "codeB", "system", "version", "codingA", "codingB"})
_TRANSLATE = frozenset(
    {
        *("url", "conceptMapVersion", "code", "system", "version", "source", "coding", "codeableConcept"),
        *("target", "targetsystem", "reverse"),
    }
)
_GET_AND_POST = ("GET", "POST")

Code = tuple[str | None, str, str]
"""System (None: any), code, display."""


# Value sets -----------------------------------------------------------------------------------------------------------


@operation(
    "$expand",
    level="type",
    resource_types=("ValueSet",),
    methods=_GET_AND_POST,
    definition=f"{_DEFINITION}ValueSet-expand",
)
@operation(
    "$expand",
    level="instance",
    resource_types=("ValueSet",),
    methods=_GET_AND_POST,
    definition=f"{_DEFINITION}ValueSet-expand",
)
def expand(facade: Facade, call: Call) -> Reply:
    """The codes of a value set: `url` or `valueSet`, `filter`, `count`, `offset`, `displayLanguage`."""
    given = all_parameters(call, EXPANSION_PARAMETERS)
    terminology, name, url = _value_set(facade, call, given)
    try:
        codings = terminology.expand(name, _text(given, "filter"))
    except TerminologyError as error:
        _refuse(error.message, call)
    offset, count = _whole(given, "offset") or 0, _whole(given, "count")
    if count is None and len(codings) - offset > MOST_EXPANDED:
        raise FhirError.of(422, "too-costly", f"more than {MOST_EXPANDED} codes: ask for them by count and offset")
    shown = codings[offset : offset + min(MOST_EXPANDED if count is None else count, MOST_EXPANDED)]
    language = _language(given, call)
    with_designations = _text(given, "includeDesignations") == "true"
    expansion: dict[str, Any] = {
        "identifier": f"urn:uuid:{uuid.uuid4()}",
        "timestamp": instant(facade.repository.clock()),
        "total": len(codings),
        "offset": offset,
    }
    if shown:
        contains = [_contained(terminology, one, language, with_designations=with_designations) for one in shown]
        expansion["contains"] = contains
    named = {"url": url} if url else {}
    return Reply(200, dump({"resourceType": "ValueSet", **named, "status": "active", "expansion": expansion}))


def _contained(terminology: Terminology, coding: Coding, language: str, *, with_designations: bool) -> Resource:
    concept = _concept(terminology, coding.system, coding.code)
    display = (_designation(concept, language) if concept else "") or coding.display or (concept or coding).display
    found: Resource = {"system": coding.system, "code": coding.code, "display": display}
    if with_designations and concept and concept.designations:
        found["designation"] = [_written(tongue, text) for tongue, text in concept.designations]
    return {name: value for name, value in found.items() if value}


@operation(
    "$validate-code",
    level="type",
    resource_types=("ValueSet",),
    methods=_GET_AND_POST,
    definition=f"{_DEFINITION}ValueSet-validate-code",
)
@operation(
    "$validate-code",
    level="instance",
    resource_types=("ValueSet",),
    methods=_GET_AND_POST,
    definition=f"{_DEFINITION}ValueSet-validate-code",
)
def validate_in_value_set(facade: Facade, call: Call) -> Reply:
    """Whether a value set holds a code: `code` (and `system`), `coding` or `codeableConcept`; with its `display`."""
    given = all_parameters(call, _VALIDATE_IN_SET)
    terminology, name, _ = _value_set(facade, call, given)
    codes = _codes(given, default_system=None)
    checks = [terminology.check(name, code, system) for system, code, _ in codes]
    return _verdict(terminology, codes, checks, call, given, name)


@operation(
    "$validate-code",
    level="type",
    resource_types=("CodeSystem",),
    methods=_GET_AND_POST,
    definition=f"{_DEFINITION}CodeSystem-validate-code",
)
def validate_in_code_system(facade: Facade, call: Call) -> Reply:
    """Whether a code system has a code: `url` and `code`, `coding` or `codeableConcept`; `display` is checked too."""
    given = all_parameters(call, _VALIDATE_IN_SYSTEM)
    terminology = _terminology(facade)
    codes = _codes(given, default_system=_text(given, "url") or None)
    checks = [terminology.check_code(system, code) for system, code, _ in codes if system]
    if len(checks) != len(codes):
        raise FhirError.of(400, "required", "the code system is not named", "url")
    return _verdict(terminology, codes, checks, call, given)


def _verdict(
    terminology: Terminology,
    codes: list[Code],
    checks: list[Check],
    call: Call,
    given: dict[str, Any],
    value_set: str = "",
) -> Reply:
    """One code that belongs is enough; what could not be checked is refused when no other answer is left."""
    for (system, code, display), check in zip(codes, checks, strict=True):
        if not check.result:
            continue
        answer: dict[str, Any] = {"result": True}
        if display and system:
            told = terminology.check_display(system, code, display, value_set)
            if told.result is False and told.reason:
                answer = {"result": False, "message": told.reason.render(call.language)}
        concept = _concept(terminology, system, code) if system else None
        shown = _designation(concept, _language(given, call)) or concept.display if concept else ""
        return _parameters(**answer, **({"display": shown} if shown else {}))
    unknown = next((check.reason for check in checks if check.result is None and check.reason), None)
    if unknown is not None:
        _refuse(unknown, call)
    reason = next((check.reason for check in checks if check.reason), None)
    return _parameters(result=False, **({"message": reason.render(call.language)} if reason else {}))


# Code systems ---------------------------------------------------------------------------------------------------------


@operation(
    "$lookup",
    level="type",
    resource_types=("CodeSystem",),
    methods=_GET_AND_POST,
    definition=f"{_DEFINITION}CodeSystem-lookup",
)
def lookup(facade: Facade, call: Call) -> Reply:
    """What is known of a code: `system` and `code`, or `coding`; `displayLanguage`."""
    given = all_parameters(call, _LOOKUP)
    terminology = _terminology(facade)
    ((system, code, _),) = _codes(given, default_system=None)
    if not system:
        raise FhirError.of(400, "required", "the code system is not named", "system")
    try:
        concept = terminology.lookup(system, code)
    except TerminologyError as error:
        _refuse(error.message, call)
    known = terminology.code_system(system)
    language = _language(given, call)
    display = _designation(concept, language) or concept.display or concept.code
    stated: list[Resource] = [{"name": "name", "valueString": (known.name if known else "") or system}]
    if known and known.version:
        stated.append({"name": "version", "valueString": known.version})
    stated.append({"name": "display", "valueString": display})
    stated += [
        {"name": "designation", "part": _parts(language=("valueCode", tongue), value=("valueString", text))}
        for tongue, text in concept.designations
        if text
    ]
    if concept.definition:
        stated.append(_property("definition", concept.definition))
    stated += [_property(name, value) for name, value in concept.properties if value is not None]
    stated += [_property("parent", parent) for parent in dict.fromkeys(concept.parents)]
    return Reply(200, dump({"resourceType": "Parameters", "parameter": stated}))


@operation(
    "$subsumes",
    level="type",
    resource_types=("CodeSystem",),
    methods=_GET_AND_POST,
    definition=f"{_DEFINITION}CodeSystem-subsumes",
)
def subsumes(facade: Facade, call: Call) -> Reply:
    """How two codes relate: `system`, `codeA` and `codeB`, or `codingA` and `codingB`."""
    given = all_parameters(call, _SUBSUMES)
    first, second = _end(given, "A"), _end(given, "B")
    if first[0] != second[0]:
        raise FhirError.of(400, "invalid", "both codes are of one system", "codingB")
    try:
        outcome = _terminology(facade).subsumes(first[0], first[1], second[1])
    except TerminologyError as error:
        _refuse(error.message, call)
    return Reply(
        200,
        dump({"resourceType": "Parameters", "parameter": [{"name": "outcome", "valueCode": outcome}]}),
    )


def _end(given: dict[str, Any], end: str) -> tuple[str, str]:
    coding = given.get(f"coding{end}") or {"system": _text(given, "system"), "code": _text(given, f"code{end}")}
    if not isinstance(coding, dict) or not (coding.get("system") and coding.get("code")):
        raise FhirError.of(400, "required", f"system and code{end}, or coding{end}, are expected", f"code{end}")
    return coding["system"], coding["code"]


# Concept maps ---------------------------------------------------------------------------------------------------------


@operation(
    "$translate",
    level="type",
    resource_types=("ConceptMap",),
    methods=_GET_AND_POST,
    definition=f"{_DEFINITION}ConceptMap-translate",
)
@operation(
    "$translate",
    level="instance",
    resource_types=("ConceptMap",),
    methods=_GET_AND_POST,
    definition=f"{_DEFINITION}ConceptMap-translate",
)
def translate(facade: Facade, call: Call) -> Reply:
    """What a code becomes: `code` and `system`, `coding` or `codeableConcept`; by `url` or by every concept map."""
    given = all_parameters(call, _TRANSLATE)
    terminology = _terminology(facade)
    concept_map = _named(given, "url", "conceptMapVersion")
    if call.id:
        facade.repository.read(call.resource_type, call.id)
        concept_map = f"ConceptMap/{call.id}"
    target = _text(given, "targetsystem") or _text(given, "target")
    is_reversed = _text(given, "reverse") == "true"
    found = []
    try:
        for system, code, _ in _codes(given, default_system=None):
            if not system:
                raise FhirError.of(400, "required", "the code system is not named", "system")
            found += terminology.translate(code, system, concept_map, target, reverse=is_reversed)
    except TerminologyError as error:
        _refuse(error.message, call)
    stated: list[Resource] = [
        {"name": "result", "valueBoolean": any(one.equivalence not in ("unmatched", "disjoint") for one in found)}
    ]
    for one in dict.fromkeys(found):
        coding = {"system": one.target.system, "code": one.target.code, "display": one.target.display}
        concept = {name: value for name, value in coding.items() if value}
        parts = _parts(equivalence=("valueCode", one.equivalence), source=("valueUri", one.concept_map))
        stated.append({"name": "match", "part": [*parts, *_parts(concept=("valueCoding", concept))]})
    return Reply(200, dump({"resourceType": "Parameters", "parameter": stated}))


# Reading parameters ---------------------------------------------------------------------------------------------------


def _terminology(facade: Facade) -> Terminology:
    with facade.repository.snapshot() as connection:
        return facade.terminology(connection)


def _value_set(facade: Facade, call: Call, given: dict[str, Any]) -> tuple[Terminology, str, str]:
    """The value set that is asked about, the instance, the one posted or the one of a URL: its name, and its URL."""
    terminology = _terminology(facade)
    if call.id:
        stored = facade.repository.load(call.resource_type, call.id)
        return terminology, f"ValueSet/{call.id}", stored.get("url", "")
    posted = given.get("valueSet")
    if isinstance(posted, dict) and posted.get("resourceType") == "ValueSet":
        return *terminology.with_value_set(posted), posted.get("url", "")
    url = _named(given, "url", "valueSetVersion")
    if not url:
        raise FhirError.of(400, "required", "the value set is not named: url or valueSet", "url")
    return terminology, url, url.partition("|")[0]


def _codes(given: dict[str, Any], *, default_system: str | None) -> list[Code]:
    """The codes that are asked about; one, unless a CodeableConcept has several."""
    coding, concept = given.get("coding"), given.get("codeableConcept")
    if isinstance(concept, dict):
        listed = concept.get("coding", [])
    elif isinstance(coding, dict):
        listed = [coding]
    else:
        listed = [{name: _text(given, name) for name in ("system", "code", "display")}]
    codes = [
        (each.get("system") or default_system, each["code"], each.get("display", ""))
        for each in listed
        if each.get("code")
    ]
    if not codes:
        raise FhirError.of(400, "required", "no code is given: code, coding or codeableConcept", "code")
    return codes


def _text(given: dict[str, Any], name: str) -> str:
    """A parameter as text, empty when it is not given. Raises FhirError 400."""
    value = given.get(name, "")
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int):
        raise FhirError.of(400, "value", "a primitive value is expected", name)
    return str(value)


def _language(given: dict[str, Any], call: Call) -> str:
    """The language of displays: as asked for, French for who reads French; empty: as the code system writes them."""
    return _text(given, "displayLanguage") or ("fr" if call.language == "fr" else "")


def _whole(given: dict[str, Any], name: str) -> int | None:
    text = _text(given, name)
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise FhirError.of(400, "value", "a whole number from 0 is expected", name)
    return int(text)


def _named(given: dict[str, Any], name: str, version_name: str) -> str:
    url, version = _text(given, name), _text(given, version_name)
    return f"{url}|{version}" if url and version else url


# Writing answers ------------------------------------------------------------------------------------------------------


_ANSWERS: dict[str, tuple[int, str]] = {
    **dict.fromkeys(("code-unknown", "system-unknown", "value-set-unknown", "concept-map-unknown"), (404, "not-found")),
    "value-set-large": (422, "too-costly"),
}
"""HTTP status and issue type by message; anything else is here, and cannot be answered: 422."""


def _refuse(reason: Message, call: Call) -> NoReturn:
    status, code = _ANSWERS.get(reason.key, (422, "not-supported"))
    raise FhirError.of(status, code, Message("not-checked", reason=reason).render(call.language))


def _concept(terminology: Terminology, system: str | None, code: str) -> Concept | None:
    found = terminology.code_system(system) if system else None
    return found.find(code) if found else None


def _designation(concept: Concept | None, language: str) -> str:
    """The text of a concept in a language (`fr` finds `fr-FR`); empty when it has none."""
    wanted = language.lower()
    for tongue, text in concept.designations if concept and wanted else ():
        if tongue.lower() == wanted or tongue.lower().startswith(f"{wanted}-"):
            return text
    return ""


def _written(language: str, value: str) -> Resource:
    return {"language": language, "value": value} if language else {"value": value}


def _parameters(**values: bool | str) -> Reply:
    stated = [
        {"name": name, "valueBoolean": value} if isinstance(value, bool) else {"name": name, "valueString": value}
        for name, value in values.items()
    ]
    return Reply(200, dump({"resourceType": "Parameters", "parameter": stated}))


def _parts(**values: tuple[str, Any]) -> list[Resource]:
    return [{"name": name, key: value} for name, (key, value) in values.items() if value]


def _property(name: str, value: Any) -> Resource:
    return {"name": "property", "part": [{"name": "code", "valueCode": name}, {"name": "value", **_typed(value)}]}


def _typed(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"valueBoolean": value}
    if isinstance(value, int):
        return {"valueInteger": value}
    if isinstance(value, dict):
        return {"valueCoding": value}
    return {"valueString": str(value)}
