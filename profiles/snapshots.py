"""Snapshots of profiles that come with a differential only (http://hl7.org/fhir/R4/profiling.html#snapshot): data types
and references to content unfolded where the differential reaches into them, slices, type slices, constraints.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from relais.profiles.issues import Issue
from relais.profiles.messages import Message
from relais.profiles.packages import Registry, Resource

Element = dict[str, Any]

TYPE_URL = "http://hl7.org/fhir/StructureDefinition/"
"""What stands before the name of a FHIR type in its canonical URL."""

_ACCUMULATED = ("constraint", "condition", "mapping", "alias", "example")
_OWN = frozenset({"id", "path", "base", *_ACCUMULATED})
_VALUE_PREFIXES = ("fixed", "pattern")


class SnapshotError(ValueError):
    """A profile whose snapshot cannot be made. `issue` names the profile and the reason."""

    def __init__(self, url: str, rule: str, **arguments: object) -> None:
        self.message = Message(rule, **arguments)
        self.issue = Issue("error", "not-supported", self.message.render("en"), url, rule)
        super().__init__(str(self.issue))


class Snapshots:
    """The snapshot elements of the structures of a registry, taken from the definition or made."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._made: dict[str, list[Element]] = {}
        self._in_progress: list[str] = []

    def of(self, structure: Resource) -> list[Element]:
        """The elements of a structure, its own snapshot where it has one. Not to be changed. Raises SnapshotError."""
        published = structure.get("snapshot", {}).get("element")
        if published:
            return list(published)
        url = str(structure.get("url", ""))
        if url not in self._made:
            if url in self._in_progress:
                circle = " → ".join([*self._in_progress[self._in_progress.index(url) :], url])
                raise SnapshotError(url, "profile-cycle", circle=circle)
            self._in_progress.append(url)
            try:
                self._made[url] = self._make(structure)
            finally:
                self._in_progress.pop()
        return self._made[url]

    def of_url(self, canonical: str) -> list[Element]:
        """As `of`, by canonical URL; one that is not loaded raises SnapshotError too."""
        if canonical.partition("|")[0] == f"{TYPE_URL}Base":
            return [{"id": "Base", "path": "Base", "min": 0, "max": "*"}]
        found = self._registry.find_any_version("StructureDefinition", canonical)
        if found is None:
            raise SnapshotError(canonical, "profile-unknown", profile=canonical)
        return self.of(found.resource)

    def make(self, structure: Resource) -> list[Element]:
        """The elements made from the differential, even where there is a snapshot. Raises SnapshotError."""
        return self._make(structure)

    def _make(self, structure: Resource) -> list[Element]:
        base = structure.get("baseDefinition")
        if not base:
            raise SnapshotError(str(structure.get("url")), "profile-base")
        return _Builder(self, structure, self.of_url(str(base))).build()


