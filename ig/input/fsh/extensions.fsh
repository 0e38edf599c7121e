Extension: RelaisApproval
Id: approval
Title: "Approbation du plan"
Description: "Qui a approuvé le plan, et quand. Un plan ne quitte le cercle de soins qu'une fois approuvé par un professionnel ; l'approbation vaut jusqu'à ce que celui qui change le plan la retire."
Context: CarePlan
* extension contains who 0..1 MS and date 0..1 MS
* extension[who].value[x] only Reference(Practitioner or PractitionerRole)
* extension[who] ^short = "Professionnel qui approuve"
* extension[who].value[x] 1..1
* extension[date].value[x] only dateTime
* extension[date].value[x] 1..1
* extension[date] ^short = "Date de l'approbation, pas dans le futur"
* obeys rel-approbation-1

Invariant: rel-approbation-1
Description: "Une approbation nomme au moins qui approuve ou la date"
Expression: "extension.exists()"
Severity: #error

Extension: RelaisAuthorTime
Id: author-time
Title: "Date de contribution d'un auteur"
Description: "Quand un auteur a contribué au document : `author/time` du CDA, que la Composition de FHIR ne sait pas dire."
Context: Composition.author
* value[x] only dateTime
* value[x] 1..1
