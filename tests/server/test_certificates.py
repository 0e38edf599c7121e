"""Every counterpart by TLS: who is not to be believed hears nothing, and what is out of date of ours stays here."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import create_server, socket
from typing import Any, cast

import pytest
import trustme
from cryptography import x509

from relais.server.delivery.channel import DeliveryError
from relais.server.delivery.dmp import DmpChannel
from relais.server.delivery.hl7v2 import Hl7v2Channel
from relais.server.delivery.mail_inbox import MailInbox
from relais.server.delivery.mailbox import Mailbox
from relais.server.delivery.mhd import MhdChannel
from relais.server.delivery.mss import MssChannel
from relais.server.sandbox.authority import Authority
from relais.server.settings import Settings
from support.certificates import revocation_list
from support.shipments import NURSE, PROFESSIONAL, small_shipment

NOW, DAY = datetime.now(UTC), timedelta(days=1)
PEERS = ("dmp", "smtp", "imap", "mhd", "hl7v2")
PREFIXES = {"smtp": "mss", "imap": "mss"}


class Impostor:
    """A listener that shows a certificate and keeps what it is told beneath TLS."""

    def __init__(self, peer: str, context: ssl.SSLContext) -> None:
        self._peer, self._context = peer, context
        self._listener = create_server(("127.0.0.1", 0))
        self._listener.settimeout(20)
        self.port = self._listener.getsockname()[1]
        self.heard = b""
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Impostor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError), socket() as knock:  # ends it where nobody has called
            knock.connect(("127.0.0.1", self.port))
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(20)
                _begin(self._peer, connection)
                with self._context.wrap_socket(connection, server_side=True) as secure:
                    while data := secure.recv(65_536):
                        self.heard += data


def _begin(peer: str, connection: socket) -> None:
    """What is said before TLS. Raises ConnectionAbortedError when nobody goes that far."""
    if peer == "smtp":
        connection.sendall(b"220 here\r\n")
        while not _said(connection).upper().startswith(b"STARTTLS"):
            connection.sendall(b"250-here\r\n250 STARTTLS\r\n")
        connection.sendall(b"220 go\r\n")
    elif peer == "imap":
        connection.sendall(b"* OK [CAPABILITY IMAP4rev1 STARTTLS] here\r\n")
        while b"STARTTLS" not in (said := _said(connection)).upper():
            connection.sendall(b"* CAPABILITY IMAP4rev1 STARTTLS\r\n" + said.split()[0] + b" OK done\r\n")
        connection.sendall(said.split()[0] + b" OK go\r\n")


def _said(connection: socket) -> bytes:
    said = connection.recv(1_000)
    if not said:
        raise ConnectionAbortedError
    return said


def settings(peer: str, port: int, folder: Path, **changes: Any) -> Settings:
    """Settings that lead there, with certificates of ours that are in order."""
    authority = Authority(folder, "127.0.0.1")
    ours = str(authority.client_certificate())
    values = {
        "sender_timeout": 20,
        "organization_name": "DAC",
        "dmp_url": f"https://127.0.0.1:{port}/repository",
        "dmp_certificate": ours,
        "dmp_signing_certificate": str(authority.signing_certificate()),
        "dmp_homologation": "TEST",
        "dmp_existence_check": False,
        "mhd_url": f"https://127.0.0.1:{port}/fhir",
        "mhd_certificate": ours,
        "mss_host": "127.0.0.1",
        "mss_port": port,
        "mss_sender": PROFESSIONAL,
        "mss_product_reference": "R",
        "mss_pdf": False,
        "mss_certificate": ours,
        "imap_port": port,
        "hl7v2_host": "127.0.0.1",
        "hl7v2_port": port,
        "hl7v2_certificate": ours,
        "hl7v2_receiving_application": "PFI",
        "hl7v2_receiving_facility": "GHT",
    }
    return Settings.of(values | changes)


def reach(peer: str, used: Settings) -> None:
    """Send a document there, or read a mailbox. Raises DeliveryError."""
    if peer == "imap":
        Mailbox(used, NURSE, cast(MailInbox, None)).read_once()
        return
    channels: dict[str, Callable[[Settings], Any]] = {
        "dmp": DmpChannel,
        "smtp": MssChannel,
        "mhd": MhdChannel,
        "hl7v2": Hl7v2Channel,
    }
    channels[peer](used).send(small_shipment())


@pytest.fixture(scope="module")
def root() -> Iterator[trustme.CA]:
    yield trustme.CA()


CERTIFICATES: dict[str, tuple[dict[str, Any], str]] = {
    "expired": ({"not_before": NOW - 9 * DAY, "not_after": NOW - DAY}, "has expired"),
    "early": ({"not_before": NOW + DAY, "not_after": NOW + 9 * DAY}, "is not valid yet"),
    "host": ({"identity": "autre.example"}, "is that of another host"),
    "stranger": ({}, "is not trusted"),
    "revoked": ({}, "was revoked"),
}


@pytest.mark.parametrize("kind", CERTIFICATES)
@pytest.mark.parametrize("peer", PEERS)
def test_who_is_not_to_be_believed_hears_nothing(tmp_path: Path, root: trustme.CA, peer: str, kind: str) -> None:
    details, expected = CERTIFICATES[kind]
    issuer = trustme.CA() if kind == "stranger" else root
    dates = {name: value for name, value in details.items() if name != "identity"}
    issued = issuer.issue_cert(details.get("identity", "127.0.0.1"), **dates)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    root.cert_pem.write_to_path(tmp_path / "trusted.pem")
    certificate = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
    (tmp_path / "lists.pem").write_bytes(revocation_list(root, *([certificate] if kind == "revoked" else [])))
    prefix = PREFIXES.get(peer, peer)
    trust = {f"{prefix}_ca_file": str(tmp_path / "trusted.pem"), f"{prefix}_crl_file": str(tmp_path / "lists.pem")}
    with Impostor(peer, context) as impostor, pytest.raises(DeliveryError, match=expected) as caught:
        reach(peer, settings(peer, impostor.port, tmp_path, **trust))
    assert impostor.heard == b""
    assert not caught.value.retry or peer == "imap"  # a mailbox is always looked into again
    assert str(caught.value).count("error:") == 1  # one sentence that people read


@pytest.mark.parametrize(
    ("window", "expected"),
    [((-9 * DAY, -DAY), "our certificate has expired"), ((DAY, 9 * DAY), "our certificate is not valid")],
    ids=["expired", "early"],
)
@pytest.mark.parametrize("peer", PEERS)
def test_our_certificate_out_of_date_stays_at_home(
    tmp_path: Path, peer: str, window: tuple[timedelta, timedelta], expected: str
) -> None:
    authority = Authority(tmp_path, "127.0.0.1")
    dated = authority.client_certificate("dated", not_before=NOW + window[0], not_after=NOW + window[1])
    prefix = PREFIXES.get(peer, peer)
    ours = {f"{prefix}_certificate": str(dated), f"{prefix}_ca_file": str(authority.ca_file)}
    other = tmp_path / "other"
    other.mkdir()
    with Impostor(peer, authority.server_context()) as there, pytest.raises(DeliveryError, match=expected):
        reach(peer, settings(peer, there.port, other, **ours))
    assert there.heard == b""
