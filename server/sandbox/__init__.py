"""Counterparts for integrators and tests: an SMTP mailbox and an XDS.b repository, on real sockets."""
