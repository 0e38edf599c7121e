"""Snapshots made from differentials, beside the official ones and on small profiles of our own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from relais.profiles.packages import Registry, load
from relais.profiles.snapshots import TYPE_URL, SnapshotError, Snapshots

Element = dict[str, Any]


def profile(base: str, *differential: Element, name: str = "under-test", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "StructureDefinition",
        "url": f"http://example.org/StructureDefinition/{name}",
        "name": name,
        "kind": "resource",
        "derivation": "constraint",
        "baseDefinition": base if ":" in base else f"{TYPE_URL}{base}",
        "type": base,
        "differential": {"element": [{"id": base, "path": base}, *differential]},
        **more,
    }


def made(registry: Registry, structure: dict[str, Any]) -> dict[str, Element]:
    return {element["id"]: element for element in Snapshots(registry).make(structure)}


@pytest.fixture(scope="module")
def compared(registry: Registry) -> list[tuple[str, dict[str, Element], dict[str, Element]]]:
    """Name, our elements and the official ones, of every profile that has a differential too."""
    snapshots = Snapshots(registry)
    return [
        (
            definition.header.id,
            {element["id"]: element for element in snapshots.make(definition.resource)},
            {element["id"]: element for element in definition.resource["snapshot"]["element"]},
        )
        for definition in registry.definitions("StructureDefinition")
        if "differential" in definition.resource
    ]


def comparable(element: Element) -> dict[str, Any]:
    """What validation reads of an element, without versions in canonicals."""
    found = {
        key: value
        for key, value in element.items()
        if key in ("min", "max", "sliceName") or key.startswith(("fixed", "pattern"))
    }
    found["types"] = {each["code"] for each in element.get("type", ())}
    found["reference"] = str(element.get("contentReference", "")).rpartition("#")[2]
    binding = element.get("binding", {})
    found["binding"] = (binding.get("strength"), str(binding.get("valueSet")).partition("|")[0])
    return found


def test_official_snapshots_are_met(compared: list[Any]) -> None:
    counts: Counter[str] = Counter()
    for _, ours, official in compared:
        for name in ours.keys() | official.keys():
            is_same = name in ours and name in official and comparable(ours[name]) == comparable(official[name])
            counts["same" if is_same else "other"] += 1
    assert len(compared) == 191
    # The rest: snapshots made against other versions of a base, and how deep data types are unfolded.
    assert counts["other"] / counts["same"] < 0.03, counts


def test_no_constraint_of_a_profile_is_missed(compared: list[Any]) -> None:
    """Official snapshots repeat on an element the rules of its type; the validator takes those from the type."""
    for name, ours, official in compared:
        for element_id in ours.keys() & official.keys():
            known = {each["key"] for each in ours[element_id].get("constraint", ())}
            missed = [each for each in official[element_id].get("constraint", ()) if each["key"] not in known]
            is_typed = ours[element_id].get("type", [{}])[0].get("code", "")
            assert all(is_typed and each["source"].startswith("http") for each in missed), (name, element_id)
            assert not {each["key"] for each in missed} & {"fr-core-1", "req-met", "mhd-startswithoid", "vs-2"}


def test_slices_are_copies_of_what_they_slice(registry: Registry) -> None:
    elements = made(
        registry,
        profile(
            "Patient",
            {
                "id": "Patient.identifier",
                "path": "Patient.identifier",
                "min": 1,
                "slicing": {"discriminator": [{"type": "value", "path": "system"}], "rules": "closed"},
            },
            {"id": "Patient.identifier:ins", "path": "Patient.identifier", "sliceName": "ins", "max": "1"},
            {"id": "Patient.identifier:ins.system", "path": "Patient.identifier.system", "fixedUri": "urn:oid:1.2"},
            {"id": "Patient.identifier:other", "path": "Patient.identifier", "sliceName": "other"},
        ),
    )
    assert elements["Patient.identifier"]["min"] == 1
    ins, other = elements["Patient.identifier:ins"], elements["Patient.identifier:other"]
    assert (ins["min"], ins["max"], ins["sliceName"], "slicing" in ins) == (0, "1", "ins", False)
    assert (other["min"], other["max"]) == (0, "*")
    assert elements["Patient.identifier:ins.system"]["fixedUri"] == "urn:oid:1.2"
    assert "Patient.identifier:ins.value" in elements
    assert "Patient.identifier:other.system" not in elements
    order = [name for name in elements if name.startswith("Patient.identifier")]
    assert order.index("Patient.identifier:ins.system") < order.index("Patient.identifier:other")
    assert list(elements).index("Patient.identifier:other") < list(elements).index("Patient.active")


def test_slices_of_slices(registry: Registry) -> None:
    elements = made(
        registry,
        profile(
            "Patient",
            {"id": "Patient.telecom", "path": "Patient.telecom", "slicing": {"rules": "open"}},
            {"id": "Patient.telecom:phone", "path": "Patient.telecom", "slicing": {"rules": "open"}},
            {"id": "Patient.telecom:phone/home", "path": "Patient.telecom", "sliceName": "phone/home", "max": "2"},
        ),
    )
    assert elements["Patient.telecom:phone/home"]["max"] == "2"
    assert elements["Patient.telecom:phone"]["slicing"] == {"rules": "open"}


@pytest.mark.parametrize("element_id", ["Observation.valueQuantity.code", "Observation.value[x]:valueQuantity.code"])
def test_choices_by_type_name(registry: Registry, element_id: str) -> None:
    elements = made(
        registry, profile("Observation", {"id": element_id, "path": "Observation.valueQuantity.code", "min": 1})
    )
    choice = elements["Observation.value[x]:valueQuantity"]
    assert ([each["code"] for each in choice["type"]], choice["max"]) == (["Quantity"], "1")
    assert elements["Observation.value[x]:valueQuantity.code"]["min"] == 1
    assert elements["Observation.value[x]"]["slicing"]["discriminator"] == [{"type": "type", "path": "$this"}]


def test_references_to_content_are_unfolded(registry: Registry) -> None:
    elements = made(
        registry,
        profile(
            "Questionnaire", {"id": "Questionnaire.item.item.text", "path": "Questionnaire.item.item.text", "min": 1}
        ),
    )
    assert elements["Questionnaire.item.item.text"]["min"] == 1
    assert elements["Questionnaire.item.text"]["min"] == 0


def test_profiles_of_types_are_unfolded(registry: Registry) -> None:
    name = "https://hl7.fr/ig/fhir/core/StructureDefinition/fr-core-human-name"
    elements = made(
        registry,
        profile(
            "Patient",
            {"id": "Patient.name", "path": "Patient.name", "type": [{"code": "HumanName", "profile": [name]}]},
            {"id": "Patient.name.family", "path": "Patient.name.family", "min": 1},
        ),
    )
    assert elements["Patient.name.family"]["min"] == 1
    assert elements["Patient.name.prefix"]["max"] == "1"  # what fr-core says of names


def test_a_new_value_takes_the_place_of_the_old(packages: Path) -> None:
    registry = load(packages, ["hl7.fhir.r4.core"])
    base = profile("Task", {"id": "Task.intent", "path": "Task.intent", "patternCode": "plan"}, name="base")
    derived = profile("Task", {"id": "Task.intent", "path": "Task.intent", "fixedCode": "plan"}, name="derived")
    registry.add_resource(base)
    intent = made(registry, {**derived, "baseDefinition": base["url"]})["Task.intent"]
    assert intent["fixedCode"] == "plan"
    assert "patternCode" not in intent


def test_differential_without_ids(registry: Registry) -> None:
    elements = made(registry, profile("Patient", {"path": "Patient.name", "min": 1}, {"path": "Patient.name.family"}))
    assert elements["Patient.name"]["min"] == 1
    assert "Patient.name.given" in elements


def test_constraints_add_up_and_replace_by_key(registry: Registry) -> None:
    rule = {"key": "dom-6", "severity": "error", "human": "narrative", "expression": "text.exists()"}
    mine = {"key": "mine-1", "severity": "error", "human": "mine", "expression": "true"}
    structure = profile("Patient")
    structure["differential"]["element"][0]["constraint"] = [rule, mine]
    root = made(registry, structure)["Patient"]
    keys = [each["key"] for each in root["constraint"]]
    assert keys.count("dom-6") == keys.count("mine-1") == 1
    assert {"dom-2", "dom-3"} <= set(keys)
    assert next(each for each in root["constraint"] if each["key"] == "dom-6")["severity"] == "error"


@pytest.mark.parametrize(
    ("structure", "rule"),
    [
        (profile("http://example.org/unknown"), "profile-unknown"),
        (profile("Patient", {"id": "Patient.nothing", "path": "Patient.nothing"}), "profile-element"),
        (profile("Patient", {"id": "Patient.name.x.y", "path": "Patient.name.x.y"}), "profile-element"),
        ({"resourceType": "StructureDefinition", "url": "http://example.org/x", "type": "Patient"}, "profile-base"),
    ],
)
def test_profiles_that_cannot_be_made(registry: Registry, structure: dict[str, Any], rule: str) -> None:
    with pytest.raises(SnapshotError) as error:
        made(registry, structure)
    assert error.value.issue.rule == rule


def test_a_profile_derived_from_itself_is_named() -> None:
    registry = Registry([])
    for name, base in (("a", "b"), ("b", "c"), ("c", "a")):
        registry.add_resource(profile(f"http://example.org/StructureDefinition/{base}", name=name))
    with pytest.raises(SnapshotError) as error:
        Snapshots(registry).of_url("http://example.org/StructureDefinition/a")
    assert error.value.issue.rule == "profile-cycle"
    assert "/a → " in error.value.message.render("fr")


def test_types_may_be_defined(registry: Registry) -> None:
    structure = profile(
        "Element",
        {"id": "Address.street", "path": "Address.street", "min": 1, "max": "1", "type": [{"code": "string"}]},
        derivation="specialization",
        kind="logical",
        type="http://example.org/StructureDefinition/Address",
    )
    structure["differential"]["element"][0] = {"id": "Address", "path": "Address"}
    elements = made(registry, structure)
    assert elements["Address.street"]["min"] == 1
    assert next(iter(elements)) == "Address"
