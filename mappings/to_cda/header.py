"""The CI-SIS header from FHIR, whatever the document (CI-SIS Structuration minimale; docs/mapping-header.md).

What a Composition says wins over the carrier (the main resource of the document), which wins over the configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
from msgspec.structs import replace

from relais.cda import templates
from relais.cda.datatypes import ts_from_datetime
from relais.cda.model import (
    II,
    AssignedEntity,
    Authenticator,
    Author,
    Code,
    Consent,
    DataEnterer,
    EncompassingEncounter,
    EncounterParticipant,
    Header,
    HealthCareFacility,
    Informant,
    Interval,
    NamePart,
    Order,
    Organization,
    Participant,
    Performer,
    PersonName,
    Recipient,
    RelatedDocument,
    ServiceEvent,
    Telecom,
)
from relais.mappings import extensions, identity, terminology
from relais.mappings.context import Resource
from relais.mappings.to_cda.consents import sharing_consents
from relais.mappings.to_cda.conversion import Conversion
from relais.mappings.to_cda.datatypes import (
    address,
    coded,
    codings,
    current_name,
    display_name,
    from_jdv,
    period,
    telecoms,
)
from relais.mappings.to_cda.parties import (
    Party,
    assigned_entity,
    configured_setting,
    emitter,
    is_national_structure,
    organization,
    party_addresses,
    party_ids,
    party_name,
    party_telecoms,
    read_party,
    sector_of,
    speciality,
)
from relais.mappings.to_cda.patient import record_target
from relais.mappings.to_cda.prose import readable
from relais.mappings.to_cda.relatives import contacts, is_guardian, related_entities, relationships

CUSTODIAN_OF_PATIENTS = "1.2.250.1.213.4.1"
ENCOUNTER_RULE = "CI-SIS Structuration minimale, componentOf"
TEAM_MEMBER = "353"
FACILITY_LIST = "J02"
CONSENT_LABEL = "Consentement du patient au partage des informations collectées"
_AUTOMATON = ("1.2.250.1.213.1.1.4.6", "AUTOMATE")
_INFORMING_FUNCTIONS = frozenset({"PCP", "CORRE"})
ROLE_BASED_SYSTEMS = frozenset({"1.2.250.1.213.1.6.1.107", "1.2.250.1.213.1.6.1.4"})
_ENCOUNTER_CLASSES = {"SS": "SEANCE", "ACUTE": "IMP", "NONAC": "IMP", "OBSENC": "IMP"}
_CONFIDENTIALITY = {"N": "Normal", "R": "Restreint", "V": "Très restreint"}


class Member(msgspec.Struct, gc=False):
    """Somebody of the circle of care: who, with which functions (JDV_J47), since when."""

    party: Party
    functions: list[Code]
    time: Interval | None = None


class Carrier(msgspec.Struct, gc=False):
    """What a kind of document takes from its main resource; pairs are (Reference, path).

    `by_software`: the emitter's software is the author where no person is, for the structure that an author may be;
    then `responsible` lists who may answer for the document, as (resource, path), best first. `performer` did the act,
    when that is not who answers; `orders` are (Reference, target, path); `encounter` is the Encounter and its path.
    """

    resource: Resource
    path: str
    kind: str
    templates: list[II]
    code: Code
    title: str
    authored: str | None = None
    event: Resource | None = None  # Period of the documented act
    act_time: Interval | None = None  # the same, already read
    authors: list[tuple[Resource, str]] = []
    custodians: list[tuple[Resource, str]] = []
    contributors: list[tuple[Resource, str]] = []
    teams: list[tuple[Resource, str]] = []  # (CareTeam, path)
    approver: tuple[Resource, str, Resource] | None = None  # Reference, path, the resource that holds it
    approved: str | None = None  # FHIR dateTime
    act: Code | None = None  # what the documented act is
    start_path: str = ""  # where one says when the act began; `<path>.period.start` unless given
    performer: tuple[Resource, str] | None = None
    responsible: list[tuple[Resource, str]] = []
    by_software: bool = False
    responsible_path: str = ""  # where one says who answers; `<path>.author` unless given
    custodian_path: str = ""  # where one says who keeps it; an extension of the CarePlan unless given
    relatives: bool = True  # whether every relative is an informant when no Composition names them
    recipients: list[tuple[Resource, str]] = []
    orders: list[tuple[Resource, Resource | None, str]] = []
    encounter: tuple[Resource, str] | None = None


def header(conversion: Conversion, carrier: Carrier, composition: Resource, document_id: II | None) -> Header:
    """The whole header. `composition` may be empty; `document_id` is that of Bundle.identifier, if there is one.

    What is missing is noted in `conversion`, which raises it once the body has been made too.
    """
    version = _version(conversion, composition)
    now = ts_from_datetime(conversion.emission.now)
    time = conversion.time(composition.get("date"), "Composition.date") or now
    patient = record_target(conversion)
    members = list(_members(conversion, carrier))
    lead = _answering(conversion, carrier, composition) if carrier.by_software else None
    authors = list(_authors(conversion, carrier, composition, members, time, lead))
    lead = lead or next((party for _, party in authors if party.is_professional), None)
    place = carrier.responsible_path or f"{carrier.path}.author"
    place = "Composition.author" if composition.get("author") else place
    if lead is None and not conversion.has_refused(place):
        conversion.refuse(
            place, "a professional who answers for the document", "CI-SIS Structuration minimale, legalAuthenticator"
        )
    custodian = _custodian(conversion, carrier, composition)
    return Header(
        template_ids=carrier.templates,
        id=document_id
        or identity.document_id(conversion.lineage, carrier.kind, version, conversion.deployment.oid_arc),
        code=_type(conversion, composition) or carrier.code,
        title=(composition.get("title") or carrier.resource.get("title") or "").strip() or carrier.title,
        effective_time=time,
        confidentiality=_confidentiality(conversion, carrier, composition),
        language=_language(composition),
        set_id=conversion.lineage,
        version_number=version,
        patient=patient,
        authors=[author for author, _ in authors],
        data_enterer=_data_enterer(conversion, composition),
        informants=_informants(conversion, carrier, composition),
        custodian=custodian,
        recipients=list(_recipients(conversion, carrier, composition)),
        legal_authenticator=_legal_authenticator(conversion, composition, lead, time),
        authenticators=list(_authenticators(conversion, carrier, composition, lead)),
        participants=list(_participants(conversion, carrier, composition, members, lead)),
        orders=list(_orders(conversion, carrier, composition)),
        service_events=_service_events(conversion, carrier, composition, lead),
        related_documents=_related_documents(conversion, composition, version),
        consents=_authorizations(conversion, composition),
        encounter=_encounter(conversion, carrier, composition, lead),
    )


# --- identity of the document -------------------------------------------------------------------------------------


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
        labels = carrier.resource.get("meta", {}).get("security", ())
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


# --- who takes part -----------------------------------------------------------------------------------------------


def _members(conversion: Conversion, carrier: Carrier) -> Iterator[Member]:
    """Professionals and structures of the care teams, then contributors that are in none."""
    known: set[tuple[int, int]] = set()
    for team, path in carrier.teams:
        for index, participant in enumerate(team.get("participant", ())):
            place = f"{path}.participant[{index}]"
            target = conversion.resolve(participant.get("member"), f"{place}.member", team)
            structure = conversion.resolve(participant.get("onBehalfOf"), f"{place}.onBehalfOf", team)
            party = read_party(conversion, target, f"{place}.member.resolve()", structure)
            functions, others = _read_roles(participant.get("role", ()))
            if others:
                _say_roles(conversion, others, target, party)
            if party is None or party.source.get("resourceType") == "Patient":
                _check_relative(conversion, target, participant, place)
                continue
            known.add(_key(party))
            time = period(conversion, participant.get("period"), f"{place}.period")
            yield Member(party, functions, time)
    for reference, path in carrier.contributors:
        party = read_party(conversion, conversion.resolve(reference, path, carrier.resource), f"{path}.resolve()")
        if party and party.source.get("resourceType") in ("Practitioner", "Organization") and _key(party) not in known:
            yield Member(party, [])
        elif party is None and "reference" not in reference:
            conversion.say_named(reference, path, "Contributeur")


def _say_roles(conversion: Conversion, unknown: list[str], target: Resource | None, party: Party | None) -> None:
    """Put in words the roles in a team that JDV_J47 does not hold."""
    names = (target or {}).get("name", ())
    name = party.display if party else display_name(current_name(names)) if isinstance(names, list) else names
    conversion.remarks += [f"{name} : {words}" if name else words for words in unknown]


def _check_relative(conversion: Conversion, target: Resource | None, participant: Resource, place: str) -> None:
    """Relatives are written as informants; the patient is recordTarget; others have no place in the header."""
    if target is None and not participant.get("member", {}).get("reference"):
        if participant.get("member", {}).get("display"):
            conversion.say_named(participant["member"], f"{place}.member", "Membre de l'équipe")
    elif target is not None and target.get("resourceType") not in ("RelatedPerson", "Patient"):
        conversion.inform(
            place, "this type of member has no place in the header", "CI-SIS Structuration minimale, participant"
        )


def _key(party: Party) -> tuple[int, int]:
    return id(party.source), id(party.structure)


def _read_roles(roles: Iterable[Resource]) -> tuple[list[Code], list[str]]:
    """Every function of JDV_J47 among the roles, each once; the words of the roles that are none."""
    functions: dict[str, Code] = {}
    others = []
    for role in roles:
        known = None
        for coding in role.get("coding", ()):
            if found := terminology.concept("J47", coding.get("code"), coding.get("system") or ""):
                known = functions.setdefault(found.code, found.as_code())
        if known is None and (words := readable(role)):
            others.append(words)
    return list(functions.values()), others


def _answering(conversion: Conversion, carrier: Carrier, composition: Resource) -> Party | None:
    """The professional who answers for a document that software may have made."""
    for resource, path in carrier.responsible:
        party = read_party(conversion, resource, path)
        if party is not None and party.is_professional:
            return party
    for attester, path in _attesters(composition, "legal"):
        target = conversion.resolve(attester.get("party"), f"{path}.party", composition)
        party = read_party(conversion, target, f"{path}.party.resolve()")
        if party is not None and party.is_professional:
            return party
    return None


def _authors(
    conversion: Conversion,
    carrier: Carrier,
    composition: Resource,
    members: list[Member],
    time: str,
    lead: Party | None,
) -> Iterator[tuple[Author, Party]]:
    stated = [
        (reference, f"Composition.author[{index}]") for index, reference in enumerate(composition.get("author", ()))
    ]
    found = False
    for reference, path in stated or carrier.authors:
        target = conversion.resolve(reference, path, composition if stated else carrier.resource)
        party = read_party(conversion, target, f"{path}.resolve()")
        if carrier.by_software and party is not None and party.source.get("resourceType") == "Organization":
            party = _software(party.path, party.structure)
        if party is None or party.source.get("resourceType") == "Organization":
            if target is not None:
                conversion.inform(
                    path,
                    "an author is a professional or a device: not written",
                    "CI-SIS Structuration minimale, author",
                )
            continue
        own_time = extensions.value(reference, extensions.AUTHOR_TIME) or (None if stated else carrier.authored)
        functions = [one for member in members if member.party.source is party.source for one in member.functions]
        written = conversion.time(own_time, f"{path}.time") or time
        found = True
        yield _author(conversion, party, written, functions), party
    if not found and carrier.by_software:
        known = conversion.deployment.organization_finess or lead is None
        party = _software(f"{carrier.path}.author", None if known or lead is None else lead.structure)
        yield _author(conversion, party, conversion.time(carrier.authored, f"{carrier.path}.author") or time, []), party


def _software(path: str, structure: Resource | None) -> Party:
    """The emitter's software as an author, working for that structure; the emitter when none is given."""
    kind = {"coding": [{"system": f"urn:oid:{_AUTOMATON[0]}", "code": _AUTOMATON[1]}]}
    return Party({"resourceType": "Device", "type": kind}, path, structure=structure)


