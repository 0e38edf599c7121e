"""FHIR to CDA: resources in, `relais.cda.model.Document` out."""
