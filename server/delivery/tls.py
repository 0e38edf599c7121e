"""TLS of mail, HL7 v2 and FHIR connections: whom to trust, who we are, what was revoked (référentiel MSSanté, ECO.1.1).

TLS 1.2 at least. A certificate that is expired, revoked, not trusted or of another host ends the handshake: nothing has
been said then but the greeting of the protocol. Files are read for each connection, so a renewed one needs no restart.
"""

from __future__ import annotations

import functools
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from cryptography import x509

from relais.cda.errors import Issue
from relais.server.delivery.channel import DeliveryError
from relais.server.settings import Settings

Peer = Literal["mss", "hl7v2", "mhd"]
"""Whose settings are meant: `<peer>_ca_file`, `<peer>_certificate`, `<peer>_crl_file`."""

LONGEST = 300.0
"""Seconds after which a connection that is kept is replaced by a new one, which looks at the certificates again."""

_File = tuple[str, tuple[int, ...]]  # path and stamp
_LOCKED = ""  # instead of asking a terminal for the pass phrase of a key: that key cannot be used
_UNREADABLE = "cannot be used: PEM with our certificate first, then its chain, and its key, which is not locked"
_REASONS = {  # X509_V_ERR_* of OpenSSL
    3: "cannot be checked: no revocation list of its issuer in {crl_file}",
    9: "is not valid yet",
    10: "has expired",
    12: "cannot be checked: the revocation list in {crl_file} is out of date",
    23: "was revoked",
    62: "is that of another host",
    64: "is that of another host",
}
_WITHOUT_LIST = frozenset({3, 12})


def client_context(settings: Settings, peer: Peer) -> ssl.SSLContext:
    """What a connection to `peer` is made with. Raises DeliveryError (no retry) for files that cannot be used."""
    ca_file, certificate, crl_file = (str(getattr(settings, f"{peer}_{name}")) for name in _FILES)
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    except OSError as error:
        raise _unusable("the authorities to trust cannot be read", f"{peer}_ca_file") from error
    if certificate:
        _check_validity(certificate, f"{peer}_certificate")
        try:
            context.load_cert_chain(certificate, password=_LOCKED)
        except OSError as error:
            raise _unusable(_UNREADABLE, f"{peer}_certificate") from error
    if crl_file:
        try:
            context.load_verify_locations(crl_file)
        except OSError as error:
            raise _unusable("the revocation lists cannot be read", f"{peer}_crl_file") from error
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
    return context


_FILES = ("ca_file", "certificate", "crl_file")


def server_context(certificate: str, ca_file: str, crl_file: str) -> ssl.SSLContext:
    """What a listener takes a connection with, made anew when a file was renewed.

    Clients show a certificate of `ca_file` where one is named, which is on no list of `crl_file` where that is named.
    Raises OSError (which ssl.SSLError is) when a file cannot be used.
    """
    return _server_context(*((path, _stamp(path)) for path in (certificate, ca_file, crl_file)))


@functools.lru_cache(maxsize=8)
def _server_context(certificate: _File, ca_file: _File, crl_file: _File) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate[0], password=_LOCKED)
    if ca_file[0]:
        context.load_verify_locations(ca_file[0])
        context.verify_mode = ssl.CERT_REQUIRED
    if crl_file[0]:
        context.load_verify_locations(crl_file[0])
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
    return context


def _stamp(path: str) -> tuple[int, ...]:
    """What changes with a file. Raises OSError when there is none."""
    if not path:
        return ()
    found = Path(path).stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def failure(error: ssl.SSLError, peer: str, name: str) -> DeliveryError | None:
    """What a handshake that failed means for the delivery; None when it may succeed another time.

    `peer` begins the names of the settings of its certificates, `name` says who it is in messages.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = _REASONS.get(error.verify_code, "is not trusted").format(crl_file=f"{peer}_crl_file")
        message = f"the certificate of {name} {reason}: nothing was sent"
        path = f"{peer}_crl_file" if error.verify_code in _WITHOUT_LIST else f"{peer}_ca_file"
    elif is_refusal(error):
        told = (error.reason or "").partition("ALERT_")[2].replace("_", " ").lower()
        message = f"{name} refuses the connection or our certificate ({told}): nothing was taken"
        path = f"{peer}_certificate"
    else:
        return None
    return DeliveryError(Issue("error", "security", message, path, "TLS"), retry=False)


def is_refusal(error: ssl.SSLError) -> bool:
    """Whether the other side refused the connection, most often for our certificate: it will another time."""
    reason = error.reason or ""
    return "ALERT" in reason and any(word in reason for word in _REFUSALS)


_REFUSALS = (
    "CERTIFICATE",
    "UNKNOWN_CA",
    "ACCESS_DENIED",
    "HANDSHAKE_FAILURE",
    "PROTOCOL_VERSION",
    "INSUFFICIENT_SECURITY",
)


def _check_validity(path: str, setting: str) -> None:
    """Refuse an own certificate that the peer would refuse in words nobody understands."""
    try:
        certificate = x509.load_pem_x509_certificate(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise _unusable(_UNREADABLE, setting) from error
    now = datetime.now(UTC)
    if certificate.not_valid_after_utc < now:
        raise DeliveryError(Issue("error", "security", "our certificate has expired", setting, "TLS"), retry=False)
    if certificate.not_valid_before_utc > now:
        raise DeliveryError(Issue("error", "security", "our certificate is not valid yet", setting, "TLS"), retry=False)


def _unusable(message: str, setting: str) -> DeliveryError:
    """Trouble with the destination, not with the document: deliveries wait until the file is mended."""
    return DeliveryError(Issue("error", "security", message, setting, "TLS"), retry=False)