def _author(conversion: Conversion, party: Party, time: str, functions: list[Code]) -> Author:
    assigned = _with_structure(conversion, assigned_entity(conversion, party), party)
    if party.is_professional:
        _demand_name(conversion, assigned, party)
        if assigned.code is None:
            conversion.warn(
                f"{party.path}.code",
                "no profession of JDV_J01: XDS authorSpecialty stays empty",
                "CI-SIS Structuration minimale, author",
            )
    return Author(time, assigned, functions[0] if functions and party.is_professional else None)


def _with_structure(conversion: Conversion, assigned: AssignedEntity, party: Party) -> AssignedEntity:
    """An author acts for a structure: the emitter as configured when the resources name none."""
    if assigned.organization is None and party.source.get("resourceType") != "Patient":
        assigned.organization = emitter(conversion.deployment)
    return assigned


def _demand_name(conversion: Conversion, assigned: AssignedEntity, party: Party) -> None:
    if assigned.person is None:
        conversion.refuse(
            f"{party.path}.name.family", "the name of the professional", "CI-SIS Structuration minimale, assignedPerson"
        )


def _data_enterer(conversion: Conversion, composition: Resource) -> DataEnterer | None:
    for parts, path in _participations(composition, extensions.DATA_ENTERER):
        party = read_party(conversion, conversion.resolve(parts.get("party"), path, composition), f"{path}.resolve()")
        if party is not None:
            return DataEnterer(assigned_entity(conversion, party), conversion.time(parts.get("time"), path))
    return None


