"""What a person reads of a CDA document: one tree of plain nodes that the writers of HTML and of PDF translate."""
