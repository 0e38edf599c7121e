"""A snapshot as a tree: elements, their children, their slices (http://hl7.org/fhir/R4/elementdefinition.html#id)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from relais.profiles.snapshots import TYPE_URL, SnapshotError


class ElementNode:
    """One element of a snapshot. `children` are by element name without `[x]`; `slices` are those of this element."""

    __slots__ = ("children", "definition", "id", "name", "slices", "tree")

    def __init__(self, definition: dict[str, Any], element_id: str, tree: ElementTree) -> None:
        self.definition = definition
        self.id = element_id
        self.tree = tree
        self.name = str(definition["path"]).rpartition(".")[2].removesuffix("[x]")
        self.children: dict[str, ElementNode] = {}
        self.slices: list[ElementNode] = []

    @property
    def minimum(self) -> int:
        """The least number of values."""
        return int(self.definition.get("min", 0))

    @property
    def maximum(self) -> int | None:
        """The greatest number of values, None for any."""
        text = self.definition.get("max", "*")
        return None if text == "*" else int(text)

    @property
    def slice_name(self) -> str:
        """The name of the slice, or empty."""
        return str(self.definition.get("sliceName", ""))

    @property
    def is_choice(self) -> bool:
        """Whether the JSON name carries the type."""
        return str(self.definition["path"]).endswith("[x]")

    def types(self) -> list[dict[str, Any]]:
        """The types with their profiles and targets; those of the element a content reference names, when it is one."""
        return list(self.definition.get("type", ()))

    def type_codes(self) -> list[str]:
        """The names of the types; the FHIRPath types of ids and URLs of extensions are `string` and `uri`."""
        return [_fhir_type(each) for each in self.types()]

    def profiles(self) -> list[str]:
        """The profiles that values must conform to, one of them for each type."""
        return [str(url) for each in self.types() for url in each.get("profile", ())]

    def expected(self) -> tuple[str, Any] | None:
        """(`fixed` or `pattern`, the value) when the definition states one."""
        for key, value in self.definition.items():
            for prefix in ("fixed", "pattern"):
                if key.startswith(prefix) and key[len(prefix) :][:1].isupper():
                    return prefix, value
        return None

    def referred(self) -> ElementNode:
        """The element whose content this one has: itself, or the one that its content reference names."""
        reference = self.definition.get("contentReference")
        return self.tree.find(str(reference).rpartition("#")[2]) if reference else self


class ElementTree:
    """The elements of one snapshot. Raises SnapshotError for ids that fit nowhere."""

    def __init__(self, structure: dict[str, Any], elements: list[dict[str, Any]]) -> None:
        self.url = str(structure.get("url", ""))
        self.type = str(structure.get("type", ""))
        self.name = self.url.rpartition("/")[2]
        self._nodes: dict[str, ElementNode] = {}
        for definition in elements:
            self._add(definition)
        if not self._nodes:
            raise SnapshotError(self.url, "profile-base")
        self.root = next(iter(self._nodes.values()))

    def find(self, element_id: str) -> ElementNode:
        """The element of an id. Raises SnapshotError."""
        try:
            return self._nodes[element_id]
        except KeyError:
            raise SnapshotError(self.url, "profile-element", element=element_id) from None

    def __iter__(self) -> Iterator[ElementNode]:
        return iter(self._nodes.values())

    def _add(self, definition: dict[str, Any]) -> None:
        element_id = str(definition.get("id") or _id_of(definition))
        node = ElementNode(definition, element_id, self)
        outer, dot, step = element_id.rpartition(".")
        name, _, slice_name = step.partition(":")
        if slice_name:
            inner, slash, _ = slice_name.rpartition("/")
            sliced = f"{outer}{dot}{name}:{inner}" if slash else f"{outer}{dot}{name}"
            self.find(sliced).slices.append(node)
        elif outer:
            self.find(outer).children[name.removesuffix("[x]")] = node
        self._nodes[element_id] = node


def _id_of(definition: dict[str, Any]) -> str:
    name = definition.get("sliceName")
    return f"{definition['path']}:{name}" if name else str(definition["path"])


_FHIR_TYPE = f"{TYPE_URL}structuredefinition-fhir-type"


def _fhir_type(stated: dict[str, Any]) -> str:
    code = str(stated.get("code", ""))
    if not code.startswith("http://hl7.org/fhirpath/"):
        return code
    named: dict[str, Any] = next((each for each in stated.get("extension", ()) if each.get("url") == _FHIR_TYPE), {})
    return str(named.get("valueUrl") or named.get("valueUri") or code.rpartition(".")[2].lower())