def _participations(composition: Resource, url: str) -> Iterator[tuple[Resource, str]]:
    """The sub-extensions of each participation extension, by name, with the path of its party."""
    for index, extension in enumerate(extensions.extensions(composition, url)):
        parts = {
            part["url"]: content
            for part in extension.get("extension", ())
            for name, content in part.items()
            if name.startswith("value")
        }
        yield parts, f"Composition.extension('{url}')[{index}].extension('party').value"


def _informants(conversion: Conversion, carrier: Carrier, composition: Resource) -> list[Informant]:
    """Relatives, one informant per role; professionals only when a Composition names them."""
    found: list[Informant] = []
    stated = list(_participations(composition, extensions.INFORMANT))
    for parts, path in stated:
        target = conversion.resolve(parts.get("party"), path, composition)
        if target is None:
            continue
        if target.get("resourceType") == "RelatedPerson":
            if conversion.same_patient(target, "patient", f"{path}.resolve()"):
                _add_relatives(conversion, found, target, f"{path}.resolve()")
        elif party := read_party(conversion, target, f"{path}.resolve()"):
            found.append(Informant(assigned=assigned_entity(conversion, party)))
    if not stated and carrier.relatives:
        for person, path in relationships(conversion):
            _add_relatives(conversion, found, person, path)
        for contact, path in contacts(conversion):
            if not is_guardian(contact.get("relationship", ())):
                _add_relatives(conversion, found, contact, path)
    return found


