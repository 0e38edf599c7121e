// Systèmes de codes propres à Relais. Les jeux de valeurs et tables de correspondance tirés de mappings/data sont faits
// par la construction (ig/tables.py).

RuleSet: Codes
* ^experimental = false
* ^caseSensitive = true
* ^content = #complete
* ^language = #fr

CodeSystem: RelaisPlanCategory
Id: plan-category
Title: "Catégories de plan"
Description: "Ce qu'est un plan de soins : PPS ou PPCS. La catégorie `ppcs` donne son titre au document."
* insert Codes
* #pps "Plan personnalisé de santé" "Modèle PPS-PAERPA 2022.01 du CI-SIS."
* #ppcs "Plan personnalisé de coordination en santé" "Modèle de la HAS ; même modèle CDA que le PPS."

CodeSystem: RelaisConditionCategory
Id: condition-category
Title: "Catégories de problème"
Description: "Ce que le PPS dit d'un problème et que FHIR ne sait pas dire."
* insert Codes
* #ald "Affection de longue durée" "Problème pris en charge au titre d'une ALD : code MED-320 dans le document."

CodeSystem: RelaisConsentCategory
Id: consent-category
Title: "Catégories de consentement"
Description: "Ce que la personne a accepté ou refusé, ou ce dont elle a été informée."
* insert Codes
* #consent-partage "Consentement au partage" "La personne accepte le partage hors de l'équipe de soins."
* #opposition "Opposition au partage" "La personne s'oppose au partage, en tout ou pour une ressource nommée."
* #info-non-opposition "Information et non-opposition" "La personne est informée et ne s'oppose pas ; ne vaut pas consentement."
* #accord-plan "Accord sur le plan" "La personne approuve le contenu du plan ; ne vaut pas consentement au partage."

CodeSystem: RelaisCoverageType
Id: coverage-type
Title: "Types de couverture"
Description: "Couvertures que le PPS nomme dans les dispositions médico-sociales."
* insert Codes
* #retraite "Caisse de retraite"
* #complementaire "Complémentaire santé"

CodeSystem: RelaisTransmission
Id: relais-transmission
Title: "Transmission : tâche, entrées, sorties, états"
Description: "Ce que dit la Task d'un ordre de transmission."
* insert Codes
* #transmit "Transmission d'un document" "Code de la tâche."
* #withdraw "Retrait d'un document" "Code de la tâche."
* #channel "Canal" "Entrée : par où transmettre."
* #recipient "Destinataire" "Entrée : boîte aux lettres MSSanté."
* #document "Document transmis" "Sortie : identifiant du document CDA."
* #attempt "Tentative" "Sortie : date, issue et détail d'une tentative."
* #acknowledgement "Accusé" "Sortie : accusé de réception ou de lecture, attendu ou reçu."
* #record "Trace d'un ordre" "Étiquette de la Provenance et des AuditEvent de l'ordre."
* #waiting "En attente d'une nouvelle tentative" "État."
* #unconfirmed "Arrivée incertaine : à vérifier auprès du destinataire" "État."
* #refused-later "Refusé par un destinataire après remise" "État."
* #acknowledgement-awaited "Remis, accusé attendu" "État."
* #acknowledgement-overdue "Accusé attendu non reçu" "État."
* #remark "Terminé, avec une remarque" "État : le motif (statusReason) la dit, par exemple qu'il n'y avait rien à retirer."

CodeSystem: RelaisTransmissionChannel
Id: relais-transmission-channel
Title: "Canaux de transmission"
Description: "Par où un document part."
* insert Codes
* #mss "MSSanté" "Courriel sécurisé de santé avec IHE_XDM.ZIP."
* #dmp "DMP" "Dépôt XDS.b ITI-41."
* #hl7v2 "HL7 v2" "Message MDM ou ORU vers la plateforme de l'établissement."
* #mhd "PDSm" "Dépôt dans un partage de documents FHIR (volet PDSm, IHE MHD ITI-65)."

CodeSystem: RelaisCdaTemplateId
Id: cda-template-id
Title: "Modèles de document CDA"
Description: "Identifiants (OID) de modèles CDA, en `meta.tag` de la Composition d'un document importé. Les codes sont les racines de `templateId` ; ils appartiennent à leurs auteurs et ne sont pas énumérés ici."
* ^experimental = false
* ^caseSensitive = true
* ^content = #not-present
* ^language = #fr

