// Les opérations propres à Relais : ce qu'elles disent. Où elles sont servies (types, niveaux) vient du registre de la
// façade (ig/facade.py). Celles de HL7 gardent leur définition.

RuleSet: Parameter(name, use, min, max, type, documentation)
* parameter[+].name = #{name}
* parameter[=].use = #{use}
* parameter[=].min = {min}
* parameter[=].max = "{max}"
* parameter[=].type = #{type}
* parameter[=].documentation = {documentation}

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

Instance: relais-transmit
InstanceOf: OperationDefinition
Usage: #definition
* url = "https://relais.example/fhir/OperationDefinition/relais-transmit"
* name = "RelaisTransmit"
* title = "$transmit : transmettre le document d'un plan"
* status = #draft
* kind = #operation
* code = #transmit
* description = "Ordonne la transmission du document d'un plan et répond aussitôt (201) avec la Task qui suit l'ordre. Refuse (422) ce qui ne doit pas partir : plan non approuvé, opposition de la personne, type que le destinataire ne prend pas, document que les règles officielles n'ont pas pu vérifier."
* affectsState = true
* system = false
* type = false
* instance = true
* inputProfile = "https://relais.example/fhir/StructureDefinition/relais-parametres-transmission"
* insert Parameter(channel, in, 1, 3, code, [["Par où transmettre."]])
* parameter[=].binding.strength = #required
* parameter[=].binding.valueSet = "https://relais.example/fhir/ValueSet/relais-transmission-channel"
* insert Parameter(recipient, in, 0, *, string, [["Boîte aux lettres MSSanté ; au moins une pour le canal mss."]])
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
