"""Invented care plans as FHIR transaction Bundles: `PLANS` holds varied ones by name, `bundles()` generates more.

Everybody here is invented; INS are of the test OID. `full_plan()` is a Plan to change before `.bundle()`.
"""

from __future__ import annotations

import base64
import copy
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

from hypothesis import strategies as st

from relais.cda.identifiers import ins_key
from relais.mappings import extensions, terminology
from relais.mappings.context import Deployment, Emission
from relais.mappings.identity import FINESS, RPPS, SIRENE

Resource = dict[str, Any]

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
INS_TEST = "urn:oid:1.2.250.1.213.1.4.10"
IPP = "urn:oid:1.2.250.1.999.42.1"
PLAN_NUMBERS = "urn:oid:1.2.250.1.999.42.2"
R260, R216 = terminology.uri_of("2.16.840.1.113883.5.110"), terminology.uri_of("2.16.840.1.113883.5.111")
R217 = terminology.uri_of(terminology.LEGAL_PROTECTION)
R259, R85 = terminology.uri_of("2.16.840.1.113883.5.88"), terminology.uri_of("1.2.250.1.213.1.6.1.107")
R258, R02 = terminology.uri_of("1.2.250.1.213.1.1.4.2.280"), terminology.uri_of("1.2.250.1.71.4.2.4")
CISIS = terminology.TERMINOLOGIE_CISIS_URI
LOINC, SNOMED, ICD10 = "http://loinc.org", "http://snomed.info/sct", "http://hl7.org/fhir/sid/icd-10"
CONDITION_CATEGORY = "https://relais.example/fhir/CodeSystem/condition-category"
RELAIS_CATEGORY = "https://relais.example/fhir/CodeSystem/plan-category"

# Emitters: one that states everything, one that states nothing.
DEPLOYMENT = Deployment(
    organization_name="Dispositif d'appui à la coordination du Val d'Orge",
    organization_finess="910019447",
    practice_setting="AMBULATOIRE",
    facility_type="SA63",
)
EMISSION = Emission(DEPLOYMENT, NOW)
BARE_EMISSION = Emission(Deployment(), NOW)


# --- small parts --------------------------------------------------------------------------------------------------


def concept(system: str, code: str, display: str = "", text: str = "") -> Resource:
    """A CodeableConcept with one coding."""
    found: Resource = {"coding": [{"system": system, "code": code}]}
    if display:
        found["coding"][0]["display"] = display
    return found | ({"text": text} if text else {})


def full_ins(body: str) -> str:
    """The 15 characters of an INS from its 13 first."""
    return body + ins_key(body)


