"""What holds for every resource, whatever its profile: extensions, codes, and rules of R4 that are prose.

One walk over all elements, with their types (http://hl7.org/fhir/R4/: defining-extensions.html#context,
bundle.html#references, datatypes.html).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from relais.profiles import definitions
from relais.profiles.fhirpath import FhirPathError, FhirPathSyntaxError, compile_expression
from relais.profiles.fhirpath.items import type_of
from relais.profiles.issues import Severity
from relais.profiles.messages import Message
from relais.profiles.packages import DEFINITION_FAULTS, Registry
from relais.profiles.places import Spot, Where
from relais.profiles.primitives import is_oid, is_uuid
from relais.profiles.references import entries_of
from relais.profiles.run import Run

Trail = tuple[Any, str, str]
"""Where an element stands in the definitions: (trail of its owner, element name, its type)."""

Visit = Callable[[Spot, Run], None]
"""What is done with a resource that stands inside the one being walked."""

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:\S*").match
_EXTENSIONS = ("extension", "modifierExtension")
_LATER_CONTEXTS = {"http://hl7.org/fhir/StructureDefinition/event-basedOn": ("Composition",)}
"""Where HL7's extension pack (1.0.0 on) lets extensions of the R4 core stand, beside where R4 itself did: the guides of
ANS follow the pack, and validators load it beside R4."""
_RESTFUL_URL = re.compile(r"https?://.*/([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})").fullmatch


class ResourceRules:
    """Walks resources. `visit` is called for each resource met inside one, in its place."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._extensions: dict[str, _Extension] = {}

    def check(self, resource: Spot, run: Run, visit: Visit) -> None:
        """Check everything in a resource; hands resources inside it to `visit`."""
        self._walk(resource.value, resource.type, resource.where, (None, "", resource.type), run, visit)

    def _walk(
        self,
        value: dict[str, Any],
        type_name: str,
        where: Where,
        trail: Trail,
        run: Run,
        visit: Visit,
    ) -> None:
        if (check := CODED_RULES.get(type_name)) is not None:
            check(Spot(value, type_name, where), run)
        known = _properties(type_name)
        for key, item in value.items():
            kind = type(item)
            if kind is str and item.startswith("urn:") and key in known:
                _check_urn(item, known[key][2], (where, known[key][0], None), run)
            if (kind is not dict and kind is not list) or (found := known.get(key)) is None:
                continue
            step, stem, child_type = found
            inner: Trail = (trail, stem, child_type)
            if key in _EXTENSIONS:
                self._check_extensions(item, Spot(value, type_name, where), key, trail, run)
            for index, each in enumerate(item) if kind is list else ((None, item),):
                if type(each) is dict:
                    place = (where, step, index)
                    if "resourceType" in each and child_type == "Resource":
                        visit(Spot(each, type_of(each, "Resource"), place), run)
                    else:
                        self._walk(each, child_type, place, inner, run, visit)

    # Extensions

    def _check_extensions(self, extensions: Any, owner: Spot, key: str, trail: Trail, run: Run) -> None:
        for index, each in enumerate(extensions if isinstance(extensions, list) else ()):
            if isinstance(each, dict) and isinstance(url := each.get("url"), str):
                spot = Spot(each, "Extension", (owner.where, key, index))
                if _ABSOLUTE(url):
                    self._check_extension(url, spot, owner, key, trail, run)
                else:
                    self._check_part(url, spot, owner, run)

    def _check_part(self, url: str, spot: Spot, owner: Spot, run: Run) -> None:
        """A nested extension without an absolute URL: a part that the outer extension defines."""
        if owner.type != "Extension":
            run.error("extension", spot.where, Message("extension-relative"), "extension-url")
            return
        outer = owner.value.get("url")
        definition = self._definition(outer) if isinstance(outer, str) else None
        if definition is not None and url not in definition.parts:
            name = str(outer).rpartition("/")[2]
            run.error("extension", spot.where, Message("extension-part", extension=name), "extension-part")

    def _check_extension(self, url: str, spot: Spot, owner: Spot, key: str, trail: Trail, run: Run) -> None:
        definition = self._definition(url)
        if definition is None:
            severity: Severity = "warning" if key == "modifierExtension" else "information"
            run.not_checked(spot.where, Message("extension-unknown", extension=url), severity)
            return
        if definition.is_modifier != (key == "modifierExtension"):
            message = Message("extension-modifier" if definition.is_modifier else "extension-no-modifier")
            run.error("extension", spot.where, message, "extension-modifier")
        if definition.contexts and not _is_allowed_here(definition.contexts, owner, trail, run):
            contexts = ", ".join(expression for _, expression in definition.contexts)
            run.error("extension", spot.where, Message("extension-context", contexts=contexts), "extension-context")
        for text in definition.invariants:
            _check_context_rule(text, owner, spot, run)
        run.findings.extend(run.trial(run.profiles.profile_check(url), spot))

    def _definition(self, url: str) -> _Extension | None:
        """What is read of the definition of an extension; None when it is not there, or no valid FHIR."""
        found = self._registry.find("StructureDefinition", url)
        if found is None or found.header.type != "Extension":
            return None
        if url not in self._extensions:
            try:
                self._extensions[url] = _Extension.read(found.resource)
            except DEFINITION_FAULTS:
                return None
        return self._extensions[url]


