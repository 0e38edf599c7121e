"""HL7 v2: CDA documents in MDM and ORU messages, their ACK, and the business acknowledgements ZAM."""
