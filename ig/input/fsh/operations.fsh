// Les opérations propres à Relais : ce qu'elles disent. Où elles sont servies (types, niveaux) vient du registre de la
// façade (ig/facade.py). Celles de HL7 gardent leur définition.

RuleSet: Parameter(name, use, min, max, type, documentation)
* parameter[+].name = #{name}
* parameter[=].use = #{use}
* parameter[=].min = {min}
* parameter[=].max = "{max}"
* parameter[=].type = #{type}
* parameter[=].documentation = {documentation}

RuleSet: Lie(valueSet)
* parameter[=].binding.strength = #required
* parameter[=].binding.valueSet = "https://relais.example/fhir/ValueSet/{valueSet}"

Instance: relais-to-cda
InstanceOf: OperationDefinition
Usage: #definition
* url = "https://relais.example/fhir/OperationDefinition/relais-to-cda"
* name = "RelaisToCda"
* title = "$to-cda : le document CDA d'un plan"
* status = #draft
* kind = #operation
* code = #to-cda
* description = "Le document CDA R2 de ce qui est gardé : le PPS d'un CarePlan, l'agenda d'un Appointment ou d'un Patient (`model=agenda`), la notification d'une Communication ou d'un CommunicationRequest. Les mêmes sources donnent les mêmes octets, un changement donne la version suivante, qui remplace la précédente. Sur un Bundle posté : le document de ce qu'il contient, sans rien garder. La réponse est le CDA (text/xml), ou un Binary pour un client qui demande du JSON FHIR ; avec `Prefer: return=OperationOutcome`, les remarques de la conversion."
* affectsState = false
* system = true
* type = false
* instance = true
* insert Parameter(resource, in, 0, 1, Bundle, [["Au niveau système : le Bundle à convertir ; il peut aussi être le corps même."]])
* insert Parameter(level, in, 0, 1, code, [["Corps du document : n3 (structuré, par défaut) ou n1 (PDF)."]])
* insert Parameter(model, in, 0, 1, code, [["Modèle du document ; exigé pour un Patient (agenda)."]])
* insert Parameter(start, in, 0, 1, dateTime, [["Agenda d'un Patient : début de la période."]])
* insert Parameter(end, in, 0, 1, dateTime, [["Agenda d'un Patient : fin de la période."]])
* insert Parameter(period, in, 0, 1, Period, [["Agenda d'un Patient : la période, en place de start et end."]])
* insert Parameter(status, in, 0, *, code, [["Agenda d'un Patient : statuts des rendez-vous à y mettre."]])
* insert Parameter(stylesheet, in, 0, 1, string, [["Au niveau système : adresse relative d'une feuille de style."]])
* insert Parameter(return, out, 1, 1, Binary, [["Le document CDA, contentType text/xml."]])

Instance: relais-from-cda
InstanceOf: OperationDefinition
Usage: #definition
* url = "https://relais.example/fhir/OperationDefinition/relais-from-cda"
* name = "RelaisFromCda"
* title = "$from-cda : un document CDA en FHIR"
* status = #draft
* kind = #operation
* code = #from-cda
* description = "Un document CDA en Bundle FHIR de type document, ou gardé : ses octets tels quels, ses ressources, la personne reconnue à son INS. Ce qui n'a pu être repris est un OperationOutcome à la fin du Bundle. Le corps est le CDA même (text/xml), un Binary, ou ces paramètres."
* affectsState = true
* system = true
* type = false
* instance = false
* insert Parameter(document, in, 1, 1, Binary, [["Le document CDA."]])
* insert Parameter(store, in, 0, 1, boolean, [["Garder le document et ses ressources ; false par défaut."]])
* insert Parameter(return, out, 1, 1, Bundle, [["Le document en FHIR, ou ce qui a été gardé, la DocumentReference en premier."]])

