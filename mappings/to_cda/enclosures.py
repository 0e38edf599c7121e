"""Documents that go with another: Attachment, Binary and DocumentReference → FR-Documents-ajoutes and
FR-Documents-references (CI-SIS Modèles de contenus CDA). Bytes are written into the document; an address is never
followed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

import msgspec

from relais.cda import event_sections, sections
from relais.cda.datatypes import uuid_oid
from relais.cda.media import PLAIN_TEXT, contradicts, extension, has_controls, is_cut_short
from relais.cda.model import II, Code, Media, Section, Statement
from relais.cda.narrative import Element, Node, content, paragraph
from relais.mappings import identity
from relais.mappings.context import Resource
from relais.mappings.to_cda.conversion import Conversion
from relais.mappings.to_cda.datatypes import codings, concept_text, original

RULE = "docs/mapping-notification.md"
DEFAULT_TITLE = "Document sans titre"

MEDIA_TYPES = frozenset(
    {
        "application/dicom",
        "application/msword",
        "application/pdf",
        "audio/basic",
        "audio/k32adpcm",
        "audio/mpeg",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/tiff",
        "text/html",
        "text/plain",
        "text/rtf",
        "text/xml",
    }
)
"""Media types of an attached document (jdv-hl7-v3-MediaType-cisis)."""


class Attached(msgspec.Struct, gc=False):
    """A document whose bytes are there. `source` and `path` say where it was found, `time` is a TS."""

    source: Resource
    path: str
    title: str
    media: Media
    codes: list[Code] = []
    time: str | None = None


class Referenced(msgspec.Struct, gc=False):
    """A document that is elsewhere: under these ids, at this address."""

    source: Resource
    path: str
    title: str
    ids: list[II]
    kind: Code | None = None
    url: str | None = None


class Enclosures(msgspec.Struct, gc=False):
    """What goes with a document, in the order it was given."""

    attached: list[Attached] = []
    referenced: list[Referenced] = []

    def add_attachment(self, conversion: Conversion, attachment: Resource, path: str, container: Resource) -> None:
        """An Attachment that stands alone in `container`: its bytes, else its address."""
        title = (attachment.get("title") or "").strip()
        if not self._add_content(conversion, attachment, attachment, path, title, [], container):
            _add_address(conversion, self.referenced, attachment, path, title)

    def add_resource(self, conversion: Conversion, resource: Resource, path: str) -> bool:
        """A DocumentReference of the patient, or a Binary, once; False for another type of resource."""
        kind = resource.get("resourceType")
        if any(one is resource for one in self._sources()):
            return True
        if kind == "Binary":
            self._add_content(conversion, resource, resource, path, "", [])
        elif kind == "DocumentReference":
            self._add_reference(conversion, resource, path)
        return kind in ("Binary", "DocumentReference")

    def _add_reference(self, conversion: Conversion, resource: Resource, path: str) -> None:
        if not conversion.same_patient(resource, "subject", path):
            return
        if resource.get("status") == "entered-in-error":
            conversion.inform(f"{path}.status", "entered in error: not written", RULE)
            return
        attachments = [one.get("attachment", {}) for one in resource.get("content", ())]
        types = codings(resource.get("type"))
        titles = (attachment.get("title") for attachment in attachments)
        candidates = (resource.get("description"), *titles, concept_text(resource.get("type")))
        title = next((text.strip() for text in candidates if text and text.strip()), "")
        elsewhere: list[str] = []
        for index, attachment in enumerate(attachments):
            place = f"{path}.content[{index}].attachment"
            if not self._add_content(conversion, attachment, resource, place, title, types):
                elsewhere.append((attachment.get("url") or "").strip())
        urls = [url for url in elsewhere if url]
        there = len(elsewhere) < len(attachments)
        ids = _document_ids(resource, alone=not urls and not there)
        kind = types[0] if types else None
        for url in urls or ([""] if ids else []):
            own = ids or [II(uuid_oid("url", url))]
            self.referenced.append(Referenced(resource, path, title or DEFAULT_TITLE, own, kind, url or None))
        if not ids and not urls and not there:
            conversion.refuse(path, "the identifier, the address or the content of the document", RULE)

    def _add_content(
        self,
        conversion: Conversion,
        attachment: Resource,
        source: Resource,
        path: str,
        title: str,
        types: list[Code],
        container: Resource | None = None,
    ) -> bool:
        """Add the bytes of an Attachment or Binary, its own or those of the Binary it points to; False without any.

        `container` is the resource that holds the attachment, when `source` is only a part of it.
        """
        binary = conversion.resources.resolve(attachment.get("url"), container or source)
        holder = binary if binary is not None and binary.get("resourceType") == "Binary" else attachment
        if "data" not in holder:
            return False
        media = read_media(conversion, holder, attachment, path)
        if media is not None:
            time = conversion.time(attachment.get("creation"), f"{path}.creation")
            named = title or (attachment.get("title") or "").strip() or DEFAULT_TITLE
            self.attached.append(Attached(source, path, named, media, types, time))
        if holder is attachment and attachment.get("url"):
            conversion.inform(f"{path}.url", "the content is there: its address is not written", RULE)
        return True

    def labels(self) -> list[Resource]:
        """The security labels (Coding) of the documents whose bytes are there."""
        labels = [label for one in self.attached for label in one.source.get("securityLabel", ())]
        return [coding for label in labels for coding in label.get("coding", ())]

    def _sources(self) -> list[Resource]:
        return [*(one.source for one in self.attached), *(one.source for one in self.referenced)]

    # --- sections -----------------------------------------------------------------------------------------

    def sections(self, conversion: Conversion) -> list[Section]:
        """The sections of what there is; none for nothing."""
        found = []
        if self.attached:
            text: list[Node] = []
            entries = [
                _attached_entry(conversion, document, self._entry_id(conversion, document), number, text)
                for number, document in enumerate(self.attached, 1)
            ]
            section_id = conversion.computed_id("section", "attached")
            found.append(sections.section(event_sections.ATTACHED_DOCUMENTS, section_id, text, entries))
        if self.referenced:
            text = []
            entries = [
                _referenced_entry(document, self._entry_id(conversion, document), number, text)
                for number, document in enumerate(self.referenced, 1)
            ]
            section_id = conversion.computed_id("section", "referenced")
            found.append(sections.section(event_sections.REFERENCED_DOCUMENTS, section_id, text, entries))
        return found

    def _entry_id(self, conversion: Conversion, document: Attached | Referenced) -> II:
        """The identifier of a DocumentReference for the first entry made from it; else one computed from what the
        document is, wherever it stands."""
        entries: list[Attached | Referenced] = [*self.attached, *self.referenced]
        first = next(one for one in entries if one.source is document.source)
        if first is document and document.source.get("identifier"):
            return conversion.entry_id(document.source, document.path)
        if isinstance(document, Attached):
            return conversion.computed_id("enclosed", sha1(document.media.data or b""))
        known = document.ids[0]
        return conversion.computed_id("enclosed", document.url or f"{known.root}|{known.extension or ''}")


def read_media(conversion: Conversion, holder: Resource, attachment: Resource, path: str) -> Media | None:
    """The bytes of `holder`, checked against what they are said to be (type, size, hash) and for being whole; refused
    otherwise, by the rules that the document would be held to later (docs/validation.md, *Files in a document*).
    """
    media_type = _media_type(holder) or _media_type(attachment)
    if media_type not in MEDIA_TYPES:
        conversion.refuse(f"{path}.contentType", "a type of document that CDA can attach", RULE, "not-supported")
        return None
    try:
        data = base64.b64decode("".join(holder["data"].split()), validate=True)
    except (binascii.Error, ValueError):
        conversion.refuse(f"{path}.data", "Base64", RULE, "value")
        return None
    if not data:
        conversion.refuse(f"{path}.data", "a document without content", RULE, "value")
    elif contradicts(media_type, data):
        conversion.refuse(f"{path}.data", "content of another type than contentType says", RULE, "value")
    elif is_cut_short(data, media_type):
        message = f"the {extension(media_type).upper()} has no end marker: it is cut short"
        conversion.refuse(f"{path}.data", message, "relais-media-end", "incomplete")
    elif media_type == PLAIN_TEXT and has_controls(data):
        message = "a plain text holds no control characters but tabs, line and page breaks"
        conversion.refuse(f"{path}.data", message, "relais-media-text", "value")
    if attachment.get("size", len(data)) != len(data):
        conversion.refuse(f"{path}.size", "not the size of the content", RULE, "value")
    if "hash" in attachment and attachment["hash"] != sha1(data):
        conversion.refuse(f"{path}.hash", "not the SHA-1 of the content", RULE, "value")
    return Media(media_type, data)


def is_plain_text(attachment: Resource) -> bool:
    """Whether an Attachment says that it is words."""
    return _media_type(attachment) == PLAIN_TEXT


def sha1(data: bytes) -> str:
    """Attachment.hash: the SHA-1 in Base64."""
    return base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()


def _media_type(element: Resource) -> str:
    return str(element.get("contentType") or "").partition(";")[0].strip().lower()


def _document_ids(reference: Resource, *, alone: bool) -> list[II]:
    """The number of the document that a DocumentReference describes; one that says nothing else lends its own."""
    identifiers = [reference.get("masterIdentifier", {}), *(reference.get("identifier", ()) if alone else ())]
    return [ii for ii in map(identity.ii_of, identifiers) if ii][:1]


def _add_address(conversion: Conversion, found: list[Referenced], attachment: Resource, path: str, title: str) -> None:
    url = (attachment.get("url") or "").strip()
    if ":" not in url:
        message = "the content of the document, or its absolute address"
        conversion.refuse(f"{path}.url" if url else path, message, RULE, "not-found" if url else "required")
        return
    found.append(Referenced(attachment, path, title or DEFAULT_TITLE, [II(uuid_oid("url", url))], url=url))


def _attached_entry(
    conversion: Conversion, document: Attached, entry_id: II, number: int, text: list[Node]
) -> Statement:
    text_id, media_id = f"doc-{number}", f"media-{number}"
    show = Element("renderMultiMedia", {"referencedObject": media_id})
    text.append(paragraph(content(document.title, id=text_id), " ", show))
    return event_sections.attached_document(
        entry_id,
        conversion.computed_id("part", entry_id.root or "", entry_id.extension or "", "type"),
        original(text_id, *document.codes),
        document.media,
        text=text_id,
        xml_id=media_id,
        time=document.time,
    )


def _referenced_entry(document: Referenced, entry_id: II, number: int, text: list[Node]) -> Statement:
    text_id = f"ref-{number}"
    line: list[Node] = [content(document.title, id=text_id)]
    if document.url:
        linked = document.url.startswith("https://")
        line += [" : ", Element("linkHtml", {"href": document.url}, [document.url]) if linked else document.url]
    text.append(paragraph(*line))
    return event_sections.external_document(
        entry_id,
        document.ids,
        text=text_id,
        kind=document.kind,
        url=document.url,
    )
