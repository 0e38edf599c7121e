"""Reads XDS metadata from their ebRIM 3.0 form, strictly or tolerantly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from lxml import etree

from relais.cda.xds_attributes import ACTION, DOCUMENT_ENTRY, SUBMISSION_SET, ObjectForm
from relais.cda.xds_judge import NO_DOCUMENT, Judge, Parts, collapsed, refuse
from relais.cda.xds_model import (
    ASSOCIATION_TYPE,
    HAS_MEMBER,
    LCM,
    RIM,
    STABLE_DOCUMENT,
    SUBMISSION_SET_CLASS,
    Association,
    DocumentEntry,
    ExaminedSubmission,
    Submission,
    SubmissionSet,
)
from relais.cda.xds_places import numbered

MAX_OBJECTS = 5_000
"""Documents, associations and other objects of a submission; an archive has 500 files at most."""

_FOLDER_CLASS = "urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2"


def read_submission(element: etree._Element) -> Submission:
    """The submission that a lcm:SubmitObjectsRequest holds.

    Every R attribute must be present and well-formed, ids must resolve, each entry must be a member of the set, and
    set and entries must be of one patient. Raises MetadataError listing every error.
    """
    examined = _Reader(tolerant=False).examine(element)
    refuse(examined.issues)
    assert examined.submission is not None  # noqa: S101 - else there is an error
    return examined.submission


def examine(element: etree._Element) -> ExaminedSubmission:
    """The same for reception: what can be read is given with every issue, and times with an offset are normalised.

    Value sets are not checked here: see `relais.mappings.document_metadata.check_codes`.
    """
    return _Reader(tolerant=True).examine(element)


def registered_entry(element: etree._Element) -> DocumentEntry:
    """The attributes of a rim:ExtrinsicObject as a registry answers it; what is missing reads as empty."""
    return _Reader(tolerant=True).read_entry(element, 1)


def registered_set(element: etree._Element) -> SubmissionSet:
    """The attributes of a submission set as a registry answers it; what is missing reads as empty."""
    return _Reader(tolerant=True).read_set(element)


class _Reader(Judge):
    """One reading of a SubmitObjectsRequest."""

    def examine(self, root: etree._Element) -> ExaminedSubmission:
        """Read everything that can be read."""
        submission = self._submission(root)
        return ExaminedSubmission(submission, tuple(self.issues))

    def _submission(self, root: etree._Element) -> Submission | None:
        lists = root.findall(f"{{{RIM}}}RegistryObjectList")
        if root.tag != f"{{{LCM}}}SubmitObjectsRequest" or len(lists) != 1:
            self.invalid("an lcm:SubmitObjectsRequest with one rim:RegistryObjectList is expected")
            return None
        objects = lists[0]
        if len(objects) > MAX_OBJECTS:
            self.report("", f"more than {MAX_OBJECTS} objects", rule="xdm.metadata-invalid", code="too-costly")
            return None
        package = self._submission_package(objects)
        if package is None:
            return None
        self._check_ids(objects)
        documents = objects.findall(f"{{{RIM}}}ExtrinsicObject")
        if not documents:
            self.invalid(NO_DOCUMENT)
        submission_set = self.read_set(package)
        entries = tuple(self.read_entry(document, number) for number, document in enumerate(documents, 1))
        associations = self._read_associations(objects, str(package.get("id", "")), entries)
        self.together(submission_set, entries)
        return Submission(submission_set, entries, associations)

    # structure

    def _submission_package(self, objects: etree._Element) -> etree._Element | None:
        """The one RegistryPackage classified as submission set; folders are said and left."""
        classes = {
            (classification.get("classifiedObject"), classification.get("classificationNode"))
            for classification in objects.iter(f"{{{RIM}}}Classification")
        }
        packages = objects.findall(f"{{{RIM}}}RegistryPackage")
        found = [package for package in packages if (package.get("id"), SUBMISSION_SET_CLASS) in classes]
        folders = [package for package in packages if (package.get("id"), _FOLDER_CLASS) in classes]
        if folders:
            self.report("Folder", "folders are not used in France and are left aside", severity="warning")
        classified = {own_id for own_id, node in classes if node in (SUBMISSION_SET_CLASS, _FOLDER_CLASS)}
        others = [package for package in packages if package.get("id") not in classified]
        if others:
            message = "a RegistryPackage is classified neither as submission set nor as folder"
            self.invalid(message, self._place(others[0]))
        if len(found) != 1:
            second = self._place(found[1]) if found else ""
            self.invalid(f"exactly one submission set is expected, {len(found)} found", second)
            return None
        return found[0]

    def _check_ids(self, objects: etree._Element) -> None:
        ids = (element.get("id") for element in objects.iter(*_IDENTIFIED))
        self.ids(ids, lambda number: self._place(next(islice(objects.iter(*_IDENTIFIED), number, None))))
        unknown = [child for child in objects.iterchildren(etree.Element) if child.tag not in _REGISTRY_OBJECTS]
        if unknown:
            message = "an object that these metadata do not know is left aside"
            self.report(self._place(unknown[0]), message, severity="warning")
        for place in numbered(objects.getroottree().getroot(), _of_another(objects)):
            self.dangling(place, "a classification or an identifier names another object as its own")

    def _read_associations(
        self, objects: etree._Element, set_id: str, entries: Sequence[DocumentEntry]
    ) -> tuple[Association, ...]:
        """Check HasMember, which `Submission` implies, and give the other associations."""
        entry_ids = {entry.entry_id for entry in entries}
        known = {package.get("id") for package in objects.findall(f"{{{RIM}}}RegistryPackage")} | entry_ids
        members: set[str] = set()
        others: list[Association] = []
        for number, element in enumerate(objects.findall(f"{{{RIM}}}Association"), 1):
            path = f"Association[{number}]"
            kind, source, target = (element.get(name, "") for name in _ASSOCIATION_ENDS)
            if element.get("objectType") != ASSOCIATION_TYPE:
                self.dangling(path, "objectType is not that of an Association", "warning")
            association = Association(kind, source, target)
            self.association(path, association, known)
            if kind != HAS_MEMBER:
                others.append(association)
            elif source == set_id:
                members.add(target)
                self._check_original(element, path)
        for number, entry in enumerate(entries, 1):
            if entry.entry_id not in members:
                self.dangling(f"DocumentEntry[{number}]", "no HasMember association puts it into the submission set")
        return tuple(others)

    def _check_original(self, association: etree._Element, path: str) -> None:
        status = [value for slot in association.iterchildren(_SLOT) for value in self._slot_values(slot, path)]
        if status != ["Original"]:
            self.dangling(path, "slot SubmissionSetStatus is not Original")

    def _place(self, element: etree._Element) -> str:
        """The name and number of an element of the submission."""
        return numbered(element.getroottree().getroot(), [element])[0]

    # attributes

    def read_set(self, element: etree._Element) -> SubmissionSet:
        """The submission set of a RegistryPackage."""
        return self.submission_set(self._parts(element, SUBMISSION_SET, "SubmissionSet"))

    def read_entry(self, element: etree._Element, number: int) -> DocumentEntry:
        """The entry of an ExtrinsicObject."""
        path = f"DocumentEntry[{number}]"
        if element.get("objectType") != STABLE_DOCUMENT:
            self.report(f"{path}.objectType", "is not that of a stable document")
        parts = self._parts(element, DOCUMENT_ENTRY, path)
        return self.entry(parts, element.get("id", ""), element.get("mimeType", ""), number)

    def _parts(self, element: etree._Element, form: ObjectForm, path: str) -> Parts:
        children = _by_tag(element)
        authors: list[dict[str, list[str]]] = []
        codes: dict[str, list[tuple[str, str, list[str]]]] = {}
        names = {coded.scheme: f"{path}.{coded.name}" for coded in form.codes}
        for classification in children.get(_CLASSIFICATION, ()):
            scheme = classification.get("classificationScheme", "")
            if scheme == form.author_scheme:
                slots = _by_tag(classification).get(_SLOT, ())
                authors.append(self._read_slots(slots, f"{path}.author[{len(authors) + 1}]"))
            elif scheme:  # the class node has none
                codes.setdefault(scheme, []).append(self._read_code(classification, names.get(scheme, path)))
        identifiers: dict[str, list[str]] = {}
        for external in children.get(_EXTERNAL_IDENTIFIER, ()):
            identifiers.setdefault(external.get("identificationScheme", ""), []).append(external.get("value", ""))
        return Parts(
            self._read_slots(children.get(_SLOT, ()), path),
            _localized_in(children.get(_NAME, ())),
            _localized_in(children.get(_DESCRIPTION, ())),
            authors,
            codes,
            identifiers,
        )

    def _read_code(self, classification: etree._Element, path: str) -> tuple[str, str, list[str]]:
        children = _by_tag(classification)
        systems = [
            value
            for slot in children.get(_SLOT, ())
            if slot.get("name") == "codingScheme"
            for value in self._slot_values(slot, path)
        ]
        return classification.get("nodeRepresentation", ""), _localized_in(children.get(_NAME, ())), systems

    def _read_slots(self, given: Iterable[etree._Element], path: str) -> dict[str, list[str]]:
        slots: dict[str, list[str]] = {}
        for slot in given:
            name = slot.get("name", "")
            if name.endswith(f":{ACTION}"):
                name = ACTION
            if name in slots:
                self.report(path, "a slot is given twice", code="structure")
                slots[name] += self._slot_values(slot, path)
            else:
                slots[name] = self._slot_values(slot, path)
        return slots

    def _slot_values(self, slot: etree._Element, path: str) -> list[str]:
        """The values of a slot, white space collapsed; empty ones are no values."""
        raw = [_text(value) for held in slot if held.tag == _VALUE_LIST for value in held if value.tag == _VALUE]
        values = [" ".join(text.split()) for text in raw]
        if raw != values:
            name = slot.get("name", "")
            self.report(f"{path}.{name}", "superfluous white space in a value", severity="warning")
        return values if all(values) else [value for value in values if value]


def _of_another(objects: etree._Element) -> Iterator[etree._Element]:
    """The first child of each object that names another object as its own."""
    for parent in objects.iter(f"{{{RIM}}}RegistryPackage", f"{{{RIM}}}ExtrinsicObject"):
        children = parent.iterchildren(_CLASSIFICATION, _EXTERNAL_IDENTIFIER)
        wrong = (child for child in children if child.get(_OWNER[child.tag]) != parent.get("id"))
        yield from islice(wrong, 1)


def _by_tag(element: etree._Element) -> dict[str, list[etree._Element]]:
    """The children of an element: gone through once, however many kinds there are."""
    found: dict[str, list[etree._Element]] = {}
    for child in element:
        tag = child.tag
        if tag in found:
            found[tag].append(child)
        else:
            found[tag] = [child]
    return found


def _localized_in(names: Iterable[etree._Element]) -> str:
    for named in names:
        for localized in named:
            if localized.tag == _LOCALIZED_STRING:
                return collapsed(localized.get("value", ""))
    return ""


_NAME, _DESCRIPTION, _LOCALIZED_STRING, _SLOT, _VALUE_LIST, _VALUE = (
    f"{{{RIM}}}{tag}" for tag in ("Name", "Description", "LocalizedString", "Slot", "ValueList", "Value")
)
_CLASSIFICATION, _EXTERNAL_IDENTIFIER = f"{{{RIM}}}Classification", f"{{{RIM}}}ExternalIdentifier"
_IDENTIFIED = (
    f"{{{RIM}}}RegistryPackage",
    f"{{{RIM}}}ExtrinsicObject",
    _CLASSIFICATION,
    _EXTERNAL_IDENTIFIER,
    f"{{{RIM}}}Association",
)
_OWNER = {_CLASSIFICATION: "classifiedObject", _EXTERNAL_IDENTIFIER: "registryObject"}
_REGISTRY_OBJECTS = (*_IDENTIFIED, f"{{{RIM}}}ObjectRef")
_ASSOCIATION_ENDS = ("associationType", "sourceObject", "targetObject")


def _text(value: etree._Element) -> str:
    return str(value.xpath("string()")) if len(value) else value.text or ""
