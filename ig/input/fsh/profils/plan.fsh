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
* status ^short = "État du plan : celui du document en vient"
* intent = #plan
* category 1..* MS
* category ^short = "Le modèle que le plan suit, et d'autres catégories"
* category ^slicing.discriminator.type = #pattern
* category ^slicing.discriminator.path = "$this"
* category ^slicing.rules = #open
* category ^slicing.description = "Un plan dit lequel des modèles il suit"
* title MS
* title ^short = "Titre du document"
* description MS
* description ^short = "Synthèse de la situation : première section du document"
* subject MS
* subject ^short = "La personne"
* subject only Reference(RelaisPatient or RelaisPatientINS)
* period MS
* period ^short = "Prise en charge ; sans début, la date de création sert"
* created MS
* created ^short = "Date de création"
* author MS
* author ^short = "Auteur du document"
* author only Reference(PractitionerRole or Practitioner or Device)
* careTeam MS
* careTeam ^short = "Cercle de soins : les participants du document"
* addresses MS
* addresses ^short = "Problèmes que le plan aborde"
* addresses only Reference(RelaisCondition)
* supportingInfo MS
* supportingInfo ^short = "Dispositions médico-sociales et bilans"
* goal MS
* goal ^short = "Objectifs partagés"
* goal only Reference(RelaisGoal)
* activity MS
* activity ^short = "Actions, par référence"
* activity.reference MS
* activity.reference ^short = "ServiceRequest, Task, Appointment…"
* note MS
* note ^short = "Notes ; celles de la personne elle-même sont ses préférences, à défaut de disposition PAT-008"

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
* identifier ^short = "Numéro de l'objectif, gardé d'une version du document à l'autre"
* lifecycleStatus MS
* lifecycleStatus ^short = "État : statusCode de l'entrée"
* achievementStatus MS
* achievementStatus ^short = "Où en est l'objectif"
* priority MS
* priority ^short = "Une priorité haute exprimée par la personne devient une disposition"
* description MS
* description ^short = "L'objectif, en toutes lettres"
* subject MS
* subject ^short = "La personne"
* subject only Reference(RelaisPatient or RelaisPatientINS)
* start[x] MS
* start[x] ^short = "Début"
* target MS
* target ^short = "Ce qui dira que l'objectif est atteint"
* target.measure MS
* target.measure ^short = "Ce qui est mesuré"
* target.dueDate MS
* target.dueDate ^short = "Échéance"
* statusDate MS
* statusDate ^short = "Date de l'état"
* statusReason MS
* statusReason ^short = "Pourquoi un objectif n'est pas atteint"
* expressedBy MS
* expressedBy ^short = "Qui l'a formulé"
* addresses MS
* addresses ^short = "Problèmes que l'objectif vise, de ceux du plan"
* note MS
* note ^short = "Bilans en toutes lettres"
* outcomeReference MS
* outcomeReference ^short = "Bilans"

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
* clinicalStatus ^short = "Actif, inactif, résolu"
* verificationStatus MS
* verificationStatus ^short = "Un problème réfuté ou saisi par erreur n'est pas écrit"
* category MS
* category ^short = "Catégorie `ald` de Relais : affection de longue durée"
* code 1..1 MS
* code ^short = "Le problème, en mots ou par un code"
* code from pps-problem (example)
* subject MS
* subject ^short = "La personne"
* subject only Reference(RelaisPatient or RelaisPatientINS)
* onset[x] MS
* onset[x] ^short = "Début"
* abatement[x] MS
* abatement[x] ^short = "Fin"
* recordedDate MS
* recordedDate ^short = "Date d'enregistrement"
* note MS
* note ^short = "Commentaires"

Invariant: rel-probleme-1
Description: "Le problème est dit en toutes lettres, ou par un code du volet PPS"
Expression: "code.text.exists() or code.coding.display.exists() or code.coding.where(system = 'https://smt.esante.gouv.fr/fhir/CodeSystem/terminologie-cisis').exists()"
Severity: #error

