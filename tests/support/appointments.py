"""Invented appointments as FHIR transaction Bundles: `AGENDAS` holds varied ones by name, `agendas()` generates more.

`Agenda` is a `Plan` without a CarePlan: one patient, a practice, a doctor, and appointments to add.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from relais.cda.model import Document
from relais.cda.narrative import walk
from relais.mappings import extensions, terminology
from relais.mappings.context import Emission, Mapped
from relais.mappings.resources import ResourceSet
from relais.mappings.to_cda.agenda import agenda_document, appointment_document
from support.plans import EMISSION, R216, R260, SNOMED, Plan, concept, texts

Resource = dict[str, Any]

NUMBERS = "urn:oid:1.2.250.1.999.42.3"
CANCELLATION = "http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason"
PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
ROLE_CODE = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
R259 = terminology.uri_of("2.16.840.1.113883.5.88")
PDF = b"%PDF-1.4\n%%EOF\n"


def base64_of(data: bytes) -> str:
    """Attachment.data."""
    return base64.b64encode(data).decode()


class Agenda(Plan):
    """A patient (`patient`), a practice (`cabinet`), a doctor (`doctor`), and appointments by key."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.patient()
        structure = self.organization("cabinet", "Cabinet du docteur Orme", "910019447")
        self.practitioner("doctor", "ORME", "Claire", "10101234567", structure=structure)

    def appointment(self, key: str = "rdv", *actors: Resource, **changes: Any) -> Resource:
        """A booked appointment of the patient with the doctor, or with `actors`."""
        elements: Resource = {
            "identifier": [{"system": NUMBERS, "value": f"{self.name}-{key}"}],
            "status": "booked",
            "start": "2026-03-09T08:00:00Z",
            "end": "2026-03-09T08:30:00Z",
            "participant": [
                {"actor": self.ref("patient"), "status": "accepted"},
                *({"actor": actor, "status": "accepted"} for actor in (actors or [self.ref("doctor")])),
            ],
        }
        stated = {name: value for name, value in (elements | changes).items() if value is not None}
        return self.add(key, "Appointment", **stated)

    def place(self, key: str = "place", **changes: Any) -> Resource:
        """A Location."""
        elements: Resource = {
            "name": "Cabinet des Tilleuls",
            "address": {"line": ["3 rue des Lilas"], "postalCode": "91100", "city": "CORBEIL-ESSONNES"},
            "telecom": [{"system": "phone", "value": "01 60 00 00 00"}],
        }
        return self.add(key, "Location", **(elements | changes))

    # --- what the mapping makes of it -------------------------------------------------------------------------

    def single(self, key: str = "rdv", emission: Emission = EMISSION) -> Mapped:
        """The document of one appointment."""
        return single(self.bundle(), emission, self.ref(key)["reference"])

    def snapshot(self, emission: Emission = EMISSION, **options: Any) -> Mapped:
        """The document of every appointment of the patient."""
        return snapshot(self.bundle(), emission, **options)


def single(bundle: Resource, emission: Emission = EMISSION, url: str | None = None) -> Mapped:
    """The document of the appointment of that fullUrl; of the first one."""
    resources = ResourceSet.of_bundle(bundle)
    appointment = resources.resolve(url) if url else resources.of_type("Appointment")[0]
    assert appointment is not None
    return appointment_document(appointment, resources, emission)


def snapshot(bundle: Resource, emission: Emission = EMISSION, **options: Any) -> Mapped:
    """The document of every appointment of the first patient."""
    resources = ResourceSet.of_bundle(bundle)
    appointments, (patient, *_) = resources.of_type("Appointment"), resources.of_type("Patient")
    return agenda_document(patient, appointments, resources, emission, **options)


def narrative_ids(document: Document) -> set[str]:
    """Every ID of the narratives."""
    return {
        element.attributes["ID"]
        for section in document.sections
        for element in walk(section.text)
        if "ID" in element.attributes
    }


# --- agendas ------------------------------------------------------------------------------------------------------


def _agenda(name: str, change: Callable[[Agenda], object]) -> Resource:
    agenda = Agenda(name)
    change(agenda)
    return agenda.bundle()


