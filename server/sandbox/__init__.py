"""Counterparts for integrators and tests, on real sockets: MSSanté submission, DMP-like repository, HL7 v2 platform.

They check what they receive as the real ones would, refuse by default and can be asked to fail. Nothing of Relais in
production imports this package; it needs the extra `relais[sandbox]`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from relais.cda.errors import Issue, RelaisError

if TYPE_CHECKING:
    from relais.server.sandbox.hl7v2_platform import StoredMessage as PlatformMessage
    from relais.server.sandbox.mail_server import StoredMessage
    from relais.server.sandbox.registry import StoredDocument


class Sandbox:
    """The counterparts, in threads of this process, from `start` to `stop` or inside a `with` block.

    `folder` keeps what they receive (`mail/`, `dmp/`, `hl7v2/`) and `ca.pem`, the authority to trust. A port 0 is
    a free one, known once started. `faults` (`dmp=slow`) are played until `switch_faults` changes them. Raises
    RelaisError when the extra is not installed, or for a fault that there is not.
    """

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        smtp_port: int = 0,
        https_port: int = 0,
        mllp_port: int = 0,
        imap_port: int = 0,
        faults: Iterable[str] = (),
    ) -> None:
        with _needing_the_extra():
            from relais.server.sandbox.authority import Authority
            from relais.server.sandbox.hl7v2_platform import Hl7v2Platform
            from relais.server.sandbox.imap_server import ImapServer
            from relais.server.sandbox.mail_server import MailServer
            from relais.server.sandbox.switches import Switches
            from relais.server.sandbox.xds_server import XdsServer
        folder.mkdir(parents=True, exist_ok=True)
        authority = Authority(folder, host)
        context = authority.server_context()
        self.folder = folder
        self.ca_file = authority.ca_file
        operator = authority.server_context(clients=True)
        self.mail = MailServer(folder / "mail", operator, host=host, port=smtp_port)
        self.imap = ImapServer(self.mail.mailboxes, operator, host=host, port=imap_port)
        self._mss_certificate = authority.client_certificate("mss-client")
        self.authority = authority
        self.dmp = XdsServer(folder / "dmp", authority, host=host, port=https_port)
        self._dmp_certificate = authority.client_certificate("dmp-client")
        self._dmp_signing_certificate = authority.signing_certificate("dmp-signing")
        self.hl7v2 = Hl7v2Platform(folder / "hl7v2", context, host=host, port=mllp_port)
        switches = Switches(folder)
        switches.set(faults, anew=True)
        switches.lead("dmp", self.dmp.faults)
        switches.lead("dmp-registry", self.dmp.registry_faults)
        switches.lead("dmp-retrieve", self.dmp.retrieve_faults)
        switches.lead("dmp-update", self.dmp.update_faults)
        switches.lead("dmp-patients", self.dmp.patients_faults)
        switches.lead("smtp", self.mail.faults)
        switches.lead("imap", self.imap.faults)
        switches.lead("hl7v2", self.hl7v2.faults)

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
            "mss_crl_file": str(self.authority.crl_file),
            "mss_certificate": str(self._mss_certificate),
            "mss_login": "external",
            "imap_port": self.imap.port,
            "dmp_url": self.dmp_url,
            "dmp_ca_file": str(self.ca_file),
            "dmp_crl_file": str(self.authority.crl_file),
            "dmp_certificate": str(self._dmp_certificate),
            "dmp_signing_certificate": str(self._dmp_signing_certificate),
            "dmp_homologation": "SANDBOX",
            "hl7v2_host": self.hl7v2.host,
            "hl7v2_port": self.hl7v2.port,
            "hl7v2_ca_file": str(self.ca_file),
            "hl7v2_receiving_application": "PFI",
            "hl7v2_receiving_facility": "SANDBOX",
            "hl7v2_processing": "T",
        }

    def start(self) -> None:
        """Start them; either all run afterwards or none does."""
        with ExitStack() as started:
            for counterpart in (self.mail, self.imap, self.dmp, self.hl7v2):
                counterpart.start()
                started.callback(counterpart.stop)
            started.pop_all()

    def stop(self) -> None:
        """Stop them; what they received stays in the folder."""
        self.hl7v2.stop()
        self.dmp.stop()
        self.imap.stop()
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

    def platform_messages(self) -> list[PlatformMessage]:
        """HL7 v2 messages taken by the platform, oldest first."""
        return self.hl7v2.messages()


def switch_faults(folder: Path, asked: Iterable[str]) -> dict[str, str]:
    """Change the faults (`dmp=slow`, `dmp=none`) of the sandbox of that folder, of any process; those that stand.

    Raises RelaisError when there is no such sandbox, fault or extra.
    """
    with _needing_the_extra():
        from relais.server.sandbox.switches import FILE, Switches
    if not (folder / FILE).is_file():
        raise RelaisError(Issue("fatal", "not-found", f"no sandbox was started in {folder}", "folder", "sandbox fault"))
    return Switches(folder).set(asked)


@contextmanager
def _needing_the_extra() -> Iterator[None]:
    """Imports of the counterparts: say what to install when they fail."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("aiosmtpd", "hl7", "trustme"):
            raise
        message = f'the sandbox needs {error.name}: pip install "relais[sandbox]"'
        raise RelaisError(Issue("fatal", "not-supported", message, rule="relais[sandbox]")) from error
