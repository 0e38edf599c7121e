Profile: RelaisTransmissionTask
Parent: Task
Id: relais-tache-transmission
Title: "Tâche de transmission"
Description: "La réponse à `$transmit`, écrite par Relais seul : rien de tenté (requested), en cours (in-progress), arrivé partout (completed), un destinataire abandonné (failed), annulé (cancelled), refusé par les règles (rejected). Chaque tentative et chaque accusé est une sortie."
* status MS
* status ^short = "Où en est l'envoi"
* status from relais-transmission-status (required)
* statusReason MS
* statusReason ^short = "Pourquoi un envoi est abandonné ou refusé"
* businessStatus MS
* businessStatus from relais-transmission-state (required)
* businessStatus ^short = "Ce qu'il y a à regarder"
* intent = #order
* priority MS
* priority ^short = "Priorité de l'ordre"
* code 1..1 MS
* code ^short = "Transmission ou retrait"
* code from relais-transmission-kind (required)
* focus MS
* focus only Reference(CarePlan or Appointment or Communication or CommunicationRequest or Patient or DocumentReference)
* focus ^short = "Ce dont le document est transmis, dans la version transmise"
* for MS
* for ^short = "La personne"
* for only Reference(RelaisPatient or RelaisPatientINS)
* authoredOn 1..1 MS
* authoredOn ^short = "Date de l'ordre"
* lastModified 1..1 MS
* lastModified ^short = "Dernière tentative ou dernier accusé"
* requester MS
* requester ^short = "Qui a ordonné"
* input MS
* input ^short = "Par où, à qui"
* input ^slicing.discriminator.type = #pattern
* input ^slicing.discriminator.path = "type"
* input ^slicing.rules = #closed
* input contains channel 0..3 MS and recipient 0..* MS
* input[channel].type = $transmission#channel
* input[channel].value[x] only code
* input[channel].valueCode from RelaisTransmissionChannelVS (required)
* input[recipient].type = $transmission#recipient
* input[recipient].value[x] only string
* output MS
* output ^short = "Document, tentatives, accusés"
* output ^slicing.discriminator.type = #pattern
* output ^slicing.discriminator.path = "type"
* output ^slicing.rules = #closed
* output contains document 0..1 MS and attempt 0..* MS and acknowledgement 0..* MS
* output[document].type = $transmission#document
* output[document].value[x] only Identifier
* output[attempt].type = $transmission#attempt
* output[attempt].value[x] only string
* output[acknowledgement].type = $transmission#acknowledgement
* output[acknowledgement].value[x] only string
* obeys rel-tache-1

Invariant: rel-tache-1
Description: "Sauf refus, une tâche dit par où, et quel document"
Expression: "status != 'rejected' implies (input.exists() and output.exists())"
Severity: #error

RuleSet: Parametre(name, min, max, type, short)
* parameter[{name}] {min}..{max} MS
* parameter[{name}].name = "{name}"
* parameter[{name}].value[x] 1..1
* parameter[{name}].value[x] only {type}
* parameter[{name}].resource 0..0
* parameter[{name}].part 0..0
* parameter[{name}] ^short = {short}

Profile: RelaisTransmitParameters
Parent: Parameters
Id: relais-parametres-transmission
Title: "Paramètres de $transmit"
Description: "Par où transmettre, à qui, comment. Ceux de `$to-cda` s'y ajoutent, pour dire de quel document il s'agit."
* obeys rel-transmission-1
* parameter 1..*
* parameter ^slicing.discriminator.type = #value
* parameter ^slicing.discriminator.path = "name"
* parameter ^slicing.rules = #open
* parameter contains channel 1..4 and recipient 0..* and patient 0..1 and intent 0..1 and hideFrom 0..3 and secretConnection 0..1 and acknowledgement 0..2 and priority 0..1 and requester 0..1 and dryRun 0..1
* insert Parametre(channel, 1, 4, code, [["Par où transmettre"]])
* parameter[channel].valueCode from RelaisTransmissionChannelVS (required)
* insert Parametre(recipient, 0, *, [[string or uri]], [["Boîte aux lettres ; par défaut celles du cercle de soins"]])
* insert Parametre(patient, 0, 1, boolean, [["Aussi à la boîte aux lettres de la personne"]])
* insert Parametre(intent, 0, 1, code, [["Envoyer, remplacer, réémettre, retirer"]])
* parameter[intent].valueCode from RelaisTransmissionIntentVS (required)
* insert Parametre(hideFrom, 0, 3, code, [["À qui le document est caché"]])
* parameter[hideFrom].valueCode from RelaisTransmissionAudienceVS (required)
* insert Parametre(secretConnection, 0, 1, boolean, [["Connexion secrète au DMP d'une personne mineure"]])
* insert Parametre(acknowledgement, 0, 2, code, [["Accusés demandés ; tous par défaut"]])
* parameter[acknowledgement].valueCode from RelaisTransmissionAcknowledgementVS (required)
* insert Parametre(priority, 0, 1, code, [["Priorité"]])
* parameter[priority].valueCode from http://hl7.org/fhir/ValueSet/request-priority (required)
* insert Parametre(requester, 0, 1, Reference, [["Qui ordonne"]])
* insert Parametre(dryRun, 0, 1, boolean, [["Dire ce qui serait accepté ou refusé, ne rien garder"]])

Invariant: rel-transmission-1
Description: "Des destinataires vont avec le canal mss ou hl7v2"
Expression: "parameter.where(name = 'recipient').exists() implies parameter.where(name = 'channel' and (value = 'mss' or value = 'hl7v2')).exists()"
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