class Plan:
    """A care plan under construction: resources by key, each reachable as `urn:uuid:`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.resources: dict[str, Resource] = {}

    def __getitem__(self, key: str) -> Resource:
        return self.resources[key]

    def __setitem__(self, key: str, resource: Resource) -> None:
        self.resources[key] = resource

    def add(self, key: str, resource_type: str, **elements: Any) -> Resource:
        """Add a resource; gives the Reference to it."""
        self.resources[key] = {"resourceType": resource_type, **elements}
        return self.ref(key)

    def ref(self, key: str) -> Resource:
        """The Reference to the resource of that key."""
        return {"reference": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{self.name}/{key}')}"}

    def bundle(self) -> Resource:
        """The transaction Bundle, independent of this plan."""
        entries = [
            {
                "fullUrl": self.ref(key)["reference"],
                "resource": copy.deepcopy(resource),
                "request": {"method": "POST", "url": resource["resourceType"]},
            }
            for key, resource in self.resources.items()
        ]
        return {"resourceType": "Bundle", "type": "transaction", "entry": entries}

    # --- people and structures --------------------------------------------------------------------------------

    def patient(self, **changes: Any) -> Resource:
        """A qualified identity with an INS of the test OID and an IPP."""
        elements: Resource = {
            "extension": [
                {
                    "url": extensions.IDENTITY_RELIABILITY,
                    "extension": [{"url": "identityStatus", "valueCoding": {"code": "VALI", "display": "Validée"}}],
                },
                {
                    "url": extensions.BIRTH_PLACE,
                    "valueAddress": {
                        "city": "MAZOIRES",
                        "extension": [{"url": extensions.INSEE_CODE, "valueCoding": {"code": "63220"}}],
                    },
                },
            ],
            "identifier": [
                {"use": "official", "system": INS_TEST, "value": "279035121518989"},
                {
                    "use": "usual",
                    "type": concept("http://terminology.hl7.org/CodeSystem/v2-0203", "PI"),
                    "system": IPP,
                    "value": "P-2026-0001",
                },
            ],
            "name": [
                {
                    "use": "official",
                    "family": "PAT-TROIS",
                    "given": ["DOMINIQUE"],
                    "extension": [{"url": extensions.BIRTH_GIVEN_NAMES, "valueString": "DOMINIQUE MARIE-LOUISE"}],
                }
            ],
            "gender": "female",
            "birthDate": "1979-03-28",
        }
        return self.add("patient", "Patient", **(elements | changes))

    def practitioner(
        self,
        key: str,
        family: str,
        given: str,
        rpps: str,
        profession: tuple[str, str | None] = ("10", "SM26"),
        structure: Resource | None = None,
        **role: Any,
    ) -> Resource:
        """A Practitioner and its PractitionerRole; gives the Reference to the role. `profession`: TRE_G15, TRE_R38."""
        person = self.add(
            f"{key}-person",
            "Practitioner",
            identifier=[{"system": RPPS, "value": rpps}],
            name=[{"family": family, "given": [given]}],
        )
        code, speciality = profession
        elements: Resource = {"practitioner": person, "code": [concept(terminology.TRE_G15, code)]}
        if speciality:
            elements["specialty"] = [concept(terminology.TRE_R38, speciality)]
        if structure:
            elements["organization"] = structure
        return self.add(key, "PractitionerRole", **(elements | role))

    def organization(
        self, key: str, name: str, finess: str | None, sector: str | None = "SA07", **more: Any
    ) -> Resource:
        """An Organization with FINESS and secteur d'activité."""
        elements: Resource = {"name": name}
        if finess:
            elements["identifier"] = [{"system": FINESS, "value": finess}]
        if sector:
            elements["type"] = [concept(R02, sector)]
        return self.add(key, "Organization", **(elements | more))

    def relative(self, key: str, family: str, given: str, *relations: Resource, **more: Any) -> Resource:
        """A RelatedPerson of the patient."""
        elements = {
            "patient": self.ref("patient"),
            "relationship": list(relations),
            "name": [{"family": family, "given": [given]}],
        }
        return self.add(key, "RelatedPerson", **(elements | more))

    # --- content ----------------------------------------------------------------------------------------------

    def care_plan(self, **changes: Any) -> Resource:
        """The CarePlan; references in `changes`."""
        elements: Resource = {
            "identifier": [{"system": PLAN_NUMBERS, "value": f"PPS-{self.name}"}],
            "status": "active",
            "intent": "plan",
            "category": [concept(LOINC, "18776-5")],
            "subject": self.ref("patient"),
            "period": {"start": "2026-01-12"},
            "created": "2026-01-12T09:00:00+01:00",
        }
        return self.add("plan", "CarePlan", **(elements | changes))

    def condition(self, key: str, code: Resource, **more: Any) -> Resource:
        """A Condition of the patient, which the plan addresses."""
        elements: Resource = {
            "clinicalStatus": concept("http://terminology.hl7.org/CodeSystem/condition-clinical", "active"),
            "category": [concept("http://terminology.hl7.org/CodeSystem/condition-category", "problem-list-item")],
            "code": code,
            "subject": self.ref("patient"),
        }
        reference = self.add(key, "Condition", **(elements | more))
        self["plan"].setdefault("addresses", []).append(reference)
        return reference

    def goal(self, key: str, text: str, *problems: Resource, **more: Any) -> Resource:
        """A Goal of the plan."""
        elements: Resource = {
            "identifier": [{"system": PLAN_NUMBERS, "value": f"{self.name}-{key}"}],
            "lifecycleStatus": "active",
            "description": {"text": text},
            "subject": self.ref("patient"),
        }
        if problems:
            elements["addresses"] = list(problems)
        reference = self.add(key, "Goal", **(elements | more))
        self["plan"].setdefault("goal", []).append(reference)
        return reference

    def action(self, key: str, text: str, *goals: Resource, **more: Any) -> Resource:
        """A ServiceRequest of the plan that serves these goals."""
        elements: Resource = {
            "status": "active",
            "intent": "plan",
            "code": concept(CISIS, "ORG-014", text=text),
            "subject": self.ref("patient"),
        }
        if goals:
            elements["extension"] = [{"url": extensions.PERTAINS_TO_GOAL, "valueReference": goal} for goal in goals]
        reference = self.add(key, "ServiceRequest", **(elements | more))
        self["plan"].setdefault("activity", []).append({"reference": reference})
        return reference

    def observation(self, key: str, code: str, **more: Any) -> Resource:
        """A disposition or a bilan of the patient."""
        elements = {"status": "final", "code": concept(CISIS, code), "subject": self.ref("patient")}
        reference = self.add(key, "Observation", **(elements | more))
        self["plan"].setdefault("supportingInfo", []).append(reference)
        return reference

    def consent(self, key: str, scope: str, category: Resource, **more: Any) -> Resource:
        """A Consent of the patient."""
        elements: Resource = {
            "status": "active",
            "scope": concept("http://terminology.hl7.org/CodeSystem/consentscope", scope),
            "category": [category],
            "patient": self.ref("patient"),
            "policyRule": concept("http://terminology.hl7.org/CodeSystem/v3-ActCode", "OPTIN"),
        }
        return self.add(key, "Consent", **(elements | more))

    def sharing_consent(self, **more: Any) -> Resource:
        """The agreement to share outside the team."""
        sharing = concept("https://relais.example/fhir/CodeSystem/consent-category", "consent-partage")
        return self.consent("sharing", "patient-privacy", sharing, **({"provision": {"type": "permit"}} | more))

    def approve(self, who: Resource, date: str = "2026-02-01") -> None:
        """Record the approval of the plan."""
        parts = [{"url": "who", "valueReference": who}, {"url": "date", "valueDateTime": date}]
        self["plan"].setdefault("extension", []).append({"url": extensions.APPROVAL, "extension": parts})


# --- plans --------------------------------------------------------------------------------------------------------


def minimal_plan(name: str = "minimal") -> Plan:
    """The least a PPS can be made of, with an emitter that states nothing."""
    plan = Plan(name)
    plan.patient()
    structure = plan.organization("cabinet", "Cabinet du docteur Orme", "910019447")
    doctor = plan.practitioner("doctor", "ORME", "Claire", "10101234567", structure=structure)
    plan.care_plan(author=doctor, extension=[{"url": extensions.CUSTODIAN, "valueReference": structure}])
    plan.goal("goal-1", "Remarcher sans aide dans le logement")
    plan.approve(doctor)
    return plan


