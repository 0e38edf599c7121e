"""Where in METADATA.XML stands what issues name: `DocumentEntry[1].hash` is a rim:Slot (IHE ITI TF-3 §4.2.1).

Places are those of `xds_reading`: an object of the registry, or any element by its local name and number, then its
attribute, then what is in that. An attribute that is not there leads to what it would stand in.
"""

from __future__ import annotations

import re

from lxml import etree

from relais.cda.xds_attributes import ACTION, DOCUMENT_ENTRY, SUBMISSION_SET
from relais.cda.xds_model import SUBMISSION_SET_CLASS

_STEP = re.compile(r"(?P<name>[^.\[\]/]+)(?:\[(?P<number>\d+)\])?(?:\.|$)")
_OBJECTS = {"DocumentEntry": "ExtrinsicObject", "SubmissionSet": "RegistryPackage", "Folder": "RegistryPackage"}
_FORMS = (SUBMISSION_SET, DOCUMENT_ENTRY)
_SCHEMES = {form.author_scheme: "author" for form in _FORMS}
_SCHEMES |= {coded.scheme: coded.name for form in _FORMS for coded in form.codes}
_SCHEMES |= {identifier.scheme: identifier.name for form in _FORMS for identifier in form.identifiers}
_NAMES = {"Name": "title", "Description": "comments"}


def numbered(root: etree._Element) -> dict[etree._Element, str]:
    """The place of every element, by its name and number in the order of the document: `Classification[3]`."""
    counts: dict[str, int] = {}
    places = {}
    for element in root.iter(etree.Element):
        name = etree.QName(element).localname
        counts[name] = counts.get(name, 0) + 1
        places[element] = f"{name}[{counts[name]}]"
    return places


class MetadataPlaces:
    """The elements of METADATA.XML by their places."""

    def __init__(self, root: etree._Element) -> None:
        self._root = root
        self._objects: dict[str, list[etree._Element]] = {}

    def element(self, place: str) -> etree._Element | None:
        """The element at a place, the root for an empty one; None for a place in something else."""
        if not place:
            return self._root
        step = _STEP.match(place)
        found = self._object(step) if step else None
        while found is not None and step is not None and (step := _STEP.match(place, step.end())):
            inside = [child for child in found.iterchildren(etree.Element) if _name(child) == step["name"]]
            number = int(step["number"] or 1)
            if number > len(inside):
                break
            found = inside[number - 1]
        return found

    def _object(self, step: re.Match[str]) -> etree._Element | None:
        name = _OBJECTS.get(step["name"], step["name"])
        if name not in self._objects:
            self._objects[name] = list(self._root.iter(f"{{*}}{name}"))
        objects = self._objects[name]
        if step["name"] == "SubmissionSet":
            objects = [one for one in objects if _is_submission_set(one)]
        number = int(step["number"] or 1)
        return objects[number - 1] if number <= len(objects) else None


def _is_submission_set(package: etree._Element) -> bool:
    classes = package.iterchildren("{*}Classification")
    return any(one.get("classificationNode") == SUBMISSION_SET_CLASS for one in classes)


def _name(element: etree._Element) -> str:
    """Which attribute of XDS a part of an object is; empty for none."""
    kind = etree.QName(element).localname
    if kind == "Slot":
        name = element.get("name", "")
        return ACTION if name.endswith(f":{ACTION}") else name
    return _NAMES.get(kind) or _SCHEMES.get(
        element.get("classificationScheme") or element.get("identificationScheme") or "", ""
    )
