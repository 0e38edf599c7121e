"""HTTP side of FHIR: routes, Bundles, operations, OperationOutcome."""