def _add_relatives(conversion: Conversion, found: list[Informant], source: Resource, path: str) -> None:
    """Add the roles of a relative that are not there yet: two resources may describe the same person."""
    for entity in related_entities(conversion, source, path):
        same = (one for one in found if one.related and one.related.class_code == entity.class_code)
        if all(one.related is None or one.related.name != entity.name for one in same):
            found.append(Informant(related=entity))


def _participants(
    conversion: Conversion, carrier: Carrier, composition: Resource, members: list[Member], lead: Party | None
) -> Iterator[Participant]:
    stated = list(_participations(composition, extensions.PARTICIPANT))
    for parts, path in stated:
        party = read_party(conversion, conversion.resolve(parts.get("party"), path, composition), f"{path}.resolve()")
        if party is not None:
            functions, _ = _read_roles([parts["function"]] if parts.get("function") else [])
            member = Member(party, functions, period(conversion, parts.get("time"), path))
            type_code = from_jdv("J144", [parts["type"]]) if parts.get("type") else None
            yield _participant(
                conversion, member, functions[0] if functions else None, type_code.code if type_code else None
            )
    if not stated:
        yield from _team_participants(conversion, carrier, members, lead)


def _team_participants(
    conversion: Conversion, carrier: Carrier, members: list[Member], lead: Party | None
) -> Iterator[Participant]:
    """The general practitioner, then the team. The author of the plan is not repeated, but as *médecin traitant*."""
    everybody = [*_general_practitioners(conversion), *members]
    seen: set[tuple[int, str | None]] = set()
    for member in everybody:
        functions = member.functions or [terminology.coded("J47", TEAM_MEMBER)]
        is_lead = lead is not None and member.party.source is lead.source
        for function in functions:
            key = (id(member.party.source), function.code)
            if key not in seen and not (is_lead and function.code != "PCP"):
                seen.add(key)
                yield _participant(conversion, member, function, None)


