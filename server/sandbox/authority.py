"""The certificate authority of a sandbox: made anew at each start, for the loopback address only."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


class Authority:
    """An authority with one server certificate; `ca_file` is the PEM a client has to trust."""

    def __init__(self, folder: Path, host: str) -> None:
        authority = trustme.CA(organization_name="Relais sandbox")
        self._certificate = authority.issue_cert("localhost", host)
        self.ca_file = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))

    def server_context(self) -> ssl.SSLContext:
        """A TLS 1.2+ server context with the certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._certificate.configure_cert(context)
        return context
