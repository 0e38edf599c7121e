"""Header of any CI-SIS document → Composition and what it points to: inverse of `to_cda.header`."""

from __future__ import annotations

from collections.abc import Iterator

from relais.cda.datatypes import urn_from_root
from relais.cda.model import AssignedEntity as Assigned
from relais.cda.model import (
    Authenticator,
    Code,
    EncompassingEncounter,
    HealthCareFacility,
    Interval,
    Participant,
    Performer,
)
from relais.cda.templates import ACT_CODE
from relais.mappings import extensions, identity, terminology
from relais.mappings.context import Resource
from relais.mappings.from_cda.datatypes import (
    absent,
    address,
    coding,
    concept,
    identifiers,
    period,
    say_code_alone,
    span,
    stated_concept,
)
from relais.mappings.from_cda.parties import (
    organization,
    participant_party,
    party,
    recipient_party,
    relative,
)
from relais.mappings.from_cda.reading import Reading
from relais.mappings.to_cda.header_act import CONSENT_LABEL
from relais.mappings.to_cda.header_team import ROLE_BASED_SYSTEMS

RULE = "CI-SIS Structuration minimale"
TEMPLATES = f"{terminology.RELAIS_CODES}cda-template-id"
PARTICIPATION = "2.16.840.1.113883.5.90"
CONSENT_SCOPES = "http://terminology.hl7.org/CodeSystem/consentscope"

_CONFIDENTIALITIES = frozenset({"U", "L", "M", "N", "R", "V"})
_NO_ENCOUNTER = "VR"
FACILITY = "componentOf/encompassingEncounter/location/healthCareFacility"
_RELATIONS = {"RPLC": "replaces", "APND": "appends", "XFRM": "transforms"}
"""relatedDocument/@typeCode (CDA R2: replacement, addendum, transformation) → Composition.relatesTo.code."""


def composition(reading: Reading, subject: Resource) -> Resource:
    """The elements of the Composition, its sections aside, with the resources that its header names."""
    header = reading.document.header
    found: Resource = {
        "meta": {"tag": tags} if (tags := list(_templates(reading))) else None,
        "language": " ".join((header.language or "").split()),
        "identifier": _lineage(reading),
        "status": "final",
        "type": stated_concept(reading, header.code, "code") or absent(header.code.null_flavor),
        "subject": subject,
        "date": reading.moment(header.effective_time, "effectiveTime"),
        "author": list(_authors(reading)) or [absent("UNK")],
        "title": header.title or header.code.display,
        "confidentiality": _confidentiality(reading),
        "attester": list(_attesters(reading)),
        "custodian": organization(reading, header.custodian, "custodian"),
        "relatesTo": list(_relations(reading)),
    }
    if not found["title"]:
        found["_title"] = absent("UNK")
    found["extension"] = [
        *_version(reading),
        *_data_enterer(reading),
        *_informants(reading),
        *_recipients(reading),
        *_participants(reading),
        *_orders(reading),
        *_consents(reading, subject),
    ]
    found["event"] = list(_events(reading))
    found["encounter"] = _encounter(reading, subject)
    return found


# --- identity of the document -------------------------------------------------------------------------------------


def _templates(reading: Reading) -> Iterator[Resource]:
    """The templateIds as tags: no profile of FHIR has their names."""
    for ii in reading.document.header.template_ids:
        if ii.root and urn_from_root(ii.root):
            yield {"system": TEMPLATES, "code": ii.root} | ({"version": ii.extension} if ii.extension else {})


def _lineage(reading: Reading) -> Resource | None:
    header = reading.document.header
    if header.set_id and (found := identity.identifier_of(header.set_id)):
        return found
    reading.warn(
        "setId",
        "missing: the document stands for its whole lineage",
        "CI-SIS Structuration minimale, setId",
        "required",
    )
    return identity.identifier_of(header.id)


def _version(reading: Reading) -> Iterator[Resource]:
    version = reading.document.header.version_number
    if version is None:
        reading.warn(
            "versionNumber",
            "missing: read as the first version",
            "CI-SIS Structuration minimale, versionNumber",
            "required",
        )
    yield {"url": extensions.COMPOSITION_VERSION, "valueString": str(version or 1)}


