// Personnes et structures inventées ; l'INS est de l'OID de test.

RuleSet: Etat-civil
* identifier[+].use = #usual
* identifier[=].type = $v2-0203#PI
* identifier[=].system = "urn:oid:1.2.250.1.999.42.1"
* identifier[=].value = "EX-000417"
* name[officialName].use = #official
* name[officialName].family = "EXEMPLE-BRUN"
* name[officialName].given = "MARTHE"
* name[officialName].extension[birth-list-given-name].valueString = "MARTHE LOUISE"
* gender = #female
* birthDate = "1955-06-18"

Instance: exemple-personne
InstanceOf: RelaisPatientINS
Usage: #example
Title: "Marthe Exemple-Brun"
Description: "Une personne d'identité qualifiée, avec un INS de test et un numéro local."
* extension[identityReliability].extension[identityStatus].valueCoding = $fr-v2-0445#VALI "Identité validée"
* extension[birthPlace].valueAddress.city = "LIEU INCONNU"
* extension[birthPlace].valueAddress.extension[inseeCode].valueCoding = $r13#99999
* identifier[+].use = #official
* identifier[=].type = $fr-v2-0203#INS-NIR-TEST
* identifier[=].system = "urn:oid:1.2.250.1.213.1.4.10"
* identifier[=].value = "255069999999934"
* insert Etat-civil
* name[usualName].use = #usual
* name[usualName].family = "EXEMPLE-BRUN"
* name[usualName].given = "Marthe"
* telecom[+].system = #phone
* telecom[=].value = "01 99 00 00 01"
* telecom[=].use = #home
* address[+].use = #home
* address[=].line = "7 impasse des Noyers"
* address[=].postalCode = "21000"
* address[=].city = "DIJON"
* generalPractitioner = Reference(exemple-medecin-role)

Instance: exemple-personne-locale
InstanceOf: RelaisPatient
Usage: #example
Title: "Une personne sans identité qualifiée"
Description: "Sans INS : le document porte le numéro local."
* identifier[+].use = #usual
* identifier[=].type = $v2-0203#PI
* identifier[=].system = "urn:oid:1.2.250.1.999.42.1"
* identifier[=].value = "EX-000512"
* name[usualName].use = #usual
* name[usualName].family = "ESSAI-TILLEUL"
* name[usualName].given = "Paul"
* gender = #male
* birthDate = "1948-02"

Instance: exemple-medecin
InstanceOf: $as-practitioner
Usage: #example
Title: "Dr Claire Orme"
* identifier[+].use = #official
* identifier[=].type = $fr-v2-0203#RPPS
* identifier[=].system = "https://rpps.esante.gouv.fr"
* identifier[=].value = "10101234567"
* name[+].family = "ORME"
* name[=].given = "Claire"
* name[=].suffix = "DR"

Instance: exemple-medecin-role
InstanceOf: $as-role
Usage: #example
Title: "Dr Claire Orme, médecin généraliste"
* practitioner = Reference(exemple-medecin)
* organization = Reference(exemple-maison-sante)
* code[+] = $g15#10 "Médecin"
* specialty[+] = $r38#SM26 "Qualifié en Médecine Générale (SM)"
* telecom[+].system = #email
* telecom[=].value = "claire.orme@exemple.mssante.fr"
* telecom[=].use = #work

Instance: exemple-infirmiere
InstanceOf: $as-practitioner
Usage: #example
Title: "Isabelle Lefranc"
* identifier[+].use = #official
* identifier[=].type = $fr-v2-0203#RPPS
* identifier[=].system = "https://rpps.esante.gouv.fr"
* identifier[=].value = "10100000019"
* name[+].family = "LEFRANC"
* name[=].given = "Isabelle"

Instance: exemple-infirmiere-role
InstanceOf: $as-role
Usage: #example
Title: "Isabelle Lefranc, infirmière"
* practitioner = Reference(exemple-infirmiere)
* organization = Reference(exemple-maison-sante)
* code[+] = $g15#60 "Infirmier"

Instance: exemple-maison-sante
InstanceOf: $cds-organization
Usage: #example
Title: "Maison de santé des Noyers"
* identifier[+].use = #official
* identifier[=].type = $fr-v2-0203#FINEG
* identifier[=].system = "https://finess.esante.gouv.fr"
* identifier[=].value = "910019447"
* name = "Maison de santé des Noyers"
* telecom[+].system = #phone
* telecom[=].value = "01 99 00 00 10"
* address[+].line = "2 place des Noyers"
* address[=].postalCode = "21000"
* address[=].city = "DIJON"

Instance: exemple-dac
InstanceOf: $cds-organization
Usage: #example
Title: "DAC de la Côte"
* identifier[+].use = #official
* identifier[=].type = $fr-v2-0203#FINEG
* identifier[=].system = "https://finess.esante.gouv.fr"
* identifier[=].value = "910020254"
* name = "Dispositif d'appui à la coordination de la Côte"

Instance: exemple-fille
InstanceOf: $cds-related
Usage: #example
Title: "Anne Exemple, fille de Marthe"
* identifier[+].system = "urn:oid:1.2.250.1.999.42.5"
* identifier[=].value = "EX-000417-1"
* patient = Reference(exemple-personne)
* relationship[+] = $r260#CAREGIVER "Aidant"
* relationship[+] = $r216#DAUC "Fille"
* name[+].family = "EXEMPLE"
* name[=].given = "Anne"
* telecom[+].system = #phone
* telecom[=].value = "06 99 00 00 02"

Instance: exemple-cercle
InstanceOf: RelaisCareTeam
Usage: #example
Title: "Cercle de soins de Marthe"
* identifier[+].system = "urn:oid:1.2.250.1.999.42.6"
* identifier[=].value = "CERCLE-000417"
* status = #active
* name = "Cercle de soins"
* subject = Reference(exemple-personne)
* period.start = "2026-01-12"
* managingOrganization = Reference(exemple-dac)
* participant[+].role = $r259#PCP "Médecin traitant"
* participant[=].member = Reference(exemple-medecin-role)
* participant[=].period.start = "2026-01-12"
* participant[+].role = $r85#353 "Membre de l'équipe de soins"
* participant[=].member = Reference(exemple-infirmiere-role)
* participant[=].period.start = "2026-01-12"
* participant[+].role = $r260#CAREGIVER "Aidant"
* participant[=].member = Reference(exemple-fille)
* participant[=].period.start = "2026-01-12"