def _general_practitioners(conversion: Conversion) -> Iterator[Member]:
    for reference, target, path in conversion.references(conversion.patient, "generalPractitioner", "Patient"):
        party = read_party(conversion, target, path)
        if target is None:
            conversion.say_named(reference, path, "Médecin traitant")
        if party is not None:
            yield Member(party, [terminology.coded("J47", "PCP")])


def _participant(conversion: Conversion, member: Member, function: Code | None, type_code: str | None) -> Participant:
    party = member.party
    informing = function is not None and function.code in _INFORMING_FUNCTIONS
    code = speciality(conversion, party)
    structure = party.structure
    return Participant(
        type_code=type_code or ("INF" if informing else "PRF"),
        class_code="AGNT" if code and code.system in ROLE_BASED_SYSTEMS else "PROV",
        function_code=function,
        time=member.time or Interval(null_flavor="NA"),
        ids=party_ids(conversion, party) if party.is_professional else [],
        code=code,
        addresses=party_addresses(conversion, party),
        telecoms=party_telecoms(conversion, party),
        name=party_name(conversion, party),
        organization=organization(conversion, structure, f"{party.path}.organization.resolve()") if structure else None,
    )


def _custodian(conversion: Conversion, carrier: Carrier, composition: Resource) -> Organization:
    """Exactly one legal id, one telecom and one address at most."""
    stated = [(composition["custodian"], "Composition.custodian")] if "custodian" in composition else []
    for reference, path in [*stated, *carrier.custodians]:
        structure = conversion.resolve(reference, path, composition if stated else carrier.resource)
        if structure is not None:
            found = organization(conversion, structure, f"{path}.resolve()")
            break
    else:
        found = emitter(conversion.deployment) or Organization()
        path = carrier.custodian_path or f"{carrier.path}.extension('{extensions.CUSTODIAN}').value"
    if not is_national_structure(found.ids) and not any(ii.root == CUSTODIAN_OF_PATIENTS for ii in found.ids):
        conversion.refuse(
            f"{path}.resolve().identifier",
            "FINESS or SIREN of the structure that keeps the document (or the setting organization_finess)",
            "CI-SIS Structuration minimale, custodian",
        )
    return replace(
        found, telecoms=found.telecoms[:1], addresses=found.addresses[:1], names=found.names[:1], industry_class=None
    )


def _recipients(conversion: Conversion, carrier: Carrier, composition: Resource) -> Iterator[Recipient]:
    stated = [
        (parts.get("party") or {}, path)
        for parts, path in _participations(composition, extensions.INFORMATION_RECIPIENT)
    ]
    for reference, path in stated or carrier.recipients:
        target = conversion.resolve(reference, path, composition if stated else carrier.resource)
        recipient = _recipient(conversion, target, reference, path)
        if recipient is None:
            if target is not None:
                conversion.inform(
                    path,
                    "this kind of recipient has no place in the header",
                    "CI-SIS Structuration minimale, informationRecipient",
                )
            continue
        recipient.telecoms = [*recipient.telecoms, *_endpoint(conversion, reference, path)]
        yield recipient


def _recipient(conversion: Conversion, target: Resource | None, reference: Resource, path: str) -> Recipient | None:
    """A professional or a structure with national number; the person or a relative by name, never by id."""
    if target is None:
        name = (reference.get("display") or "").strip()
        return Recipient(name=PersonName(families=[NamePart(name)])) if name else None
    if target.get("resourceType") == "RelatedPerson":
        conversion.same_patient(target, "patient", f"{path}.resolve()")
        entities = related_entities(conversion, target, f"{path}.resolve()")[:1]
        return next((Recipient([], one.addresses, one.telecoms, one.name) for one in entities), None)
    party = read_party(conversion, target, f"{path}.resolve()")
    if party is None or party.source.get("resourceType") == "Device":
        return None
    ids = party_ids(conversion, party) if party.is_professional else []
    structure = party.structure
    return Recipient(
        ids=[ii for ii in ids if ii.root == templates.PS_IDNAT],
        addresses=party_addresses(conversion, party),
        telecoms=party_telecoms(conversion, party),
        name=party_name(conversion, party),
        organization=_received(organization(conversion, structure, f"{party.path}.organization"))
        if structure
        else None,
    )


