"""CDA to FHIR: `relais.cda.model.Document` in, a document Bundle out."""
