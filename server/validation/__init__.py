"""One call for whatever comes: recognised by its content, checked by all that applies, reported in one form."""