@dataclass(frozen=True, slots=True)
class _Extension:
    """Where an extension may stand: (kind, expression) of each context, rules in FHIRPath; the URLs of its parts."""

    is_modifier: bool
    contexts: tuple[tuple[str, str], ...]
    invariants: tuple[str, ...]
    parts: frozenset[str]

    @classmethod
    def read(cls, definition: Mapping[str, Any]) -> _Extension:
        """From a StructureDefinition. Raises DEFINITION_FAULTS."""
        described = definition.get("snapshot") or definition.get("differential") or {}
        elements = described.get("element", ())
        contexts = [(str(each["type"]), str(each["expression"])) for each in definition.get("context", ())]
        later = [("element", name) for name in _LATER_CONTEXTS.get(str(definition.get("url")), ())]
        return cls(
            any(bool(element.get("isModifier")) for element in elements[:1]),
            (*contexts, *later),
            tuple(str(text) for text in definition.get("contextInvariant", ())),
            frozenset(
                str(element["fixedUri"])
                for element in elements
                if element.get("path") == "Extension.extension.url" and "fixedUri" in element
            ),
        )


def _is_allowed_here(contexts: tuple[tuple[str, str], ...], owner: Spot, trail: Trail, run: Run) -> bool:
    """Whether one of the contexts of an extension is the element that carries it."""
    names = set(_names(trail))
    for kind, expression in contexts:
        if kind == "element" and expression in names:
            return True
        if kind == "extension" and owner.type == "Extension" and owner.value.get("url") == expression:
            return True
        if kind == "fhirpath" and _selects(expression, owner, run):
            return True
    return False


def _names(trail: Trail) -> Iterator[str]:
    """What the definitions may call an element: its types, its path, its path from each data type above it."""
    yield "Element"
    yield from _with_bases(trail[2])
    stems: list[str] = []
    step: Any = trail
    while step[0] is not None:
        stems.insert(0, step[1])
        step = step[0]
        if "." not in step[2]:
            for base in _with_bases(step[2]):
                path = ".".join([base, *stems])
                yield path
                yield f"{path}[x]"


def _with_bases(name: str) -> Iterator[str]:
    while name:
        yield name
        found = definitions.types().get(name)
        name = found.base if found else ""


def _selects(expression: str, owner: Spot, run: Run) -> bool:
    """Whether a FHIRPath context selects the element. One that cannot be evaluated allows it: it is reported."""
    frame = run.frame
    if frame is None:
        return True
    try:
        found = compile_expression(expression).evaluate(frame.resource, run.environment)
    except (FhirPathError, FhirPathSyntaxError) as error:
        run.not_checked(owner.where, Message("context-error", reason=str(error)))
        return True
    return any(item.value is owner.value for item in found)


def _check_context_rule(text: str, owner: Spot, spot: Spot, run: Run) -> None:
    try:
        if not compile_expression(text).holds(owner, run.environment):
            run.error("extension", spot.where, Message("context-invariant", expression=text), "extension-context")
    except (FhirPathError, FhirPathSyntaxError) as error:
        run.not_checked(spot.where, Message("context-error", reason=str(error)))


# Data types -----------------------------------------------------------------------------------------------------------


def _check_urn(text: str, type_name: str, where: Where, run: Run) -> None:
    """A URI that says it is an OID or a UUID is a valid one."""
    is_valid = is_oid if text.startswith("urn:oid:") else is_uuid if text.startswith("urn:uuid:") else None
    if type_name == "uri" and is_valid is not None and not is_valid(text):
        run.error("invariant", where, Message("urn"), "urn")


def _check_coding(spot: Spot, run: Run) -> None:
    system, code, display = (spot.value.get(key) for key in ("system", "code", "display"))
    if not isinstance(code, str):
        return
    if not isinstance(system, str):
        run.add("information", "informational", spot.where, Message("coding-system"), "coding-system")
        return
    if run.terminology.check_code(system, code).result is False:
        run.error("code-invalid", spot.where, Message("code-unknown", system=system), "code")
    elif isinstance(display, str) and run.terminology.check_display(system, code, display).result is False:
        run.add("warning", "invalid", spot.where, Message("display-other"), "display")


