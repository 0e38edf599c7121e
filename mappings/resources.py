"""A closed set of resources and the resolution of references inside it.

FHIR R4 §2.3 (References) and §2.36.4.1 (Resolving references in Bundles): `Type/id`, absolute URL, `urn:uuid:`,
versioned references, and `#id` of a contained resource.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from relais.mappings.context import Resource


class ResourceSet:
    """Resources by every name they can be referred to with."""

    def __init__(self, resources: Iterable[tuple[str | None, Resource]]) -> None:
        """`resources` are (fullUrl or None, resource) pairs."""
        self._by_url: dict[str, Resource] = {}
        self._all: list[Resource] = []
        self._holders: dict[int, Resource] = {}  # by identity of the contained resource
        for full_url, resource in resources:
            self._all.append(resource)
            self._holders |= {id(contained): resource for contained in resource.get("contained", ())}
            if full_url:
                self._by_url.setdefault(full_url, resource)
            if "id" in resource:
                self._by_url.setdefault(f"{resource['resourceType']}/{resource['id']}", resource)

    @classmethod
    def of_bundle(cls, bundle: Resource) -> ResourceSet:
        """The set of a Bundle's entries."""
        return cls(
            (entry.get("fullUrl"), entry["resource"]) for entry in bundle.get("entry", ()) if "resource" in entry
        )

    @classmethod
    def of(cls, resources: Iterable[Resource]) -> ResourceSet:
        """The set of stored resources, each named `Type/id`."""
        return cls((None, resource) for resource in resources)

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._all)

    def of_type(self, resource_type: str) -> list[Resource]:
        """Every resource of that type, in the order given."""
        return [resource for resource in self._all if resource.get("resourceType") == resource_type]

    def resolve(self, reference: Resource | str | None, container: Resource | None = None) -> Resource | None:
        """The resource that a Reference (or its `reference` string) names, or None.

        `container` is the resource that holds the reference: `#id` is looked up among its contained resources, or among
        those beside it when it is contained itself.
        """
        target = reference.get("reference") if isinstance(reference, dict) else reference
        if not isinstance(target, str) or not target:
            return None
        if target.startswith("#"):
            contained = self._holders.get(id(container), container or {}).get("contained", ())
            return next((resource for resource in contained if resource.get("id") == target[1:]), None)
        base = target.split("/_history/", 1)[0]
        if base in self._by_url:
            return self._by_url[base]
        return self._by_url.get("/".join(base.rsplit("/", 2)[-2:])) if "/" in base else None