def _every_detail(agenda: Agenda) -> None:
    nurse = agenda.practitioner("nurse", "LEFRANC", "Isabelle", "10100000019", ("60", None), agenda.ref("cabinet"))
    device = agenda.add(
        "device",
        "Device",
        deviceName=[{"name": "Échographe portable", "type": "user-friendly-name"}],
        type=concept(SNOMED, "409713008", "Échographe"),
    )
    sister = agenda.relative("sister", "NESSI", "Sophie", concept(R260, "CAREGIVER"), concept(R216, "SIS"))
    request = agenda.add(
        "request",
        "ServiceRequest",
        identifier=[{"system": NUMBERS, "value": "ORDER-1"}],
        status="active",
        intent="order",
        code=concept(SNOMED, "16310003", "Échographie"),
        subject=agenda.ref("patient"),
    )
    condition = agenda.add(
        "condition", "Condition", subject=agenda.ref("patient"), code={"text": "Insuffisance cardiaque"}
    )
    schedule = agenda.add("schedule", "Schedule", actor=[agenda.ref("doctor")], comment="Agenda du docteur Orme")
    slot = agenda.add(
        "slot",
        "Slot",
        schedule=schedule,
        status="busy",
        start="2026-03-09T08:00:00Z",
        end="2026-03-09T08:45:00Z",
        comment="Créneau réservé aux suivis",
    )
    agenda.appointment(
        "rdv",
        agenda.ref("doctor"),
        nurse,
        agenda.place(),
        device,
        sister,
        identifier=[{"system": NUMBERS, "value": "RDV-1"}, {"system": "https://agenda.example", "value": "77"}],
        extension=[{"url": extensions.OPERATOR, "valueReference": nurse}],
        meta={"lastUpdated": "2026-02-02T10:00:00Z"},
        end="2026-03-09T08:45:00Z",
        minutesDuration=45,
        created="2026-02-01T10:00:00+01:00",
        priority=5,
        description="Échographie cardiaque de contrôle",
        serviceCategory=[{"text": "Imagerie"}],
        serviceType=[concept(SNOMED, "16310003", "Échographie")],
        specialty=[concept(terminology.TRE_R38, "SM04", "Cardiologie et maladies vasculaires")],
        appointmentType=concept("http://terminology.hl7.org/CodeSystem/v2-0276", "FOLLOWUP", "Suivi"),
        reasonCode=[{"text": "Essoufflement"}],
        reasonReference=[condition],
        comment="Prévoir une heure sur place",
        patientInstruction="Venir à jeun.\nApporter les ordonnances.",
        slot=[slot],
        basedOn=[request],
    )


def _proposed(agenda: Agenda) -> None:
    agenda.appointment(
        status="proposed",
        start=None,
        end=None,
        minutesDuration=15,
        priority=1,
        requestedPeriod=[{"start": "2026-03-16", "end": "2026-03-20"}, {"start": "2026-03-23"}],
        participant=[
            {"actor": agenda.ref("patient"), "status": "needs-action"},
            {"actor": agenda.ref("doctor"), "status": "needs-action"},
        ],
    )


def _status(status: str, **changes: Any) -> Callable[[Agenda], object]:
    return lambda agenda: agenda.appointment(status=status, **changes)


def _cancelled_by_weather(agenda: Agenda) -> None:
    reason = concept(CANCELLATION, "oth-weath", text="Neige : route coupée")
    agenda.appointment(status="cancelled", cancelationReason=reason)


def _slot_only(agenda: Agenda) -> None:
    schedule = agenda.add("schedule", "Schedule", actor=[agenda.ref("doctor")])
    times = {"start": "2026-03-12T13:00:00Z", "end": "2026-03-12T13:20:00Z"}
    slot = agenda.add("slot", "Slot", schedule=schedule, status="busy-tentative", **times)
    agenda.appointment(
        status="proposed",
        start=None,
        end=None,
        slot=[slot],
        participant=[{"actor": agenda.ref("patient"), "status": "accepted"}],
    )


def _people(agenda: Agenda) -> None:
    bare = agenda.add("bare", "Practitioner", name=[{"family": "SANSNUMERO", "given": ["Jean"]}])
    service = agenda.add("service", "HealthcareService", name="Consultation mémoire", providedBy=agenda.ref("cabinet"))
    referrer = agenda.practitioner("referrer", "ARBRE", "Luc", "10100000027")
    agenda.appointment(
        participant=[
            {"actor": agenda.ref("patient"), "status": "accepted"},
            {"actor": agenda.ref("doctor"), "status": "accepted", "type": [concept(PARTICIPATION, "PPRF", "Médecin")]},
            {"actor": bare, "status": "tentative", "required": "optional"},
            {"actor": referrer, "status": "declined"},
            {"actor": {"display": "Mme l'interprète"}, "required": "information-only", "status": "accepted"},
            {"actor": service, "status": "accepted"},
            {"type": [{"text": "Ambulancier"}], "status": "needs-action"},
            {"actor": {"type": "RelatedPerson", "display": "Le voisin de palier"}, "status": "accepted"},
            {"actor": {"type": "Device", "display": "Fauteuil roulant"}, "status": "accepted"},
            {
                "actor": {"identifier": {"system": "https://rpps.esante.gouv.fr", "value": "10100000035"}},
                "type": [concept(R259, "ATTPHYS")],
                "period": {"start": "2026-03-09T08:10:00Z", "end": "2026-03-09T08:20:00Z"},
                "status": "accepted",
            },
        ]
    )


