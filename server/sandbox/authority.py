"""The certificate authority of a sandbox: made anew at each start, for the loopback address only.

It issues the server's certificate, and to clients what IGC Santé would: ORG AUTH_CLI for TLS and ORG SIGN for
signatures, in the name of an invented structure. `revoke` puts a certificate on its list.
"""

from __future__ import annotations

import functools
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

STRUCTURE = "1750000013"
"""Struct_IdNat (FINESS) of the invented structure, where IGC Santé writes it: the organizational unit."""

_MARGIN = timedelta(hours=1)
_LIFE = timedelta(days=30)


class Authority:
    """An authority with one server certificate; `ca_file` is the PEM a client has to trust, `crl_file` its list."""

    def __init__(self, folder: Path, host: str) -> None:
        self._folder = folder
        authority = trustme.CA(organization_name="Relais sandbox")
        self._server = authority.issue_cert("localhost", host)
        self.ca_file = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        self.certificate = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
        self._key = load_pem_private_key(authority.private_key_pem.bytes(), None)
        self._revoked: dict[int, datetime] = {}
        self._contexts: list[ssl.SSLContext] = []
        self._issued: set[x509.Certificate] = set()
        self.crl_file = folder / "crl.pem"
        self._write_crl()

    def server_context(self, *, clients: bool = False) -> ssl.SSLContext:
        """A TLS 1.2+ server context with the certificate; with `clients` it takes only those this authority knows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._server.configure_cert(context)
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
            context.load_verify_locations(self.ca_file)
            context.load_verify_locations(self.crl_file)
            self._contexts.append(context)
        return context

    def client_certificate(
        self, name: str = "client", *, not_before: datetime | None = None, not_after: datetime | None = None
    ) -> Path:
        """A new ORG AUTH_CLI, chain and key as one PEM file."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._issue(name, key, ExtendedKeyUsageOID.CLIENT_AUTH, not_before, not_after)

    def signing_certificate(
        self,
        name: str = "signing",
        *,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        passphrase: str = "",
    ) -> Path:
        """A new ORG SIGN, chain and key as one PEM file."""
        return self._issue(name, _signing_key(), None, not_before, not_after, passphrase)

    def revoke(self, certificate: Path) -> None:
        """Put a certificate on the list, which running servers read again."""
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        self._revoked[found.serial_number] = datetime.now(UTC)
        self._write_crl()
        for context in self._contexts:
            context.load_verify_locations(self.crl_file)

    def is_revoked(self, certificate: x509.Certificate) -> bool:
        """Whether a certificate of this authority was revoked."""
        return certificate.serial_number in self._revoked

    def objection(self, certificate: x509.Certificate, now: datetime) -> str:
        """Why a certificate may not sign a VIHF or a lot at that time; empty when it may."""
        if not self._has_issued(certificate):
            return "the signing certificate is of another authority"
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            return "the signing certificate is out of date"
        if self.is_revoked(certificate):
            return "the signing certificate was revoked"
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        return "" if usage.content_commitment else "the signing certificate is not one for signatures (ORG SIGN)"

    def _has_issued(self, certificate: x509.Certificate) -> bool:
        """Whether the signature of a certificate is this authority's, which no time changes: verified once for each."""
        if certificate not in self._issued:
            try:
                certificate.verify_directly_issued_by(self.certificate)
            except (InvalidSignature, ValueError, TypeError):
                return False
            self._issued.add(certificate)
        return True

    def _issue(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
        usage: x509.ObjectIdentifier | None,
        not_before: datetime | None,
        not_after: datetime | None,
        passphrase: str = "",
    ) -> Path:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_subject(name))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before or now - _MARGIN)
            .not_valid_after(not_after or now + _LIFE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=usage is None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._public_key()), critical=False)
        )
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())  # type: ignore[arg-type]  # trustme's keys are EC
        encryption: KeySerializationEncryption = NoEncryption()
        if passphrase:
            encryption = BestAvailableEncryption(passphrase.encode())
        path = self._folder / f"{name}.pem"
        path.write_bytes(
            certificate.public_bytes(Encoding.PEM)
            + self.certificate.public_bytes(Encoding.PEM)
            + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        )
        path.chmod(0o600)
        return path

    def _public_key(self) -> ec.EllipticCurvePublicKey:
        return self.certificate.public_key()  # type: ignore[return-value]  # trustme's keys are EC

    def _write_crl(self) -> None:
        now = datetime.now(UTC)
        # Of two lists OpenSSL believes the later one, to the second.
        issued = now - _MARGIN + timedelta(seconds=len(self._revoked))
        builder = x509.CertificateRevocationListBuilder(
            issuer_name=self.certificate.subject, last_update=issued, next_update=now + _LIFE
        ).add_extension(x509.CRLNumber(len(self._revoked) + 1), critical=False)
        for serial, since in self._revoked.items():
            entry = x509.RevokedCertificateBuilder(serial_number=serial, revocation_date=since).build()
            builder = builder.add_revoked_certificate(entry)
        crl = builder.sign(self._key, hashes.SHA256())  # type: ignore[arg-type]  # trustme's keys are EC
        self.crl_file.write_bytes(crl.public_bytes(Encoding.PEM))


@functools.lru_cache(maxsize=64)
def load_certificate(der: bytes) -> x509.Certificate:
    """A certificate in DER. Raises ValueError."""
    return x509.load_der_x509_certificate(der)


@functools.cache
def _signing_key() -> rsa.RSAPrivateKey:
    """One for all: to make it takes longer than all the rest."""
    return rsa.generate_private_key(65537, 2048)


def _subject(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "FR"),
            x509.NameAttribute(NameOID.STATE_OR_PROVINCE_NAME, "Paris (75)"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "STRUCTURE INVENTEE"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, STRUCTURE),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=signs,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
