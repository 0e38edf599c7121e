Profile: RelaisPatient
Parent: $fr-patient
Id: relais-patient
Title: "Personne"
Description: "La personne d'un plan : fr-core-patient, avec ce qu'un document CDA ne peut pas taire : un identifiant, un nom, un sexe, une date de naissance."
* identifier 1..* MS
* identifier ^short = "Un identifiant au moins : INS ou numéro local"
* name 1..* MS
* name ^short = "Un nom au moins"
* gender 1..1 MS
* gender ^short = "Sexe"
* birthDate 1..1 MS
* birthDate ^short = "Date de naissance"
* telecom MS
* telecom ^short = "Coordonnées"
* address MS
* address ^short = "Adresse"
* generalPractitioner MS
* generalPractitioner ^short = "Médecin traitant"

Profile: RelaisPatientINS
Parent: $fr-patient-ins
Id: relais-patient-ins
Title: "Personne d'identité qualifiée (INS)"
Description: "fr-core-patient-ins d'identité qualifiée : statut VALI, matricule de 15 caractères. Sans qualification, l'INS ne quitte pas le serveur."
* obeys rel-ins-1 and rel-ins-2
* identifier MS

Invariant: rel-ins-1
Description: "L'identité est qualifiée : statut VALI (RNIV)"
Expression: "extension.where(url = 'https://hl7.fr/ig/fhir/core/StructureDefinition/fr-core-identity-reliability').extension.where(url = 'identityStatus').value.where(code = 'VALI').exists()"
Severity: #error

Invariant: rel-ins-2
Description: "Un matricule INS a 15 caractères : 13, dont A ou B en Corse, et une clé de deux chiffres"
Expression: "identifier.where(system in ('urn:oid:1.2.250.1.213.1.4.8' | 'urn:oid:1.2.250.1.213.1.4.9' | 'urn:oid:1.2.250.1.213.1.4.10' | 'urn:oid:1.2.250.1.213.1.4.11')).all(value.matches('^[0-9]{5}[0-9AB]{2}[0-9]{8}$'))"
Severity: #error

Profile: RelaisCareTeam
Parent: $cds-careteam
Id: relais-cercle
Title: "Cercle de soins"
Description: "Le CareTeam du volet CDS, dont chaque membre a un rôle : la fonction du participant dans le document (JDV_J47, à défaut *membre de l'équipe de soins*)."
* managingOrganization MS
* managingOrganization ^short = "Structure qui garde le document, à défaut d'autre"
* participant 1..* MS
* participant ^short = "Membres"
* participant.role 1..* MS
* participant.role ^short = "Fonction : une de JDV_J47 pour être écrite telle quelle"
* participant.member MS
* participant.member ^short = "Professionnel, proche ou structure"
* participant.period MS
* participant.period ^short = "Depuis quand"

Profile: RelaisAppointment
Parent: $gap-appointment
Id: relais-rendez-vous
Title: "Rendez-vous"
Description: "Le rendez-vous du volet GAP, dont Relais fait un document d'agenda : identifié, daté, d'une personne."
* obeys rel-rdv-1 and rel-rdv-2
* identifier 1..* MS
* identifier ^short = "Numéro du rendez-vous : celui de l'entrée du document"
* status MS
* status ^short = "État"
* cancelationReason MS
* cancelationReason ^short = "Motif d'annulation"
* serviceType MS
* serviceType ^short = "Prestation"
* description MS
* description ^short = "Libellé"
* start MS
* start ^short = "Début"
* end MS
* end ^short = "Fin"
* created MS
* created ^short = "Date de prise du rendez-vous"
* participant 2..* MS
* participant.actor MS
* participant.actor ^short = "Personne, professionnel, lieu…"
* participant ^short = "La personne, et qui la reçoit"

Invariant: rel-rdv-1
Description: "Un motif d'annulation va avec un rendez-vous annulé ou non honoré"
Expression: "cancelationReason.exists() implies (status = 'cancelled' or status = 'noshow')"
Severity: #error

Invariant: rel-rdv-2
Description: "Le début est connu : start, requestedPeriod ou le créneau"
Expression: "start.exists() or requestedPeriod.start.exists() or slot.exists()"
Severity: #error

Profile: RelaisSchedule
Parent: $gap-schedule
Id: relais-agenda
Title: "Agenda"
Description: "L'agenda du volet GAP, identifié et borné : son horizon borne le document d'agenda."
* identifier 1..* MS
* identifier ^short = "Numéro de l'agenda"
* planningHorizon 1..1 MS
* planningHorizon ^short = "Bornes de l'agenda"
* planningHorizon.start 1..1

Profile: RelaisSlot
Parent: $gap-slot
Id: relais-creneau
Title: "Créneau"
Description: "Le créneau du volet GAP, dans un agenda de Relais. Les créneaux libres n'entrent jamais dans un document."
* identifier 1..* MS
* identifier ^short = "Numéro du créneau"
* schedule only Reference(RelaisSchedule)
* status MS
* status ^short = "Libre, pris…"
* start MS
* start ^short = "Début"
* end MS
* end ^short = "Fin"

Profile: RelaisEventDeclaration
Parent: $nde-declaration
Id: relais-declaration-evenement
Title: "Déclaration d'évènement"
Description: "La déclaration du volet NdE, identifiée : son identifiant est celui de la lignée du document de notification."
* identifier 1..* MS
* identifier ^short = "Numéro de la déclaration"
* authoredOn 1..1 MS
* authoredOn ^short = "Date de la déclaration"
* status from relais-notification-status (required)

Profile: RelaisNotificationRequest
Parent: $nde-request
Id: relais-demande-notification
Title: "Demande de notification"
Description: "L'ordre de notification du volet NdE, identifié : un destinataire et l'adresse où le joindre."
* identifier 1..* MS
* identifier ^short = "Numéro de l'ordre"
* authoredOn 1..1 MS
* authoredOn ^short = "Date de l'ordre"
* status from relais-notification-status (required)

ValueSet: RelaisNotificationStatus
Id: relais-notification-status
Title: "États d'une notification qui ont un document"
Description: "Les autres statuts (draft, entered-in-error) n'ont pas de document ; revoked retire."
* ^experimental = false
* http://hl7.org/fhir/request-status#active "Active"
* http://hl7.org/fhir/request-status#on-hold "On Hold"
* http://hl7.org/fhir/request-status#revoked "Revoked"
* http://hl7.org/fhir/request-status#completed "Completed"
* http://hl7.org/fhir/request-status#unknown "Unknown"

Profile: RelaisNote
Parent: $cdl-note
Id: relais-note-liaison
Title: "Note du cahier de liaison"
Description: "La note du volet CdL, identifiée et datée : sans date une note ne se range pas dans le cahier."
* masterIdentifier 1..1 MS
* masterIdentifier ^short = "Identifiant de la note"
* date 1..1 MS
* date ^short = "Date de la note"
* securityLabel MS
* securityLabel ^short = "À qui elle est cachée"
* content 1..1

Profile: RelaisDocument
Parent: $pdsm-publish
Id: relais-document
Title: "Document publié"
Description: "La publication simplifiée du volet PDSm, typée et datée : le type décide de ses destinations."
* type 1..1 MS
* type ^short = "Type : il décide des destinations"
* category 1..1 MS
* category ^short = "Classe"
* date 1..1 MS
* date ^short = "Date"
* content.attachment.title MS
* content.attachment.title ^short = "Titre"
* content.format 1..1 MS
* content.format ^short = "Format"
