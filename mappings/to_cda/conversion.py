"""What one conversion carries along: the resources, what was found wrong, the ids already given.

Everything that must be refused is collected and raised once, so that a user mends a plan in one go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from relais.cda.datatypes import OidSeries, ts_from_fhir, uuid_oid
from relais.cda.errors import Issue, MappingError
from relais.cda.model import II
from relais.cda.templates import INS_ROOTS
from relais.mappings import identity
from relais.mappings.context import Deployment, Emission, Resource
from relais.mappings.resources import ResourceSet, is_other_version

INS_RULE = "Référentiel INS"
CONSENT_RULE = "FHIR R4 Consent, provision"
OPPOSITION_RULE = "what the person opposes is not shared"
"""Rule of the warnings about a document that may not be transmitted, because the person said so."""

ONE_PATIENT_RULE = "CI-SIS Structuration minimale, recordTarget"
_Made = TypeVar("_Made")

Made = dict[Callable[..., Any], Any]
"""What was made of something so far, by the function that made it."""

_PERSONS = frozenset({"Patient", "RelatedPerson"})


class Conversion:
    """State of one FHIR → CDA conversion. `remarks` are lines that have no element in CDA and go to the narrative."""

    def __init__(self, resources: ResourceSet, emission: Emission) -> None:
        self.resources = resources
        self.emission = emission
        self.today = emission.now.date()
        self.issues: list[Issue] = []
        self.remarks: list[str] = []
        self.patient: Resource = {}
        self.patient_ids: list[II] = []
        self.lineage = II()
        self.reached: set[int] = set()  # resources that a reference was followed to, by identity
        self.opposed: set[int] = set()  # resources whose sharing the person opposes, by identity
        self._ids: set[tuple[str | None, str | None]] = set()
        self._roles: dict[int, list[Resource]] | None = None
        self._made: dict[int, tuple[Resource, Made]] = {}  # by identity of the resource
        self._times: dict[str, str] = {}  # TS by FHIR value

    @property
    def lineage(self) -> II:
        """The setId of the document: the one that is known already, else the one that the mapping derives."""
        return self._lineage

    @lineage.setter
    def lineage(self, derived: II) -> None:
        self._lineage = self.emission.version.set_id or derived
        self._scope = (self._lineage.root or "", self._lineage.extension or "")
        self._entries = OidSeries("entry", *self._scope)

    @property
    def ins(self) -> str | None:
        """The INS that the document bears, once `patient_ids` are known."""
        return next((ii.extension for ii in self.patient_ids if ii.root in INS_ROOTS), None)

    @property
    def deployment(self) -> Deployment:
        """The emitter."""
        return self.emission.deployment

    # --- findings -------------------------------------------------------------------------------------------

    def refuse(self, path: str, message: str, rule: str, code: str = "required") -> None:
        """Note what forbids the document; `finish` raises it with all the others."""
        self.issues.append(Issue("error", code, message, path, rule))

    def has_refused(self, path: str) -> bool:
        """Whether something at or below that place was refused: its absence is then no news."""
        return any(issue.severity == "error" and issue.path.startswith(path) for issue in self.issues)

    def warn(self, path: str, message: str, rule: str, code: str = "business-rule") -> None:
        """Note what a receiver may find wanting."""
        self.issues.append(Issue("warning", code, message, path, rule))

    def inform(self, path: str, message: str, rule: str, code: str = "informational") -> None:
        """Note what CDA cannot hold, or holds otherwise."""
        self.issues.append(Issue("information", code, message, path, rule))

    def finish(self) -> list[Issue]:
        """The warnings and informations. Raises MappingError with every finding when something was refused."""
        self._say_person_numbers()
        issues = list(dict.fromkeys(self.issues))  # a party that plays several parts is read several times
        if any(issue.severity == "error" for issue in issues):
            raise MappingError(sorted(issues, key=lambda issue: issue.severity != "error"))
        return issues

    def _say_person_numbers(self) -> None:
        """Warn about the things (not persons) whose identifier is a national number of a person: it names nothing."""
        for resource in self.resources:
            if "identifier" not in resource or resource.get("resourceType") in _PERSONS:
                continue
            stated = resource["identifier"]
            for one in [stated] if isinstance(stated, dict) else stated:
                if identity.is_person_number(one):
                    place = f"{self.resources.place(resource)}.identifier"
                    self.warn(place, "an INS or a social security number: names only a person, left out", INS_RULE)

    # --- resources ------------------------------------------------------------------------------------------

    def resolve(self, reference: Resource | None, path: str, container: Resource | None = None) -> Resource | None:
        """The resource a Reference names. A reference to nothing is refused; an absent or logical one is None.

        Another version than the one asked for is used, with a warning: a document is made of what is current.
        """
        if not reference:
            return None
        target = self.resources.resolve(reference, container)
        if target is None:
            if reference.get("reference"):
                self.refuse(path, "reference to a resource that is not provided", "FHIR R4 references", "not-found")
            return None
        self.reached.add(id(target))
        if self.opposed:
            self.say_opposed(target, path)
        if is_other_version(reference, target):
            self.warn(path, "another version of the resource than the one referred to", "FHIR R4 references")
        return target

    def say_named(self, reference: Resource, path: str, label: str) -> None:
        """Put in words what a Reference names without leading to a resource (`display` alone)."""
        if name := (reference.get("display") or "").strip():
            self.remarks.append(f"{label} : {name}")
            self.inform(path, "only named: in words only", "FHIR R4 references")

    def say_opposed(self, resource: Resource, path: str) -> None:
        """Warn that a document may not be transmitted, when the person opposes the sharing of what it is made of."""
        if id(resource) in self.opposed:
            self.warn(path, "the person opposes the sharing of this resource", OPPOSITION_RULE)

    def references(
        self, element_of: Resource, element: str, path: str, container: Resource | None = None
    ) -> Iterator[tuple[Resource, Resource | None, str]]:
        """(Reference, target or None, path) of each item of a repeating Reference element.

        `container` is the resource that holds them, when `element_of` is only a part of it.
        """
        for index, reference in enumerate(element_of.get(element, ())):
            place = f"{path}.{element}[{index}]"
            yield reference, self.resolve(reference, place, container or element_of), f"{place}.resolve()"

    def shared(self, resource_type: str) -> Iterator[tuple[Resource, str]]:
        """The resources of that type with their paths, without those whose sharing the person opposes (said)."""
        for resource, path in self.resources.placed(resource_type):
            if id(resource) in self.opposed:
                self.warn(path, "the person opposes its sharing: left out", CONSENT_RULE)
            else:
                yield resource, path

    def roles_of(self, practitioner: Resource) -> list[Resource]:
        """The PractitionerRoles of a Practitioner among the resources, in their order."""
        if self._roles is None:
            self._roles = {}
            for role in self.resources.of_type("PractitionerRole"):
                person = self.resources.resolve(role.get("practitioner"), role)
                self._roles.setdefault(id(person), []).append(role)
        return self._roles.get(id(practitioner), [])

    def same_patient(self, resource: Resource, element: str, path: str) -> bool:
        """Refuse a resource of another patient (one document has one patient); absent is not another."""
        reference = resource.get(element)
        if not reference or self.resources.resolve(reference, resource) is self.patient:
            return True
        if self.designates_patient(reference, resource):
            return True
        self.refuse_other_patient(f"{path}.{element}")
        return False

    def refuse_other_patient(self, path: str) -> None:
        """Note that somebody else's data stand at `path`."""
        self.refuse(path, "another patient than the subject of the document", ONE_PATIENT_RULE, "business-rule")

    def designates_patient(self, reference: Resource, container: Resource | None) -> bool:
        """Whether a Reference names the patient of the document: the resource itself, or an identifier they share.

        A social security number is no such identifier (twins have that of a parent), nor any beside two different INS.
        A contained copy of the patient, and a logical reference, are recognised by their identifiers.
        """
        target = self.resources.resolve(reference, container)
        if target is self.patient:
            return True
        if target is not None:
            return self.is_patient(target)
        return "reference" not in reference and self._is_identified([reference.get("identifier", {})])

    def is_patient(self, resource: Resource) -> bool:
        """Whether a resource is the patient of the document: the resource itself, or a copy that bears an identifier of
        the patient."""
        if resource is self.patient:
            return True
        return resource.get("resourceType") == "Patient" and self._is_identified(resource.get("identifier", ()))

    def _is_identified(self, identifiers: Iterable[Resource]) -> bool:
        own, stated = _proper_ids(self.patient.get("identifier", ())), _proper_ids(identifiers)
        return bool(identity.decisive_numbers(own, stated))

    def made_of(self, resource: Resource) -> Made:
        """What was made of a resource so far, for `once`."""
        known = self._made.get(id(resource))
        if known is None:
            known = self._made[id(resource)] = resource, {}  # kept, so that no other takes its identity
        return known[1]

    def once(self, made: Made, make: Callable[..., _Made], *of: object) -> _Made:
        """`make(self, *of)`, kept in `made`: made once, unless there are findings, which name the place."""
        if make in made:
            known: _Made = made[make]
            return known
        said = len(self.issues) + len(self.remarks)
        new = make(self, *of)
        if len(self.issues) + len(self.remarks) == said:
            made[make] = new
        return new

    # --- values ---------------------------------------------------------------------------------------------

    def time(self, value: str | None, path: str) -> str | None:
        """A FHIR date, dateTime or instant as a TS of the same precision; a wrong one is refused."""
        if value is None:
            return None
        known = self._times.get(value)
        if known is not None:
            return known
        try:
            time = self._times[value] = ts_from_fhir(value)
        except ValueError as error:
            self.refuse(path, str(error), "HL7 V3 data types, TS", "value")
            return None
        return time

    def entry_id(self, resource: Resource, path: str, role: str = "") -> II:
        """The id of an entry made from `resource`, unique in the document and the same in every version.

        The first free business identifier serves the entry itself (`role` empty). `path`, the place in the plan,
        stands in for a resource that has neither identifier nor id. The id of another entry (`role`) follows from that
        of the entry itself, so that it comes back when the document is imported.
        """
        own = _own_ids(resource)
        if role:
            main = own[0] if own else self.expected_id(*_entry_name(resource, path))
            return self.computed_id("part", main.root or "", main.extension or "", role)
        for ii in own:
            if self._claim(ii):
                return ii
        if own:
            self.inform(
                path,
                "identifier borne by several resources: each entry gets its own id",
                "docs/mapping-pps.md, Identifiers",
            )
        return self.computed_id(*_entry_name(resource, path))

    def shared_id(self, resource: Resource, path: str, part: str) -> II:
        """The id of one of several entries made from the same resource: one root, `part` as extension."""
        own = next(iter(_own_ids(resource)), None)
        root = own.root if own and own.extension is None else None
        parts = ("shared", *self._scope, _name(resource) or path)
        ii = II(root or uuid_oid(*parts), part)
        return ii if self._claim(ii) else self.computed_id(*parts, part)

    def computed_id(self, *parts: str) -> II:
        """An id under 2.25 computed from the document lineage and `parts`; unique in the document."""
        ii = II(self._entries.oid(*parts))
        while not self._claim(ii):
            ii = II(uuid_oid("next", ii.root or ""))
        return ii

    def expected_id(self, *parts: str) -> II:
        """What `computed_id` gives as long as nothing else bears it."""
        return II(self._entries.oid(*parts))

    def entry_ids(self, resource: Resource, path: str) -> list[II]:
        """`entry_id`, then the other business identifiers of the resource that no entry bears yet."""
        first = self.entry_id(resource, path)
        own = _own_ids(resource)
        return [first, *(ii for ii in own if ii != first and self._claim(ii))]

    def _claim(self, ii: II) -> bool:
        known = len(self._ids)
        self._ids.add((ii.root, ii.extension))
        return len(self._ids) > known


def _proper_ids(identifiers: Iterable[Resource]) -> list[II]:
    """The identifiers that one person alone has: domain and value."""
    return [
        II(identity.identifier_domain(one) or one["system"], one["value"])
        for one in identifiers
        if one.get("system") and one.get("value") and not _is_shared(one)
    ]


def _is_shared(identifier: Resource) -> bool:
    """Whether an identifier is a social security number, which a family may have in common."""
    return identity.is_person_number(identifier) and identity.identifier_domain(identifier) not in INS_ROOTS


def _own_ids(resource: Resource) -> list[II]:
    """The business identifiers of a resource that may name something."""
    return [ii for ii in map(identity.ii_of, resource.get("identifier", ())) if ii]


def _entry_name(resource: Resource, path: str) -> tuple[str, str, str]:
    """What the id of an entry is computed from, when no business identifier serves."""
    return str(resource.get("resourceType", "")), _name(resource) or path, ""


def _name(resource: Resource) -> str:
    for identifier in resource.get("identifier", ()):
        if identifier.get("value"):
            return f"{identifier.get('system', '')}|{identifier['value']}"
    return str(resource.get("id", ""))