def full_plan(name: str = "full") -> Plan:
    """A plan with everything: circle of care, relatives, problems, dispositions, goals, actions, bilans, consents."""
    plan = minimal_plan(name)
    plan["patient"] |= {
        "telecom": [
            {"system": "phone", "value": "01 44 53 45 51", "use": "home"},
            {"system": "phone", "value": "+33 6 47 15 10 10", "use": "mobile"},
        ],
        "address": [
            {
                "use": "home",
                "line": ["28 avenue de Breteuil"],
                "_line": [
                    {
                        "extension": [
                            {"url": extensions.ADDRESS_PARTS["house_number"], "valueString": "28"},
                            {"url": extensions.ADDRESS_PARTS["street_name"], "valueString": "avenue de Breteuil"},
                        ]
                    }
                ],
                "postalCode": "75007",
                "city": "PARIS",
                "country": "FR",
            }
        ],
    }
    plan["patient"]["name"].append({"use": "usual", "family": "PAT-TROIS", "given": ["Dominique"]})
    _full_team(plan)
    _full_body(plan)
    return plan


def _full_team(plan: Plan) -> None:
    dac = plan.organization("dac", "DAC du Val d'Orge", "910020254", "SA63")
    nurse = plan.practitioner("nurse", "LEFRANC", "Isabelle", "10100000019", ("60", None), plan.ref("cabinet"))
    plan["nurse-person"]["name"][0]["prefix"] = ["MME"]
    plan["nurse"]["telecom"] = [{"system": "email", "value": "isabelle.lefranc@exemple.mssante.fr", "use": "work"}]
    coordinator = plan.practitioner("coordinator", "TILLEUL", "Paul", "10100000027", ("60", None), dac)
    pharmacy = plan.organization("pharmacy", "Pharmacie des Tilleuls", None, "SA33")
    pharmacist = plan.practitioner("pharmacist", "MARTIN", "Jean", "10100000035", ("21", "A"), pharmacy)
    sister = plan.relative(
        "sister", "NESSI", "Sophie", concept(R260, "ECON"), concept(R260, "QUAL"), concept(R216, "SIS")
    )
    plan["sister"]["telecom"] = [{"system": "phone", "value": "06.47.15.01.00", "use": "mobile"}]
    plan.relative("friend", "DUPONT", "François", concept(R216, "FRND"))
    team = plan.add(
        "team",
        "CareTeam",
        status="active",
        subject=plan.ref("patient"),
        managingOrganization=[dac],
        participant=[
            {"role": [concept(R259, "PCP")], "member": plan.ref("doctor")},
            {"role": [concept(R85, "353")], "member": nurse, "period": {"start": "2026-01-12"}},
            {"role": [concept(R85, "330")], "member": coordinator},
            {"role": [concept(R258, "CORRE")], "member": pharmacist},
            {"role": [concept(R258, "ST-COORD")], "member": dac},
            {"member": sister},
        ],
    )
    plan["plan"]["careTeam"] = [team]


def _full_body(plan: Plan) -> None:
    plan["plan"] |= {
        "title": "Plan personnalisé de santé de la personne",
        "description": "Personne vivant seule au troisième étage.\nChute en décembre, retour d'hospitalisation.",
        "note": [{"text": "Souhaite rester chez elle."}],
    }
    fall = plan.condition("mobility", concept(CISIS, "MED-057", text="Risque de chute"))
    alone = plan.condition("isolation", concept(CISIS, "MED-058", text="Isolement géographique"))
    follow_up = plan.condition("follow-up", concept(CISIS, "ORG-011", text="Coordination des intervenants"))
    plan.condition(
        "diabetes",
        concept(ICD10, "E11.9", "Diabète sucré de type 2 sans complication", "Diabète de type 2"),
        category=[concept(CONDITION_CATEGORY, "ald")],
        onsetDateTime="2009-05",
        recordedDate="2026-01-12",
        note=[{"text": "Suivi deux fois par an."}],
    )
    plan.condition(
        "fracture",
        {"text": "Fracture du poignet gauche"},
        clinicalStatus=concept("http://terminology.hl7.org/CodeSystem/condition-clinical", "resolved"),
        onsetDateTime="2025-12-03",
        abatementDateTime="2026-02-10",
    )
    walking = plan.goal(
        "walking",
        "Marcher jusqu'au marché",
        fall,
        startDate="2026-01-15",
        expressedBy=plan.ref("patient"),
        priority=concept("http://terminology.hl7.org/CodeSystem/goal-priority", "high-priority"),
        target=[
            {
                "measure": {"text": "Distance parcourue"},
                "detailQuantity": {"value": 500, "unit": "m"},
                "dueDate": "2026-06-30",
            }
        ],
    )
    company = plan.goal("company", "Voir quelqu'un chaque semaine", alone, expressedBy=plan.ref("nurse"))
    plan.goal("organised", "Savoir qui passe et quand", follow_up, lifecycleStatus="proposed")
    plan.action(
        "physio",
        "Rééducation à la marche à domicile",
        walking,
        category=[concept(CISIS, "ORG-009", "Prise en charge médicale")],
        performer=[plan.ref("nurse"), {"display": "Kinésithérapeute du quartier"}],
        occurrenceTiming={
            "repeat": {
                "boundsPeriod": {"start": "2026-01-20", "end": "2026-04-20"},
                "frequency": 2,
                "period": 1,
                "periodUnit": "wk",
            }
        },
    )
    plan.action("visits", "Visites de bénévoles", company, walking, performer=[plan.ref("sister"), plan.ref("patient")])
    plan.observation(
        "review-1",
        "ORG-012",
        focus=[walking],
        effectiveDateTime="2026-02-15",
        valueString="Sort de l'immeuble accompagnée",
    )
    plan.observation(
        "review-2", "ORG-012", focus=[walking], effectiveDateTime="2026-02-28", valueString="Sort seule par beau temps"
    )
    _all_provisions(plan)
    plan.consent("directive", "adr", concept(LOINC, "42348-3", "Directives anticipées"), dateTime="2024-11-05")
    plan.sharing_consent(dateTime="2026-01-12")