def _relations(reading: Reading) -> Iterator[Resource]:
    for index, related in enumerate(reading.document.header.related_documents, 1):
        path = f"relatedDocument[{index}]"
        code = _RELATIONS.get(related.type_code)
        if code is None:
            reading.warn(path, "none of RPLC, APND and XFRM: left out", "CDA R2, relatedDocument", "code-invalid")
            continue
        if code != "replaces":
            reading.inform(
                path,
                f"{related.type_code} replaces nothing, the parent stays valid: kept as {code}, not written back",
                "CI-SIS Structuration minimale, relatedDocument (RPLC alone)",
            )
        if related.parent_set_id is not None:
            reading.inform(f"{path}/parentDocument/setId", "not kept: it is that of the lineage", RULE)
        for identifier in map(identity.identifier_of, related.parent_ids):
            if identifier:
                yield {"code": code, "targetIdentifier": identifier}


def _confidentiality(reading: Reading) -> str | None:
    code = reading.document.header.confidentiality
    if code is None or code.code in _CONFIDENTIALITIES:
        return code.code if code else None
    reading.warn("confidentialityCode", "not a code of v3-Confidentiality: left out", RULE, "code-invalid")
    return None


# --- who takes part -----------------------------------------------------------------------------------------------


def _authors(reading: Reading) -> Iterator[Resource]:
    for index, author in enumerate(reading.document.header.authors, 1):
        path = f"author[{index}]/assignedAuthor"
        reference = party(reading, author.assigned, path)
        if reference is None:
            reading.warn(path, "names nobody: left out", RULE, "required")
            continue
        when = reading.moment(author.time, f"author[{index}]/time")
        extension = [{"url": extensions.AUTHOR_TIME, "valueDateTime": when}] if when else []
        yield reference | ({"extension": extension} if extension else {})


def _attesters(reading: Reading) -> Iterator[Resource]:
    header = reading.document.header
    if header.legal_authenticator is not None:
        yield from _attester(reading, header.legal_authenticator, "legal", "legalAuthenticator")
    for index, authenticator in enumerate(header.authenticators, 1):
        yield from _attester(reading, authenticator, "professional", f"authenticator[{index}]")


def _attester(reading: Reading, authenticator: Authenticator, mode: str, path: str) -> Iterator[Resource]:
    reference = party(reading, authenticator.assigned, f"{path}/assignedEntity")
    time = reading.moment(authenticator.time, f"{path}/time")
    found = {"mode": mode, "time": time, "party": reference}
    yield {name: content for name, content in found.items() if content}


def _participation(url: str, **parts: Resource | str | None) -> Resource:
    """An extension of HL7 FHIR Clinical Document: a party with what qualifies its part."""
    types = {"party": "Reference", "time": "DateTime", "period": "Period"}
    nested = [
        {"url": "time" if name == "period" else name, f"value{types.get(name, 'CodeableConcept')}": content}
        for name, content in parts.items()
        if content
    ]
    return {"url": url, "extension": nested}


def _role(type_code: str) -> Resource:
    known = terminology.concept("J144", type_code) or terminology.concept("J140", type_code)
    return concept(known.as_code() if known else Code(type_code, PARTICIPATION))


def _data_enterer(reading: Reading) -> Iterator[Resource]:
    enterer = reading.document.header.data_enterer
    if enterer and (reference := party(reading, enterer.assigned, "dataEnterer/assignedEntity")):
        time = reading.moment(enterer.time, "dataEnterer/time")
        yield _participation(extensions.DATA_ENTERER, type=_role("ENT"), time=time, party=reference)


def _informants(reading: Reading) -> Iterator[Resource]:
    """One extension per informing person; a relative in several roles bears them all."""
    seen: list[Resource] = []
    for index, informant in enumerate(reading.document.header.informants, 1):
        path = f"informant[{index}]"
        if informant.related is not None:
            reference: Resource | None = relative(reading, informant.related, f"{path}/relatedEntity")
        else:
            assigned = informant.assigned or Assigned()
            reference = party(reading, assigned, f"{path}/assignedEntity")
        if reference is None:
            reading.warn(path, "names nobody: left out", RULE, "required")
        elif reference not in seen:
            seen.append(reference)
            yield _participation(extensions.INFORMANT, type=_role("INF"), party=reference)


def _recipients(reading: Reading) -> Iterator[Resource]:
    for index, recipient in enumerate(reading.document.header.recipients, 1):
        path = f"informationRecipient[{index}]/intendedRecipient"
        if reference := recipient_party(reading, recipient, path):
            kind = _role(recipient.type_code or "PRCP")
            yield _participation(extensions.INFORMATION_RECIPIENT, type=kind, party=reference)
        else:
            reading.warn(path, "names nobody: left out", RULE, "required")


