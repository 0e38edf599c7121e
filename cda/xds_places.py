"""Where in METADATA.XML stands what issues name: `DocumentEntry[1].hash` is a rim:Slot (IHE ITI TF-3 §4.2.1).

Places are those of `xds_reading`: an object of the registry, or any element by its local name and number, then its
attribute, then what is in that. An attribute that is not there leads to what it would stand in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice

from lxml import etree

from relais.cda.xds_attributes import ACTION, DOCUMENT_ENTRY, SUBMISSION_SET
from relais.cda.xds_model import SUBMISSION_SET_CLASS

_STEP = re.compile(r"(?P<name>[^.\[\]/]+)(?:\[(?P<number>[0-9]{1,9})\])?(?:\.|$)")
_OBJECTS = {"DocumentEntry": "ExtrinsicObject", "SubmissionSet": "RegistryPackage", "Folder": "RegistryPackage"}
_FORMS = (SUBMISSION_SET, DOCUMENT_ENTRY)
_SCHEMES = {form.author_scheme: "author" for form in _FORMS}
_SCHEMES |= {coded.scheme: coded.name for form in _FORMS for coded in form.codes}
_SCHEMES |= {identifier.scheme: identifier.name for form in _FORMS for identifier in form.identifiers}
_NAMES = {"Name": "title", "Description": "comments"}


def numbered(root: etree._Element, wanted: Iterable[etree._Element]) -> list[str]:
    """The places of some elements, each by its name and number in the order of the document: `Classification[3]`.

    One reading for all of them, which keeps nothing of the others: a submission may have a million elements.
    """
    wanted = list(wanted)
    places: dict[etree._Element, str] = dict.fromkeys(wanted, "")
    counts: dict[str, int] = {}
    for element in root.iter(*{f"{{*}}{_local(one)}" for one in wanted}) if wanted else ():
        name = _local(element)
        counts[name] = counts.get(name, 0) + 1
        if element in places:
            places[element] = f"{name}[{counts[name]}]"
    return [places[one] for one in wanted]


class MetadataPlaces:
    """The elements of METADATA.XML by their places; what one search went through is kept for the next."""

    def __init__(self, root: etree._Element) -> None:
        self._root = root
        self._objects: dict[str, tuple[list[etree._Element], Iterator[etree._Element]]] = {}
        self._inside: dict[etree._Element, dict[str, list[etree._Element]]] = {}

    def element(self, place: str) -> etree._Element | None:
        """The element at a place, the root for an empty one; None for a place in something else."""
        if not place:
            return self._root
        step = _STEP.match(place)
        found = self._object(step) if step else None
        while found is not None and step is not None and (step := _STEP.match(place, step.end())):
            inside = self._parts(found).get(step["name"], ())
            number = int(step["number"] or 1)
            if not 0 < number <= len(inside):
                break
            found = inside[number - 1]
        return found

    def _parts(self, parent: etree._Element) -> dict[str, list[etree._Element]]:
        if parent not in self._inside:
            by_name: dict[str, list[etree._Element]] = {}
            for child in parent.iterchildren(etree.Element):
                by_name.setdefault(_name(child), []).append(child)
            self._inside[parent] = by_name
        return self._inside[parent]

    def _object(self, step: re.Match[str]) -> etree._Element | None:
        """Objects are gone through only as far as their numbers are asked for."""
        name, number = step["name"], int(step["number"] or 1)
        if name not in self._objects:
            self._objects[name] = ([], self._all(name))
        known, further = self._objects[name]
        known.extend(islice(further, max(0, number - len(known))))
        return known[number - 1] if 0 < number <= len(known) else None

    def _all(self, name: str) -> Iterator[etree._Element]:
        objects = self._root.iter(f"{{*}}{_OBJECTS.get(name, name)}")
        return filter(_is_submission_set, objects) if name == "SubmissionSet" else objects


def _is_submission_set(package: etree._Element) -> bool:
    classes = package.iterchildren("{*}Classification")
    return any(one.get("classificationNode") == SUBMISSION_SET_CLASS for one in classes)


def _name(element: etree._Element) -> str:
    """Which attribute of XDS a part of an object is; empty for none."""
    kind = _local(element)
    if kind == "Slot":
        name = element.get("name", "")
        return ACTION if name.endswith(f":{ACTION}") else name
    return _NAMES.get(kind) or _SCHEMES.get(
        element.get("classificationScheme") or element.get("identificationScheme") or "", ""
    )


def _local(element: etree._Element) -> str:
    return etree.QName(element).localname
