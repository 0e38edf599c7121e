"""The terminology service: filters, nesting, supplements, grammars, translation, and what it cannot know."""

from __future__ import annotations

from typing import Any

import pytest

from relais.profiles.code_systems import FILTERS, Coding
from relais.profiles.concept_maps import Match
from relais.profiles.packages import Registry
from relais.profiles.terminology import Terminology, TerminologyError

ANIMALS = "http://example.org/CodeSystem/animals"
SNOMED = "http://snomed.info/sct"

CODE_SYSTEMS: list[dict[str, Any]] = [
    {
        "url": ANIMALS,
        "content": "complete",
        "valueSet": "http://example.org/ValueSet/all-animals",
        "concept": [
            {
                "code": "animal",
                "display": "Animal",
                "concept": [
                    {
                        "code": "bird",
                        "display": "Oiseau",
                        "designation": [{"language": "en", "value": "Bird"}],
                        "property": [{"code": "legs", "valueInteger": 2}, {"code": "flies", "valueBoolean": True}],
                        "concept": [{"code": "owl", "display": "Chouette"}],
                    },
                    {"code": "cat", "display": "Chat", "property": [{"code": "legs", "valueInteger": 4}]},
                ],
            },
            {"code": "eagle", "display": "Aigle", "property": [{"code": "parent", "valueCode": "bird"}]},
        ],
    },
    {
        "url": "http://example.org/CodeSystem/animals-in-breton",
        "content": "supplement",
        "supplements": f"{ANIMALS}|1.0",
        "concept": [{"code": "cat", "designation": [{"language": "br", "value": "Kazh"}]}],
    },
    {
        "url": "http://example.org/CodeSystem/upper",
        "content": "complete",
        "caseSensitive": False,
        "concept": [{"code": "AB", "display": "ab"}],
    },
    {"url": "http://example.org/CodeSystem/part", "content": "fragment", "concept": [{"code": "known"}]},
    {"url": "http://example.org/CodeSystem/absent", "content": "not-present"},
]


def include(**parts: Any) -> dict[str, Any]:
    return {"compose": {"include": [parts]}}


def filtered(property_: str, op: str, value: str) -> dict[str, Any]:
    return include(system=ANIMALS, filter=[{"property": property_, "op": op, "value": value}])


VALUE_SETS: dict[str, dict[str, Any]] = {
    "whole": include(system=ANIMALS),
    "listed": include(system=ANIMALS, concept=[{"code": "cat", "display": "Minet"}, {"code": "owl"}]),
    "nested": include(valueSet=["http://example.org/ValueSet/listed"]),
    "both": include(system=ANIMALS, valueSet=["http://example.org/ValueSet/listed"],
                    filter=[{"property": "concept", "op": "is-a", "value": "bird"}]),
    "without": {"compose": {"include": [{"system": ANIMALS}],
                            "exclude": [{"system": ANIMALS, "concept": [{"code": "cat"}]}]}},
    "mixed": {"compose": {"include": [{"system": ANIMALS}, {"system": SNOMED}]}},
    "unknown-excluded": {"compose": {"include": [{"system": ANIMALS}], "exclude": [{"system": SNOMED}]}},
    "snomed": include(system=SNOMED, filter=[{"property": "concept", "op": "is-a", "value": "1"}]),
    "snomed-listed": include(system=SNOMED, concept=[{"code": "385651009"}]),
    "upper": include(system="http://example.org/CodeSystem/upper"),
    "fragment": include(system="http://example.org/CodeSystem/part"),
    "absent": include(system="http://example.org/CodeSystem/absent"),
    "circle": include(valueSet=["http://example.org/ValueSet/circle"]),
    "missing-part": include(valueSet=["http://example.org/ValueSet/nowhere"]),
    "strange": filtered("concept", "child-of", "bird"),
    "broken-regex": filtered("code", "regex", "("),
    "languages": include(system="urn:ietf:bcp:47"),
    "media": include(system="urn:ietf:bcp:13"),
    "expanded": {"expansion": {"contains": [{"system": ANIMALS, "code": "animal", "contains": [
        {"system": ANIMALS, "code": "cat", "display": "Chat"}]}]}},
}  # fmt: skip

