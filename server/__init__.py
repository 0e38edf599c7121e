"""The facade: REST, search, store, delivery, command line."""
