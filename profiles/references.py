"""Which resource a reference names, inside a resource or a Bundle (http://hl7.org/fhir/R4/bundle.html#references)."""

from __future__ import annotations

import re
from typing import Any

from relais.profiles.fhirpath.items import type_of
from relais.profiles.places import Spot

_RESTFUL = re.compile(r"(?P<base>.*/)?(?P<name>[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?")


def resource_by_reference(root: Spot, reference: str) -> Spot | None:
    """What `#id` names inside a resource: a contained resource, or the resource itself for `#`."""
    if reference == "#":
        return root
    contained = root.value.get("contained")
    for index, each in enumerate(contained if isinstance(contained, list) else ()):
        if isinstance(each, dict) and each.get("id") == reference[1:]:
            return Spot(each, type_of(each, "Resource"), (root.where, "contained", index))
    return None


class BundleIndex:
    """The resources of a Bundle by their full URL.

    A relative reference counts from the base of the entry's own full URL. A `urn:uuid:` is no base: from there, only a
    reference to the id that is that UUID is one to the entry; any other names a resource of the server.
    """

    def __init__(self, bundle: Spot) -> None:
        self._by_url: dict[str, Spot] = {}
        self._urls: dict[int, str] = {}
        for index, entry in enumerate(entries_of(bundle.value)):
            resource = entry.get("resource")
            if not isinstance(resource, dict):
                continue
            where = ((bundle.where, "entry", index), "resource", None)
            spot = Spot(resource, type_of(resource, "Resource"), where)
            if isinstance(url := entry.get("fullUrl"), str):
                self._by_url.setdefault(url, spot)
                self._urls[id(resource)] = url

    def full_url(self, resource: Spot) -> str:
        """The full URL of the entry that holds a resource, or empty."""
        return self._urls.get(id(resource.value), "")

    def find(self, reference: str, from_url: str) -> Spot | None:
        """The entry that a reference names, seen from the entry with the full URL `from_url`."""
        if (found := self._by_url.get(reference)) is not None:
            return found
        parts = _RESTFUL.fullmatch(reference)
        if parts is None:
            return None
        if parts["base"]:
            return self._by_url.get(parts["base"] + parts["name"])
        type_name, _, resource_id = parts["name"].partition("/")
        origin = _RESTFUL.fullmatch(from_url)
        if origin and origin["base"]:
            return self._by_url.get(origin["base"] + parts["name"])
        found = self._by_url.get(f"urn:uuid:{resource_id}")
        return found if found is not None and found.type == type_name else None


def entries_of(bundle: Any) -> list[dict[str, Any]]:
    """The entries of a Bundle; what is no object among them counts as an empty one, to keep the positions."""
    entries = bundle.get("entry") if isinstance(bundle, dict) else None
    return [each if isinstance(each, dict) else {} for each in entries] if isinstance(entries, list) else []


def type_named(reference: Any) -> str | None:
    """The resource type that a Reference names by its text or its `type`, None when it does not say."""
    if not isinstance(reference, dict):
        return None
    if isinstance(text := reference.get("reference"), str):
        parts = _RESTFUL.fullmatch(text)
        if parts:
            return parts["name"].partition("/")[0]
        if "?" in text and text.partition("?")[0].isalpha():
            return text.partition("?")[0]
    stated = reference.get("type")
    return stated.rpartition("/")[2] if isinstance(stated, str) else None
