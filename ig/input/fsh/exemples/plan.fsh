RuleSet: Sujet
* subject = Reference(exemple-personne)

Instance: exemple-pps
InstanceOf: RelaisPPS
Usage: #example
Title: "Le PPS de Marthe"
Description: "Un plan approuvé : `$to-cda` en fait le document, `$transmit` le transmet."
* extension[approval].extension[who].valueReference = Reference(exemple-medecin-role)
* extension[approval].extension[date].valueDateTime = "2026-02-02"
* identifier[+].system = "urn:oid:1.2.250.1.999.42.2"
* identifier[=].value = "PPS-2026-000417"
* status = #active
* intent = #plan
* category[pps] = $plan-category#pps "Plan personnalisé de santé"
* category[1] = $loinc#18776-5
* title = "Plan personnalisé de santé"
* description = "Vit seule au deuxième étage sans ascenseur. Une chute en décembre, retour d'hospitalisation."
* insert Sujet
* period.start = "2026-01-12"
* created = "2026-01-12T09:00:00+01:00"
* author = Reference(exemple-medecin-role)
* careTeam = Reference(exemple-cercle)
* addresses[+] = Reference(exemple-chute)
* addresses[+] = Reference(exemple-diabete)
* supportingInfo[+] = Reference(exemple-priorites)
* supportingInfo[+] = Reference(exemple-apa)
* goal = Reference(exemple-objectif)
* activity.reference = Reference(exemple-action)
* note.text = "Souhaite rester chez elle."

Instance: exemple-ppcs
InstanceOf: RelaisPPCS
Usage: #example
Title: "Un PPCS"
Description: "Le plus petit plan : une personne, un auteur, une date, un objectif."
* identifier[+].system = "urn:oid:1.2.250.1.999.42.2"
* identifier[=].value = "PPCS-2026-000512"
* status = #draft
* intent = #plan
* category[ppcs] = $plan-category#ppcs "Plan personnalisé de coordination en santé"
* subject = Reference(exemple-personne-locale)
* created = "2026-02-10"
* author = Reference(exemple-medecin-role)
* goal = Reference(exemple-objectif-local)

Instance: exemple-plan
InstanceOf: RelaisCarePlan
Usage: #example
Title: "Un plan sans modèle"
Description: "Un plan reçu d'un autre logiciel, qui n'est dit ni PPS ni PPCS."
* identifier[+].system = "urn:oid:1.2.250.1.999.42.2"
* identifier[=].value = "PLAN-2026-000512"
* status = #active
* intent = #plan
* category.text = "Plan de soins"
* subject = Reference(exemple-personne-locale)
* created = "2026-02-10"
* goal = Reference(exemple-objectif-local)

Instance: exemple-objectif
InstanceOf: RelaisGoal
Usage: #example
Title: "Marcher jusqu'au marché"
* identifier[+].system = "urn:oid:1.2.250.1.999.42.2"
* identifier[=].value = "OBJ-000417-1"
* lifecycleStatus = #active
* priority = $goal-priority#high-priority
* description.text = "Marcher jusqu'au marché, seule"
* insert Sujet
* startDate = "2026-01-15"
* target.measure.text = "Distance parcourue"
* target.detailQuantity.value = 500
* target.detailQuantity.unit = "m"
* target.dueDate = "2026-06-30"
* expressedBy = Reference(exemple-personne)
* addresses = Reference(exemple-chute)

Instance: exemple-objectif-local
InstanceOf: RelaisGoal
Usage: #example
Title: "Savoir qui passe et quand"
* lifecycleStatus = #proposed
* description.text = "Savoir qui passe, et quand"
* subject = Reference(exemple-personne-locale)

Instance: exemple-chute
InstanceOf: RelaisCondition
Usage: #example
Title: "Risque de chute"
Description: "Un problème du PPS, par son code et en mots."
* clinicalStatus = $condition-clinical#active
* code = $cisis#MED-057 "Problème de mobilité"
* code.text = "Risque de chute"
* insert Sujet
* recordedDate = "2026-01-12"

