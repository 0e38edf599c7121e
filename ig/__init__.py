"""The implementation guide: FSH sources, and their build into a FHIR package and a static site (`python -m ig`)."""
