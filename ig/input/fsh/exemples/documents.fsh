Instance: exemple-note
InstanceOf: RelaisNote
Usage: #example
Title: "Note de l'infirmière"
* masterIdentifier.system = "urn:ietf:rfc:3986"
* masterIdentifier.value = "urn:oid:1.2.250.1.999.42.8.1"
* status = #current
* type = $r234#OBS "Note d'observation"
* subject = Reference(exemple-personne)
* date = "2026-02-20T10:00:00+01:00"
* author = Reference(exemple-infirmiere-role)
* content.attachment.contentType = #text/plain
* content.attachment.data = "TWFyY2hlIGF2ZWMgdW5lIGNhbm5lLg=="
* content.attachment.title = "Marche"

Instance: exemple-document
InstanceOf: RelaisDocument
Usage: #example
Title: "Le compte rendu joint au plan"
* masterIdentifier.system = "urn:ietf:rfc:3986"
* masterIdentifier.value = "urn:oid:1.2.250.1.999.42.8.2"
* status = #current
* type = $loinc#11488-4
* category = $a03#10 "Compte rendu"
* subject = Reference(exemple-personne)
* date = "2026-02-20T10:00:00+01:00"
* author = Reference(exemple-medecin-role)
* content.attachment.contentType = #text/plain
* content.attachment.language = #fr-FR
* content.attachment.data = "Q29tcHRlIHJlbmR1IGRlIGNvbnN1bHRhdGlvbi4="
* content.attachment.title = "Compte rendu de consultation"
* content.attachment.creation = "2026-02-20T10:00:00+01:00"
* content.format = $a11#urn:ihe:iti:xds-sd:text:2008