def _endpoint(conversion: Conversion, reference: Resource, path: str) -> list[Telecom]:
    """Where a recipient wants to be reached; a scheme that is written twice counts once (volet NdE)."""
    url = (extensions.value(reference, extensions.RECIPIENT_ENDPOINT) or "").strip()
    scheme, _, rest = url.partition(":")
    if scheme and rest.startswith(f"{scheme}:"):
        conversion.inform(
            f"{path}.extension", "the scheme of the address is written twice", "CI-SIS NdE, recipient-endpoint"
        )
        url = rest
    return telecoms(conversion, [{"system": "url", "value": url}] if url else [], path, "Destinataire")


def _received(structure: Organization) -> Organization:
    return replace(
        structure, ids=[ii for ii in structure.ids if ii.root == templates.STRUCT_IDNAT], industry_class=None
    )


# --- who signs ----------------------------------------------------------------------------------------------------


def _legal_authenticator(
    conversion: Conversion, composition: Resource, lead: Party | None, time: str
) -> Authenticator | None:
    """The attester who answers for the content, else the first human author."""
    for attester, path in _attesters(composition, "legal"):
        target = conversion.resolve(attester.get("party"), f"{path}.party", composition)
        party = read_party(conversion, target, f"{path}.party.resolve()")
        if party is not None:
            signed = conversion.time(attester.get("time"), f"{path}.time")
            return Authenticator(signed or time, assigned_entity(conversion, party))
    if lead is None:
        return None
    assigned = _with_structure(conversion, assigned_entity(conversion, lead), lead)
    _demand_name(conversion, assigned, lead)
    return Authenticator(time, assigned)


def _authenticators(
    conversion: Conversion, carrier: Carrier, composition: Resource, lead: Party | None
) -> Iterator[Authenticator]:
    """Professional attesters; without a Composition, who approved the plan when that is not its author."""
    signers = [
        (attester.get("party"), attester.get("time"), f"{path}.party", composition)
        for attester, path in _attesters(composition, "professional")
    ]
    if not composition and carrier.approver:
        approver, said_at, said_by = carrier.approver
        signers = [(approver, carrier.approved, said_at, said_by)]
    for reference, time, path, container in signers:
        party = read_party(conversion, conversion.resolve(reference, path, container), f"{path}.resolve()")
        if party is None or (not composition and lead is not None and party.source is lead.source):
            continue
        signed = conversion.time(time, path)
        assigned = assigned_entity(conversion, party)
        if signed and assigned.ids and assigned.ids[0].root == templates.PS_IDNAT:
            yield Authenticator(signed, assigned)
        else:
            conversion.warn(
                path,
                "an authenticator needs a national number and a time: not written",
                "CI-SIS Structuration minimale, authenticator",
            )


def _attesters(composition: Resource, mode: str) -> Iterator[tuple[Resource, str]]:
    for index, attester in enumerate(composition.get("attester", ())):
        if attester.get("mode") == mode:
            yield attester, f"Composition.attester[{index}]"


# --- act, orders, consent, encounter --------------------------------------------------------------------------------


def _orders(conversion: Conversion, carrier: Carrier, composition: Resource) -> Iterator[Order]:
    stated = [
        extension.get("valueReference", {})
        for extension in extensions.extensions(composition, extensions.EVENT_BASED_ON)
    ]
    path = f"Composition.extension('{extensions.EVENT_BASED_ON}').value"
    orders = [(reference, conversion.resolve(reference, path, composition), path) for reference in stated]
    for reference, request, place in orders or carrier.orders:
        identifiers = [reference.get("identifier", {}), *(request or {}).get("identifier", ())]
        ids = [ii for ii in map(identity.ii_of, identifiers) if ii]
        if ids:
            yield Order(ids[:1], next(iter(codings((request or {}).get("code"))), None))
        else:
            conversion.inform(
                place, "an order without identifier is not written", "CI-SIS Structuration minimale, inFulfillmentOf"
            )


