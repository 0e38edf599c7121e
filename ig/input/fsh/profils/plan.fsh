Profile: RelaisCarePlan
Parent: CarePlan
Id: relais-careplan
Title: "Plan de soins coordonné"
Description: "Ce que Relais attend de tout plan dont il fait un document : une personne, un auteur, un début, des objectifs ou des actions. Le PPS et le PPCS en dérivent."
* obeys rel-plan-1 and rel-plan-2 and rel-plan-3
* extension contains RelaisApproval named approval 0..* MS
* identifier 1..* MS
* identifier ^short = "Identifiant métier du plan : celui de la lignée du document (setId)"
* identifier.system 1..1
* identifier.value 1..1
* status MS
* intent = #plan
* category 1..* MS
* category ^slicing.discriminator.type = #pattern
* category ^slicing.discriminator.path = "$this"
* category ^slicing.rules = #open
* category ^slicing.description = "Un plan dit lequel des modèles il suit"
* title MS
* description MS
* description ^short = "Synthèse de la situation : première section du document"
* subject MS
* subject only Reference(RelaisPatient or RelaisPatientINS)
* period MS
* period ^short = "Prise en charge ; sans début, la date de création sert"
* created MS
* author MS
* author only Reference(PractitionerRole or Practitioner or Device)
* careTeam MS
* addresses MS
* addresses only Reference(RelaisCondition)
* supportingInfo MS
* supportingInfo ^short = "Dispositions médico-sociales et bilans"
* goal MS
* goal only Reference(RelaisGoal)
* activity MS
* activity.reference MS
* note MS

Invariant: rel-plan-1
Description: "Un plan a au moins un objectif ou une action"
Expression: "goal.exists() or activity.exists()"
Severity: #error

Invariant: rel-plan-2
Description: "Un plan sans statut connu ou saisi par erreur n'a pas de document"
Expression: "status != 'entered-in-error' and status != 'unknown'"
Severity: #warning

Invariant: rel-plan-3
Description: "Le début de la prise en charge est connu : period.start, ou à défaut created"
Expression: "period.start.exists() or created.exists()"
Severity: #error

Profile: RelaisPPS
Parent: RelaisCarePlan
Id: relais-pps
Title: "Plan personnalisé de santé (PPS)"
Description: "Le plan dont Relais fait un PPS-PAERPA 2022.01 (LOINC 18776-5)."
* category contains pps 1..1 MS
* category[pps] = $plan-category#pps
* author 1..1

Profile: RelaisPPCS
Parent: RelaisCarePlan
Id: relais-ppcs
Title: "Plan personnalisé de coordination en santé (PPCS)"
Description: "Le plan de coordination du modèle de la HAS ; le document prend le modèle CDA du PPS, sous le titre du PPCS."
* category contains ppcs 1..1 MS
* category[ppcs] = $plan-category#ppcs
* author 1..1

Profile: RelaisGoal
Parent: Goal
Id: relais-objectif
Title: "Objectif du plan"
Description: "Un objectif partagé : une ligne du tableau et une entrée de la section plan du document."
* obeys rel-texte-1
* identifier MS
* lifecycleStatus MS
* achievementStatus MS
* priority MS
* description MS
* subject MS
* subject only Reference(RelaisPatient or RelaisPatientINS)
* start[x] MS
* target MS
* target.measure MS
* target.dueDate MS
* statusDate MS
* statusReason MS
* expressedBy MS
* addresses MS
* addresses ^short = "Problèmes que l'objectif vise, de ceux du plan"
* note MS
* outcomeReference MS

Invariant: rel-texte-1
Description: "L'objectif est dit en toutes lettres : le document l'exige"
Expression: "description.text.exists() or description.coding.display.exists()"
Severity: #error

Profile: RelaisCondition
Parent: Condition
Id: relais-probleme
Title: "Problème"
Description: "Un problème que le plan aborde, clinique ou social. Les problèmes du PPS ont leur code (MED-056 à MED-063, ORG-011, GEN-092.01.01) ou des mots."
* obeys rel-probleme-1
* clinicalStatus MS
* verificationStatus MS
* category MS
* category ^short = "Catégorie `ald` de Relais : affection de longue durée"
* code 1..1 MS
* code from pps-problem (example)
* subject MS
* subject only Reference(RelaisPatient or RelaisPatientINS)
* onset[x] MS
* abatement[x] MS
* recordedDate MS
* note MS

