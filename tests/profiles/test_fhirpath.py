"""The FHIRPath engine: what expressions give, what is refused, and the verdicts of fhirpathpy beside ours."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import fhirpathpy
import pytest
from fhirpathpy.models import models
from hypothesis import given
from hypothesis import strategies as st

from relais.profiles import definitions
from relais.profiles.fhirpath import (
    Environment,
    FhirPathError,
    FhirPathSyntaxError,
    Item,
    compile_expression,
)
from relais.profiles.packages import Registry
from support.agreement import resource_profiles, wanted
from support.instances import Instances

Resource = dict[str, Any]

PATIENT: Resource = {
    "resourceType": "Patient",
    "id": "p1",
    "active": True,
    "birthDate": "1970-03-05",
    "_birthDate": {"extension": [{"url": "urn:precision", "valueCode": "day"}]},
    "gender": "female",
    "name": [
        {"use": "official", "family": "Test", "given": ["Anne", "Lise"]},
        {"use": "usual", "given": ["Lison"], "_family": {"extension": [{"url": "urn:absent", "valueBoolean": True}]}},
    ],
    "multipleBirthInteger": 2,
    "contact": [{"name": {"family": "Autre"}, "period": {"start": "2020", "end": "2021-02"}}],
    "generalPractitioner": [{"reference": "#doc"}, {"reference": "Practitioner/2"}],
    "contained": [{"resourceType": "Practitioner", "id": "doc", "active": False}],
}
OBSERVATION: Resource = {
    "resourceType": "Observation",
    "valueQuantity": {"value": Decimal("1.50"), "unit": "g", "system": "http://unitsofmeasure.org", "code": "g"},
    "component": [{"valueCodeableConcept": {"coding": [{"code": "a"}, {"code": "b"}]}}],
    "effectivePeriod": {"start": "2024-01-31T23:30:00+01:00"},
}


def environment(resource: Resource) -> Environment:
    focus = Item(resource, resource["resourceType"])
    contained = {f"#{each['id']}": each for each in resource.get("contained", ())}
    return Environment(
        resource=focus,
        root=focus,
        resolve=contained.get,
        member_of=lambda item, url: {"urn:known": item.value == "female"}.get(url),
        conforms_to=lambda item, url: {"urn:patient": item.type == "Patient"}.get(url),
        variables={"limit": 3, "name": "x"},
        now=datetime(2026, 3, 2, 9, 30, tzinfo=UTC),
    )


def evaluate(text: str, resource: Resource = PATIENT) -> list[Any]:
    focus = Item(resource, resource["resourceType"])
    return [item.value for item in compile_expression(text).evaluate(focus, environment(resource))]


EXPRESSIONS: list[tuple[str, list[Any]]] = [
    # paths
    ("name.given", ["Anne", "Lise", "Lison"]),
    ("Patient.name[1].given[0]", ["Lison"]),
    ("Observation.status", []),
    ("name.family", ["Test", None]),
    ("`name`.first().use", ["official"]),
    ("multipleBirth", [2]),
    ("nothing.at.all", []),
    ("birthDate.value", ["1970-03-05"]),
    ("birthDate.extension('urn:precision').value", ["day"]),
    ("name[1].family.extension.url", ["urn:absent"]),
    ("contact.name.family | name.family.where(hasValue())", ["Autre", "Test"]),
    # primitives with extensions are one value
    ("birthDate.count()", [1]),
    ("birthDate = '1970-03-05'", [True]),
    ("name.family.count()", [2]),
    ("name[1].family.exists()", [True]),
    ("name[1].family.hasValue()", [False]),
    # existence and filters
    ("name.exists(use = 'usual')", [True]),
    ("name.where(use = 'nickname').empty()", [True]),
    ("name.all(given.exists())", [True]),
    ("name.given.all($this.length() > 3)", [True]),
    ("name.given.select($index)", [0, 1, 2]),
    ("(true | false).anyTrue()", [True]),
    ("(true | false).allTrue()", [False]),
    ("name.given.subsetOf(name.given)", [True]),
    ("name.use.isDistinct()", [True]),
    ("(1 | 2 | 3 | 1).count()", [3]),
    ("(1).combine(1).count()", [2]),
    ("(1 | 2 | 3).tail().first()", [2]),
    ("(1 | 2 | 3).skip(1).take(1)", [2]),
    ("(1 | 2).exclude(2)", [1]),
    ("(1 | 2).intersect(2 | 3)", [2]),
    ("(1 | 2 | 3).aggregate($total + $this, 0)", [6]),
    ("repeat(contact | name).count()", [4]),
    ("iif(active, 'on', 'off')", ["on"]),
    # three-valued logic
    ("{} and false", [False]),
    ("{} and true", []),
    ("{} or true", [True]),
    ("{} implies true", [True]),
    ("{} implies false", []),
    ("false implies {}", [True]),
    ("true xor {}", []),
    ("nothing = 'x'", []),
    ("nothing.empty().not()", [False]),
    ("name.exists() and gender", [True]),
    # comparison
    ("1 < 2 and 2.0 >= 2 and 'a' < 'b'", [True]),
    ("@2020 < @2021-01", [True]),
    ("@2020 < @2020-05", []),
    ("@2020-01-01T10:00:00Z = @2020-01-01T11:00:00+01:00", [True]),
    ("birthDate < today()", [True]),
    ("birthDate <= today() - 18 years", [True]),
    ("@2024-01-31 + 1 month = @2024-02-29", [True]),
    ("'A  b' ~ 'a B'", [True]),
    ("1.50 ~ 1.5", [True]),
    ("(1 | 2) = (1 | 2)", [True]),
    ("(1 | 2) ~ (2 | 1)", [True]),
    ("2 in (1 | 2) and (1 | 2) contains 1", [True]),
    ("1 'kg' = 1 'kg' and 2 days > 1 day", [True]),
    # arithmetic and strings
    ("1 + 2 * 3 - 4 / 2", [Decimal(5)]),
    ("-7 div 2 = -3 and 7 mod 3 = 1", [True]),
    ("1 / 0", []),
    ("'a' + 'b' & nothing", ["ab"]),
    ("'abc'.substring(1, 1) + 'abc'.substring(2)", ["bc"]),
    ("'abc'.indexOf('c') = 2 and 'abc'.contains('b')", [True]),
    ("'abc'.startsWith('a') and 'abc'.endsWith('c')", [True]),
    ("'urn:oid:1.2'.matches('^urn:oid:[0-9.]+$')", [True]),
    ("'abc'.replaceMatches('(b)', '[$1]').upper()", ["A[B]C"]),
    ("'a,b'.split(',').join('-').length()", [3]),
    ("'12'.toInteger() + '0.5'.toDecimal()", [Decimal("12.5")]),
    ("'x'.convertsToInteger() or 'true'.toBoolean()", [True]),
    ("(2.5).round() = 3 and (1.2).ceiling() = 2 and (16).sqrt() = 4", [True]),
    ("'it\\'s \\u0041'", ["it's A"]),
    # types
    ("$this is Patient and $this is DomainResource and ($this is Observation).not()", [True]),
    ("multipleBirth is integer and (multipleBirth is boolean).not()", [True]),
    ("contact.period.ofType(Period).start", ["2020"]),
    ("gender.as(string)", []),
    ("gender is string", [True]),
    ("1 is Integer and 'a' is System.String", [True]),
    ("contact.type().name", ["BackboneElement"]),
    # surroundings
    ("generalPractitioner.resolve().active", [False]),
    ("generalPractitioner.resolve() is Practitioner", [True]),
    ("contact.all(%resource.active and %context.active)", [True]),
    ("%limit + 1", [4]),
    ("%`vs-x` = 'http://hl7.org/fhir/ValueSet/x' and %loinc = 'http://loinc.org'", [True]),
    ("gender.memberOf('urn:known')", [True]),
    ("conformsTo('urn:patient')", [True]),
    ("now() = @2026-03-02T09:30:00.000+00:00", [True]),
    ("descendants().where($this is Practitioner).id", ["doc"]),
    ("children().count()", [11]),
    ("name.trace('names').given.first() // a comment\n /* and another */", ["Anne"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), EXPRESSIONS)
def test_expressions(text: str, expected: list[Any]) -> None:
    assert evaluate(text) == expected


def test_choices_and_quantities() -> None:
    assert evaluate("value.value", OBSERVATION) == [Decimal("1.50")]
    assert evaluate("value > 1 'g' and value = 1.5 'g'", OBSERVATION) == [True]
    assert evaluate("component.value.coding.code", OBSERVATION) == ["a", "b"]
    assert evaluate("component.value.ofType(CodeableConcept).exists()", OBSERVATION) == [True]
    assert evaluate("effective.start < @2024-02-01T00:00:00Z", OBSERVATION) == [True]


@pytest.mark.parametrize(
    "text",
    [
        "", "name.", "name(", "name.where(", "name.where(use = 'a'", "1 +", "name name", "value.exists() ((", "'open",
        "nosuch()", "name.exists(1, 2)", "a is", "a is 1", "ofType()", "@x", "name[", "%", "$that", "a ? b",
        "((((" * 200 + "1" + "))))" * 200,
    ],
)  # fmt: skip
def test_syntax_errors(text: str) -> None:
    with pytest.raises(FhirPathSyntaxError):
        compile_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "name.single()", "name.given.substring(0)", "name.given + 'a'", "1 + 'a'", "'a' < 1", "-gender", "%undefined",
        "gender.memberOf('urn:other')", "conformsTo('urn:other')", "'a'.matches('(')", "gender * 2", "name and true",
        "name.given.length()", "1 + active",
    ],
)  # fmt: skip
def test_errors_of_evaluation(text: str) -> None:
    with pytest.raises(FhirPathError) as error:
        evaluate(text)
    assert "Anne" not in str(error.value)
    assert "female" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"), [("true", True), ("false", False), ("{}", False), ("name", True), ("'x'", True)]
)
def test_what_holds(text: str, expected: bool) -> None:
    assert compile_expression(text).holds(Item(PATIENT, "Patient")) is expected


def test_every_published_invariant_compiles() -> None:
    for rules in definitions.all_invariants().values():
        for rule in rules:
            compile_expression(rule.expression)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "given", "use", "x"]), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["name", "birthDate", "_birthDate", "contact", "active"]), JSON))
def test_malformed_resources_raise_nothing_else(resource: Resource) -> None:
    focus = Item({"resourceType": "Patient", **resource}, "Patient")
    for text, _ in EXPRESSIONS:
        try:
            compile_expression(text).evaluate(focus, environment(focus.value))
        except FhirPathError:
            continue


def test_invariants_of_profiles_beside_fhirpathpy(registry: Registry, request: pytest.FixtureRequest) -> None:
    """The rules on the root of every official profile, on a resource that conforms to it."""
    instances = Instances(request.getfixturevalue("validator"))
    compared = 0
    for profile in resource_profiles(registry):
        resource = instances.minimal(profile, wanted()[profile])
        for constraint in instances.tree(profile).root.definition.get("constraint", ()):
            text = constraint.get("expression", "")
            if not text or any(name in text for name in ("hasValue", "descendants", "htmlChecks", "resolve")):
                continue  # fhirpathpy lacks the function
            their = fhirpathpy.evaluate(resource, text, {"resource": resource}, models["r4"])
            ours = evaluate(text, resource)
            assert ours == their, (profile, constraint["key"])
            compared += 1
    assert compared > 300