def _all_provisions(plan: Plan) -> None:
    plan.observation(
        "pension-fund",
        "PAT-001",
        effectiveDateTime="2026-01-12",
        valueString="Caisse de retraite d'Angers",
        component=[
            {"code": concept(CISIS, "PAT-003"), "valueBoolean": True},
            {"code": concept(CISIS, "PAT-004"), "valueBoolean": False},
            {"code": concept(CISIS, "PAT-005"), "valueBoolean": False},
        ],
    )
    plan.observation("insurer", "PAT-002", valueString="Mutuelle d'Angers")
    plan.observation(
        "aid", "PAT-006", valueBoolean=True, component=[{"code": concept(CISIS, "PAT-007"), "valueInteger": 4}]
    )
    plan.observation("preferences", "PAT-008", valueString="Rester à domicile")
    plan.observation("priorities", "PAT-009", valueString="Retrouver son autonomie\nRevoir sa famille")
    plan.observation("housing", "ORG-013", valueBoolean=False)


def _with(name: str, change: Callable[[Plan], object], base: Callable[[str], Plan] = minimal_plan) -> Resource:
    plan = base(name)
    change(plan)
    return plan.bundle()


def _several(plan: Plan) -> None:
    for number, code in enumerate(("MED-056", "MED-059", "MED-060", "MED-061", "MED-062", "MED-063"), 2):
        problem = plan.condition(f"problem-{number}", concept(CISIS, code, text=f"Précision {number}"))
        plan.goal(f"goal-{number}", f"Objectif numéro {number}", problem)
        plan.action(f"action-{number}", f"Action numéro {number}", plan.ref(f"goal-{number}"))


def _guardian(plan: Plan) -> None:
    plan["patient"]["contact"] = [
        {
            "relationship": [concept(R260, "GUARD"), concept(R217, "TUTEUR", "Tuteur")],
            "name": {"family": "NESSI", "given": ["Jeanne"], "prefix": ["MME"]},
            "telecom": [{"system": "phone", "value": "0147150000", "use": "home"}],
            "address": {"use": "home", "line": ["28 avenue de Breteuil"], "postalCode": "75007", "city": "PARIS"},
        }
    ]


def _curator(plan: Plan) -> None:
    curator = plan.organization("curator", "Association tutélaire de l'Essonne", None, None)
    plan["patient"]["contact"] = [{"relationship": [concept(R217, "CURATEUR", "Curateur")], "organization": curator}]


def _guardian_relative(plan: Plan) -> None:
    plan.relative("tutor", "NESSI", "Jeanne", concept(R260, "GUARD"), concept(R260, "ECON"), concept(R216, "SIS"))


def _unqualified(plan: Plan) -> None:
    status = plan["patient"]["extension"][0]["extension"][0]["valueCoding"]
    status |= {"code": "PROV", "display": "Provisoire"}


def _local_identity(plan: Plan) -> None:
    plan["patient"]["identifier"] = plan["patient"]["identifier"][1:]
    del plan["patient"]["extension"]
    plan["patient"]["name"] = [{"use": "usual", "family": "SORBIER", "given": ["Léa"]}]


def _born_in(code: str, body: str, gender: str, birth: str, city: str) -> Callable[[Plan], None]:
    def change(plan: Plan) -> None:
        place = plan["patient"]["extension"][1]["valueAddress"]
        place |= {"city": city, "extension": [{"url": extensions.INSEE_CODE, "valueCoding": {"code": code}}]}
        plan["patient"]["identifier"][0]["value"] = full_ins(body)
        plan["patient"] |= {"gender": gender, "birthDate": birth}

    return change


def _long_text(plan: Plan) -> None:
    text = "Là où l'été s'achève, œuvres & déjà-vus : « ça ira », dit-elle – ñ, ü, ß, ł, Ω, 漢字, 😀. " * 60
    plan["plan"] |= {"title": "Plan d'Anaïs-Hélène", "description": text}
    plan["goal-1"]["description"] = {"text": text}
    plan.action("long", text, plan.ref("goal-1"), note=[{"text": text}])


