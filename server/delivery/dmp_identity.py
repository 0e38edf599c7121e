"""Who Relais is for the DMP: the TLS client certificate and the signature certificate of the structure.

IGC Santé, gamme Élémentaire, offers ORG AUTH_CLI and ORG SIGN. Both are PEM files with certificate, chain and key, read
again when they change: a renewed certificate needs no restart.
"""

from __future__ import annotations

import functools
import os
import ssl
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from relais.cda.errors import Issue
from relais.server.delivery.channel import DeliveryError
from relais.server.settings import Settings

_ATTRIBUTES = {
    x509.NameOID.SURNAME: "SN",
    x509.NameOID.GIVEN_NAME: "GN",
    x509.NameOID.TITLE: "T",
    x509.NameOID.SERIAL_NUMBER: "SERIALNUMBER",
}


@dataclass(frozen=True)
class Signer:
    """The certificate that signs, the chain after it, and its RSA key."""

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: RSAPrivateKey

    @functools.cached_property
    def name(self) -> str:
        """The subject as RFC 2253 writes it, with `GN` and `ST`: the Issuer of a VIHF."""
        return self.certificate.subject.rfc4514_string(_ATTRIBUTES)

    @functools.cached_property
    def certificates(self) -> tuple[Certificate, ...]:
        """The certificate and its chain, as XML signatures name them."""
        return tuple(map(Certificate.of, (self.certificate, *self.chain)))


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate in DER, and who issued it (RFC 4514) under which number."""

    der: bytes
    issuer: str
    number: int

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Certificate:
        """What a certificate says."""
        issuer = certificate.issuer.rfc4514_string()
        return cls(certificate.public_bytes(Encoding.DER), issuer, certificate.serial_number)

    @property
    def base64(self) -> str:
        """The DER in Base64."""
        return b64encode(self.der).decode()


def tls_context(settings: Settings) -> ssl.SSLContext:
    """What connections to the DMP are made with. Raises DeliveryError for files that cannot be used."""
    names = ("dmp_ca_file", "dmp_crl_file", "dmp_certificate")
    files = tuple(_stamp(str(getattr(settings, name)), name, needed=name == "dmp_certificate") for name in names)
    context = _context(files, settings.dmp_passphrase)
    _check_validity(_certificates(*files[-1], "dmp_certificate")[0], "dmp_certificate")
    return context


def signer(settings: Settings) -> Signer:
    """What signs VIHF and lots. Raises DeliveryError for a file that cannot be used or a certificate out of date."""
    name = "dmp_signing_certificate"
    path, stamp = _stamp(settings.dmp_signing_certificate, name, needed=True)
    found = _signer(path, stamp, settings.dmp_signing_passphrase)
    _check_validity(found.certificate, name)
    return found


def _stamp(path: str, setting: str, *, needed: bool) -> tuple[str, int]:
    """The file and when it changed last."""
    if not path:
        if needed:
            raise _unusable("the DMP takes nothing without this certificate", setting)
        return "", 0
    try:
        return path, os.stat(path).st_mtime_ns  # noqa: PTH116 - asked five times for each request: no Path is made
    except OSError:
        raise _unusable("no such file", setting) from None


@functools.lru_cache(maxsize=8)
def _context(files: tuple[tuple[str, int], ...], passphrase: str) -> ssl.SSLContext:
    (ca_file, _), (crl_file, _), (certificate, _) = files
    setting = "dmp_ca_file"
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        setting = "dmp_crl_file"
        if crl_file:
            context.load_verify_locations(crl_file)
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
        setting = "dmp_certificate"
        context.load_cert_chain(certificate, password=lambda: passphrase)
    except (OSError, ValueError) as error:
        raise _unusable("cannot be read: PEM, and the right key and passphrase?", setting) from error
    return context


@functools.lru_cache(maxsize=8)
def _signer(path: str, stamp: int, passphrase: str) -> Signer:
    setting = "dmp_signing_certificate"
    certificate, *chain = _certificates(path, stamp, setting)
    try:
        key = load_pem_private_key(Path(path).read_bytes(), passphrase.encode() or None)
    except (OSError, ValueError, TypeError) as error:
        raise _unusable("no key that can be read: the right passphrase?", setting) from error
    if not isinstance(key, RSAPrivateKey):
        raise _unusable("the key is not an RSA key", setting)
    if key.public_key() != certificate.public_key():
        raise _unusable("the key is not that of the first certificate", setting)
    return Signer(certificate, tuple(chain), key)


@functools.lru_cache(maxsize=8)
def _certificates(path: str, _stamp: int, setting: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise _unusable("holds no certificate that can be read", setting) from error


def _check_validity(certificate: x509.Certificate, setting: str) -> None:
    now = datetime.now(UTC)
    if now < certificate.not_valid_before_utc:
        day = certificate.not_valid_before_utc.date().isoformat()
        raise _unusable(f"our certificate is not valid before {day}: nothing was sent", setting)
    if now > certificate.not_valid_after_utc:
        day = certificate.not_valid_after_utc.date().isoformat()
        raise _unusable(f"our certificate has expired on {day}: nothing was sent", setting)


def _unusable(message: str, setting: str) -> DeliveryError:
    """Trouble with the destination, not with the document: deliveries wait until the file is mended."""
    return DeliveryError(Issue("error", "security", message, setting, "IGC Santé"), retry=False)
