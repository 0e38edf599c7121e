"""The CDA R2 kit: typed document model, XML in and out, official rules, IHE_XDM archive. Knows no FHIR."""