def _markup(plan: Plan) -> None:
    text = (
        'Poids < 50 kg & taille > 1,60 m : "surveiller" l\'<i>IMC</i> ]]> <!-- --> &amp; &#x41;\r\nDeuxième ligne\tfin'
    )
    plan["plan"] |= {"title": "Plan <b>A&B</b> \"C\" 'D'", "description": text, "note": [{"text": text}]}
    plan["goal-1"]["description"] = {"text": text}
    plan["goal-1"]["target"] = [{"measure": {"text": text}, "detailString": text}]
    plan.action("markup", text, plan.ref("goal-1"), performer=[{"display": "Tom & <Jerry>"}])
    plan["cabinet"]["name"] = "Cabinet <Orme & Fils>"


def _ppcs(plan: Plan) -> None:
    plan["plan"]["category"].append(concept(RELAIS_CATEGORY, "ppcs"))
    plan["plan"]["description"] = "Situation complexe : sortie d'hospitalisation, logement inadapté."
    achievement = "http://terminology.hl7.org/CodeSystem/goal-achievement"
    plan.goal(
        "moved",
        "Changer de logement",
        lifecycleStatus="completed",
        achievementStatus=concept(achievement, "not-achieved"),
        statusReason="Pas de logement disponible",
        statusDate="2026-02-20",
    )
    plan.goal("given-up", "Reprendre la conduite", lifecycleStatus="rejected", statusReason="Ne le souhaite plus")
    plan.practitioner("coordinator", "TILLEUL", "Paul", "10100000027", ("60", None), plan.ref("cabinet"))
    participant = {"role": [concept(R85, "330")], "member": plan.ref("coordinator")}
    team = plan.add("team", "CareTeam", status="active", subject=plan.ref("patient"), participant=[participant])
    plan["plan"]["careTeam"] = [team]


def _one_day(plan: Plan) -> None:
    """Somebody who takes part on one day only."""
    plan.practitioner("coordinator", "TILLEUL", "Paul", "10100000027", ("60", None), plan.ref("cabinet"))
    day = {"start": "2026-02-10", "end": "2026-02-10"}
    participant = {"role": [concept(R85, "330")], "member": plan.ref("coordinator"), "period": day}
    team = plan.add("team", "CareTeam", status="active", subject=plan.ref("patient"), participant=[participant])
    plan["plan"]["careTeam"] = [team]


def _status(status: str, **more: Any) -> Callable[[Plan], None]:
    def change(plan: Plan) -> None:
        plan["plan"] |= {"status": status, **more}
        plan["plan"]["extension"] = plan["plan"]["extension"][:1]

    return change


def _opposition(plan: Plan) -> None:
    opposition = concept("https://relais.example/fhir/CodeSystem/consent-category", "opposition")
    plan.sharing_consent()
    plan.consent("opposition", "patient-privacy", opposition, provision={"type": "deny"})


def _no_directive(plan: Plan) -> None:
    plan.consent("directive", "adr", concept(LOINC, "42348-3"), status="rejected", dateTime="2025-10-10")


def _directive_document(plan: Plan) -> None:
    pdf = base64.b64encode(b"%PDF-1.4\n%%EOF\n").decode()
    plan.consent(
        "directive",
        "adr",
        concept(LOINC, "42348-3"),
        sourceAttachment={"contentType": "application/pdf", "data": pdf, "title": "Mes directives"},
        provision={"period": {"start": "2025-01-01"}},
    )
    ventilation = concept(LOINC, "75787-2", "Assistance respiratoire")
    decision = {"policyRule": {"text": "Y compris la nuit"}, "provision": {"type": "deny"}}
    plan.consent("ventilation", "adr", ventilation, dateTime="2025-02", **decision)


def _ald(plan: Plan) -> None:
    plan.condition("ald", concept(CISIS, "MED-320", "Affection longue durée (ALD)"))
    for key, code, text in (("a", "I50.9", "Insuffisance cardiaque"), ("b", "E11.9", "Diabète de type 2")):
        plan.condition(f"ald-{key}", concept(ICD10, code, text, text), category=[concept(CONDITION_CATEGORY, "ald")])


def _every_action(plan: Plan) -> None:
    goal = plan.ref("goal-1")
    pertains = [{"url": extensions.PERTAINS_TO_GOAL, "valueReference": goal}]
    task = plan.add(
        "task",
        "Task",
        status="in-progress",
        intent="plan",
        description="Faire le dossier d'APA",
        owner=plan.ref("doctor"),
        restriction={"period": {"start": "2026-02-01", "end": "2026-03-01"}},
        extension=pertains,
        **{"for": plan.ref("patient")},
    )
    visit = plan.add(
        "visit",
        "Appointment",
        status="booked",
        description="Consultation gériatrique",
        start="2026-04-01T09:00:00+02:00",
        end="2026-04-01T09:30:00+02:00",
        extension=pertains,
        participant=[
            {"actor": plan.ref("patient"), "status": "accepted"},
            {"actor": plan.ref("doctor"), "status": "accepted"},
            {"actor": {"display": "Salle 3"}, "status": "accepted"},
        ],
    )
    medicine = plan.add(
        "medicine",
        "MedicationRequest",
        status="active",
        intent="plan",
        medicationCodeableConcept={"text": "Vitamine D"},
        subject=plan.ref("patient"),
        dosageInstruction=[{"text": "Une ampoule par trimestre"}],
    )
    meals = plan.add(
        "meals",
        "NutritionOrder",
        status="active",
        intent="plan",
        patient=plan.ref("patient"),
        dateTime="2026-01-12",
        note=[{"text": "Portage de repas enrichis"}],
    )
    detail = {
        "status": "scheduled",
        "description": "Aménager la salle de bains",
        "goal": [goal],
        "scheduledString": "avant l'été",
        "location": {"display": "Domicile"},
        "performer": [plan.ref("cabinet")],
    }
    coded = {
        "status": "in-progress",
        "code": concept(SNOMED, "229070002", "Étirements"),
        "scheduledPeriod": {"start": "2026-03"},
    }
    plan["plan"]["activity"] = [
        {"reference": task, "progress": [{"time": "2026-02-10", "text": "Dossier déposé"}]},
        {"reference": visit},
        {"reference": medicine},
        {"reference": meals},
        {"detail": detail},
        {"detail": coded},
    ]


