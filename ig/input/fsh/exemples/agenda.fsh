Instance: exemple-agenda
InstanceOf: RelaisSchedule
Usage: #example
Title: "Agenda du Dr Orme"
* identifier[+].system = "urn:oid:1.2.250.1.999.42.3"
* identifier[=].value = "AGENDA-1"
* actor = Reference(exemple-medecin-role)
* planningHorizon.start = "2026-03-01"
* planningHorizon.end = "2026-03-31"

Instance: exemple-creneau
InstanceOf: RelaisSlot
Usage: #example
Title: "Un créneau pris"
* identifier[+].system = "urn:oid:1.2.250.1.999.42.3"
* identifier[=].value = "CRENEAU-1"
* schedule = Reference(exemple-agenda)
* status = #busy
* start = "2026-03-09T09:00:00+01:00"
* end = "2026-03-09T09:30:00+01:00"

Instance: exemple-rendez-vous
InstanceOf: RelaisAppointment
Usage: #example
Title: "Rendez-vous de suivi"
* identifier[+].system = "urn:oid:1.2.250.1.999.42.3"
* identifier[=].value = "RDV-1"
* status = #booked
* description = "Suivi du retour à domicile"
* start = "2026-03-09T09:00:00+01:00"
* end = "2026-03-09T09:30:00+01:00"
* created = "2026-03-01T11:00:00+01:00"
* slot = Reference(exemple-creneau)
* participant[+].actor = Reference(exemple-personne)
* participant[=].status = #accepted
* participant[+].actor = Reference(exemple-medecin-role)
* participant[=].status = #accepted

Instance: exemple-rendez-vous-annule
InstanceOf: RelaisAppointment
Usage: #example
Title: "Rendez-vous annulé"
Description: "Le motif HL7 devient un motif du CI-SIS dans le document (GEN-358)."
* identifier[+].system = "urn:oid:1.2.250.1.999.42.3"
* identifier[=].value = "RDV-2"
* status = #cancelled
* cancelationReason = $cancellation#pat "Patient"
* start = "2026-03-16T09:00:00+01:00"
* end = "2026-03-16T09:30:00+01:00"
* participant[+].actor = Reference(exemple-personne)
* participant[=].status = #declined
* participant[+].actor = Reference(exemple-medecin-role)
* participant[=].status = #accepted
