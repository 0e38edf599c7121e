Instance: exemple-ordre
InstanceOf: RelaisTransmitParameters
Usage: #example
Title: "Transmettre par MSSanté et au DMP"
* parameter[channel][0].name = "channel"
* parameter[channel][0].valueCode = #mss
* parameter[channel][1].name = "channel"
* parameter[channel][1].valueCode = #dmp
* parameter[recipient][0].name = "recipient"
* parameter[recipient][0].valueString = "claire.orme@exemple.mssante.fr"

Instance: exemple-tache
InstanceOf: RelaisTransmissionTask
Usage: #example
Title: "Un plan transmis"
Description: "Ce que Relais répond, une fois le document arrivé à la boîte aux lettres."
* status = #completed
* intent = #order
* code = $transmission#transmit "Transmission d'un document"
* focus = Reference(exemple-pps)
* for = Reference(exemple-personne)
* authoredOn = "2026-03-02T09:30:00+01:00"
* lastModified = "2026-03-02T09:30:04+01:00"
* input[channel].type = $transmission#channel "Canal"
* input[channel].valueCode = #mss
* input[recipient].type = $transmission#recipient "Destinataire"
* input[recipient].valueString = "claire.orme@exemple.mssante.fr"
* output[document].type = $transmission#document "Document transmis"
* output[document].valueIdentifier.system = "urn:ietf:rfc:3986"
* output[document].valueIdentifier.value = "urn:oid:1.2.250.1.999.42.7.1"
* output[attempt].type = $transmission#attempt "Tentative"
* output[attempt].type.text = "MSSanté claire.orme@exemple.mssante.fr, tentative 1"
* output[attempt].valueString = "2026-03-02T08:30:04Z delivered"

Instance: exemple-transaction
InstanceOf: RelaisPlanTransaction
Usage: #example
Title: "Un plan écrit d'un coup"
Description: "À poster à la base de la façade, ou à `$to-cda` pour n'avoir que le document."
* type = #transaction
* entry[personne].fullUrl = "urn:uuid:0b6d3a52-7c0e-4a57-9f52-2f6f1f1b7a01"
* entry[personne].resource = transaction-personne
* entry[personne].request.method = #POST
* entry[personne].request.url = "Patient"
* entry[plan].fullUrl = "urn:uuid:0b6d3a52-7c0e-4a57-9f52-2f6f1f1b7a02"
* entry[plan].resource = transaction-plan
* entry[plan].request.method = #POST
* entry[plan].request.url = "CarePlan"
* entry[2].fullUrl = "urn:uuid:0b6d3a52-7c0e-4a57-9f52-2f6f1f1b7a03"
* entry[2].resource = transaction-objectif
* entry[2].request.method = #POST
* entry[2].request.url = "Goal"
* entry[3].fullUrl = "urn:uuid:0b6d3a52-7c0e-4a57-9f52-2f6f1f1b7a04"
* entry[3].resource = transaction-medecin
* entry[3].request.method = #POST
* entry[3].request.url = "Practitioner"
* entry[4].fullUrl = "urn:uuid:0b6d3a52-7c0e-4a57-9f52-2f6f1f1b7a05"
* entry[4].resource = transaction-medecin-role
* entry[4].request.method = #POST
* entry[4].request.url = "PractitionerRole"
* entry[5].fullUrl = "urn:uuid:0b6d3a52-7c0e-4a57-9f52-2f6f1f1b7a06"
* entry[5].resource = transaction-structure
* entry[5].request.method = #POST
* entry[5].request.url = "Organization"
* entry[6].fullUrl = "urn:uuid:0b6d3a52-7c0e-4a57-9f52-2f6f1f1b7a07"
* entry[6].resource = transaction-cercle
* entry[6].request.method = #POST
* entry[6].request.url = "CareTeam"

Instance: transaction-personne
InstanceOf: RelaisPatient
Usage: #inline
* insert Etat-civil

Instance: transaction-plan
InstanceOf: RelaisPPS
Usage: #inline
* extension[approval].extension[who].valueReference.reference = "urn:uuid:0b6d3a52-7c0e-4a57-9f52-2f6f1f1b7a05"
* extension[approval].extension[date].valueDateTime = "2026-02-02"
* identifier[+].system = "urn:oid:1.2.250.1.999.42.2"
* identifier[=].value = "PPS-2026-000418"
* status = #active
* intent = #plan
* category[pps] = $plan-category#pps "Plan personnalisé de santé"
* subject.reference = "urn:uuid:0b6d3a52-7c0e-4a57-9f52-2f6f1f1b7a01"
* period.start = "2026-01-12"
* author.reference = "urn:uuid:0b6d3a52-7c0e-4a57-9f52-2f6f1f1b7a05"
* careTeam.reference = "urn:uuid:0b6d3a52-7c0e-4a57-9f52-2f6f1f1b7a07"
* goal.reference = "urn:uuid:0b6d3a52-7c0e-4a57-9f52-2f6f1f1b7a03"

Instance: transaction-objectif
InstanceOf: RelaisGoal
Usage: #inline
* lifecycleStatus = #active
* description.text = "Remarcher sans aide dans le logement"
* subject.reference = "urn:uuid:0b6d3a52-7c0e-4a57-9f52-2f6f1f1b7a01"

Instance: transaction-medecin
InstanceOf: $as-practitioner
Usage: #inline
* identifier[+].use = #official
* identifier[=].type = $fr-v2-0203#RPPS
* identifier[=].system = "https://rpps.esante.gouv.fr"
* identifier[=].value = "10101234567"
* name[+].family = "ORME"
* name[=].given = "Claire"

Instance: transaction-medecin-role
InstanceOf: $as-role
Usage: #inline
* practitioner.reference = "urn:uuid:0b6d3a52-7c0e-4a57-9f52-2f6f1f1b7a04"
* organization.reference = "urn:uuid:0b6d3a52-7c0e-4a57-9f52-2f6f1f1b7a06"
* code[+] = $g15#10 "Médecin"
* specialty[+] = $r38#SM26 "Qualifié en Médecine Générale (SM)"

Instance: transaction-structure
InstanceOf: $as-organization
Usage: #inline
* identifier[+].use = #official
* identifier[=].type = $fr-v2-0203#FINEG
* identifier[=].system = "https://finess.esante.gouv.fr"
* identifier[=].value = "910019447"
* name = "Maison de santé des Noyers"

Instance: transaction-cercle
InstanceOf: CareTeam
Usage: #inline
* status = #active
* subject.reference = "urn:uuid:0b6d3a52-7c0e-4a57-9f52-2f6f1f1b7a01"
* managingOrganization.reference = "urn:uuid:0b6d3a52-7c0e-4a57-9f52-2f6f1f1b7a06"
* participant.role = $r259#PCP "Médecin traitant"
* participant.member.reference = "urn:uuid:0b6d3a52-7c0e-4a57-9f52-2f6f1f1b7a05"