def _orphan_actions(plan: Plan) -> None:
    problem = plan.condition("pain", {"text": "Douleurs"})
    plan.goal("relief", "Avoir moins mal", problem)
    plan.action("massage", "Massages", reasonReference=[problem])
    plan.action("wandering", "Action qui ne sert aucun objectif")
    plan.action("other", "Autre action sans objectif", status="completed")


def _assessed(plan: Plan) -> None:
    goal = plan["goal-1"]
    goal |= {
        "statusDate": "2026-02-20",
        "outcomeCode": [{"text": "Marche avec une canne"}],
        "achievementStatus": concept("http://terminology.hl7.org/CodeSystem/goal-achievement", "improving"),
        "note": [{"time": "2026-02-01T10:00:00Z", "text": "La personne est encouragée"}],
        "target": [
            {"measure": {"text": "Monter un étage"}, "dueDate": "2026-05-01"},
            {"measure": {"text": "Score"}, "detailRange": {"low": {"value": 2}, "high": {"value": 5}}},
            {
                "measure": {"text": "Douleur"},
                "detailCodeableConcept": {"text": "absente"},
                "dueDuration": {"value": 3, "unit": "mois"},
            },
        ],
    }


def _partial_dates(plan: Plan) -> None:
    plan["plan"] |= {"period": {"start": "2026-01", "end": "2027"}, "created": "2026"}
    plan.condition("old", {"text": "Arthrose"}, onsetDateTime="1998", recordedDate="2026-01")
    plan["goal-1"] |= {"startDate": "2026-02", "target": [{"dueDate": "2026-12"}]}


def _awkward_names(plan: Plan) -> None:
    plan["doctor-person"]["name"] = [
        {"family": "ORME", "given": ["Claire", "Anne"], "prefix": ["MR", "Dr"], "suffix": ["PhD"]}
    ]
    plan["doctor-person"]["telecom"] = [
        {"system": "url", "value": "https://cabinet-orme.exemple.fr/rendez-vous"},
        {"system": "phone", "value": "(01) 60.00-00 00", "use": "work"},
        {"system": "email", "value": "claire.orme@exemple.mssante.fr"},
        {"system": "phone", "value": "0699999999", "use": "old"},
    ]
    plan.relative("brother", "ORGE", "Luc", concept(R260, "ECON"), concept(R216, "BRO"))
    plan["brother"]["telecom"] = [{"system": "url", "value": "https://exemple.fr/luc"}]


def _device(plan: Plan) -> None:
    device = plan.add(
        "software",
        "Device",
        deviceName=[{"name": "Logiciel de coordination", "type": "user-friendly-name"}],
        manufacturer="Éditeur inventé",
        identifier=[{"system": "urn:oid:1.2.250.1.999.7", "value": "LC-1"}],
        owner=plan.ref("cabinet"),
    )
    plan["plan"]["contributor"] = [
        device,
        plan.practitioner("nurse", "LEFRANC", "Isabelle", "10100000019", ("60", None)),
    ]


def _general_practitioner(plan: Plan) -> None:
    doctor = plan.practitioner("gp", "CHÊNE", "Marc", "10100000043", structure=plan.ref("cabinet"))
    plan["patient"]["generalPractitioner"] = [doctor]
    plan["plan"]["extension"] = plan["plan"]["extension"][:1]
    plan.add(
        "approval",
        "Provenance",
        target=[plan.ref("plan")],
        recorded="2026-02-03T10:00:00Z",
        agent=[
            {
                "type": concept("http://terminology.hl7.org/CodeSystem/provenance-participant-type", "verifier"),
                "who": doctor,
            }
        ],
    )


def _structures(plan: Plan) -> None:
    home = plan.organization("home-care", "SSIAD des Deux Vallées", "910800003", "SA41")
    plan["home-care"]["telecom"] = [
        {"system": "phone", "value": "0160000001"},
        {"system": "fax", "value": "0160000002"},
    ]
    town = plan.add("town", "Organization", name="CCAS", identifier=[{"system": SIRENE, "value": "219102270"}])
    unknown = plan.organization("club", "Club des aînés", None, None)
    members = [(home, "HEBERG"), (town, "ORG-SOC"), (unknown, "ST-INF")]
    participants = [{"role": [concept(R258, role)], "member": member} for member, role in members]
    team = plan.add("team", "CareTeam", status="active", subject=plan.ref("patient"), participant=participants)
    plan["plan"]["careTeam"] = [team]
    plan.action("care", "Aide à la toilette", plan.ref("goal-1"), performer=[home, town, unknown])


