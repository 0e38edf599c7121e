"""Compiled search-parameter expressions select what a FHIRPath engine selects, for every parameter of every R4 type."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fhirpathpy import compile as fhirpath
from fhirpathpy.engine.nodes import TypeInfo
from fhirpathpy.models import models

from relais.profiles import definitions
from relais.server.search.errors import UnsupportedExpressionError
from relais.server.search.expressions import compile_expression, compile_relative
from relais.server.search.indexer import index_plan, index_rows
from relais.server.search.parameters import parameters
from relais.server.search.sharing import component_index, holders, index_names
from relais.server.store import TextRow
from support.samples import sample

VARIANTS = range(12)
# What these select are whole resources inside a Bundle, which no search finds by.
WITHOUT_ROWS = {"Bundle": ("composition", "message")}
TYPES = sorted(definitions.resource_types())
NO_EXPRESSION = {"_query"}
NO_ROWS = {"_id", "_lastUpdated", "_text", "_content", "_query"}


def oracle(expression: str, resource_type: str) -> Any:
    """The same expression for fhirpathpy: it resolves no reference, knows no supertypes of resources, and lets `as`
    (as FHIRPath N1 does, but not R4's own parameters) take one item only."""
    expression = re.sub(r"\b(?:Domain)?Resource\.", f"{resource_type}.", expression)
    expression = re.sub(r"resolve\(\) is (\w+)", r"reference.startsWith('\1/')", expression)
    expression = re.sub(r" as (\w+)|\.as\((\w+)\)", r".ofType(\1\2)", expression)
    compiled = fhirpath(expression, models["r4"])

    def evaluate(resource: Any) -> Any:
        # An `is` evaluated anywhere before leaves the model here, and `ofType` takes subtypes from then on; a choice
        # like source[x] is of the one type it was written with.
        TypeInfo.model = None
        return compiled(resource)

    return evaluate


def plain(values: list[Any]) -> list[Any]:
    """Without repetitions: FHIRPath's union removes them, a set of index rows does too."""
    distinct: list[Any] = []
    for value in values:
        if value not in distinct:
            distinct.append(value)
    return distinct


@pytest.mark.parametrize("resource_type", TYPES)
def test_every_standard_parameter_selects_what_fhirpath_selects(resource_type: str) -> None:
    resources = [sample(resource_type, variant) for variant in VARIANTS]
    for parameter in definitions.search_parameters(resource_type).values():
        if not parameter.expression:
            continue
        extract, expected = compile_expression(parameter.expression), oracle(parameter.expression, resource_type)
        selected = [[value for _, value, _ in extract(resource)] for resource in resources]
        for resource, found in zip(resources, selected, strict=True):
            assert plain(found) == plain(expected(resource)), parameter.code
        assert any(selected), f"no sample reaches {parameter.code}"


@pytest.mark.parametrize("resource_type", TYPES)
def test_what_is_not_indexed_is_known(resource_type: str) -> None:
    """Only parameters without an expression are unserved; a search for them is refused, not empty."""
    assert index_plan(resource_type).unsupported.keys() <= NO_EXPRESSION


@pytest.mark.parametrize("resource_type", TYPES)
def test_every_parameter_that_selects_something_gives_rows(resource_type: str) -> None:
    resources = [sample(resource_type, variant) for variant in VARIANTS]
    rows = [row for resource in resources for row in index_rows(resource, "http://localhost/fhir")]
    names = {row.parameter for row in rows if not isinstance(row, TextRow)}
    for parameter in definitions.search_parameters(resource_type).values():
        if parameter.code in index_plan(resource_type).unsupported or parameter.code in NO_ROWS:
            continue
        expected = set(index_names(resource_type, parameter.code))
        if parameter.type == "composite":
            of_it = holders(resource_type, parameter.code)
            numbers = range(1, len(parameter.components) + 1)
            expected = {component_index(resource_type, code, number)[0] for code in of_it for number in numbers}
        elif parameter.type == "special":
            expected = {name + "$x" for name in expected}
        assert expected <= names or parameter.code in WITHOUT_ROWS.get(resource_type, ())


SHARING = [
    (resource_type, code)
    for resource_type in TYPES
    for code in definitions.search_parameters(resource_type)
    if holders(resource_type, code) != (code,)
]


@pytest.mark.parametrize(("resource_type", "code"), SHARING)
def test_parameters_that_stand_for_another_select_what_it_selects(resource_type: str, code: str) -> None:
    own, *others = (parameters(resource_type)[one] for one in (code, *holders(resource_type, code)))
    assert {other.type for other in others} == {own.type}
    for resource in (sample(resource_type, variant) for variant in VARIANTS):
        found = [item for other in others for item in compile_expression(other.expression)(resource)]
        expected = compile_expression(own.expression)(resource)
        assert sorted(map(repr, plain(found))) == sorted(map(repr, plain(expected)))


def test_observations_share_what_they_are_searched_by() -> None:
    assert ("Observation", "combo-code") in SHARING
    assert holders("Observation", "combo-code") == ("code", "component-code")
    assert component_index("Observation", "code-value-quantity", 1) == ("Observation.code", False)
    assert component_index("Observation", "component-code-value-quantity", 1)[1]


@pytest.mark.parametrize("resource_type", TYPES)
def test_rows_that_are_not_tried_would_be_none(resource_type: str) -> None:
    """Parameters are skipped by the elements that a resource lacks: the rows are the same as without."""
    plan = index_plan(resource_type)
    whole = sample(resource_type, 0)
    for name, value in whole.items():
        alone = {"resourceType": resource_type, name: value}
        rows = {row for row in index_rows(alone, "http://localhost/fhir") if not isinstance(row, TextRow)}
        assert rows == {row for _elements, make in plan.rows for row in make(alone, "http://localhost/fhir")}


PATIENT = {
    "resourceType": "Patient",
    "extension": [{"url": "http://x/y", "valueCode": "c"}, {"url": "http://x/z", "valueString": "s"}],
    "contained": [{"resourceType": "Organization", "id": "o"}],
    "managingOrganization": {"reference": "#o"},
    "generalPractitioner": [
        {"reference": "Practitioner/1/_history/2"},
        {"reference": "https://elsewhere/fhir/PractitionerRole/2"},
        {"type": "Organization", "identifier": {"value": "x"}},
        {"reference": "urn:uuid:c757873d-ec9a-4326-a141-556f43239520"},
    ],
}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("extension.where(url='http://x/y').value", ["c"]),
        ("extension('http://x/z').value as string", ["s"]),
        ("extension.value.ofType(string)", ["s"]),
        ("Patient.managingOrganization.where(resolve() is Organization)", [{"reference": "#o"}]),
        ("Patient.managingOrganization.where(resolve() is Patient)", []),
        ("Patient.generalPractitioner.where(resolve() is Practitioner).reference", ["Practitioner/1/_history/2"]),
        (
            "Patient.generalPractitioner.where(resolve() is PractitionerRole).reference",
            ["https://elsewhere/fhir/PractitionerRole/2"],
        ),
        ("Patient.generalPractitioner.where(resolve() is Organization).identifier.value", ["x"]),
        ("Patient.generalPractitioner[1].reference", ["https://elsewhere/fhir/PractitionerRole/2"]),
        ("Practitioner.identifier", []),
        ("Patient.deceased.exists() and Patient.deceased != false", [False]),
        ("%resource.managingOrganization.reference", ["#o"]),
        ("Patient.nothing.here", []),
    ],
)
def test_expressions_of_volets_and_corners(expression: str, expected: list[Any]) -> None:
    assert [value for _, value, _ in compile_expression(expression)(PATIENT)] == expected


@pytest.mark.parametrize(
    "expression",
    [
        "Patient.name.first()",
        "Patient.name.where(",
        "a + b",
        "Patient.name.where(use='x'",
        "Patient..name",
        "",
        "x as Y",
    ],
)
def test_what_is_not_served_is_said(expression: str) -> None:
    with pytest.raises(UnsupportedExpressionError):
        compile_expression(expression)


def test_a_relative_expression_starts_at_its_item() -> None:
    start = ("Patient", {"gender": "female"}, "")
    assert compile_relative("gender")(start, {}) == [
        ("code", "female", "http://hl7.org/fhir/ValueSet/administrative-gender")
    ]