def _members(reading: Reading) -> list[tuple[Participant, Resource | None, str]]:
    """The participants of the header, each with the Reference to who it is and its XPath; read once."""
    if reading.members is None:
        reading.members = [
            (participant, participant_party(reading, participant, f"{path}/associatedEntity"), path)
            for path, participant in (
                (f"participant[{index}]", one) for index, one in enumerate(reading.document.header.participants, 1)
            )
        ]
    return reading.members


def _participants(reading: Reading) -> Iterator[Resource]:
    for participant, reference, place in _members(reading):
        path = f"{place}/associatedEntity"
        if reference is None:
            reading.warn(path, "names nobody: left out", RULE, "required")
            continue
        _report_class(reading, participant, path)
        yield _participation(
            extensions.PARTICIPANT,
            type=_role(participant.type_code),
            function=stated_concept(reading, participant.function_code, f"{place}/functionCode"),
            period=span(reading, participant.time, f"{path}/time"),
            party=reference,
        )


def _report_class(reading: Reading, participant: Participant, path: str) -> None:
    """The class of a participant follows from the profession when it is written back."""
    code = participant.code
    expected = "AGNT" if code and code.system in ROLE_BASED_SYSTEMS else "PROV"
    if participant.class_code != expected:
        reading.inform(f"{path}/@classCode", f"written back as {expected}, which the profession is", RULE)


# --- orders, consents, acts -----------------------------------------------------------------------------------------


def _orders(reading: Reading) -> Iterator[Resource]:
    """The order that a document answers, by its number: the request itself is not in the document."""
    for index, order in enumerate(reading.document.header.orders, 1):
        path = f"inFulfillmentOf[{index}]/order"
        if order.code is not None and (order.code.code or order.code.original_text):
            reading.inform(f"{path}/code", "the order is known by its number: what it asks is not kept", RULE)
        for identifier in identifiers(order.ids):
            reference = {"type": "ServiceRequest", "identifier": identifier}
            yield {"url": extensions.EVENT_BASED_ON, "valueReference": reference}


def _consents(reading: Reading, subject: Resource) -> Iterator[Resource]:
    for index, consent in enumerate(reading.document.header.consents, 1):
        path = f"authorization[{index}]/consent"
        code = consent.code or Code("IDSCL", ACT_CODE, CONSENT_LABEL)
        elements: Resource = {
            "identifier": identifiers(consent.ids),
            "status": "active",
            "scope": {"coding": [{"system": CONSENT_SCOPES, "code": "patient-privacy"}]},
            "category": [stated_concept(reading, code, f"{path}/code") or absent(code.null_flavor)],
            "patient": subject,
            "policyRule": {"coding": [{"system": terminology.uri_of(ACT_CODE), "code": "OPTIN"}]},
            "provision": {"type": "permit"},
        }
        reference = reading.add("Consent", ("authorization", str(index)), elements)
        yield {"url": extensions.CONSENT, "valueReference": reference}


def _events(reading: Reading) -> Iterator[Resource]:
    for index, act in enumerate(reading.document.header.service_events, 1):
        path = f"documentationOf[{index}]/serviceEvent"
        if act.class_code not in (None, "ACT"):
            reading.inform(f"{path}/@classCode", "the event of a Composition has no class", RULE)
        for number, _ in enumerate(act.ids, 1):
            reading.inform(f"{path}/id[{number}]", "the event of a Composition has no identifier", RULE)
        found: Resource = {
            "code": [kind] if (kind := stated_concept(reading, act.code, f"{path}/code")) else [],
            "period": period(reading, act.time, f"{path}/effectiveTime"),
            "detail": [
                reference
                for number, performer in enumerate(act.performers, 1)
                if (reference := _performer(reading, performer, f"{path}/performer[{number}]"))
            ],
        }
        if kept := {name: content for name, content in found.items() if content}:
            yield kept


def _performer(reading: Reading, performer: Performer, path: str) -> Resource | None:
    if performer.time is not None and (performer.time.value or performer.time.low or performer.time.high):
        reading.inform(f"{path}/time", "the performer of the act has no time of its own", RULE)
    if performer.function_code is not None and performer.function_code.code:
        reading.inform(f"{path}/functionCode", "the performer of the act has no function of its own", RULE)
    return party(reading, performer.assigned, f"{path}/assignedEntity")


# --- encounter ------------------------------------------------------------------------------------------------------