def _relatives(plan: Plan) -> None:
    v2 = terminology.V2_CONTACT_ROLE
    plan.relative("daughter", "SAULE", "Agathe", concept(R260, "CAREGIVER"), concept(R216, "DAUC"))
    plan.relative("cousin", "SAULE", "Rémi", concept(v2, "N"), concept(R216, "COUSN"))
    plan.relative("in-law", "SAULE", "Inès", concept(v2, "C"), concept(R216, "DAUINLAW"))
    plan.relative("spouse", "SAULE", "Yves", concept(R260, "QUAL"), concept(R216, "SPS"))
    plan.relative("former", "SAULE", "Denis", concept(R260, "CON"), active=False)
    plan["patient"]["contact"] = [
        {"relationship": [concept(R260, "ECON"), concept(R216, "NBOR")], "name": {"text": "Mme Voisine"}}
    ]


def _provisions(plan: Plan) -> None:
    _all_provisions(plan)


def _nested_provisions(plan: Plan) -> None:
    plan.observation("reversion", "PAT-004", valueBoolean=True)
    plan.observation("gir", "PAT-007", valueCodeableConcept=concept(CISIS, "MED-341", "GIR-3"))
    plan.observation("housing", "ORG-013", valueString="Oui, en EHPAD")
    plan.observation("insurer", "PAT-002", valueBoolean=False)
    plan.observation("old-wish", "PAT-008", valueString="Déménager", effectiveDateTime="2025-01-01")
    plan.observation("wish", "PAT-008", valueString="Rester", effectiveDateTime="2026-01-01")
    plan.observation("draft-wish", "PAT-009", status="preliminary", valueString="Pas encore confirmé")


def _gir_as_value(plan: Plan) -> None:
    plan.observation("aid", "PAT-006", valueCodeableConcept=concept(CISIS, "MED-340", "GIR-2"))


def _coverages(plan: Plan) -> None:
    payer = plan.organization("payer", "Mutuelle générale inventée", None, None)
    for key, kind in (("pension", "RETIRE"), ("complement", "AMC")):
        plan.add(
            key,
            "Coverage",
            status="active",
            type=concept("https://relais.example/fhir/CodeSystem/coverage-type", kind),
            beneficiary=plan.ref("patient"),
            payor=[payer],
        )


def _clinical_codes(plan: Plan) -> None:
    snomed = concept(SNOMED, "73211009", "Diabète", "Diabète")
    snomed["coding"].append({"system": ICD10, "code": "E11.9", "display": "Diabète de type 2"})
    problem = plan.condition("coded", snomed, onsetDateTime="2010-01-01")
    plan.goal(
        "balance", "Équilibrer la glycémie", problem, description=concept(SNOMED, "708119003", "Objectif glycémique")
    )
    both = concept(CISIS, "MED-061", text="Dénutrition")
    both["coding"].append({"system": ICD10, "code": "E46", "display": "Malnutrition sans précision"})
    plan.goal("weight", "Reprendre du poids", plan.condition("thin", both))
    other = concept(CISIS, "GEN-092.01.01", "Autre problème", "Difficultés administratives")
    plan.goal("papers", "Mettre ses papiers à jour", plan.condition("papers-problem", other))


def _by_author_function(plan: Plan) -> None:
    participant = {"role": [concept(R259, "PCP")], "member": plan.ref("doctor-person")}
    team = plan.add("team", "CareTeam", status="active", subject=plan.ref("patient"), participant=[participant])
    plan["plan"]["careTeam"] = [team]


def _uncoded_author(plan: Plan) -> None:
    del plan["doctor"]["code"], plan["doctor"]["specialty"]


def _every_goal_status(plan: Plan) -> None:
    for status in (
        "proposed",
        "planned",
        "accepted",
        "on-hold",
        "completed",
        "cancelled",
        "rejected",
        "entered-in-error",
    ):
        plan.goal(f"goal-{status}", f"Objectif {status}", lifecycleStatus=status)


def _details(plan: Plan) -> None:
    """What the volet has no element for."""
    plan.condition(
        "suspected",
        concept(ICD10, "G30.9", "Maladie d'Alzheimer", "Maladie d'Alzheimer"),
        verificationStatus=concept("http://terminology.hl7.org/CodeSystem/condition-ver-status", "provisional"),
        severity={"text": "débutante"},
        bodySite=[{"text": "cerveau"}],
        stage=[{"summary": {"text": "stade 1"}}],
    )
    plan["goal-1"] |= {
        "lifecycleStatus": "on-hold",
        "category": [{"text": "Autonomie"}],
        "startCodeableConcept": {"text": "au retour à domicile"},
        "statusReason": "Hospitalisation",
    }
    plan.action(
        "physio",
        "Kinésithérapie",
        plan.ref("goal-1"),
        intent="proposal",
        priority="urgent",
        asNeededCodeableConcept={"text": "douleur"},
        reasonCode=[{"text": "chutes"}],
        orderDetail=[{"text": "en balnéothérapie"}],
        bodySite=[{"text": "genou"}],
        performerType={"text": "Kinésithérapeute"},
        quantityQuantity={"value": 12, "unit": "séances"},
    )
    plan.observation("preferences", "PAT-008", valueString="Rester chez elle", note=[{"text": "Dit devant sa fille"}])
    plan["plan"]["note"] = [{"text": "Accepte les visites."}]


def _deceased(plan: Plan) -> None:
    plan["patient"] |= {"deceasedDateTime": "2026-02-25", "multipleBirthInteger": 2}
    plan["plan"] |= {"status": "completed", "period": {"start": "2026-01-12", "end": "2026-02-25"}}


