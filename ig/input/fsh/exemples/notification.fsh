RuleSet: Notification
* extension[EventType].valueCodeableConcept = $r254#SOR
* extension[EventTime].valueDateTime = "2026-02-28T14:00:00+01:00"
* status = #active
* subject = Reference(pat)
* requester = Reference(org)
* authoredOn = "2026-02-28T15:00:00+01:00"
* payload.contentString = "Sortie de la personne ce jour à 14 h."

Instance: pat
InstanceOf: $fr-patient
Usage: #inline
* insert Etat-civil

Instance: org
InstanceOf: https://hl7.fr/ig/fhir/core/StructureDefinition/fr-core-organization
Usage: #inline
* identifier[+].type = $fr-v2-0203#FINEG
* identifier[=].system = "https://finess.esante.gouv.fr"
* identifier[=].value = "910020254"
* name = "Hôpital des Ormes"

Instance: doc
InstanceOf: https://hl7.fr/ig/fhir/core/StructureDefinition/fr-core-practitioner
Usage: #inline
* identifier[+].type = $fr-v2-0203#RPPS
* identifier[=].system = "https://rpps.esante.gouv.fr"
* identifier[=].value = "10101234567"
* name[+].family = "ORME"
* name[=].given = "Claire"

Instance: exemple-declaration
InstanceOf: RelaisEventDeclaration
Usage: #example
Title: "Sortie d'hospitalisation déclarée"
* contained[+] = pat
* contained[+] = org
* identifier[+].system = "urn:oid:1.2.250.1.999.42.4"
* identifier[=].value = "NDE-1"
* insert Notification

Instance: exemple-abonnement
InstanceOf: $nde-subscription
Usage: #example
Title: "Abonnement aux sorties"
* contained[+] = pat
* contained[+] = org
* contained[+] = doc
* extension[Start].valueDateTime = "2026-01-12T00:00:00+01:00"
* extension[Subject].valueReference = Reference(pat)
* extension[Declarant].valueReference = Reference(org)
* extension[EventType].valueCodeableConcept = $r254#SOR
* extension[Subscriber].valueReference = Reference(doc)
* status = #active
* reason = "Suivre les sorties d'hospitalisation"
* criteria = "CommunicationRequest?status=active"
* channel.type = #message
* channel.endpoint = "mailto:claire.orme@exemple.mssante.fr"

Instance: exemple-demande-notification
InstanceOf: RelaisNotificationRequest
Usage: #example
Title: "Notification du médecin traitant"
* contained[+] = pat
* contained[+] = org
* contained[+] = doc
* identifier[+].system = "urn:oid:1.2.250.1.999.42.4"
* identifier[=].value = "NDE-2"
* basedOn = Reference(exemple-abonnement)
* medium.text = "Messagerie sécurisée"
* insert Notification
* recipient = Reference(doc)
* recipient.extension[RecipientEndpoint].valueUrl = "mailto:claire.orme@exemple.mssante.fr"