Profile: RelaisAction
Parent: ServiceRequest
Id: relais-action
Title: "Action du plan"
Description: "Une action qui sert un ou plusieurs objectifs (code ORG-014). Le lien vers les objectifs est l'extension resource-pertainsToGoal de HL7."
* obeys rel-action-1
* identifier MS
* identifier ^short = "Numéro de l'action"
* status MS
* status ^short = "État"
* intent MS
* intent ^short = "Le plus souvent plan"
* category MS
* category ^short = "Prise en charge médicale (ORG-009) ou sociale (ORG-010)"
* category from pps-care-kind (preferred)
* code 1..1 MS
* code ^short = "Actions dont ETP (ORG-014), ou un acte codé"
* code.text MS
* code.text ^short = "L'action, en toutes lettres"
* subject MS
* subject ^short = "La personne"
* subject only Reference(RelaisPatient or RelaisPatientINS)
* occurrence[x] MS
* occurrence[x] ^short = "Quand, à quel rythme"
* performer MS
* performer ^short = "Qui la fait"
* reasonReference MS
* reasonReference ^short = "Problème qu'elle vise, quand elle ne nomme pas d'objectif"
* note MS
* note ^short = "Consignes"
* extension ^comment = "Objectifs servis : http://hl7.org/fhir/StructureDefinition/resource-pertainsToGoal, une extension par objectif. Sans elle, les objectifs du même problème (reasonReference) sont pris."

Invariant: rel-action-1
Description: "L'action est dite en toutes lettres : par son code, une note ou une consigne"
Expression: "code.text.exists() or code.coding.display.exists() or note.exists() or patientInstruction.exists()"
Severity: #error

Profile: RelaisBilan
Parent: Observation
Id: relais-bilan
Title: "Bilan d'étape d'un objectif"
Description: "Où en est un objectif (code ORG-012) : une ligne de bilan sous l'objectif dans le document."
* status MS
* status ^short = "Final, corrigé ou complété pour être écrit"
* code = $cisis#ORG-012
* code ^short = "Bilan d'étape"
* subject 1..1 MS
* subject ^short = "La personne"
* subject only Reference(RelaisPatient or RelaisPatientINS)
* focus 1..* MS
* focus ^short = "L'objectif dont c'est le bilan"
* focus only Reference(RelaisGoal)
* effective[x] 1..1 MS
* effective[x] ^short = "Date du bilan"
* value[x] 1..1 MS
* value[x] ^short = "Le bilan, en toutes lettres"
* value[x] only string or CodeableConcept

Profile: RelaisDisposition
Parent: Observation
Id: relais-disposition
Title: "Disposition médico-sociale"
Description: "Une disposition de la section du PPS : priorités, préférences, caisse de retraite, mutuelle, APA et classe GIR, recherche d'hébergement. De chaque code, la plus récente est prise."
* obeys rel-disposition-1 and rel-disposition-2 and rel-disposition-3
* status MS
* status ^short = "Final, corrigé ou complété pour être écrite"
* code MS
* code ^short = "La disposition"
* code from pps-disposition (required)
* subject 1..1 MS
* subject ^short = "La personne"
* subject only Reference(RelaisPatient or RelaisPatientINS)
* effective[x] MS
* effective[x] ^short = "Date : la plus récente de chaque code est prise"
* value[x] MS
* value[x] ^short = "Texte ou booléen, selon le code"
* value[x] only string or CodeableConcept or boolean or integer or Quantity
* component MS
* component ^short = "Détail : classe GIR sous l'APA, pensions sous la caisse de retraite"
* component.code from pps-disposition (required)
* component.value[x] 1..1
* component.value[x] only string or CodeableConcept or boolean or integer or Quantity

Invariant: rel-disposition-1
Description: "Une pension (PAT-003 à PAT-005) est un booléen ; l'APA (PAT-006) en est un aussi, ou une classe GIR, jamais un texte"
Expression: "(code.coding.code.where($this in ('PAT-003' | 'PAT-004' | 'PAT-005')).exists() implies (value.empty() or value is boolean)) and component.where(code.coding.code.where($this in ('PAT-003' | 'PAT-004' | 'PAT-005')).exists()).all(value is boolean) and (code.coding.code.where($this = 'PAT-006').exists() implies (value is string).not())"
Severity: #error

Invariant: rel-disposition-2
Description: "La classe GIR (PAT-007) est un entier ou une quantité de 1 à 6, ou un code MED-339 à MED-344"
Expression: "(code.coding.code.where($this in ('PAT-006' | 'PAT-007')).exists() implies (value.empty() or value is boolean or value is CodeableConcept or (value is integer and value >= 1 and value <= 6) or (value is Quantity and value.value >= 1 and value.value <= 6))) and component.where(code.coding.code.where($this = 'PAT-007').exists()).all(value is CodeableConcept or (value is integer and value >= 1 and value <= 6) or (value is Quantity and value.value >= 1 and value.value <= 6))"
Severity: #error

Invariant: rel-disposition-3
Description: "Priorités (PAT-009) et préférences (PAT-008) sont des mots"
Expression: "code.coding.code.where($this in ('PAT-008' | 'PAT-009')).exists() implies (value is string or value is CodeableConcept)"
Severity: #error