MAP = {
    "url": "http://example.org/ConceptMap/m",
    "targetUri": "http://example.org/ValueSet/targets",
    "group": [
        {
            "source": ANIMALS,
            "target": SNOMED,
            "element": [{"code": "cat", "target": [{"code": "448169003", "equivalence": "equivalent"}]}],
            "unmapped": {"mode": "fixed", "code": "387976002"},
        },
        {"source": ANIMALS, "target": "urn:same", "element": [], "unmapped": {"mode": "provided"}},
    ],
}


@pytest.fixture(scope="module")
def terminology() -> Terminology:
    registry = Registry([])
    for system in CODE_SYSTEMS:
        registry.add_resource({"resourceType": "CodeSystem", **system})
    for name, value_set in VALUE_SETS.items():
        registry.add_resource({"resourceType": "ValueSet", "url": f"http://example.org/ValueSet/{name}", **value_set})
    registry.add_resource({"resourceType": "ConceptMap", **MAP})
    return Terminology(registry)


def codes(terminology: Terminology, name: str, text: str = "") -> list[str]:
    return [coding.code for coding in terminology.expand(f"http://example.org/ValueSet/{name}", text)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("whole", ["animal", "bird", "owl", "cat", "eagle"]),
        ("all-animals", ["animal", "bird", "owl", "cat", "eagle"]),
        ("listed", ["cat", "owl"]),
        ("nested", ["cat", "owl"]),
        ("both", ["owl"]),
        ("without", ["animal", "bird", "owl", "eagle"]),
        ("snomed-listed", ["385651009"]),
        ("expanded", ["animal", "cat"]),
    ],
)
def test_expansion(terminology: Terminology, name: str, expected: list[str]) -> None:
    assert codes(terminology, name) == expected


def test_expansion_by_text(terminology: Terminology) -> None:
    assert codes(terminology, "whole", "  CHOU") == ["owl"]
    assert codes(terminology, "whole", "eag") == ["eagle"]


@pytest.mark.parametrize(
    ("property_", "op", "value", "expected"),
    [
        ("concept", "is-a", "bird", {"bird", "owl", "eagle"}),
        ("concept", "descendent-of", "bird", {"owl", "eagle"}),
        ("concept", "is-not-a", "bird", {"animal", "cat"}),
        ("concept", "generalizes", "owl", {"owl", "bird", "animal"}),
        ("legs", "=", "4", {"cat"}),
        ("flies", "=", "true", {"bird"}),
        ("code", "in", "cat, owl", {"cat", "owl"}),
        ("code", "not-in", "cat,owl", {"animal", "bird", "eagle"}),
        ("code", "regex", "[a-c].*", {"animal", "bird", "cat"}),
        ("display", "regex", "Ch.*", {"owl", "cat"}),
        ("legs", "exists", "true", {"bird", "cat"}),
        ("legs", "exists", "false", {"animal", "owl", "eagle"}),
    ],
)
def test_filters(terminology: Terminology, property_: str, op: str, value: str, expected: set[str]) -> None:
    system = terminology.code_system(ANIMALS)
    assert system is not None
    assert FILTERS[op](system, property_, value) == expected


