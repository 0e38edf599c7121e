"""Counterparts for integrators and tests: an MSSanté submission server and a DMP-like repository on real sockets.

They check what they receive as the real ones would, refuse by default and can be asked to fail. Nothing of Relais in
production imports this package; it needs the extra `relais[sandbox]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from relais.cda.errors import Issue, RelaisError

if TYPE_CHECKING:
    from relais.server.sandbox.mail_server import StoredMessage
    from relais.server.sandbox.repository import StoredDocument


class Sandbox:
    """Both counterparts, in threads of this process, from `start` to `stop` or inside a `with` block.

    `folder` keeps what they receive (`mail/`, `dmp/`) and `ca.pem`, the authority to trust. A port 0 is a free one,
    known once started. Raises RelaisError when the extra is not installed.
    """

    def __init__(self, folder: Path, *, host: str = "127.0.0.1", smtp_port: int = 0, https_port: int = 0) -> None:
        try:
            from relais.server.sandbox.authority import Authority
            from relais.server.sandbox.mail_server import MailServer
            from relais.server.sandbox.xds_server import XdsServer
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] not in ("aiosmtpd", "trustme"):
                raise
            message = f'the sandbox needs {error.name}: pip install "relais[sandbox]"'
            raise RelaisError(Issue("fatal", "not-supported", message, rule="relais[sandbox]")) from error
        folder.mkdir(parents=True, exist_ok=True)
        authority = Authority(folder, host)
        context = authority.server_context()
        self.folder = folder
        self.ca_file = authority.ca_file
        self.mail = MailServer(folder / "mail", context, host=host, port=smtp_port)
        self.dmp = XdsServer(folder / "dmp", context, host=host, port=https_port)

    @property
    def smtp_port(self) -> int:
        """Port of the submission server."""
        return self.mail.port

    @property
    def dmp_url(self) -> str:
        """ITI-41 endpoint."""
        return self.dmp.url

    @property
    def settings(self) -> Mapping[str, str | int]:
        """The settings of Relais that lead to this sandbox."""
        return {
            "mss_host": self.mail.host,
            "mss_port": self.smtp_port,
            "mss_ca_file": str(self.ca_file),
            "dmp_url": self.dmp_url,
            "dmp_ca_file": str(self.ca_file),
        }

    def start(self) -> None:
        """Start both; either both run afterwards or none does."""
        self.mail.start()
        try:
            self.dmp.start()
        except BaseException:
            self.mail.stop()
            raise

    def stop(self) -> None:
        """Stop both; what they received stays in the folder."""
        self.dmp.stop()
        self.mail.stop()

    def __enter__(self) -> Sandbox:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def messages(self) -> list[StoredMessage]:
        """Mails taken, oldest first."""
        return self.mail.messages()

    def documents(self) -> list[StoredDocument]:
        """Documents stored by the repository, oldest first."""
        return self.dmp.documents()