def _service_events(
    conversion: Conversion, carrier: Carrier, composition: Resource, lead: Party | None
) -> list[ServiceEvent]:
    """documentationOf: the main act first, which needs a start, a performer and a cadre d'exercice."""
    events = composition.get("event", ())
    main = events[0] if events else {}
    act = (
        period(conversion, main.get("period"), "Composition.event[0].period")
        or carrier.act_time
        or period(conversion, carrier.event, f"{carrier.path}.period")
    )
    low = (act.low if act else None) or conversion.time(carrier.authored, f"{carrier.path}.created")
    if low is None:
        place = carrier.start_path or f"{carrier.path}.period.start"
        if not conversion.has_refused(place):
            conversion.refuse(
                place, "the start of the documented act", "CI-SIS Structuration minimale, documentationOf"
            )
    code = next((one for concept in main.get("code", ()) for one in codings(concept)), None)
    performer = _act_performer(conversion, main, composition) or _stated_performer(conversion, carrier) or lead
    first = ServiceEvent(
        code=code or carrier.act,
        time=Interval(low=low, high=act.high if act else None),
        performers=[Performer(_act_entity(conversion, performer))] if performer else [],
    )
    return [first, *(_other_event(conversion, event, index) for index, event in enumerate(events) if index)]


def _other_event(conversion: Conversion, event: Resource, index: int) -> ServiceEvent:
    code = next((one for concept in event.get("code", ()) for one in codings(concept)), None)
    return ServiceEvent(code=code, time=period(conversion, event.get("period"), f"Composition.event[{index}].period"))


def _stated_performer(conversion: Conversion, carrier: Carrier) -> Party | None:
    return read_party(conversion, *carrier.performer) if carrier.performer else None


def _act_performer(conversion: Conversion, event: Resource, composition: Resource) -> Party | None:
    for index, reference in enumerate(event.get("detail", ())):
        path = f"Composition.event[0].detail[{index}]"
        party = read_party(conversion, conversion.resolve(reference, path, composition), f"{path}.resolve()")
        if party is not None and party.is_professional:
            return party
    return None


def _act_entity(conversion: Conversion, performer: Party) -> AssignedEntity:
    assigned = _with_structure(conversion, assigned_entity(conversion, performer), performer)
    structure = assigned.organization or Organization()
    setting = structure.industry_class or configured_setting(conversion.deployment)
    assigned.organization = replace(structure, industry_class=setting)
    if setting is None:
        conversion.refuse(
            f"{performer.path}.organization.resolve().type",
            "secteur d'activité or cadre d'exercice (TRE_R02, TRE_A01) of the structure, or setting practice_setting",
            "CI-SIS Structuration minimale, documentationOf",
        )
    return assigned


def _authorizations(conversion: Conversion, composition: Resource) -> list[Consent]:
    """authorization: consents to share, never a refusal; one per code."""
    found: dict[str | None, Consent] = {}
    for resource in sharing_consents(conversion, composition):
        codes = [code for concept in resource.get("category", ()) for code in codings(concept)]
        code = next((one for one in codes if one.system == templates.ACT_CODE), None)
        if code is None or code.code == "IDSCL":
            code = Code("IDSCL", templates.ACT_CODE, CONSENT_LABEL)
        ids = [ii for ii in map(identity.ii_of, resource.get("identifier", ())) if ii]
        found.setdefault(code.code, Consent(ids[:1], code))
    return list(found.values())


