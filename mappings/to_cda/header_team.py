"""The circle of care, and the participants of the header that it gives (CI-SIS Structuration minimale;
docs/mapping-header.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from relais.cda.model import Code, Interval, Participant
from relais.mappings import extensions, terminology
from relais.mappings.context import Resource
from relais.mappings.to_cda.conversion import Conversion
from relais.mappings.to_cda.datatypes import current_name, display_name, from_jdv, span
from relais.mappings.to_cda.header_sources import Carrier, participations
from relais.mappings.to_cda.parties import (
    Party,
    organization,
    party_addresses,
    party_ids,
    party_name,
    party_telecoms,
    read_party,
    speciality,
)
from relais.mappings.to_cda.prose import readable

TEAM_MEMBER = "353"
_INFORMING_FUNCTIONS = frozenset({"PCP", "CORRE"})
ROLE_BASED_SYSTEMS = frozenset({"1.2.250.1.213.1.6.1.107", "1.2.250.1.213.1.6.1.4"})


class Member(msgspec.Struct, gc=False):
    """Somebody of the circle of care: who, with which functions (JDV_J47), since when."""

    party: Party
    functions: list[Code]
    time: Interval | None = None


def members(conversion: Conversion, carrier: Carrier) -> Iterator[Member]:
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
            time = span(conversion, participant.get("period"), f"{place}.period")
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


def participants(
    conversion: Conversion, carrier: Carrier, composition: Resource, members: list[Member], lead: Party | None
) -> Iterator[Participant]:
    """participant: those of the Composition, else the circle of care."""
    stated = list(participations(composition, extensions.PARTICIPANT))
    for parts, path in stated:
        party = read_party(conversion, conversion.resolve(parts.get("party"), path, composition), f"{path}.resolve()")
        if party is not None:
            functions, _ = _read_roles([parts["function"]] if parts.get("function") else [])
            member = Member(party, functions, span(conversion, parts.get("time"), path))
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