@pytest.mark.parametrize(
    ("name", "code", "system", "expected"),
    [
        ("listed", "cat", ANIMALS, True),
        ("listed", "bird", ANIMALS, False),
        ("listed", "cat", None, True),
        ("listed", "cat", "urn:other", False),
        ("without", "cat", ANIMALS, False),
        ("without", "bird", ANIMALS, True),
        ("both", "cat", ANIMALS, False),
        ("upper", "ab", "http://example.org/CodeSystem/upper", True),
        ("languages", "fr-FR", None, True),
        ("languages", "français", None, False),
        ("media", "application/fhir+json; fhirVersion=4.0", "urn:ietf:bcp:13", True),
        ("media", "pdf", "urn:ietf:bcp:13", False),
        # the part that is known decides where it can
        ("mixed", "cat", ANIMALS, True),
        ("mixed", "dog", ANIMALS, False),
        ("mixed", "123", SNOMED, None),
        ("unknown-excluded", "cat", ANIMALS, True),
        ("snomed", "123", SNOMED, None),
        ("snomed", "123", ANIMALS, False),
        ("snomed-listed", "385651009", SNOMED, True),
        ("snomed-listed", "123", SNOMED, False),
        # what cannot be known is never valid
        ("fragment", "known", "http://example.org/CodeSystem/part", None),
        ("absent", "x", "http://example.org/CodeSystem/absent", None),
        ("circle", "x", ANIMALS, None),
        ("missing-part", "x", ANIMALS, None),
        ("strange", "owl", ANIMALS, None),
        ("broken-regex", "owl", ANIMALS, None),
        ("nowhere", "x", ANIMALS, None),
    ],
)
def test_membership(terminology: Terminology, name: str, code: str, system: str | None, expected: bool | None) -> None:
    check = terminology.check(f"http://example.org/ValueSet/{name}", code, system)
    assert check.result is expected
    assert (check.reason is not None) is (expected is None)


@pytest.mark.parametrize("name", ["snomed", "mixed", "fragment", "absent", "circle", "strange", "media", "nowhere"])
def test_what_cannot_be_enumerated_raises(terminology: Terminology, name: str) -> None:
    with pytest.raises(TerminologyError):
        codes(terminology, name)


@pytest.mark.parametrize(
    ("system", "code", "expected"),
    [
        (ANIMALS, "cat", True),
        (ANIMALS, "dog", False),
        (ANIMALS, "CAT", False),
        ("http://example.org/CodeSystem/upper", "ab", True),
        ("http://example.org/CodeSystem/part", "known", True),
        ("http://example.org/CodeSystem/part", "other", None),
        ("http://example.org/CodeSystem/absent", "x", None),
        (SNOMED, "x", None),
        ("urn:ietf:bcp:47", "fr", True),
        ("urn:ietf:bcp:47", "f", False),
    ],
)
def test_codes_of_a_system(terminology: Terminology, system: str, code: str, expected: bool | None) -> None:
    assert terminology.check_code(system, code).result is expected


@pytest.mark.parametrize(
    ("code", "display", "value_set", "expected"),
    [
        ("bird", "Oiseau", "", True),
        ("bird", "  oiseau ", "", True),
        ("bird", "bird", "", True),
        ("cat", "Kazh", "", True),
        ("cat", "Chien", "", False),
        ("cat", "Minet", "", False),
        ("cat", "Minet", "http://example.org/ValueSet/listed", True),
        ("dog", "Chien", "", None),
    ],
)
def test_displays(terminology: Terminology, code: str, display: str, value_set: str, expected: bool | None) -> None:
    assert terminology.check_display(ANIMALS, code, display, value_set).result is expected


def test_lookup(terminology: Terminology) -> None:
    cat = terminology.lookup(ANIMALS, "cat")
    assert (cat.display, cat.designations, cat.parents) == ("Chat", [("br", "Kazh")], ["animal"])
    for system, code in ((ANIMALS, "dog"), (SNOMED, "1")):
        with pytest.raises(TerminologyError):
            terminology.lookup(system, code)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("owl", "owl", "equivalent"),
        ("animal", "owl", "subsumes"),
        ("eagle", "animal", "subsumed-by"),
        ("cat", "bird", "not-subsumed"),
    ],
)
def test_subsumption(terminology: Terminology, first: str, second: str, expected: str) -> None:
    assert terminology.subsumes(ANIMALS, first, second) == expected


def test_translation(terminology: Terminology) -> None:
    url = str(MAP["url"])
    exact = Match("equivalent", Coding(SNOMED, "448169003"), url)
    same = Match("equal", Coding("urn:same", "cat"), url)
    assert terminology.translate("cat", ANIMALS) == [exact, same]
    assert terminology.translate("cat", ANIMALS, url, SNOMED) == [exact]
    assert terminology.translate("cat", ANIMALS, target="http://example.org/ValueSet/targets") == [exact, same]
    assert terminology.translate("dog", ANIMALS, url)[0] == Match("inexact", Coding(SNOMED, "387976002"), url)
    assert terminology.translate("cat", SNOMED) == []
    with pytest.raises(TerminologyError):
        terminology.translate("cat", ANIMALS, "http://example.org/ConceptMap/nowhere")


