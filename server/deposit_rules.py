"""What a lot of documents must agree on, which PDSm 3.1.1 (ITI-65) says in words: lot, sheets, contents, patient.

Judged where a transaction claims `pdsm-comprehensive-provide-document-bundle`, or is validated against it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from relais.mappings.context import Resource
from relais.profiles.issues import Issue, Severity
from relais.profiles.messages import Language, Message

PROFILE = "https://interop.esante.gouv.fr/ig/fhir/pdsm/StructureDefinition/pdsm-comprehensive-provide-document-bundle"
RULE = "pdsm-deposit"


class _Entry(NamedTuple):
    place: str
    full_url: str
    resource: Resource


class _Finding(NamedTuple):
    place: str
    key: str
    severity: Severity = "error"


def concerns(bundle: Any, profiles: Iterable[str] = ()) -> bool:
    """Whether a resource is a deposit: it claims the profile, or `profiles` ask for it."""
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        return False
    meta = bundle.get("meta")
    claims = meta.get("profile", ()) if isinstance(meta, dict) else ()
    return any(str(url).partition("|")[0] == PROFILE for url in (*profiles, *claims))


def check(bundle: Resource, language: Language = "en") -> list[Issue]:
    """What is wrong with a deposit that is a Bundle of R4; places are FHIRPaths."""
    try:
        found = list(_findings(list(_entries(bundle))))
    except (AttributeError, KeyError, TypeError):
        return []  # not R4: the structure check says so
    return [Issue(one.severity, "business-rule", Message(one.key).render(language), one.place, RULE) for one in found]


def _entries(bundle: Resource) -> Iterator[_Entry]:
    for index, entry in enumerate(bundle.get("entry", ())):
        if isinstance(resource := entry.get("resource"), dict):
            yield _Entry(f"Bundle.entry[{index}].resource", entry.get("fullUrl", ""), resource)


def _findings(entries: list[_Entry]) -> Iterator[_Finding]:
    lists = [entry for entry in entries if entry.resource["resourceType"] == "List"]
    sheets = [entry for entry in entries if entry.resource["resourceType"] == "DocumentReference"]
    contents = {entry.full_url: entry for entry in entries if entry.resource["resourceType"] in ("Binary", "Bundle")}
    yield from _lot(lists, sheets)
    yield from _subjects([*lists, *sheets])
    used = Counter(url for sheet in sheets for _, _, url in _attachments(sheet))
    for sheet in sheets:
        for place, attachment, url in _attachments(sheet):
            if url not in contents:
                yield _Finding(f"{place}.url", "deposit-content")
            elif contents[url].resource["resourceType"] == "Binary":
                yield from _agreement(place, attachment, contents[url].resource)
    for url, entry in contents.items():
        if used[url] != 1:
            yield _Finding(entry.place, "deposit-used")


def _lot(lists: list[_Entry], sheets: list[_Entry]) -> Iterator[_Finding]:
    """Every sheet is in a list of the lot, and what a list names among the entries is there."""
    listed = {item.get("item", {}).get("reference") for one in lists for item in one.resource.get("entry", ())}
    for sheet in sheets:
        if sheet.full_url not in listed:
            yield _Finding(sheet.place, "deposit-listed")
    known = {one.full_url for one in (*lists, *sheets)}
    for one in lists:
        for index, item in enumerate(one.resource.get("entry", ())):
            reference = item.get("item", {}).get("reference", "")
            if reference.startswith("urn:uuid:") and reference not in known:
                yield _Finding(f"{one.place}.entry[{index}].item", "deposit-item")


def _subjects(entries: list[_Entry]) -> Iterator[_Finding]:
    """Lot, folders and sheets are about one patient."""
    first = next((subject for entry in entries if (subject := _subject(entry))), None)
    for entry in entries:
        if (subject := _subject(entry)) and subject != first:
            yield _Finding(f"{entry.place}.subject", "deposit-subject")


def _subject(entry: _Entry) -> Any:
    """Who a resource is about: the identifier where it is logical, else the reference."""
    subject = entry.resource.get("subject", {})
    identifier = subject.get("identifier", {})
    return subject.get("reference") or (identifier.get("system"), identifier.get("value")) if subject else None


def _attachments(sheet: _Entry) -> Iterator[tuple[str, Resource, str]]:
    for index, content in enumerate(sheet.resource.get("content", ())):
        attachment = content.get("attachment", {})
        yield f"{sheet.place}.content[{index}].attachment", attachment, attachment.get("url", "")


def _agreement(place: str, attachment: Resource, binary: Resource) -> Iterator[_Finding]:
    """Type, size and SHA-1 of the sheet are those of the content."""
    if attachment.get("contentType") != binary.get("contentType"):
        yield _Finding(f"{place}.contentType", "deposit-type")
    try:
        data = base64.b64decode("".join(binary.get("data", "").split()), validate=True)
    except binascii.Error:
        return  # the structure check says so
    if "size" in attachment and attachment["size"] != len(data):
        yield _Finding(f"{place}.size", "deposit-size")
    if "hash" in attachment:
        digest = hashlib.sha1(data, usedforsecurity=False)
        if attachment["hash"] == base64.b64encode(digest.hexdigest().encode()).decode():
            yield _Finding(f"{place}.hash", "deposit-hash-text", "warning")
        elif attachment["hash"] != base64.b64encode(digest.digest()).decode():
            yield _Finding(f"{place}.hash", "deposit-hash")