def _encounter(reading: Reading, subject: Resource) -> Resource | None:
    """The Encounter of componentOf; none for the virtual one, without date, of a document that has no encounter."""
    source = reading.document.header.encounter
    if source is None:
        return None
    path = "componentOf/encompassingEncounter"
    if _is_void(source) and _is_author(reading, source.responsible):
        return None
    when = span(reading, source.time, f"{path}/effectiveTime")
    say_code_alone(reading, source.code, f"{path}/code")
    place = _location(reading, source.facility, path)
    elements: Resource = {
        "identifier": identifiers(source.ids),
        "status": "finished" if when.get("end") else "unknown",
        "class": (coding(source.code) if source.code else None) or absent("UNK"),
        "subject": subject,
        "participant": list(_encounter_participants(reading, source, path)),
        "period": when,
        "hospitalization": {"dischargeDisposition": discharge}
        if (discharge := stated_concept(reading, source.discharge_disposition, f"{path}/dischargeDispositionCode"))
        else None,
        "location": [{"location": place}] if place else [],
    }
    return reading.add("Encounter", (), elements)


def _is_void(source: EncompassingEncounter) -> bool:
    place = source.facility
    time = source.time
    return (
        not source.ids
        and (source.code is None or source.code.code in (None, _NO_ENCOUNTER))
        and (time is None or not (time.value or time.low or time.high))
        and not source.participants
        and source.discharge_disposition is None
        and (place is None or not (place.ids or place.name or place.address))
    )


def _is_author(reading: Reading, responsible: Assigned | None) -> bool:
    """Whether the responsible party is who answers for the document anyway: its first professional author."""
    authors = (author.assigned for author in reading.document.header.authors)
    lead = next((one for one in authors if one.person is not None), Assigned())
    return responsible is None or responsible.ids == lead.ids


def _encounter_participants(reading: Reading, source: EncompassingEncounter, path: str) -> Iterator[Resource]:
    people: list[tuple[str, Assigned, Interval | None]] = [
        (participant.type_code, participant.assigned, participant.time) for participant in source.participants
    ]
    if source.responsible is not None:
        people.insert(0, ("RESP", source.responsible, None))
    for index, (type_code, assigned, time) in enumerate(people, 1):
        place = f"{path}/participant[{index}]"
        reference = party(reading, assigned, place)
        if reference is None or _type_of(reference, reading) not in ("Practitioner", "PractitionerRole"):
            reading.warn(place, "names no professional: left out", RULE, "required")
            continue
        found = {"type": [_role(type_code)], "period": span(reading, time, place), "individual": reference}
        yield {name: content for name, content in found.items() if content}


def _type_of(reference: Resource, reading: Reading) -> str:
    return str(reading.resource(reference)["resourceType"])


def _location(reading: Reading, facility: HealthCareFacility | None, path: str) -> Resource | None:
    if facility is None or not (facility.ids or facility.name or facility.address):
        return None
    elements: Resource = {
        "identifier": identifiers(facility.ids),
        "name": facility.name,
        "type": [kind] if (kind := stated_concept(reading, facility.code, f"{FACILITY}/code")) else [],
        "address": address(facility.address) if facility.address else None,
    }
    return reading.add("Location", (path,), elements)


def care_team(reading: Reading, subject: Resource) -> Resource | None:
    """The CareTeam of the participants, and of authors who bear a function; None without any."""
    header = reading.document.header
    members: list[Resource] = []
    for index, author in enumerate(header.authors, 1):
        if function := stated_concept(reading, author.function_code, f"author[{index}]/functionCode"):
            _enlist(members, party(reading, author.assigned, f"author[{index}]/assignedAuthor"), function, {})
    for participant, reference, path in _members(reading):
        when = span(reading, participant.time, f"{path}/associatedEntity/time")
        _enlist(members, reference, stated_concept(reading, participant.function_code, f"{path}/functionCode"), when)
    if not members:
        return None
    elements: Resource = {"status": "active", "subject": subject, "participant": members}
    return reading.add("CareTeam", (), elements)


def _enlist(members: list[Resource], reference: Resource | None, role: Resource, when: Resource) -> None:
    if reference is None:
        return
    member = {"role": [role] if role else [], "member": reference, "period": when}
    kept = {name: content for name, content in member.items() if content}
    if all((one["member"], one.get("role")) != (reference, kept.get("role")) for one in members):
        members.append(kept)


def general_practitioners(reading: Reading) -> list[Resource]:
    """The *médecins traitants* among the participants."""
    found = [
        reference
        for participant, reference, _ in _members(reading)
        if reference
        and participant.function_code
        and participant.function_code.code == "PCP"
        and _type_of(reference, reading) in ("Practitioner", "PractitionerRole", "Organization")
    ]
    return list({one["reference"]: one for one in found}.values())