def test_official_value_sets_expand(registry: Registry) -> None:
    terminology = Terminology(registry)
    refused = {}
    for definition in registry.definitions("ValueSet"):
        try:
            assert terminology.expand(definition.header.url)
        except TerminologyError as error:
            refused[definition.header.id] = error.message.arguments["system"]
    external = {"http://loinc.org", SNOMED, "urn:iso:std:iso:3166", "urn:iso:std:iso:4217", "urn:ietf:bcp:13"}
    assert len(refused) == 16
    assert {system for system in refused.values() if "mos.esante" not in system} <= external | {
        "https://www.iana.org/time-zones",
        "http://ihe.net/fhir/ValueSet/IHE.FormatCode.codesystem",
    }


def test_official_concept_maps(registry: Registry) -> None:
    matches = Terminology(registry).translate("18776-5", "http://loinc.org")
    assert {(match.equivalence, match.target.code) for match in matches} == {("equivalent", "44")}


def test_a_map_is_read_backwards(terminology: Terminology) -> None:
    back = Match("equivalent", Coding(ANIMALS, "cat"), str(MAP["url"]))
    assert terminology.translate("448169003", SNOMED, reverse=True) == [back]
    assert terminology.translate("448169003", SNOMED, target=ANIMALS, reverse=True) == [back]
    assert terminology.translate("cat", ANIMALS, reverse=True) == []


def test_codes_above_and_below(terminology: Terminology) -> None:
    assert terminology.below(ANIMALS, "bird") == {"owl", "eagle"}
    assert terminology.above(ANIMALS, "eagle") == {"bird", "animal"}
    for system, code in ((ANIMALS, "dragon"), (SNOMED, "1"), ("http://example.org/CodeSystem/part", "known")):
        with pytest.raises(TerminologyError):
            terminology.below(system, code)


def test_a_value_set_that_is_given_counts_beside_the_others(terminology: Terminology) -> None:
    given, name = terminology.with_value_set({"resourceType": "ValueSet", **VALUE_SETS["nested"]})
    assert [coding.code for coding in given.expand(name)] == ["cat", "owl"]
    regex = {"resourceType": "ValueSet", **filtered("code", "regex", "o.*")}
    given, name = terminology.with_value_set(regex)
    with pytest.raises(TerminologyError, match="regex"):
        given.expand(name)
    assert terminology.expand("http://example.org/ValueSet/whole")  # untouched


def test_a_value_set_of_too_many_codes_is_not_expanded(
    terminology: Terminology, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relais.profiles.terminology._MAX_LISTED", 6)
    twice = {"compose": {"include": [{"system": ANIMALS}, {"system": ANIMALS}]}}
    given, name = terminology.with_value_set({"resourceType": "ValueSet", **twice})
    with pytest.raises(TerminologyError, match="more codes"):
        given.expand(name)
    assert given.check(name, "cat", ANIMALS).result is None


def test_required_value_sets_of_r4_are_known_without_a_package() -> None:
    terminology = Terminology(Registry([]))
    gender = "http://hl7.org/fhir/ValueSet/administrative-gender"
    assert {coding.code for coding in terminology.expand(gender)} == {"male", "female", "other", "unknown"}
    assert terminology.check(gender, "male").result is True
    assert terminology.check(gender, "m").result is False


def test_a_package_is_right_and_a_second_address_lists_nothing_twice() -> None:
    registry = Registry([])
    first = {"resourceType": "ValueSet", "url": "http://example.org/v", **VALUE_SETS["listed"]}
    registry.add_resource(first)
    other = registry.copy()
    other.add_resource({**first, **VALUE_SETS["whole"]})
    (kept,) = other.definitions("ValueSet")
    assert kept.resource["compose"] == first["compose"]
    other.add_address("ValueSet/v", kept)
    assert other.find("ValueSet", "ValueSet/v") is kept
    assert len(list(other.definitions("ValueSet"))) == 1
    assert registry.find("ValueSet", "ValueSet/v") is None
