"""An MSSanté operator for tests: SMTP and IMAP of the sandbox under mutual TLS, and settings that lead there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relais.server.sandbox.authority import Authority
from relais.server.sandbox.imap_server import ImapServer
from relais.server.sandbox.mail_server import MailServer
from relais.server.settings import Settings

SENDER = "plateforme@relais.mssante.fr"


@dataclass(frozen=True, slots=True)
class Operator:
    """The two servers, their authority, and a certificate of a client they take."""

    authority: Authority
    certificate: Path
    mail: MailServer
    imap: ImapServer

    def settings(self, **changes: Any) -> Settings:
        """Settings of a client of this operator."""
        values = {
            "mss_sender": SENDER,
            "mss_product_reference": "REF-0001",
            "organization_name": "DAC du Val",
            "sender_timeout": 10.0,
            "mss_port": self.mail.port,
            "imap_port": self.imap.port,
            "mss_ca_file": str(self.authority.ca_file),
            "mss_crl_file": str(self.authority.crl_file),
            "mss_certificate": str(self.certificate),
            "mss_login": "external",
            "imap_poll": 0.2,
        }
        return Settings.of(values | changes)


@contextmanager
def operator(folder: Path, **mail: Any) -> Iterator[Operator]:
    """An operator that runs during the block."""
    authority = Authority(folder, "127.0.0.1")
    context = authority.server_context(clients=True)
    server = MailServer(folder / "mail", context, **mail)
    imap = ImapServer(server.mailboxes, context)
    server.start()
    try:
        with imap:
            yield Operator(authority, authority.client_certificate(), server, imap)
    finally:
        server.stop()
