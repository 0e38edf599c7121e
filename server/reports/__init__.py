"""One validation report in several forms: text, JSON, JUnit, SVRL, a page."""
