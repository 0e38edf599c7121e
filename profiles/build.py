"""Makes the tables of `profiles/r4` from the published FHIR R4 4.0.1 definitions:

    python -m relais.profiles.build            (takes the package from Maven Central with `mvn`)
    python -m relais.profiles.build --jar FILE (takes a copy that is already here)

The package is `hapi-fhir-validation-resources-r4` (Apache-2.0), which carries the definition files that HL7 publishes
(CC0) unchanged; its digest is pinned, so the same tables come out everywhere.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec
from lxml import etree

from relais.profiles.definitions import (
    FHIR_VERSION,
    Component,
    Element,
    Invariant,
    Kind,
    SearchParameter,
    TypeDefinition,
)

ARTIFACT = "ca.uhn.hapi.fhir:hapi-fhir-validation-resources-r4:8.4.0"
SHA256 = "b14c6f72baaaf2af6cc6a6a943b3b895973222b5a220ee992a05b81b34a3acc4"
FOLDER = "org/hl7/fhir/r4/model/"

_NS = {"f": "http://hl7.org/fhir"}
_STRUCTURE = "http://hl7.org/fhir/StructureDefinition/"
_SYSTEM_TYPE = "http://hl7.org/fhirpath/System."
_BASE_TYPES = ("Resource", "DomainResource")

Codes = dict[str, set[str]]


@click.command()
@click.option("--jar", type=click.Path(exists=True, dir_okay=False, path_type=Path), help=f"a copy of {ARTIFACT}")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(__file__).parent / "r4",
    help="where the tables go; default: beside this module",
)
def main(jar: Path | None, output: Path) -> None:
    """Write the tables of FHIR R4 4.0.1."""
    with tempfile.TemporaryDirectory() as folder:
        source = Package(jar or _download(Path(folder)))
        output.mkdir(parents=True, exist_ok=True)
        for name, table in tables(source).items():
            path = output / name
            path.write_bytes(_encode(table))
            click.echo(f"{path}: {len(table)} entries, {path.stat().st_size:,} bytes")


def tables(source: Package) -> dict[str, Mapping[str, Any]]:
    """Every table by file name."""
    types = _types(source)
    bindings = {element.binding for found in types.values() for element in found.elements if element.binding}
    resources = {name for name, found in types.items() if found.kind == "resource" and not found.abstract}
    return {
        "types.json": types,
        "value_sets.json": Terminology(source).expand_all(bindings),
        "search_parameters.json": _search_parameters(source, resources),
        "compartments.json": _compartments(source),
        "invariants.json": _invariants(source),
    }


class Package:
    """The definition files inside the package."""

    def __init__(self, jar: Path) -> None:
        if hashlib.sha256(jar.read_bytes()).hexdigest() != SHA256:
            raise click.ClickException(f"{jar.name} is not {ARTIFACT}: its SHA-256 differs from the pinned one")
        self._archive = zipfile.ZipFile(jar)

    def resources(self, resource_type: str, *names: str) -> Iterator[Any]:
        """The XML elements of the resources of a type in the named Bundle files."""
        for name in names:
            parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
            bundle = etree.fromstring(self._archive.read(FOLDER + name), parser)
            yield from bundle.iterfind(f"f:entry/f:resource/f:{resource_type}", _NS)

    def structure_definitions(self) -> Iterator[Any]:
        """The definitions of types; profiles on them (SimpleQuantity…) and logical models are left out."""
        for found in self.resources(
            "StructureDefinition", "profile/profiles-types.xml", "profile/profiles-resources.xml"
        ):
            if _value(found, "fhirVersion") != FHIR_VERSION:
                raise click.ClickException(f"{_value(found, 'name')} is not of FHIR {FHIR_VERSION}")
            if _value(found, "derivation") != "constraint" and _value(found, "kind") != "logical":
                yield found

    def compartment_definitions(self) -> Iterator[Any]:
        """The CompartmentDefinition resources."""
        return self.resources("CompartmentDefinition", "profile/profiles-resources.xml")

    def search_parameters(self) -> list[dict[str, Any]]:
        """The SearchParameter resources, as JSON."""
        bundle = msgspec.json.decode(self._archive.read(FOLDER + "sp/search-parameters.json"))
        return [entry["resource"] for entry in bundle["entry"]]


def _download(folder: Path) -> Path:
    command = ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={folder}"]
    try:
        subprocess.run(command, check=True)  # noqa: S603 - a fixed command
    except (OSError, subprocess.CalledProcessError) as error:
        raise click.ClickException(f"mvn could not fetch {ARTIFACT} ({error}); pass a copy with --jar") from error
    return next(folder.glob("*.jar"))


def _encode(table: Mapping[str, Any]) -> bytes:
    """JSON with one line for each entry, so that a change of version reads well."""
    lines = (f"{msgspec.json.encode(key).decode()}:{msgspec.json.encode(table[key]).decode()}" for key in sorted(table))
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _values(node: Any, path: str) -> list[str]:
    return [found.get("value") for found in node.iterfind("/".join(f"f:{step}" for step in path.split("/")), _NS)]


def _value(node: Any, path: str) -> str:
    found = _values(node, path)
    return found[0] if found else ""


# Types ----------------------------------------------------------------------------------------------------------------


def _types(source: Package) -> dict[str, TypeDefinition]:
    types: dict[str, TypeDefinition] = {}
    for found in source.structure_definitions():
        types |= _type_and_backbones(found)
    inherited = {name: {element.name for element in found.elements} for name, found in types.items()}

    def own(found: TypeDefinition) -> TypeDefinition:
        names: set[str] = set()
        base = found.base
        while base:
            names |= inherited[base]
            base = types[base].base
        kept = tuple(element for element in found.elements if element.name not in names)
        return msgspec.structs.replace(found, elements=kept)

    return {name: own(found) for name, found in types.items()}


def _type_and_backbones(definition: Any) -> dict[str, TypeDefinition]:
    """A type and the backbone elements inside it, each with all its elements (inherited ones too)."""
    root = _value(definition, "type")
    nodes = {_value(node, "path"): node for node in definition.iterfind("f:snapshot/f:element", _NS)}
    children: dict[str, list[Element]] = defaultdict(list)
    kind = _kind(definition)
    if kind != "primitive":
        for path, node in nodes.items():
            parent, _, name = path.rpartition(".")
            if parent:
                children[parent].append(_element(root, name, node, is_parent=_is_parent(path, nodes)))
    found = {
        root: TypeDefinition(
            kind=kind,
            base=_value(definition, "baseDefinition").removeprefix(_STRUCTURE),
            abstract=_value(definition, "abstract") == "true",
            elements=tuple(children.pop(root, ())),
        )
    }
    for path, members in children.items():
        found[path] = TypeDefinition(kind="backbone", base=_value(nodes[path], "type/code"), elements=tuple(members))
    return found


def _kind(definition: Any) -> Kind:
    kinds: dict[str, Kind] = {"resource": "resource", "complex-type": "complex", "primitive-type": "primitive"}
    return kinds[_value(definition, "kind")]


def _is_parent(path: str, nodes: Mapping[str, Any]) -> bool:
    return any(other.startswith(f"{path}.") for other in nodes)


def _element(root: str, name: str, node: Any, *, is_parent: bool) -> Element:
    maximum = _value(node, "max")
    if maximum not in ("1", "*"):
        raise click.ClickException(f"{_value(node, 'path')}: a maximum of {maximum} has no place in the tables")
    return Element(
        name=name,
        types=(_value(node, "path"),) if is_parent else tuple(_element_types(root, node)),
        required=_value(node, "min") != "0",
        many=maximum == "*",
        targets=tuple(_reference_targets(node)),
        binding=_required_binding(node),
        simple_quantity=f"{_STRUCTURE}SimpleQuantity" in _values(node, "type/profile"),
        xml_attribute="xmlAttr" in _values(node, "representation"),
        summary=_value(node, "isSummary") == "true",
    )


def _element_types(root: str, node: Any) -> Iterator[str]:
    if content := _value(node, "contentReference"):
        yield content.rpartition("#")[2]
    for found in node.iterfind("f:type", _NS):
        code = _value(found, "code")
        if not code.startswith(_SYSTEM_TYPE):
            yield code
        elif root == "Resource" or _value(node, "base/path") == "Resource.id":
            yield "id"  # the definition files say "string" here; the text of the specification says id
        else:
            yield _value(found, "extension/valueUrl")


def _reference_targets(node: Any) -> Iterator[str]:
    for found in node.iterfind("f:type", _NS):
        if _value(found, "code") == "Reference":
            targets = [target.removeprefix(_STRUCTURE) for target in _values(found, "targetProfile")]
            yield from (target for target in targets if target not in _BASE_TYPES)


def _required_binding(node: Any) -> str:
    strength = _value(node, "binding/strength")
    return _value(node, "binding/valueSet").partition("|")[0] if strength == "required" else ""


def _invariants(source: Package) -> dict[str, list[Invariant]]:
    found: dict[str, list[Invariant]] = defaultdict(list)
    for definition in source.structure_definitions():
        for node in definition.iterfind("f:differential/f:element", _NS):
            for constraint in node.iterfind("f:constraint", _NS):
                found[_value(node, "path")].append(_invariant(constraint))
    return found


def _invariant(node: Any) -> Invariant:
    return Invariant(
        key=_value(node, "key"),
        severity="warning" if _value(node, "severity") == "warning" else "error",
        human=_value(node, "human"),
        expression=_value(node, "expression"),
    )


# Search parameters and compartments -----------------------------------------------------------------------------------


def _search_parameters(source: Package, resources: set[str]) -> dict[str, list[SearchParameter]]:
    published = source.search_parameters()
    codes = {found["url"]: found["code"] for found in published}
    table: dict[str, list[SearchParameter]] = defaultdict(list)
    for found in sorted(published, key=lambda each: str(each["code"])):
        for base in found["base"]:
            table[base].append(
                SearchParameter(
                    url=found["url"],
                    code=found["code"],
                    type=found["type"],
                    expression=_expression_for(base, found),
                    targets=_targets(found, resources),
                    components=tuple(
                        Component(code=codes[part["definition"]], expression=part["expression"])
                        for part in found.get("component", ())
                    ),
                )
            )
    return table


def _targets(found: Mapping[str, Any], resources: set[str]) -> tuple[str, ...]:
    """The target types; a parameter that names every type of R4 says no more than one that names none."""
    targets = tuple(found.get("target", ()))
    return () if resources <= set(targets) else targets


def _expression_for(base: str, found: Mapping[str, Any]) -> str:
    """What a parameter of several types means for one of them: the operands of the union that start at `base`."""
    expression: str = found.get("expression", "")
    if len(found["base"]) == 1:
        return expression
    return " | ".join(part for part in _split_union(expression) if re.match(rf"\(*{base}\b", part))


def _split_union(expression: str) -> Iterator[str]:
    """The operands of the outermost `|`."""
    depth, start = 0, 0
    for position, character in enumerate(expression):
        depth += (character == "(") - (character == ")")
        if character == "|" and depth == 0:
            yield expression[start:position].strip()
            start = position + 1
    if expression.strip():
        yield expression[start:].strip()


def _compartments(source: Package) -> dict[str, dict[str, list[str]]]:
    return {_value(found, "code"): dict(_members(found)) for found in source.compartment_definitions()}


def _members(compartment: Any) -> Iterator[tuple[str, list[str]]]:
    """Member types with their parameters, without `{def}`, which stands for the resource that is the compartment."""
    for member in compartment.iterfind("f:resource", _NS):
        if parameters := [name for name in _values(member, "param") if name != "{def}"]:
            yield _value(member, "code"), parameters


# Terminology ----------------------------------------------------------------------------------------------------------


class Terminology:
    """Expands the value sets of the specification from the code systems of the specification."""

    def __init__(self, source: Package) -> None:
        files = ("valueset/valuesets.xml", "valueset/v3-codesystems.xml", "valueset/v2-tables.xml")
        self._systems = {_value(found, "url"): found for found in source.resources("CodeSystem", *files)}
        self._value_sets = {_value(found, "url"): found for found in source.resources("ValueSet", *files)}

    def expand_all(self, urls: Iterable[str]) -> dict[str, dict[str, list[str]]]:
        """Codes by system of each value set; one that the specification does not enumerate is left out."""
        found: dict[str, dict[str, list[str]]] = {}
        for url in urls:
            codes = self.expand(url)
            if codes is None:
                click.echo(f"not enumerated: {url}")
            else:
                found[url] = {system: sorted(members) for system, members in sorted(codes.items())}
        return found

    def expand(self, url: str) -> Codes | None:
        """Codes by system, or None when a part cannot be enumerated."""
        value_set = self._value_sets.get(url)
        if value_set is None:
            return None
        codes: Codes = defaultdict(set)
        for include in value_set.iterfind("f:compose/f:include", _NS):
            part = self._include(include)
            if part is None:
                return None
            for system, members in part.items():
                codes[system] |= members
        for exclude in value_set.iterfind("f:compose/f:exclude", _NS):
            for system, members in (self._include(exclude) or {}).items():
                codes[system] -= members
        return codes or None

    def _include(self, include: Any) -> Codes | None:
        parts = [self.expand(url) for url in _values(include, "valueSet")]
        if system := _value(include, "system"):
            members = self._members(system, include)
            parts.append(None if members is None else {system: members})
        if any(part is None for part in parts):
            return None
        known = [part for part in parts if part is not None]
        common = set.intersection(*(set(part) for part in known))
        return {system: set.intersection(*(part[system] for part in known)) for system in common}

    def _members(self, system: str, include: Any) -> set[str] | None:
        if concepts := _values(include, "concept/code"):
            return set(concepts)
        definition = self._systems.get(system)
        if definition is None or _value(definition, "content") != "complete":
            return None
        members = {_value(concept, "code") for concept in definition.iter("{http://hl7.org/fhir}concept")}
        for rule in include.iterfind("f:filter", _NS):
            kept = _filtered(definition, rule)
            if kept is None:
                return None
            members &= kept
        return members


def _filtered(definition: Any, rule: Any) -> set[str] | None:
    """The codes that pass a hierarchy filter, or None for a filter on a property."""
    operation, ancestor = _value(rule, "op"), _value(rule, "value")
    if _value(rule, "property") != "concept" or operation not in ("is-a", "descendent-of", "is-not-a"):
        return None
    below = _descendants(definition, ancestor)
    if operation == "is-not-a":
        return {_value(node, "code") for node in definition.iter("{http://hl7.org/fhir}concept")} - below - {ancestor}
    return below | {ancestor} if operation == "is-a" else below


def _descendants(definition: Any, ancestor: str) -> set[str]:
    """Codes below a code, whether the hierarchy is nested or said by `subsumedBy` properties."""
    children: dict[str, set[str]] = defaultdict(set)
    for node in definition.iter("{http://hl7.org/fhir}concept"):
        code = _value(node, "code")
        parent = node.getparent()
        if parent.tag == node.tag:
            children[_value(parent, "code")].add(code)
        for stated in node.iterfind("f:property", _NS):
            if _value(stated, "code") in ("subsumedBy", "parent"):
                children[_value(stated, "valueCode")].add(code)
    found: set[str] = set()
    waiting = [ancestor]
    while waiting:
        fresh = children[waiting.pop()] - found
        found |= fresh
        waiting.extend(fresh)
    return found


if __name__ == "__main__":
    main()
