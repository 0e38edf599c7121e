"""The CI-SIS header from FHIR, whatever the document (CI-SIS Structuration minimale; docs/mapping-header.md).

What a Composition says wins over the carrier (the main resource of the document), which wins over the configuration.
"""

from __future__ import annotations

from relais.cda import templates
from relais.cda.datatypes import ts_from_datetime
from relais.cda.model import II, Code, Header, RelatedDocument
from relais.mappings import extensions, identity
from relais.mappings.context import Resource
from relais.mappings.to_cda import (
    header_act,
    header_authors,
    header_encounter,
    header_informants,
    header_recipients,
    header_signers,
    header_team,
)
from relais.mappings.to_cda.conversion import Conversion
from relais.mappings.to_cda.datatypes import coded, from_jdv
from relais.mappings.to_cda.header_sources import Carrier
from relais.mappings.to_cda.patient import record_target

_CONFIDENTIALITY = {"N": "Normal", "R": "Restreint", "V": "Très restreint"}


def header(conversion: Conversion, carrier: Carrier, composition: Resource, document_id: II | None) -> Header:
    """The whole header. `composition` may be empty; `document_id` is that of Bundle.identifier, if there is one.

    What is missing is noted in `conversion`, which raises it once the body has been made too.
    """
    version = _version(conversion, composition)
    now = ts_from_datetime(conversion.emission.now)
    time = conversion.time(composition.get("date"), "Composition.date") or now
    patient = record_target(conversion)
    members = list(header_team.members(conversion, carrier))
    lead = header_signers.answering(conversion, carrier, composition) if carrier.by_software else None
    authors = list(header_authors.authors(conversion, carrier, composition, members, time, lead))
    lead = lead or next((party for _, party in authors if party.is_professional), None)
    place = carrier.responsible_path or f"{carrier.path}.author"
    place = "Composition.author" if composition.get("author") else place
    if lead is None and not conversion.has_refused(place):
        conversion.refuse(
            place, "a professional who answers for the document", "CI-SIS Structuration minimale, legalAuthenticator"
        )
    custodian = header_recipients.custodian(conversion, carrier, composition)
    return Header(
        template_ids=carrier.templates,
        id=document_id or identity.document_id(conversion.lineage, carrier.kind, version, conversion.deployment),
        code=_type(conversion, composition) or carrier.code,
        title=(composition.get("title") or carrier.resource.get("title") or "").strip() or carrier.title,
        effective_time=time,
        confidentiality=_confidentiality(conversion, carrier, composition),
        language=_language(composition),
        set_id=conversion.lineage,
        version_number=version,
        patient=patient,
        authors=[author for author, _ in authors],
        data_enterer=header_authors.data_enterer(conversion, composition),
        informants=header_informants.informants(conversion, carrier, composition),
        custodian=custodian,
        recipients=list(header_recipients.recipients(conversion, carrier, composition)),
        legal_authenticator=header_signers.legal_authenticator(conversion, composition, lead, time),
        authenticators=list(header_signers.authenticators(conversion, carrier, composition, lead)),
        participants=list(header_team.participants(conversion, carrier, composition, members, lead)),
        orders=list(header_act.orders(conversion, carrier, composition)),
        service_events=header_act.service_events(conversion, carrier, composition, lead),
        related_documents=_related_documents(conversion, composition, version),
        consents=header_act.authorizations(conversion, composition),
        encounter=header_encounter.encounter(conversion, carrier, composition, lead),
    )


def _version(conversion: Conversion, composition: Resource) -> int:
    stated = extensions.value(composition, extensions.COMPOSITION_VERSION)
    if stated is None:
        return conversion.emission.version.number
    if isinstance(stated, str) and stated.isascii() and stated.isdigit() and int(stated) > 0:
        return int(stated)
    conversion.refuse(
        f"Composition.extension('{extensions.COMPOSITION_VERSION}').value",
        "a positive integer",
        "CI-SIS Structuration minimale, versionNumber",
        "value",
    )
    return 1


def _related_documents(conversion: Conversion, composition: Resource, version: int) -> list[RelatedDocument]:
    """RPLC to the version the receivers know; a version above 1 without it is refused."""
    parent = conversion.emission.version.replaces
    for relation in composition.get("relatesTo", ()):
        if relation.get("code") == "replaces" and "targetIdentifier" in relation:
            parent = identity.ii_of(relation["targetIdentifier"])
    if parent is not None:
        if version == 1:
            conversion.refuse(
                "Composition.relatesTo",
                "version 1 replaces nothing",
                "CI-SIS Structuration minimale, relatedDocument",
                "business-rule",
            )
        former = conversion.emission.version.replaced or (version - 1 or None)
        return [RelatedDocument([parent], parent_version=former)]
    if version > 1:
        conversion.refuse(
            "Composition.relatesTo.where(code='replaces').targetIdentifier",
            "the id of the version that this one replaces",
            "CI-SIS Structuration minimale, relatedDocument",
        )
    return []


def _type(conversion: Conversion, composition: Resource) -> Code | None:
    """Composition.type when it is a document type of JDV_J07."""
    if "type" not in composition:
        return None
    found = from_jdv("J07", [composition["type"]])
    if found is None:
        conversion.refuse(
            "Composition.type", "a type of JDV_J07", "CI-SIS Structuration minimale, code", "code-invalid"
        )
    return found


def _language(composition: Resource) -> str:
    language = composition.get("language") or "fr-FR"
    return language if "-" in language else f"{language}-{language.upper()}"


def _confidentiality(conversion: Conversion, carrier: Carrier, composition: Resource) -> Code:
    code: str | None = composition.get("confidentiality")
    if code is None:
        labels = [*carrier.resource.get("meta", {}).get("security", ()), *carrier.labels]
        known = [
            found.code for label in labels if (found := coded(label)) and found.system == templates.CONFIDENTIALITY
        ]
        code = next((one for one in ("V", "R", "N") if one in known), known[0] if known else "N")
    if code not in _CONFIDENTIALITY:
        conversion.inform(
            f"{carrier.path}.meta.security",
            "CI-SIS knows N, R and V only: written N",
            "CI-SIS Structuration minimale, confidentialityCode",
        )
    written = code if code in _CONFIDENTIALITY else "N"
    return Code(written, templates.CONFIDENTIALITY, _CONFIDENTIALITY[written])