PLANS: dict[str, Resource] = {
    "minimal": minimal_plan().bundle(),
    "full": full_plan().bundle(),
    "several-problems-and-goals": _with("several", _several),
    "guardian": _with("guardian", _guardian),
    "curator-organisation": _with("curator", _curator),
    "guardian-relative": _with("guardian-relative", _guardian_relative),
    "ins-not-qualified": _with("unqualified", _unqualified),
    "local-identity": _with("local", _local_identity),
    "general-practitioner": _with("gp", _general_practitioner),
    "born-abroad": _with("abroad", _born_in("99109", "1550699999999", "male", "1955-06-01", "BERLIN")),
    "born-in-south-corsica": _with("corsica-a", _born_in("2A004", "160012A004001", "male", "1960-01-20", "AJACCIO")),
    "born-in-upper-corsica": _with("corsica-b", _born_in("2B033", "260052B033002", "female", "1960-05-04", "BASTIA")),
    "long-accented-text": _with("long", _long_text),
    "markup-in-text": _with("markup", _markup),
    "ppcs": _with("ppcs", _ppcs),
    "one-day": _with("one-day", _one_day),
    "full-ppcs": _with("full-ppcs", _ppcs, full_plan),
    "status-draft": _with("draft", _status("draft")),
    "status-on-hold": _with("on-hold", _status("on-hold", meta={"lastUpdated": "2026-02-20T08:00:00Z"})),
    "status-completed": _with("done", _status("completed", period={"start": "2026-01-12", "end": "2026-02-28"})),
    "status-revoked": _with("revoked", _status("revoked")),
    "active-without-approval": _with("unapproved", _status("active")),
    "consent-refused": _with("refused", _opposition),
    "directive-no": _with("no-directive", _no_directive),
    "directive-document": _with("directive-document", _directive_document),
    "all-provisions": _with("provisions", _provisions),
    "nested-provisions": _with("nested", _nested_provisions),
    "gir-as-value": _with("gir", _gir_as_value),
    "coverages": _with("coverages", _coverages),
    "ald": _with("ald", _ald),
    "every-kind-of-action": _with("actions", _every_action),
    "actions-without-goal": _with("orphans", _orphan_actions),
    "assessments-and-criteria": _with("assessed", _assessed),
    "partial-dates": _with("partial", _partial_dates),
    "awkward-names": _with("names", _awkward_names),
    "device-author": _with("device", _device),
    "structures-in-team": _with("structures", _structures),
    "relatives": _with("relatives", _relatives),
    "clinical-codes": _with("codes", _clinical_codes),
    "author-is-general-practitioner": _with("author-gp", _by_author_function),
    "author-without-profession": _with("uncoded", _uncoded_author),
    "every-goal-status": _with("goal-statuses", _every_goal_status),
    "deceased": _with("deceased", _deceased, full_plan),
    "details": _with("details", _details),
}
"""Every plan by name; the Bundles are shared, change a copy."""


# --- generated plans ----------------------------------------------------------------------------------------------

_characters = st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Cn", "Co"))
texts = st.text(_characters, min_size=1, max_size=60).filter(lambda text: bool(text.strip()))
days = st.dates(date(1990, 1, 1), date(2026, 2, 28)).map(date.isoformat)
dates = st.one_of(days, days.map(lambda day: day[:7]), days.map(lambda day: day[:4]))
_problem_codes = st.sampled_from([*terminology.value_set("pps_problem")])


@st.composite
def bundles(draw: st.DrawFn) -> Resource:
    """Transaction Bundles of legal plans, of any size from one bare goal on."""
    plan = minimal_plan("generated")
    plan["plan"] |= {
        "status": draw(st.sampled_from(["draft", "active", "on-hold", "completed", "revoked"])),
        "period": {"start": draw(dates)},
    }
    if draw(st.booleans()):
        plan["plan"]["description"] = draw(texts)
    for number in range(draw(st.integers(0, 3))):
        _generated_goal(draw, plan, f"generated-{number}")
    provisions = {
        "PAT-001": texts.map(lambda text: {"valueString": text}),
        "PAT-002": st.booleans().map(lambda flag: {"valueBoolean": flag}),
        "PAT-007": st.integers(1, 6).map(lambda gir: {"valueInteger": gir}),
        "PAT-008": texts.map(lambda text: {"valueString": text}),
    }
    for code in draw(st.sets(st.sampled_from(sorted(provisions)))):
        plan.observation(f"provision-{code}", code, effectiveDateTime=draw(dates), **draw(provisions[code]))
    return plan.bundle()


def _generated_goal(draw: st.DrawFn, plan: Plan, key: str) -> None:
    problems = []
    if draw(st.booleans()):
        code = {"text": draw(texts)}
        if draw(st.booleans()):
            code |= concept(CISIS, draw(_problem_codes))
        problems.append(plan.condition(f"{key}-problem", code))
    status = draw(st.sampled_from(["proposed", "active", "completed", "cancelled"]))
    goal = plan.goal(key, draw(texts), *problems, lifecycleStatus=status)
    for number in range(draw(st.integers(0, 2))):
        goals = [goal, plan.ref("goal-1")] if draw(st.booleans()) else [goal]
        plan.action(f"{key}-action-{number}", draw(texts), *goals, performer=[{"display": draw(texts)}])
    for number in range(draw(st.integers(0, 2))):
        plan.observation(
            f"{key}-review-{number}", "ORG-012", focus=[goal], effectiveDateTime=draw(dates), valueString=draw(texts)
        )
