Profile: RelaisConsentSharing
Parent: Consent
Id: relais-consentement-partage
Title: "Consentement au partage"
Description: "La personne accepte que le plan soit partagé hors de l'équipe de soins : `authorization` du document."
* status MS
* status ^short = "Actif pour compter"
* scope = $consentscope#patient-privacy
* category 1..* MS
* category ^slicing.discriminator.type = #pattern
* category ^slicing.discriminator.path = "$this"
* category ^slicing.rules = #open
* category contains partage 1..1 MS
* category[partage] = $consent-category#consent-partage
* patient 1..1 MS
* patient ^short = "La personne"
* patient only Reference(RelaisPatient or RelaisPatientINS)
* dateTime MS
* dateTime ^short = "Date"
* provision 1..1 MS
* provision ^short = "Ce qui est permis"
* provision.type 1..1 MS
* provision.type = #permit
* provision.period MS
* provision.period ^short = "Hors de la période, le consentement ne compte pas"

Profile: RelaisConsentOpposition
Parent: Consent
Id: relais-opposition
Title: "Opposition au partage"
Description: "La personne s'oppose. Avec `provision.data`, l'opposition porte sur les ressources nommées : elles n'entrent pas dans le document. Sans, elle porte sur tout : rien ne part. Une opposition l'emporte sur tout consentement."
* obeys rel-opposition-1
* status MS
* status ^short = "Active pour compter"
* scope = $consentscope#patient-privacy
* category 1..* MS
* category ^slicing.discriminator.type = #pattern
* category ^slicing.discriminator.path = "$this"
* category ^slicing.rules = #open
* category contains opposition 1..1 MS
* category[opposition] = $consent-category#opposition
* patient 1..1 MS
* patient ^short = "La personne"
* patient only Reference(RelaisPatient or RelaisPatientINS)
* dateTime MS
* dateTime ^short = "Date"
* provision 1..1 MS
* provision ^short = "Ce qui est refusé"
* provision.period MS
* provision.period ^short = "Hors de la période, l'opposition ne compte pas"
* provision.data MS
* provision.data ^short = "Ressources nommées ; sans elles, tout"
* provision.provision MS
* provision.provision ^short = "Exceptions"

Invariant: rel-opposition-1
Description: "L'opposition refuse : provision.type deny, ou dans une exception qui nomme des ressources"
Expression: "provision.type = 'deny' or provision.provision.where(type = 'deny' and data.exists()).exists()"
Severity: #error

Profile: RelaisDirective
Parent: Consent
Id: relais-directive
Title: "Directive anticipée"
Description: "L'existence (statut actif) ou l'absence dite (inactif, rejeté) de directives anticipées, ou ce que la personne décide d'une intervention (`provision.type`) : section *Directives anticipées* du document. Rien n'est déduit de leur absence."
* status MS
* status ^short = "Active : il y en a ; inactive ou rejetée : il n'y en a pas"
* scope = $consentscope#adr
* category 1..* MS
* category ^short = "Type de directive"
* category from directive (extensible)
* patient 1..1 MS
* patient ^short = "La personne"
* patient only Reference(RelaisPatient or RelaisPatientINS)
* dateTime MS
* dateTime ^short = "Date"
* provision.type MS
* provision.type ^short = "D'une intervention : permit, la personne l'autorise ; deny, elle la refuse"
* source[x] MS
* source[x] ^short = "Le PDF des directives, s'il est joint"