ValueSet: RelaisTransmissionChannelVS
Id: relais-transmission-channel
Title: "Canaux de transmission"
Description: "Les canaux que `$transmit` accepte."
* ^experimental = false
* include codes from system RelaisTransmissionChannel

ValueSet: RelaisPlanCategoryVS
Id: plan-category
Title: "Catégories de plan"
Description: "PPS ou PPCS."
* ^experimental = false
* include codes from system RelaisPlanCategory

ValueSet: RelaisConsentCategoryVS
Id: consent-category
Title: "Catégories de consentement"
Description: "Consentement, opposition, information, accord."
* ^experimental = false
* include codes from system RelaisConsentCategory

ValueSet: RelaisTransmissionKind
Id: relais-transmission-kind
Title: "Ordres de transmission"
Description: "Ce qu'une tâche de transmission ordonne."
* ^experimental = false
* RelaisTransmission#transmit
* RelaisTransmission#withdraw

ValueSet: RelaisTransmissionState
Id: relais-transmission-state
Title: "États à surveiller d'une transmission"
Description: "Ce qu'il y a à regarder : Task.businessStatus."
* ^experimental = false
* RelaisTransmission#waiting
* RelaisTransmission#unconfirmed
* RelaisTransmission#refused-later
* RelaisTransmission#acknowledgement-awaited
* RelaisTransmission#acknowledgement-overdue
* RelaisTransmission#remark

ValueSet: RelaisTransmissionStatus
Id: relais-transmission-status
Title: "Statuts d'une transmission"
Description: "Les statuts de Task que Relais écrit."
* ^experimental = false
* http://hl7.org/fhir/task-status#requested "Requested"
* http://hl7.org/fhir/task-status#in-progress "In Progress"
* http://hl7.org/fhir/task-status#completed "Completed"
* http://hl7.org/fhir/task-status#failed "Failed"
* http://hl7.org/fhir/task-status#cancelled "Cancelled"
* http://hl7.org/fhir/task-status#rejected "Rejected"

CodeSystem: RelaisTransmissionIntent
Id: relais-transmission-intent
Title: "Intentions de transmission"
Description: "Envoyer, remplacer, réémettre, retirer."
* insert Codes
* #send "Envoyer" "Le document ; il remplace sa version précédente s'il y en a une."
* #replace "Remplacer" "Seulement s'il y a une version à remplacer."
* #reissue "Réémettre" "Une nouvelle version de même contenu : après un retrait, ou pour changer à qui le document est caché."
* #withdraw "Retirer" "Ce qui a été envoyé n'est plus à prendre en compte."

CodeSystem: RelaisTransmissionAudience
Id: relais-transmission-audience
Title: "À qui un document est caché"
Description: "Masquages des métadonnées (JDV_J08) ; `none` va seul. Sans aucun, ceux du dernier ordre du document ou de sa version précédente demeurent."
* insert Codes
* #professionals "Professionnels de santé"
* #patient "La personne"
* #representatives "Représentants légaux"
* #none "À personne"

CodeSystem: RelaisTransmissionAcknowledgement
Id: relais-transmission-acknowledgement
Title: "Accusés"
Description: "Accusés que l'on demande ; `none` va seul."
* insert Codes
* #reception "Accusé de réception"
* #reading "Accusé de lecture"
* #none "Aucun"

ValueSet: RelaisTransmissionIntentVS
Id: relais-transmission-intent
Title: "Intentions de transmission"
Description: "Envoyer, remplacer, réémettre, retirer."
* ^experimental = false
* include codes from system RelaisTransmissionIntent

ValueSet: RelaisTransmissionAudienceVS
Id: relais-transmission-audience
Title: "À qui un document est caché"
Description: "Professionnels, personne, représentants légaux."
* ^experimental = false
* include codes from system RelaisTransmissionAudience

ValueSet: RelaisTransmissionAcknowledgementVS
Id: relais-transmission-acknowledgement
Title: "Accusés"
Description: "Réception, lecture, aucun."
* ^experimental = false
* include codes from system RelaisTransmissionAcknowledgement