def _main_second(agenda: Agenda) -> None:
    """Who answers, and for whom, is not who comes first."""
    team = agenda.organization("team", "Équipe de soins", "910020254")
    agenda.practitioner("nurse", "TILLEUL", "Paul", "10100000027", ("60", None), team)
    agenda.appointment("rdv", agenda.ref("nurse"), agenda.ref("doctor"))
    agenda["rdv"]["participant"][2]["type"] = [concept(PARTICIPATION, "ATND")]


def _at_home(agenda: Agenda) -> None:
    home = agenda.place("home", name=None, type=[concept(ROLE_CODE, "PTRES")], telecom=[])
    del agenda["home"]["name"], agenda["home"]["telecom"]
    agenda.appointment("rdv", agenda.ref("doctor"), home, {"type": "Location", "display": "Loge du gardien"})


def _remote(agenda: Agenda) -> None:
    agenda.appointment(serviceType=[concept(ACT_CODE, "VR", "Téléconsultation")], start="2026-03-09T12:00:00+04:00")
    agenda["rdv"]["end"] = "2026-03-09T12:30:00+04:00"


def _hospital(agenda: Agenda) -> None:
    hospital = agenda.organization("hospital", "Hôpital des Ormes", "910020254", "SA01")
    unit = agenda.place(
        "unit",
        name="Consultations externes",
        managingOrganization=hospital,
        identifier=[{"system": "https://finess.esante.gouv.fr", "value": "910020254"}],
    )
    agenda.practitioner("surgeon", "CHIRON", "Anne", "10100000043", ("10", "SM05"), hospital)
    kind = concept(ACT_CODE, "AMB", "Ambulatoire")
    agenda.appointment("rdv", agenda.ref("surgeon"), unit, serviceCategory=[kind])


def _documents(agenda: Agenda) -> None:
    attachment = {"contentType": "application/pdf", "data": base64_of(PDF), "creation": "2026-02-01"}
    letter = agenda.add(
        "letter",
        "DocumentReference",
        masterIdentifier={"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.250.1.999.42.77.1"},
        status="current",
        type=concept("http://loinc.org", "57133-1", "Lettre d'adressage"),
        description="Lettre d'adressage",
        subject=agenda.ref("patient"),
        content=[{"attachment": attachment}],
    )
    image = agenda.add("image", "Binary", contentType="image/png", data=base64_of(b"\x89PNG\r\n\x1a\n0IEND"))
    elsewhere = agenda.add(
        "elsewhere",
        "DocumentReference",
        status="current",
        subject=agenda.ref("patient"),
        content=[{"attachment": {"url": "https://documents.example/plan-acces", "title": "Plan d'accès"}}],
    )
    note = {"display": "Dossier à retirer à l'accueil"}
    agenda.appointment(supportingInformation=[letter, image, elsewhere, note])


def _operator(reference: Resource) -> list[Resource]:
    return [{"url": extensions.OPERATOR, "valueReference": reference}]


def _booked_by_structure(agenda: Agenda) -> None:
    agenda.appointment(extension=_operator(agenda.ref("cabinet")), created="2026-02-01")


def _booked_by_patient(agenda: Agenda) -> None:
    agenda.appointment(extension=_operator(agenda.ref("patient")), created="2026-02-01T20:00:00+01:00")


def _contained(agenda: Agenda) -> None:
    agenda.appointment(
        contained=[
            {"resourceType": "Location", "id": "here", "name": "Salle 3"},
            {
                "resourceType": "PractitionerRole",
                "id": "role",
                "practitioner": {"reference": "#person"},
                "code": [concept(terminology.TRE_G15, "60")],
            },
            {
                "resourceType": "Practitioner",
                "id": "person",
                "identifier": [{"system": "https://rpps.esante.gouv.fr", "value": "10100000019"}],
                "name": [{"family": "LEFRANC", "given": ["Isabelle"]}],
            },
        ],
        participant=[
            {"actor": agenda.ref("patient"), "status": "accepted"},
            {"actor": {"reference": "#here"}, "status": "accepted"},
            {"actor": {"reference": "#role"}, "status": "accepted"},
        ],
    )


