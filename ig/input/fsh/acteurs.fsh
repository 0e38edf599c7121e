// Ce que chaque acteur sait faire. Celui de la façade est fait par la construction, de son registre.

RuleSet: Acteur
* status = #draft
* date = "2026-11-22"
* kind = #requirements
* fhirVersion = #4.0.1
* format[+] = #application/fhir+json
* format[+] = #application/fhir+xml
* rest.mode = #client
* rest.security.description = "TLS 1.2 au moins, authentification mutuelle ou jeton selon l'espace de confiance."

RuleSet: Ressource(type, profile)
* rest.resource[+].type = #{type}
* rest.resource[=].supportedProfile[+] = "https://relais.example/fhir/StructureDefinition/{profile}"

RuleSet: Interaction(code)
* rest.resource[=].interaction[+].code = #{code}

Instance: relais-producteur
InstanceOf: CapabilityStatement
Usage: #definition
Title: "Producteur de plans"
* url = "https://relais.example/fhir/CapabilityStatement/relais-producteur"
* name = "RelaisProducteur"
* title = "Producteur de plans"
* description = "Le logiciel de coordination : il écrit des plans et leur entourage, demande leur document, ordonne leur transmission et suit la tâche."
* insert Acteur
* insert Ressource(CarePlan, relais-pps)
* rest.resource[=].supportedProfile[+] = "https://relais.example/fhir/StructureDefinition/relais-ppcs"
* insert Interaction(create)
* insert Interaction(update)
* insert Interaction(read)
* rest.resource[=].operation[+].name = "to-cda"
* rest.resource[=].operation[=].definition = "https://relais.example/fhir/OperationDefinition/relais-to-cda"
* rest.resource[=].operation[+].name = "transmit"
* rest.resource[=].operation[=].definition = "https://relais.example/fhir/OperationDefinition/relais-transmit"
* insert Ressource(Patient, relais-patient)
* rest.resource[=].supportedProfile[+] = "https://relais.example/fhir/StructureDefinition/relais-patient-ins"
* insert Interaction(create)
* insert Interaction(update)
* insert Ressource(CareTeam, relais-cercle)
* insert Interaction(create)
* insert Interaction(update)
* insert Ressource(Goal, relais-objectif)
* insert Interaction(create)
* insert Interaction(update)
* insert Ressource(Condition, relais-probleme)
* insert Interaction(create)
* insert Interaction(update)
* insert Ressource(ServiceRequest, relais-action)
* insert Interaction(create)
* insert Interaction(update)
* insert Ressource(Observation, relais-disposition)
* rest.resource[=].supportedProfile[+] = "https://relais.example/fhir/StructureDefinition/relais-bilan"
* insert Interaction(create)
* insert Interaction(update)
* insert Ressource(Consent, relais-consentement-partage)
* rest.resource[=].supportedProfile[+] = "https://relais.example/fhir/StructureDefinition/relais-opposition"
* rest.resource[=].supportedProfile[+] = "https://relais.example/fhir/StructureDefinition/relais-directive"
* insert Interaction(create)
* insert Interaction(update)
* insert Ressource(Task, relais-tache-transmission)
* insert Interaction(read)
* insert Interaction(search-type)
* rest.interaction[+].code = #transaction

Instance: relais-consommateur
InstanceOf: CapabilityStatement
Usage: #definition
Title: "Consommateur"
* url = "https://relais.example/fhir/CapabilityStatement/relais-consommateur"
* name = "RelaisConsommateur"
* title = "Consommateur"
* description = "Le logiciel d'un membre du cercle de soins : il cherche et lit les plans, l'agenda, les notes et les documents, et en demande le CDA."
* insert Acteur
* insert Ressource(CarePlan, relais-careplan)
* insert Interaction(read)
* insert Interaction(search-type)
* rest.resource[=].operation[+].name = "to-cda"
* rest.resource[=].operation[=].definition = "https://relais.example/fhir/OperationDefinition/relais-to-cda"
* insert Ressource(Patient, relais-patient)
* insert Interaction(read)
* insert Interaction(search-type)
* insert Ressource(CareTeam, relais-cercle)
* insert Interaction(read)
* insert Interaction(search-type)
* insert Ressource(Appointment, relais-rendez-vous)
* insert Interaction(read)
* insert Interaction(search-type)
* insert Ressource(Schedule, relais-agenda)
* insert Interaction(read)
* insert Interaction(search-type)
* insert Ressource(Slot, relais-creneau)
* insert Interaction(read)
* insert Interaction(search-type)
* insert Ressource(CommunicationRequest, relais-declaration-evenement)
* insert Interaction(read)
* insert Interaction(search-type)
* insert Ressource(DocumentReference, relais-document)
* rest.resource[=].supportedProfile[+] = "https://relais.example/fhir/StructureDefinition/relais-note-liaison"
* insert Interaction(read)
* insert Interaction(search-type)
