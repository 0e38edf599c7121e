"""The unstructured form (N1) of a document: the same header, and a file in place of the sections.

CI-SIS volet Structuration minimale, IHE XDS-SD. The file is usually the PDF that
`relais.cda.pdf.to_pdf` makes of the structured form, or the one that the emitter signed.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from relais.cda import media, pdf_content, templates
from relais.cda.datatypes import uuid_oid
from relais.cda.errors import Issue, MappingError, Severity
from relais.cda.model import II, Document, Header, Media, RelatedDocument
from relais.mappings import identity
from relais.mappings.context import Deployment, DocumentVersion

MAX_BODY = 5_000_000
"""Bytes of the file, unless the deployment sets another limit: carriers refuse larger documents."""

_KIND = "unstructured"
_BODY_PATH = "/ClinicalDocument/component/nonXMLBody/text"


def unstructured(
    document: Document,
    body: bytes,
    *,
    media_type: str = media.PDF,
    version: DocumentVersion | None = None,
    replacing: bool = False,
    deployment: Deployment | None = None,
    max_size: int = MAX_BODY,
) -> Document:
    """The unstructured form of `document` with `body` as its content.

    It is a document of its own, published beside the structured one: own id, own setId, the same version number, and it
    replaces the unstructured form of the version before. With `replacing` it is the next version of the structured
    document itself and replaces that. `version` says otherwise: its number, and the version that the receivers know.
    `deployment` tells the ids made here from those of another emitter. Raises MappingError with every finding.
    """
    issues = [issue for issue in body_issues(body, media_type, max_size) if issue.severity == "error"]
    header = document.header
    if document.non_xml_body is not None:
        issues.append(_issue("the document is unstructured already", "business-rule"))
    if header.id.root is None:
        issues.append(_issue("the structured document needs an id", "required", path="/ClinicalDocument/id"))
    if issues:
        raise MappingError(issues)
    lineage = (header.set_id or header.id) if replacing else own_lineage(header)
    emitter = deployment or Deployment()
    version = version or _version(header, lineage, emitter, replacing=replacing)
    return Document(header=_identified(header, lineage, version, emitter), non_xml_body=Media(media_type, body))


def own_lineage(header: Header) -> II:
    """The setId of the unstructured form of a document: derived from its own, the same for all versions."""
    structured = header.set_id or header.id
    return II(uuid_oid("set", _KIND, structured.root or "", structured.extension or ""))


def body_issues(body: bytes, media_type: str, max_size: int = MAX_BODY) -> list[Issue]:
    """What forbids a file as the body of an unstructured document (error), or may make it refused (warning)."""
    if media_type not in media.BODY_TYPES:
        return [_issue(f"media type not allowed: one of {', '.join(media.BODY_TYPES)} expected", "code-invalid")]
    if not body:
        return [_issue("the body is empty", "required")]
    issues = []
    if len(body) > max_size:
        issues.append(_issue(f"the body has more than {max_size} bytes", "too-long"))
    if not media.is_what_it_says(media_type, body):
        issues.append(_issue("the bytes are not of the media type declared"))
    elif media.is_cut_short(body, media_type):
        issues.append(_issue(f"the {media.extension(media_type).upper()} has no end: it is cut short"))
    elif media_type == media.PLAIN_TEXT and media.has_controls(body):
        issues.append(_issue("a plain text holds no control characters but tabs, line and page breaks"))
    elif media_type == media.PDF:
        issues += _pdf_issues(body)
    return issues


def _pdf_issues(body: bytes) -> Iterator[Issue]:
    for _, message in pdf_content.examine(body).forbidden():
        yield _issue(message, "business-rule")
    if not pdf_content.claims_pdf_a_1(body):
        yield _issue("the PDF does not declare PDF/A-1, which its format code designates", severity="warning")


def _issue(message: str, code: str = "value", severity: Severity = "error", path: str = _BODY_PATH) -> Issue:
    return Issue(severity, code, message, path, "CI-SIS Structuration minimale, corps non structuré")


# --- identity -------------------------------------------------------------------------------------------------


def _version(header: Header, lineage: II, emitter: Deployment, *, replacing: bool) -> DocumentVersion:
    number = header.version_number or 1
    if replacing:
        return DocumentVersion(number + 1, header.id)
    before = identity.document_id(lineage, _KIND, number - 1, emitter) if number > 1 else None
    return DocumentVersion(number, before)


def _identified(header: Header, lineage: II, version: DocumentVersion, emitter: Deployment) -> Header:
    replaced = [RelatedDocument([version.replaces], parent_version=version.former)] if version.replaces else []
    return replace(
        header,
        template_ids=[II(templates.HL7_FRANCE), II(templates.CISIS_HEADER), II(templates.UNSTRUCTURED)],
        id=identity.document_id(lineage, _KIND, version.number, emitter),
        set_id=lineage,
        version_number=version.number,
        related_documents=replaced,
    )