def _check_identifier(spot: Spot, run: Run) -> None:
    system, value = spot.value.get("system"), spot.value.get("value")
    if isinstance(system, str) and not _ABSOLUTE(system):
        run.error("invariant", spot.where, Message("identifier-system"), "identifier-system")
    if system == "urn:ietf:rfc:3986" and isinstance(value, str) and not _ABSOLUTE(value):
        run.error("invariant", spot.where, Message("identifier-uri"), "identifier-uri")


def _check_attachment(spot: Spot, run: Run) -> None:
    data = spot.value.get("data")
    if not isinstance(data, str):
        return
    try:
        content = base64.b64decode("".join(data.split()), validate=True)
    except ValueError:
        return  # the base check reports it
    if isinstance(size := spot.value.get("size"), int) and size != len(content):
        run.error("invariant", spot.where, Message("attachment-size"), "attachment-size")
    digest = spot.value.get("hash")
    if isinstance(digest, str) and "".join(digest.split()) != base64.b64encode(hashlib.sha1(content).digest()).decode():  # noqa: S324 - R4 fixes SHA-1
        run.error("invariant", spot.where, Message("attachment-hash"), "attachment-hash")


def _check_bundle(spot: Spot, run: Run) -> None:
    kind = spot.value.get("type")
    for index, entry in enumerate(entries_of(spot.value)):
        where = (spot.where, "entry", index)
        url, resource = entry.get("fullUrl"), entry.get("resource")
        if not isinstance(resource, dict):
            continue
        if kind == "searchset" and "search" in entry and "id" not in resource:
            run.error("required", (where, "resource", None), Message("bundle-result-id"), "bundle-result-id")
        if not isinstance(url, str):
            if kind not in ("transaction", "batch", "transaction-response", "batch-response"):
                run.error("required", where, Message("bundle-full-url"), "bundle-full-url")
            continue
        if not _ABSOLUTE(url):
            run.error("invariant", where, Message("bundle-url-absolute"), "bundle-full-url")
        elif (named := _RESTFUL_URL(url)) and named[1] in definitions.resource_types():
            _check_full_url(named, resource, where, run)
    if kind in ("document", "message"):
        _check_bundled_references(spot, run)


def _check_full_url(named: re.Match[str], resource: Mapping[str, Any], where: Where, run: Run) -> None:
    stated = resource.get("id")
    if named[1] != resource.get("resourceType") or (isinstance(stated, str) and named[2] != stated):
        run.error("invariant", where, Message("bundle-url-id"), "bundle-full-url")


def _check_bundled_references(spot: Spot, run: Run) -> None:
    """The first resource of a document or message refers to entries of the same Bundle."""
    entries = entries_of(spot.value)
    first = entries[0].get("resource") if entries else None
    if not isinstance(first, dict) or run.frame is None or run.frame.bundle is None:
        return
    bundle, origin = run.frame.bundle, entries[0].get("fullUrl")
    owner = Spot(first, type_of(first, "Resource"), ((spot.where, "entry", 0), "resource", None))
    for where, text in _references(owner.value, owner.where):
        if not text.startswith("#") and bundle.find(text, origin if isinstance(origin, str) else "") is None:
            run.error("not-found", where, Message("bundle-reference"), "bundle-reference")


def _references(value: Any, where: Where) -> Iterator[tuple[Where, str]]:
    if isinstance(value, dict):
        if isinstance(text := value.get("reference"), str):
            yield where, text
        for key, item in value.items():
            if isinstance(item, list):
                for index, each in enumerate(item):
                    yield from _references(each, (where, key, index))
            elif isinstance(item, dict) and key != "contained":
                yield from _references(item, (where, key, None))


CODED_RULES: Mapping[str, Callable[[Spot, Run], None]] = {
    "Attachment": _check_attachment,
    "Bundle": _check_bundle,
    "Coding": _check_coding,
    "Identifier": _check_identifier,
}
"""Rules of R4 that no invariant states, by the type they hold for."""


@cache
def _properties(type_name: str) -> dict[str, tuple[str, str, str]]:
    """Of each JSON property of a type: the step of its place, the element's name, its type."""
    found: dict[str, tuple[str, str, str]] = {}
    if type_name not in definitions.types():
        return found
    for element in definitions.elements(type_name):
        for key, name in element.json_names().items():
            step = f"{element.stem}.ofType({name})" if element.is_choice else key
            found[key] = (step, element.stem, name)
            if name in definitions.primitive_types():
                found[f"_{key}"] = (step, element.stem, name)
    return found
