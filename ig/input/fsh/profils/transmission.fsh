Profile: RelaisTransmissionTask
Parent: Task
Id: relais-tache-transmission
Title: "Tâche de transmission"
Description: "La réponse à `$transmit`, écrite par Relais seul : à transmettre (requested), en cours (in-progress), transmis par tous les canaux (completed), abandonné pour un canal (failed). Chaque tentative est une sortie."
* status MS
* status from relais-transmission-status (required)
* statusReason MS
* intent = #order
* code 1..1 MS
* code = $transmission#transmit
* focus MS
* focus only Reference(RelaisCarePlan)
* focus ^short = "Le plan, dans la version transmise"
* for MS
* for only Reference(RelaisPatient or RelaisPatientINS)
* authoredOn 1..1 MS
* lastModified 1..1 MS
* input 1..* MS
* input ^slicing.discriminator.type = #pattern
* input ^slicing.discriminator.path = "type"
* input ^slicing.rules = #closed
* input contains channel 1..3 MS and recipient 0..* MS
* input[channel].type = $transmission#channel
* input[channel].value[x] only code
* input[channel].valueCode from RelaisTransmissionChannelVS (required)
* input[recipient].type = $transmission#recipient
* input[recipient].value[x] only string
* output 1..* MS
* output ^slicing.discriminator.type = #pattern
* output ^slicing.discriminator.path = "type"
* output ^slicing.rules = #closed
* output contains document 1..1 MS and attempt 0..* MS
* output[document].type = $transmission#document
* output[document].value[x] only Identifier
* output[attempt].type = $transmission#attempt
* output[attempt].value[x] only string

ValueSet: RelaisTransmissionStatus
Id: relais-transmission-status
Title: "États d'une transmission"
Description: "Les statuts de Task que Relais écrit."
* ^experimental = false
* http://hl7.org/fhir/task-status#requested "Requested"
* http://hl7.org/fhir/task-status#in-progress "In Progress"
* http://hl7.org/fhir/task-status#completed "Completed"
* http://hl7.org/fhir/task-status#failed "Failed"

Profile: RelaisTransmitParameters
Parent: Parameters
Id: relais-parametres-transmission
Title: "Paramètres de $transmit"
Description: "Par où transmettre, et à quelles boîtes aux lettres."
* obeys rel-transmission-1
* parameter 1..*
* parameter ^slicing.discriminator.type = #value
* parameter ^slicing.discriminator.path = "name"
* parameter ^slicing.rules = #closed
* parameter contains channel 1..3 MS and recipient 0..* MS
* parameter[channel].name = "channel"
* parameter[channel].value[x] 1..1
* parameter[channel].value[x] only code
* parameter[channel].valueCode from RelaisTransmissionChannelVS (required)
* parameter[channel].resource 0..0
* parameter[channel].part 0..0
* parameter[recipient].name = "recipient"
* parameter[recipient].value[x] 1..1
* parameter[recipient].value[x] only string or uri
* parameter[recipient] ^short = "Boîte aux lettres MSSanté"
* parameter[recipient].resource 0..0
* parameter[recipient].part 0..0

Invariant: rel-transmission-1
Description: "Il y a des destinataires si et seulement si le canal mss est demandé"
Expression: "parameter.where(name = 'recipient').exists() = parameter.where(name = 'channel' and value = 'mss').exists()"
Severity: #error

Profile: RelaisPlanTransaction
Parent: Bundle
Id: relais-transaction-plan
Title: "Transaction d'un plan"
Description: "Un plan et tout ce à quoi il renvoie, écrits d'un coup ou pas du tout. La même forme, postée à `$to-cda`, donne le document sans rien garder."
* type = #transaction
* entry 2..* MS
* entry ^slicing.discriminator.type = #type
* entry ^slicing.discriminator.path = "resource"
* entry ^slicing.rules = #open
* entry contains plan 1..1 MS and personne 1..1 MS
* entry[plan].fullUrl 1..1
* entry[plan].resource 1..1
* entry[plan].resource only RelaisCarePlan
* entry[plan].request 1..1
* entry[personne].fullUrl 1..1
* entry[personne].resource 1..1
* entry[personne].resource only RelaisPatient
* entry[personne].request 1..1