Invariant: rel-probleme-1
Description: "Le problème est dit en toutes lettres, ou par un code du volet PPS"
Expression: "code.text.exists() or code.coding.display.exists() or code.coding.where(system = 'https://smt.esante.gouv.fr/fhir/CodeSystem/terminologie-cisis').exists()"
Severity: #error

Profile: RelaisAction
Parent: ServiceRequest
Id: relais-action
Title: "Action du plan"
Description: "Une action qui sert un ou plusieurs objectifs (code ORG-014). Le lien vers les objectifs est l'extension resource-pertainsToGoal de HL7."
* identifier MS
* status MS
* intent = #plan
* category MS
* category from pps-care-kind (preferred)
* code 1..1 MS
* code.text 1..1 MS
* subject MS
* subject only Reference(RelaisPatient or RelaisPatientINS)
* occurrence[x] MS
* performer MS
* reasonReference MS
* note MS
* extension ^comment = "Objectifs servis : http://hl7.org/fhir/StructureDefinition/resource-pertainsToGoal, une extension par objectif. Sans elle, les objectifs du même problème (reasonReference) sont pris."

Profile: RelaisBilan
Parent: Observation
Id: relais-bilan
Title: "Bilan d'étape d'un objectif"
Description: "Où en est un objectif (code ORG-012) : une ligne de bilan sous l'objectif dans le document."
* status MS
* code = $cisis#ORG-012
* subject 1..1 MS
* subject only Reference(RelaisPatient or RelaisPatientINS)
* focus 1..* MS
* focus only Reference(RelaisGoal)
* effective[x] 1..1 MS
* value[x] 1..1 MS
* value[x] only string or CodeableConcept

Profile: RelaisDisposition
Parent: Observation
Id: relais-disposition
Title: "Disposition médico-sociale"
Description: "Une disposition de la section du PPS : priorités, préférences, caisse de retraite, mutuelle, APA et classe GIR, recherche d'hébergement. De chaque code, la plus récente est prise."
* obeys rel-disposition-1 and rel-disposition-2 and rel-disposition-3
* status MS
* code MS
* code from pps-disposition (required)
* subject 1..1 MS
* subject only Reference(RelaisPatient or RelaisPatientINS)
* effective[x] MS
* value[x] MS
* value[x] only string or CodeableConcept or boolean or integer or Quantity
* component MS
* component.code from pps-disposition (required)
* component.value[x] 1..1
* component.value[x] only string or CodeableConcept or boolean or integer or Quantity

Invariant: rel-disposition-1
Description: "L'APA (PAT-006), une pension (PAT-003 à PAT-005) est un booléen"
Expression: "(code.coding.code.where($this in ('PAT-003' | 'PAT-004' | 'PAT-005' | 'PAT-006')).exists() implies (value.empty() or value is boolean)) and component.where(code.coding.code.where($this in ('PAT-003' | 'PAT-004' | 'PAT-005' | 'PAT-006')).exists()).all(value is boolean)"
Severity: #error

Invariant: rel-disposition-2
Description: "La classe GIR (PAT-007) est un entier ou une quantité de 1 à 6, ou un code MED-339 à MED-344"
Expression: "(code.coding.code.where($this = 'PAT-007').exists() implies (value is CodeableConcept or (value is integer and value >= 1 and value <= 6) or (value is Quantity and value.value >= 1 and value.value <= 6))) and component.where(code.coding.code.where($this = 'PAT-007').exists()).all(value is CodeableConcept or (value is integer and value >= 1 and value <= 6) or (value is Quantity and value.value >= 1 and value.value <= 6))"
Severity: #error

Invariant: rel-disposition-3
Description: "Priorités (PAT-009) et préférences (PAT-008) sont des mots"
Expression: "code.coding.code.where($this in ('PAT-008' | 'PAT-009')).exists() implies (value is string or value is CodeableConcept)"
Severity: #error