Instance: exemple-diabete
InstanceOf: RelaisCondition
Usage: #example
Title: "Diabète, en ALD"
Description: "Une affection de longue durée."
* clinicalStatus = $condition-clinical#active
* category = $condition-category#ald "Affection de longue durée"
* code = $cim10#E11.9
* code.text = "Diabète de type 2"
* insert Sujet
* onsetDateTime = "2009-05"
* recordedDate = "2026-01-12"
* note.text = "Suivi deux fois par an."

Instance: exemple-suivi
InstanceOf: RelaisCondition
Usage: #example
Title: "Suivi psychologique"
Description: "Un problème que la personne ne veut pas voir partagé."
* clinicalStatus = $condition-clinical#active
* code.text = "Suivi psychologique"
* insert Sujet

Instance: exemple-action
InstanceOf: RelaisAction
Usage: #example
Title: "Rééducation à la marche"
* extension[+].url = "http://hl7.org/fhir/StructureDefinition/resource-pertainsToGoal"
* extension[=].valueReference = Reference(exemple-objectif)
* status = #active
* intent = #plan
* category = $cisis#ORG-009 "Prise en charge médicale"
* code = $cisis#ORG-014 "Actions dont ETP"
* code.text = "Rééducation à la marche, à domicile"
* insert Sujet
* occurrenceTiming.repeat.boundsPeriod.start = "2026-01-20"
* occurrenceTiming.repeat.boundsPeriod.end = "2026-04-20"
* occurrenceTiming.repeat.frequency = 2
* occurrenceTiming.repeat.period = 1
* occurrenceTiming.repeat.periodUnit = #wk
* performer = Reference(exemple-infirmiere-role)

Instance: exemple-bilan
InstanceOf: RelaisBilan
Usage: #example
Title: "Bilan de février"
* status = #final
* code = $cisis#ORG-012 "Bilan d'étape"
* insert Sujet
* focus = Reference(exemple-objectif)
* effectiveDateTime = "2026-02-28"
* valueString = "Sort de l'immeuble, accompagnée."

Instance: exemple-priorites
InstanceOf: RelaisDisposition
Usage: #example
Title: "Priorités de la personne"
* status = #final
* code = $cisis#PAT-009 "Priorités actuelles de la personne"
* insert Sujet
* effectiveDateTime = "2026-01-12"
* valueString = "Retrouver ses sorties au marché."

Instance: exemple-apa
InstanceOf: RelaisDisposition
Usage: #example
Title: "APA et classe GIR"
Description: "L'APA est accordée, en GIR 4."
* status = #final
* code = $cisis#PAT-006 "Aide aux Personnes Âgées (APA)"
* insert Sujet
* effectiveDateTime = "2026-01-12"
* valueBoolean = true
* component.code = $cisis#PAT-007 "Classe GIR"
* component.valueInteger = 4

Instance: exemple-consentement
InstanceOf: RelaisConsentSharing
Usage: #example
Title: "Consentement au partage"
* status = #active
* scope = $consentscope#patient-privacy
* category[partage] = $consent-category#consent-partage "Consentement au partage"
* patient = Reference(exemple-personne)
* dateTime = "2026-01-12"
* policyRule = $act-code#OPTIN
* provision.type = #permit

Instance: exemple-opposition
InstanceOf: RelaisConsentOpposition
Usage: #example
Title: "Opposition à ce que le suivi psychologique soit partagé"
Description: "La personne ne veut pas que ce problème figure dans le document : il en est tenu à l'écart. Un plan qui y renverrait serait refusé à la transmission."
* status = #active
* scope = $consentscope#patient-privacy
* category[opposition] = $consent-category#opposition "Opposition au partage"
* patient = Reference(exemple-personne)
* dateTime = "2026-01-12"
* policyRule = $act-code#OPTIN
* provision.type = #permit
* provision.provision.type = #deny
* provision.provision.data.meaning = #instance
* provision.provision.data.reference = Reference(exemple-suivi)

Instance: exemple-directive
InstanceOf: RelaisDirective
Usage: #example
Title: "Directives anticipées"
* status = #active
* scope = $consentscope#adr
* category = $loinc#42348-3
* patient = Reference(exemple-personne)
* dateTime = "2024-11-05"
* policyRule = $act-code#OPTIN