class _Builder:
    """One snapshot in the making: the elements of the base, changed by each element of the differential."""

    def __init__(self, snapshots: Snapshots, structure: Resource, base: list[Element]) -> None:
        self._snapshots = snapshots
        self._url = str(structure.get("url", ""))
        self._source = structure
        root = str(base[0]["path"])
        name = str(structure.get("type", root)).rpartition("/")[2]
        self._elements = [_moved(element, root, name, root, name) for element in base]

    def build(self) -> list[Element]:
        for element in self._source.get("differential", {}).get("element", ()):
            target = self._place(element)
            self._merge(target, element)
        return self._elements

    # Places

    def _place(self, element: Element) -> Element:
        """The element of the snapshot that an element of the differential is about; made when it is new."""
        steps = str(element.get("id") or _id_of(element)).split(".")
        here = self._elements[0]
        for step in steps[1:]:
            self._unfold(here)
            here = self._child(here, step, element)
        return here

    def _child(self, parent: Element, step: str, element: Element) -> Element:
        name, _, slice_name = step.partition(":")
        found = self._find(f"{parent['id']}.{name}")
        if found is None and (choice := self._choice(parent, name)) is not None:
            found, slice_name = choice, slice_name or name
        if found is None:
            if self._source.get("derivation") == "constraint":
                raise SnapshotError(self._url, "profile-element", element=element.get("id") or element.get("path"))
            return self._append(parent, name, element)
        return self._slice(found, slice_name) if slice_name else found

    def _choice(self, parent: Element, name: str) -> Element | None:
        """The choice element `value[x]` that a name like `valueQuantity` stands for."""
        for child in self._children(parent):
            stem = str(child["path"]).rpartition(".")[2]
            if stem.endswith("[x]") and name.startswith(stem[:-3]) and _type_of_choice(child, name):
                return child
        return None

    def _append(self, parent: Element, name: str, element: Element) -> Element:
        """A new element of a type that is being defined (logical models, resources)."""
        path = f"{parent['path']}.{name}"
        cardinality = {"path": path, "min": element.get("min", 0), "max": element.get("max", "*")}
        made = {"id": f"{parent['id']}.{name}", "path": path, "base": cardinality}
        self._elements.insert(self._end(str(parent["id"])), made)
        return made

    def _find(self, element_id: str) -> Element | None:
        return next((element for element in self._elements if element["id"] == element_id), None)

    def _children(self, parent: Element) -> Iterator[Element]:
        prefix = f"{parent['id']}."
        return (
            each for each in self._elements if each["id"].startswith(prefix) and "." not in each["id"][len(prefix) :]
        )

    def _end(self, element_id: str) -> int:
        """The position after an element, what is below it, and its slices."""
        below = (f"{element_id}.", f"{element_id}:", f"{element_id}/")
        last = max(
            index
            for index, each in enumerate(self._elements)
            if each["id"] == element_id or each["id"].startswith(below)
        )
        return last + 1

    # Unfolding

    def _unfold(self, parent: Element) -> None:
        """Give an element the children of its type, or of the element that it refers to, unless it has children."""
        if any(True for _ in self._children(parent)):
            return
        if reference := parent.get("contentReference"):
            source = self._referred(str(reference))
        else:
            source = self._snapshots.of_url(_profile_or_type(parent))
        root = source[0]
        children = [
            _moved(each, str(root["id"]), str(parent["id"]), str(root["path"]), str(parent["path"]))
            for each in source[1:]
        ]
        position = self._elements.index(parent) + 1
        self._elements[position:position] = children

    def _referred(self, reference: str) -> list[Element]:
        """The element that a contentReference names, and what is below it."""
        name = reference.rpartition("#")[2]
        below = f"{name}."
        found = [each for each in self._elements if each["id"] == name or each["id"].startswith(below)]
        if not found:
            raise SnapshotError(self._url, "profile-element", element=name)
        return found

    # Slices

    def _slice(self, sliced: Element, name: str) -> Element:
        """The slice of an element, made as a copy of it when it is new; `a/b` is a slice of the slice `a`."""
        outer, _, _ = name.rpartition("/")
        if outer:
            sliced = self._slice(sliced, outer)
        separator = "/" if outer else ":"
        slice_id = f"{sliced['id']}{separator}{name.rpartition('/')[2]}"
        if (found := self._find(slice_id)) is not None:
            return found
        sliced.setdefault("slicing", _default_slicing(sliced))
        source_id, path = str(sliced["id"]), str(sliced["path"])
        below = f"{source_id}."
        copied = [
            _moved(each, source_id, slice_id, path, path)
            for each in self._elements
            if each["id"] == source_id or each["id"].startswith(below)
        ]
        made = copied[0]
        made.pop("slicing", None)
        made["sliceName"] = name
        made["min"] = 0
        if path.endswith("[x]") and (only := _type_of_choice(sliced, name)):
            made["type"] = [only]
            made["max"] = "1"
        end = self._end(source_id)
        self._elements[end:end] = copied
        return made

    # Merging

    def _merge(self, target: Element, element: Element) -> None:
        if any(key.startswith(_VALUE_PREFIXES) for key in element):
            for key in [key for key in target if key.startswith(_VALUE_PREFIXES)]:
                del target[key]
        for key, value in element.items():
            if key not in _OWN:
                target[key] = copy.deepcopy(value)
        for key in _ACCUMULATED:
            if key in element:
                added = [{"source": self._url, **each} if key == "constraint" else each for each in element[key]]
                kept = [each for each in target.get(key, ()) if not _replaced(each, added, key)]
                target[key] = [*kept, *copy.deepcopy(added)]


def _replaced(known: Any, added: list[Any], key: str) -> bool:
    if key == "constraint":
        return any(known["key"] == each["key"] for each in added)
    return known in added


def _moved(element: Element, from_id: str, to_id: str, from_path: str, to_path: str) -> Element:
    """A copy of an element at another place."""
    made = copy.deepcopy(element)
    made["id"] = to_id + str(element.get("id") or _id_of(element))[len(from_id) :]
    made["path"] = to_path + str(element["path"])[len(from_path) :]
    return made


def _id_of(element: Element) -> str:
    """The id of an element that has none: its path, and its slice at the last step."""
    slice_name = element.get("sliceName")
    return f"{element['path']}:{slice_name}" if slice_name else str(element["path"])


def _profile_or_type(element: Element) -> str:
    """What describes the children: the only profile of the only type, the only type, or what all types have."""
    types = element.get("type", ())
    if len(types) != 1:
        return f"{TYPE_URL}Element"
    profiles = types[0].get("profile", ())
    code = str(types[0]["code"])
    if len(profiles) == 1:
        return str(profiles[0])
    return code if ":" in code else f"{TYPE_URL}{code}"


def _type_of_choice(choice: Element, name: str) -> dict[str, Any] | None:
    """The type that the name of a choice element carries (`valueQuantity`: Quantity)."""
    stem = str(choice["path"]).rpartition(".")[2].removesuffix("[x]")
    for each in choice.get("type", ()):
        code = str(each["code"])
        if f"{stem}{code[0].upper()}{code[1:]}" == name:
            return dict(each)
    return None


def _default_slicing(element: Element) -> dict[str, Any]:
    name = str(element["path"]).rpartition(".")[2]
    if name in ("extension", "modifierExtension"):
        return {"discriminator": [{"type": "value", "path": "url"}], "ordered": False, "rules": "open"}
    if name.endswith("[x]"):
        return {"discriminator": [{"type": "type", "path": "$this"}], "ordered": False, "rules": "open"}
    return {"rules": "open"}
