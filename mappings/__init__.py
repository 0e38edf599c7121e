"""Pure functions between FHIR resources, the CDA document model and document metadata. No HTTP, no clock."""
