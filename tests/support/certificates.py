"""Revocation lists of an authority of tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key


def revocation_list(authority: trustme.CA, *revoked: x509.Certificate) -> bytes:
    """The list, in PEM, that is in force now and names these certificates."""
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    now = datetime.now(UTC)
    lists = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject)
    lists = lists.last_update(now - timedelta(days=1)).next_update(now + timedelta(days=1))
    for one in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(one.serial_number).revocation_date(now).build()
        lists = lists.add_revoked_certificate(entry)
    key = load_pem_private_key(authority.private_key_pem.bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return lists.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