Instance: relais-transmit
InstanceOf: OperationDefinition
Usage: #definition
* url = "https://relais.example/fhir/OperationDefinition/relais-transmit"
* name = "RelaisTransmit"
* title = "$transmit : transmettre un document"
* status = #draft
* kind = #operation
* code = #transmit
* description = "Ordonne la transmission du document d'une ressource, ou de celui qu'une DocumentReference désigne, et répond aussitôt (201) avec la Task qui suit l'ordre. Refuse (422) ce qui ne doit pas partir : plan non approuvé, opposition de la personne, type que le destinataire ne prend pas."
* affectsState = true
* system = false
* type = false
* instance = true
* inputProfile = "https://relais.example/fhir/StructureDefinition/relais-parametres-transmission"
* insert Parameter(channel, in, 1, 4, code, [["Par où transmettre."]])
* insert Lie(relais-transmission-channel)
* insert Parameter(recipient, in, 0, *, string, [["Boîte aux lettres ; par défaut celles du cercle de soins."]])
* insert Parameter(patient, in, 0, 1, boolean, [["Aussi à la boîte aux lettres de la personne."]])
* insert Parameter(intent, in, 0, 1, code, [["Envoyer (par défaut), remplacer, réémettre, retirer."]])
* insert Lie(relais-transmission-intent)
* insert Parameter(hideFrom, in, 0, 3, code, [["À qui le document est caché."]])
* insert Lie(relais-transmission-audience)
* insert Parameter(secretConnection, in, 0, 1, boolean, [["Connexion secrète au DMP d'une personne mineure."]])
* insert Parameter(acknowledgement, in, 0, 2, code, [["Accusés demandés ; tous par défaut."]])
* insert Lie(relais-transmission-acknowledgement)
* insert Parameter(priority, in, 0, 1, code, [["Priorité."]])
* parameter[=].binding.strength = #required
* parameter[=].binding.valueSet = "http://hl7.org/fhir/ValueSet/request-priority"
* insert Parameter(requester, in, 0, 1, Reference, [["Qui ordonne."]])
* insert Parameter(dryRun, in, 0, 1, boolean, [["Dire ce qui serait accepté ou refusé (200), ne rien garder."]])
* insert Parameter(level, in, 0, 1, code, [["Comme pour $to-cda."]])
* insert Parameter(model, in, 0, 1, code, [["Comme pour $to-cda."]])
* insert Parameter(start, in, 0, 1, dateTime, [["Comme pour $to-cda."]])
* insert Parameter(end, in, 0, 1, dateTime, [["Comme pour $to-cda."]])
* insert Parameter(period, in, 0, 1, Period, [["Comme pour $to-cda."]])
* insert Parameter(status, in, 0, *, code, [["Comme pour $to-cda."]])
* insert Parameter(return, out, 1, 1, Task, [["La tâche de transmission (profil relais-tache-transmission)."]])

Instance: relais-expunge
InstanceOf: OperationDefinition
Usage: #definition
* url = "https://relais.example/fhir/OperationDefinition/relais-expunge"
* name = "RelaisExpunge"
* title = "$expunge : effacer les versions remplacées"
* status = #draft
* kind = #operation
* code = #expunge
* description = "Efface pour toujours les versions remplacées. Offerte là où le réglage `administration` le dit, et à un administrateur seul."
* affectsState = true
* system = true
* type = true
* instance = true
* insert Parameter(expungePreviousVersions, in, 1, 1, boolean, [["Toujours true : dit ce qui est effacé."]])
* insert Parameter(limit, in, 0, 1, integer, [["Nombre de versions au plus."]])
* insert Parameter(return, out, 1, 1, Parameters, [["Le nombre de versions effacées."]])

Instance: relais-reindex
InstanceOf: OperationDefinition
Usage: #definition
* url = "https://relais.example/fhir/OperationDefinition/relais-reindex"
* name = "RelaisReindex"
* title = "$reindex : refaire l'index de recherche"
* status = #draft
* kind = #operation
* code = #reindex
* description = "Refait l'index de recherche des ressources gardées. Offerte là où le réglage `administration` le dit, et à un administrateur seul."
* affectsState = true
* system = true
* type = true
* instance = false
* insert Parameter(return, out, 1, 1, Parameters, [["Le nombre de ressources indexées."]])
