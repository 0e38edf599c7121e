"""Whom connections trust: a server certificate is as good as every authority between it and the root."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from relais.server.delivery import circuits
from relais.server.delivery.channel import DeliveryError
from relais.server.delivery.tls import client_context
from relais.server.settings import Settings
from support.certificates import revocation_list


def handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Client and server in memory. Raises what the client raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert ours.version()


@pytest.mark.parametrize("peer", ["mss", "hl7v2", "mhd"])
def test_an_authority_that_was_revoked_is_not_trusted(tmp_path: Path, peer: str) -> None:
    root = trustme.CA()
    between = root.create_child_ca()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    between.issue_cert("localhost").configure_cert(server)
    root.cert_pem.write_to_path(tmp_path / "ca.pem")
    lists = tmp_path / "crl.pem"
    settings = Settings.of({f"{peer}_ca_file": str(tmp_path / "ca.pem"), f"{peer}_crl_file": str(lists)})
    lists.write_bytes(revocation_list(root) + revocation_list(between))
    handshake(client_context(settings, peer), server)  # type: ignore[arg-type]
    certificate = x509.load_pem_x509_certificate(between.cert_pem.bytes())
    lists.write_bytes(revocation_list(root, certificate) + revocation_list(between))
    with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
        handshake(client_context(settings, peer), server)  # type: ignore[arg-type]


@pytest.mark.parametrize("peer", ["mss", "hl7v2", "mhd"])
@pytest.mark.parametrize("name", ["ca_file", "certificate", "crl_file"])
def test_files_of_ours_that_cannot_be_used_hold_deliveries_up(tmp_path: Path, peer: str, name: str) -> None:
    """They are trouble with the destination: a wrong path, or a file half written, gives no delivery up at once."""
    (tmp_path / "file.pem").write_text("-----BEGIN CERTIFICATE-----")
    for path in ("absent.pem", "file.pem"):
        settings = Settings.of({f"{peer}_{name}": str(tmp_path / path)})
        with pytest.raises(DeliveryError) as caught:
            client_context(settings, peer)  # type: ignore[arg-type]
        assert [issue.path for issue in caught.value.issues] == [f"{peer}_{name}"]
        assert circuits.is_trouble(caught.value.issues)