def _markup(agenda: Agenda) -> None:
    agenda.appointment(
        description='<b>Bilan</b> & suivi "annuel" ]]>',
        comment="1 < 2 & 3 > 2",
        patientInstruction="Première ligne\r\nSeconde ligne",
        reasonCode=[{"text": "Été, œdème, ﬁèvre 38,5 °C – à revoir"}],
    )


def _week(agenda: Agenda) -> None:
    for number, status in enumerate(("booked", "proposed", "cancelled", "fulfilled", "waitlist")):
        agenda.appointment(f"rdv-{number}", status=status, description=f"Séance numéro {number}")
        day = 5 if status == "fulfilled" else 20 - number
        month = "02" if status == "fulfilled" else "03"
        agenda[f"rdv-{number}"] |= {
            "start": f"2026-{month}-{day:02}T08:00:00Z",
            "end": f"2026-{month}-{day:02}T08:30:00Z",
        }


AGENDAS: dict[str, Resource] = {
    "minimal": _agenda("minimal", lambda agenda: agenda.appointment()),
    "every-detail": _agenda("every-detail", _every_detail),
    "proposed": _agenda("proposed", _proposed),
    "slot-only": _agenda("slot-only", _slot_only),
    "waitlist": _agenda("waitlist", _status("waitlist")),
    "arrived": _agenda("arrived", _status("arrived", start="2026-03-02T09:00:00Z", end="2026-03-02T09:40:00Z")),
    "checked-in": _agenda(
        "checked-in", _status("checked-in", start="2026-03-02T09:20:00Z", end="2026-03-02T09:50:00Z")
    ),
    "fulfilled": _agenda("fulfilled", _status("fulfilled", start="2026-02-09T08:00:00Z", end="2026-02-09T08:30:00Z")),
    "cancelled": _agenda("cancelled", _status("cancelled")),
    "cancelled-by-weather": _agenda("weather", _cancelled_by_weather),
    "cancelled-in-words": _agenda("words", _status("cancelled", cancelationReason={"text": "Déménagement"})),
    "one-moment": _agenda("moment", _status("booked", start="2026-03-09T08:00:00Z", end="2026-03-09T08:00:00Z")),
    "noshow": _agenda("noshow", _status("noshow", start="2026-02-09T08:00:00Z", end="2026-02-09T08:30:00Z")),
    "people": _agenda("people", _people),
    "main-second": _agenda("main-second", _main_second),
    "at-home": _agenda("home", _at_home),
    "remote": _agenda("remote", _remote),
    "hospital": _agenda("hospital", _hospital),
    "documents": _agenda("documents", _documents),
    "booked-by-structure": _agenda("structure", _booked_by_structure),
    "booked-by-patient": _agenda("patient", _booked_by_patient),
    "contained": _agenda("contained", _contained),
    "markup": _agenda("markup", _markup),
    "week": _agenda("week", _week),
}
"""Every agenda by name; the Bundles are shared, change a copy."""


# --- generated agendas --------------------------------------------------------------------------------------------

_instants = st.datetimes(datetime(2025, 1, 1), datetime(2026, 12, 31)).map(  # noqa: DTZ001 - made aware below
    lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
)
_statuses = ("proposed", "pending", "booked", "arrived", "fulfilled", "cancelled", "noshow", "checked-in", "waitlist")


@st.composite
def agendas(draw: st.DrawFn) -> Resource:
    """Bundles of legal appointments of one patient, from one on."""
    agenda = Agenda("generated")
    for number in range(draw(st.integers(1, 4))):
        start, minutes = draw(_instants), draw(st.integers(0, 600))
        stated: Resource = {"status": draw(st.sampled_from(_statuses)), "start": start.isoformat()}
        stated["end"] = (start + timedelta(minutes=minutes)).isoformat()
        for name in draw(st.sets(st.sampled_from(("description", "comment", "patientInstruction")))):
            stated[name] = draw(texts)
        if stated["status"] == "cancelled" and draw(st.booleans()):
            stated["cancelationReason"] = {"text": draw(texts)}
        if draw(st.booleans()):
            stated |= {"priority": draw(st.integers(0, 9)), "reasonCode": [{"text": draw(texts)}]}
        actors = [agenda.ref("doctor")] + [{"display": draw(texts)} for _ in range(draw(st.integers(0, 2)))]
        agenda.appointment(f"rdv-{number}", *actors, **stated)
    return agenda.bundle()
