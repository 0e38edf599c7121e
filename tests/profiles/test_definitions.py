"""The tables of R4 4.0.1, and their agreement with another copy of the specification (package hl7.fhir.r4.core)."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from relais.profiles import definitions
from relais.profiles.definitions import Element, UnknownDefinitionError

STRUCTURE = "http://hl7.org/fhir/StructureDefinition/"
VOLET_TYPES = """
    CarePlan CareTeam Appointment Communication CommunicationRequest Subscription Schedule Slot DocumentReference
    Binary List Patient Practitioner PractitionerRole Organization RelatedPerson HealthcareService Location Device
    Endpoint Goal Condition Observation Encounter Consent Task ServiceRequest Questionnaire QuestionnaireResponse
    Coverage Provenance AuditEvent Group EpisodeOfCare Flag
"""


def element(type_name: str, name: str) -> Element:
    return next(each for each in definitions.elements(type_name) if each.name == name)


def test_there_are_the_resource_and_primitive_types_of_r4() -> None:
    assert len(definitions.resource_types()) == 146
    assert len(definitions.primitive_types()) == 20
    assert set(VOLET_TYPES.split()) <= definitions.resource_types()
    assert "DomainResource" not in definitions.resource_types()


def test_an_element_knows_its_types_cardinality_targets_and_binding() -> None:
    assert element("CarePlan", "subject") == Element(
        name="subject", types=("Reference",), required=True, targets=("Patient", "Group"), summary=True
    )
    assert element("CarePlan", "status").binding == "http://hl7.org/fhir/ValueSet/request-status"
    assert element("CarePlan", "activity") == Element(name="activity", types=("CarePlan.activity",), many=True)
    assert element("Bundle.entry", "link").types == ("Bundle.link",)
    assert element("Patient", "id").types == ("id",)
    assert element("Extension", "url").xml_attribute


def test_inherited_elements_come_first_in_the_order_of_the_specification() -> None:
    names = [each.name for each in definitions.elements("CarePlan")]
    assert names[:9] == [
        *("id", "meta", "implicitRules", "language", "text", "contained", "extension", "modifierExtension"),
        "identifier",
    ]


def test_a_choice_has_one_json_name_for_each_type() -> None:
    onset = element("Condition", "onset[x]")
    assert onset.json_names() == {
        "onsetDateTime": "dateTime",
        "onsetAge": "Age",
        "onsetPeriod": "Period",
        "onsetRange": "Range",
        "onsetString": "string",
    }


def test_search_parameters_of_a_type_include_the_common_ones() -> None:
    found = definitions.search_parameters("CarePlan")
    assert {"_id", "_lastUpdated", "_tag", "_text", "identifier", "patient", "subject", "date"} <= set(found)
    assert found["patient"].expression == "CarePlan.subject.where(resolve() is Patient)"
    assert found["date"].expression == "CarePlan.period"
    assert found["care-team"].targets == ("CareTeam",)


def test_a_composite_parameter_names_its_components() -> None:
    found = definitions.search_parameters("Observation")["code-value-quantity"]
    assert [(part.code, part.expression) for part in found.components] == [
        ("code", "code"),
        ("value-quantity", "value.as(Quantity)"),
    ]


@pytest.mark.parametrize("resource_type", sorted(definitions.resource_types()))
def test_every_parameter_reads_elements_of_its_own_type(resource_type: str) -> None:
    for found in definitions.search_parameters(resource_type).values():
        if found.code in ("_text", "_content", "_query"):
            assert found.expression == ""
        elif found.url.endswith("/InsurancePlan-name"):
            assert found.expression == "name | alias"
        else:
            operands = found.expression.split(" | ")
            assert all(
                each.lstrip("(").startswith((resource_type, "Resource.")) or found.expression.startswith("(")
                for each in operands
            )


def test_compartments_name_parameters_that_exist() -> None:
    assert set(definitions.compartments()) == {"Patient", "Practitioner", "RelatedPerson", "Encounter", "Device"}
    assert definitions.compartments()["Patient"]["CarePlan"] == ("patient", "performer")
    for members in definitions.compartments().values():
        for resource_type, codes in members.items():
            assert set(codes) <= set(definitions.search_parameters(resource_type)), resource_type


def test_value_sets_that_cannot_be_enumerated_are_none() -> None:
    gender = definitions.value_set("http://hl7.org/fhir/ValueSet/administrative-gender")
    assert gender == {"http://hl7.org/fhir/administrative-gender": frozenset({"male", "female", "other", "unknown"})}
    assert definitions.value_set("http://hl7.org/fhir/ValueSet/mimetypes") is None


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownDefinitionError):
        definitions.elements("Nothing")
    with pytest.raises(UnknownDefinitionError):
        definitions.search_parameters("Period")


# Agreement with the package hl7.fhir.r4.core --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def core(cisis: Path) -> Path:
    folder = cisis / "fhir" / "hl7.fhir.r4.core#4.0.1" / "package"
    if not folder.is_dir():
        pytest.skip("package hl7.fhir.r4.core#4.0.1 not found")
    return folder


def resources(core: Path, resource_type: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(core.glob(f"{resource_type}-*.json"))]


def type_definitions(core: Path) -> list[dict[str, Any]]:
    found = resources(core, "StructureDefinition")
    return [each for each in found if each.get("derivation") != "constraint" and each["kind"] != "logical"]


def type_code(found: dict[str, Any], path: str) -> str:
    if not found["code"].startswith("http://hl7.org/fhirpath/"):
        return str(found["code"])
    return "uri" if path == "Extension.url" else "string"


def test_every_element_agrees(core: Path) -> None:
    compared = 0
    for definition in type_definitions(core):
        if definition["kind"] == "primitive-type":
            continue
        for snapshot in definition["snapshot"]["element"]:
            parent, _, name = snapshot["path"].rpartition(".")
            if not parent:
                continue
            mine = element(parent, name)
            compared += 1
            assert mine.required == (snapshot["min"] > 0), snapshot["path"]
            assert mine.many == (snapshot["max"] == "*"), snapshot["path"]
            assert sorted(mine.targets) == sorted(
                target.removeprefix(STRUCTURE)
                for found in snapshot.get("type", ())
                if found["code"] == "Reference"
                for target in found.get("targetProfile", ())
                if target != f"{STRUCTURE}Resource"
            ), snapshot["path"]
            codes = [type_code(found, snapshot["path"]) for found in snapshot.get("type", ())]
            if "contentReference" in snapshot:
                assert mine.types == (snapshot["contentReference"].rpartition("#")[2],)
            elif mine.types == (snapshot["path"],):
                assert codes == [definitions.type_definition(snapshot["path"]).base]
            elif mine.types != ("id",):
                assert list(mine.types) == codes, snapshot["path"]
            binding = snapshot.get("binding", {})
            required = binding.get("valueSet", "").partition("|")[0] if binding.get("strength") == "required" else ""
            assert mine.binding == required, snapshot["path"]
    assert compared > 3500


def test_every_element_of_the_other_copy_is_all_there_is(core: Path) -> None:
    for definition in type_definitions(core):
        if definition["kind"] != "primitive-type":
            paths = {each["path"] for each in definition["snapshot"]["element"]} - {definition["type"]}
            top = {path.partition(".")[2] for path in paths if path.count(".") == 1}
            assert {each.name for each in definitions.elements(definition["type"])} == top, definition["type"]


def test_every_invariant_agrees(core: Path) -> None:
    rewritten = {"dom-3"}  # that copy states it had to put this expression back by hand
    compared = 0
    for definition in type_definitions(core):
        for snapshot in definition["snapshot"]["element"]:
            mine = {each.key: each for each in definitions.invariants(snapshot["path"])}
            stated = {each["key"]: each for each in snapshot.get("constraint", ())}
            assert set(mine) <= set(stated), snapshot["path"]
            for key, found in mine.items():
                compared += 1
                assert found.severity == stated[key]["severity"]
                if key not in rewritten:
                    assert found.expression == stated[key]["expression"], key
    assert compared > 150


def test_every_search_parameter_agrees(core: Path) -> None:
    bundle = json.loads((core / "Bundle-search-parameters.json").read_text())
    compared = 0
    for found in (entry["resource"] for entry in bundle["entry"]):
        for base in set(found["base"]) & definitions.resource_types():
            mine = definitions.search_parameters(base)[found["code"]]
            compared += 1
            assert mine.type == found["type"], found["url"]
            assert set(mine.targets) <= set(found.get("target", ())), found["url"]
            operands = {each.strip() for each in found.get("expression", "").split("|")}
            assert {each.strip() for each in mine.expression.split("|")} <= operands, found["url"]
            assert len(mine.components) == len(found.get("component", ())), found["url"]
    assert compared > 700


def test_every_compartment_agrees(core: Path) -> None:
    found = resources(core, "CompartmentDefinition")
    assert {each["code"] for each in found} == set(definitions.compartments())
    for each in found:
        stated = {member["code"]: set(member.get("param", ())) - {"{def}"} for member in each["resource"]}
        mine = definitions.compartments()[each["code"]]
        assert {name: set(codes) for name, codes in mine.items()} == {k: v for k, v in stated.items() if v}


def test_every_value_set_that_lists_its_codes_agrees(core: Path) -> None:
    compared = 0
    for value_set in resources(core, "ValueSet"):
        includes = value_set.get("compose", {}).get("include", ())
        mine = definitions.value_set(value_set["url"])
        if mine is None or not includes or not all("concept" in each for each in includes):
            continue
        if "exclude" in value_set["compose"] or any("valueSet" in each for each in includes):
            continue
        stated: dict[str, set[str]] = {}
        for each in includes:
            stated.setdefault(each["system"], set()).update(concept["code"] for concept in each["concept"])
        compared += 1
        assert {system: set(codes) for system, codes in mine.items()} == stated, value_set["url"]
    assert compared > 5


def test_every_value_set_of_one_whole_code_system_agrees(core: Path) -> None:
    systems = {each["url"]: each for each in resources(core, "CodeSystem") if each["content"] == "complete"}
    compared = 0
    for value_set in resources(core, "ValueSet"):
        includes = value_set.get("compose", {}).get("include", ())
        mine = definitions.value_set(value_set["url"])
        if mine is None or len(includes) != 1 or set(includes[0]) != {"system"} or includes[0]["system"] not in systems:
            continue
        compared += 1
        assert mine == {includes[0]["system"]: frozenset(codes_of(systems[includes[0]["system"]]))}, value_set["url"]
    assert compared > 100


def codes_of(node: dict[str, Any]) -> list[str]:
    found = []
    for concept in node.get("concept", ()):
        found += [concept["code"], *codes_of(concept)]
    return found


_FORKS = """
import os, sys, threading
from relais.profiles import definitions

def child():
    together = threading.Barrier(4)
    threads = [threading.Thread(target=lambda: (together.wait(), definitions.all_invariants())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os._exit(0)

sys.setswitchinterval(1e-6)
for _ in range(100):
    number = os.fork()
    if not number:
        child()
    if os.waitpid(number, 0)[1]:
        sys.exit("a process crashed")
"""


def test_threads_of_a_new_process_may_read_a_table_at_once() -> None:
    """As those of a web process do with its first requests; decoders made by them crashed one process in thirty."""
    subprocess.run([sys.executable, "-c", _FORKS], check=True, timeout=300)


def test_decoders_of_types_are_made_on_import() -> None:
    """msgspec prepares a type when it first meets it, and not for two threads at once."""
    root = Path(definitions.__file__).parents[1]
    calls = [
        (path.name, node.lineno)
        for room in ("cda", "mappings", "profiles", "server")
        for path in (root / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("json.decode")
        if any(
            keyword.arg == "type" and "dict[str, str]" not in ast.unparse(keyword.value) for keyword in node.keywords
        )
    ]
    assert calls == []
