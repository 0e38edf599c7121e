"""Resources of base R4 for the comparison with HAPI: one rule or one habit of data each."""

from __future__ import annotations

from typing import Any

BASE_CASES: dict[str, dict[str, Any]] = {
    "cc-known": {
        "resourceType": "Patient",
        "maritalStatus": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", "code": "M"}]
        },
    },
    "cc-unknown-code-known-system": {
        "resourceType": "Patient",
        "maritalStatus": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", "code": "XX"}]
        },
    },
    "cc-display-wrong": {
        "resourceType": "Patient",
        "maritalStatus": {
            "coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", "code": "M", "display": "Zebra"}
            ]
        },
    },
    "cc-nosystem": {"resourceType": "Patient", "maritalStatus": {"coding": [{"code": "M"}]}},
    "cc-nosys-nobinding": {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "bodySite": {"coding": [{"code": "M"}]},
    },
    "cc-text": {"resourceType": "Patient", "maritalStatus": {"text": "x"}},
    "cc-unknown-system": {
        "resourceType": "Patient",
        "maritalStatus": {"coding": [{"system": "http://example.org/cs", "code": "M"}]},
    },
    "code-unknown-sys-nobind": {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://example.org/cs", "code": "M"}]},
    },
    "code-known-sys-unknown-code-nobind": {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", "code": "XX"}]},
    },
    "code-loinc": {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
    },
    "sys-rel": {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "foo", "code": "8867-4"}]},
    },
    "sys-vs": {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://hl7.org/fhir/ValueSet/marital-status", "code": "M"}]},
    },
    "ident-sysrel": {"resourceType": "Patient", "identifier": [{"system": "abc", "value": "1"}]},
    "ident-uri": {"resourceType": "Patient", "identifier": [{"system": "urn:ietf:rfc:3986", "value": "1"}]},
    "ident-type-ext": {
        "resourceType": "Patient",
        "identifier": [
            {
                "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ZZZ"}]},
                "value": "1",
            }
        ],
    },
    "ext-rel": {"resourceType": "Patient", "extension": [{"url": "abc", "valueString": "x"}]},
    "ext-hl7-unknown": {
        "resourceType": "Patient",
        "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/nope", "valueString": "x"}],
    },
    "modext-unknown": {
        "resourceType": "Patient",
        "modifierExtension": [{"url": "http://example.org/m", "valueString": "x"}],
    },
    "ext-context": {
        "resourceType": "Patient",
        "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/humanname-own-name", "valueString": "x"}],
    },
    "ext-type": {
        "resourceType": "Patient",
        "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace", "valueString": "x"}],
    },
    "ext-sub": {
        "resourceType": "Patient",
        "extension": [
            {
                "url": "https://hl7.fr/ig/fhir/core/StructureDefinition/fr-core-identity-reliability",
                "extension": [{"url": "foo", "valueString": "x"}],
            }
        ],
    },
    "ext-asmod": {
        "resourceType": "Patient",
        "modifierExtension": [
            {"url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace", "valueAddress": {"city": "x"}}
        ],
    },
    "ref-wrong-type": {"resourceType": "Patient", "managingOrganization": {"reference": "Patient/1"}},
    "ref-contained-missing": {"resourceType": "Patient", "managingOrganization": {"reference": "#o"}},
    "ref-contained-wrong": {
        "resourceType": "Patient",
        "contained": [{"resourceType": "Patient", "id": "o"}],
        "managingOrganization": {"reference": "#o"},
    },
    "ref-display-only": {"resourceType": "Patient", "managingOrganization": {"display": "x"}},
    "ref-type-mismatch": {"resourceType": "Patient", "managingOrganization": {"type": "Patient", "display": "x"}},
    "ref-rel-nonsense": {"resourceType": "Patient", "managingOrganization": {"reference": "foo"}},
    "att-size": {"resourceType": "Patient", "photo": [{"contentType": "image/png", "data": "AAAA", "size": 100}]},
    "att-hash": {"resourceType": "Patient", "photo": [{"contentType": "image/png", "data": "AAAA", "hash": "AAAA"}]},
    "att-mime": {"resourceType": "Patient", "photo": [{"contentType": "png", "data": "AAAA"}]},
    "att-none": {"resourceType": "Patient", "photo": [{"contentType": "image/png"}]},
    "lang": {"resourceType": "Patient", "language": "zz-ZZ"},
    "lang2": {"resourceType": "Patient", "language": "fr-FR"},
    "ucum": {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "valueQuantity": {"value": 1, "system": "http://unitsofmeasure.org", "code": "zzz"},
    },
    "str-space": {"resourceType": "Patient", "name": [{"family": " A "}]},
    "date-future": {"resourceType": "Patient", "birthDate": "1500-01-01"},
    "url-bad": {"resourceType": "Patient", "photo": [{"url": "foo bar"}]},
    "bundle-nofull": {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": {"resourceType": "Patient"}}],
    },
    "bundle-id": {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"fullUrl": "http://x.org/Patient/2", "resource": {"resourceType": "Patient", "id": "1"}}],
    },
    "bundle-tx-unres": {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": "urn:uuid:0d920958-b596-4b91-af67-9bafc707820b",
                "resource": {
                    "resourceType": "Patient",
                    "managingOrganization": {"reference": "urn:uuid:0d920958-b596-4b91-af67-9bafc707820c"},
                },
                "request": {"method": "POST", "url": "Patient"},
            }
        ],
    },
    "bundle-tx-wrongtype": {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": "urn:uuid:0d920958-b596-4b91-af67-9bafc707820b",
                "resource": {
                    "resourceType": "Patient",
                    "managingOrganization": {"reference": "urn:uuid:0d920958-b596-4b91-af67-9bafc707820b"},
                },
                "request": {"method": "POST", "url": "Patient"},
            }
        ],
    },
    "bundle-relfull": {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"fullUrl": "Patient/1", "resource": {"resourceType": "Patient", "id": "1"}}],
    },
    "bundle-doc": {
        "resourceType": "Bundle",
        "type": "document",
        "identifier": {"system": "urn:x", "value": "1"},
        "timestamp": "2020-01-01T00:00:00Z",
        "entry": [
            {
                "fullUrl": "http://x.org/Composition/1",
                "resource": {
                    "resourceType": "Composition",
                    "id": "1",
                    "status": "final",
                    "type": {"text": "x"},
                    "subject": {"reference": "Patient/9"},
                    "date": "2020",
                    "author": [{"display": "x"}],
                    "title": "x",
                },
            },
            {"fullUrl": "http://x.org/Patient/2", "resource": {"resourceType": "Patient", "id": "2"}},
        ],
    },
    "bundle-batchresp": {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": 1,
        "entry": [
            {
                "fullUrl": "http://x.org/Patient/1",
                "resource": {"resourceType": "Patient", "id": "1"},
                "search": {"mode": "match"},
            }
        ],
    },
    "claimed-twice": {
        "resourceType": "Patient",
        "meta": {
            "profile": [
                "http://hl7.org/fhir/StructureDefinition/Patient",
                "http://hl7.org/fhir/StructureDefinition/Observation",
            ]
        },
    },
    "narr": {
        "resourceType": "Patient",
        "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml"></div>'},
    },
    "emptycode": {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org"}]},
    },
    "gender-ext-noval": {
        "resourceType": "Patient",
        "_gender": {
            "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]
        },
    },
    "id-long": {
        "resourceType": "Patient",
        "id": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    },
    "dup-ids": {
        "resourceType": "Patient",
        "contained": [
            {"resourceType": "Organization", "id": "o", "name": "x"},
            {"resourceType": "Organization", "id": "o", "name": "x"},
        ],
        "managingOrganization": {"reference": "#o"},
    },
    "contained-unref": {
        "resourceType": "Patient",
        "contained": [{"resourceType": "Organization", "id": "o", "name": "x"}],
    },
}