def _encounter(
    conversion: Conversion, carrier: Carrier, composition: Resource, lead: Party | None
) -> EncompassingEncounter:
    """componentOf: the Encounter of the Composition or of the carrier, else a virtual one without date."""
    source = conversion.resolve(composition.get("encounter"), "Composition.encounter", composition)
    path = "Composition.encounter.resolve()"
    if source is None and carrier.encounter is not None:
        source, path = carrier.encounter
    facility = _facility(conversion, composition, source, lead, path)
    if source is None:
        return EncompassingEncounter(
            code=terminology.coded("J142", "VR"),
            time=Interval(null_flavor="NA"),
            responsible=_responsible(conversion, lead),
            facility=facility,
        )
    conversion.same_patient(source, "subject", path)
    people = list(_encounter_people(conversion, source, path))
    answering = next((party for type_code, party, _ in people if type_code == "RESP"), None)
    return EncompassingEncounter(
        ids=[ii for ii in map(identity.ii_of, source.get("identifier", ())) if ii],
        code=_encounter_class(conversion, source, path),
        time=period(conversion, source.get("period"), f"{path}.period") or Interval(null_flavor="NA"),
        discharge_disposition=next(iter(codings(source.get("hospitalization", {}).get("dischargeDisposition"))), None),
        responsible=_responsible(conversion, answering or lead),
        participants=[
            EncounterParticipant(type_code, assigned_entity(conversion, party), time)
            for type_code, party, time in people
            if party is not answering
        ],
        facility=facility,
    )


def _responsible(conversion: Conversion, party: Party | None) -> AssignedEntity | None:
    """responsibleParty: a professional with a national number, without structure."""
    responsible = assigned_entity(conversion, party, with_structure=False) if party else None
    known = responsible is not None and any(ii.root == templates.PS_IDNAT for ii in responsible.ids)
    return responsible if known else None


def _encounter_class(conversion: Conversion, encounter: Resource, path: str) -> Code | None:
    coding = encounter.get("class", {})
    code = _ENCOUNTER_CLASSES.get(coding.get("code", ""), coding.get("code"))
    found = terminology.concept("J142", code)
    if code and found is None:
        conversion.inform(f"{path}.class", "no class of JDV_J142: not written", ENCOUNTER_RULE)
    return found.as_code() if found else None


def _encounter_people(
    conversion: Conversion, encounter: Resource, encounter_path: str
) -> Iterator[tuple[str, Party, Interval | None]]:
    """Participation (JDV_J140), professional and time of each participant of an Encounter."""
    for index, participant in enumerate(encounter.get("participant", ())):
        path = f"{encounter_path}.participant[{index}]"
        type_code = from_jdv("J140", participant.get("type", ()))
        target = conversion.resolve(participant.get("individual"), f"{path}.individual", encounter)
        party = read_party(conversion, target, f"{path}.individual.resolve()")
        if party is not None and type_code is not None and type_code.code:
            yield type_code.code, party, period(conversion, participant.get("period"), f"{path}.period")
        else:
            conversion.inform(path, "nobody of the resources, or no part of JDV_J140: not written", ENCOUNTER_RULE)


def _facility(
    conversion: Conversion, composition: Resource, encounter: Resource | None, lead: Party | None, path: str
) -> HealthCareFacility:
    """The place of care: its secteur d'activité (JDV_J02) is demanded and becomes XDS healthcareFacilityTypeCode."""
    location: Resource = {}
    if encounter is not None:
        for index, stay in enumerate(encounter.get("location", ())):
            place = f"{path}.location[{index}].location"
            if location:
                conversion.inform(place, "a later place of the encounter is written instead", ENCOUNTER_RULE)
            location = conversion.resolve(stay.get("location"), place, encounter) or location
    provider = conversion.resolve((encounter or {}).get("serviceProvider"), f"{path}.serviceProvider", encounter)
    stated = [
        document.get("context", {}).get("facilityType")
        for document in conversion.resources.of_type("DocumentReference")
        if composition and document.get("context", {}).get("facilityType")
    ]
    configured = terminology.concept(FACILITY_LIST, conversion.deployment.facility_type)
    code = (
        from_jdv(FACILITY_LIST, [*location.get("type", ()), *stated])
        or sector_of(provider)
        or sector_of(lead.structure if lead else None)
        or (configured.as_code() if configured else None)
    )
    if code is None:
        conversion.refuse(
            "PractitionerRole.organization.resolve().type",
            "secteur d'activité (TRE_R02) of the author's structure, or the setting facility_type",
            "CI-SIS Structuration minimale, componentOf",
        )
    ids = [ii for ii in map(identity.structure_id, location.get("identifier", ())) if ii]
    where = address(location["address"]) if "address" in location else None
    return HealthCareFacility(ids=ids, code=code, name=location.get("name"), address=where)
