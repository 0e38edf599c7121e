"""FHIR definitions: compact R4 4.0.1 tables, structure check. Knows no server."""
