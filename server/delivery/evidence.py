"""The evidence of deliveries: the exact request and response of every exchange, sealed in a chain, and packs of it.

Each exchange of a delivery is sealed by SHA-256 over the seal before it and over what it says and holds, when it is
written; what is changed or removed afterwards breaks the chain. When the retention is over the bytes go and the hashes
stay. A pack is a ZIP archive: `manifest.json`, the bytes, and a detached CMS signature (RFC 5652) of the manifest where
the settings name a certificate. `redacted` packs hold no health data (`relais.server.delivery.redaction`).
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key, pkcs7
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Row,
    Table,
    Text,
    bindparam,
    insert,
    select,
    update,
)

from relais.cda.errors import Issue, RelaisError
from relais.server.delivery.channel import Exchange
from relais.server.delivery.outbox import Attempt, Delivery, Order, delivery_table
from relais.server.delivery.redaction import redacted as outline
from relais.server.fhir.repository import instant
from relais.server.store.schema import Key, metadata
from relais.server.store.statements import Statement
from relais.server.store.store import to_datetime, to_microseconds

FORMAT = "relais-evidence/1"
FIRST_SEAL = "0" * 64

exchange_table = Table(
    "delivery_exchange",
    metadata,
    Column("delivery", Key, ForeignKey(delivery_table.c.key), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("step", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("started", BigInteger, nullable=False),
    Column("ended", BigInteger, nullable=False),
    Column("request_hash", Text, nullable=False),  # SHA-256 in hexadecimal
    Column("response_hash", Text),  # NULL: nothing came
    Column("seal", Text, nullable=False),
    Column("request", LargeBinary),  # deflated; NULL: the retention is over
    Column("response", LargeBinary),
)
Index("delivery_exchange_by_time", exchange_table.c.ended)


@dataclass(frozen=True, slots=True)
class Kept:
    """One exchange of an attempt as it is kept; `request` and `response` are None once the retention is over."""

    delivery: int
    attempt: int
    number: int
    step: str
    endpoint: str
    started: datetime
    ended: datetime
    request_hash: str
    response_hash: str | None
    seal: str
    request: bytes | None
    response: bytes | None


@dataclass(frozen=True, slots=True)
class Packed:
    """One exchange as it will be kept: what it was, the hashes of its bytes, and its bytes, deflated."""

    step: str
    endpoint: str
    started: datetime
    ended: datetime
    request_hash: str
    response_hash: str | None
    request: bytes
    response: bytes | None


def packed(exchanges: Iterable[Exchange]) -> list[Packed]:
    """What `keep` writes: made before the transaction, which others wait for."""
    return [
        Packed(
            one.step,
            one.endpoint,
            one.started,
            one.ended,
            _digest(one.pieces),
            None if one.response is None else hashlib.sha256(one.response).hexdigest(),
            _deflated(one.pieces),
            None if one.response is None else zlib.compress(one.response, 1),
        )
        for one in exchanges
    ]


def keep(connection: Connection, delivery: int, attempt: int, exchanges: Sequence[Packed]) -> None:
    """Write the exchanges of an attempt, each sealed onto the one before."""
    if not exchanges:
        return
    last = _LAST_SEAL.first(connection, {"delivery": delivery}) if attempt > 1 else None
    seal = last[0] if last else FIRST_SEAL
    for number, exchange in enumerate(exchanges, 1):
        row: dict[str, Any] = {
            "delivery": delivery,
            "attempt": attempt,
            "number": number,
            "step": exchange.step,
            "endpoint": exchange.endpoint,
            "started": to_microseconds(exchange.started),
            "ended": to_microseconds(exchange.ended),
            "request_hash": exchange.request_hash,
            "response_hash": exchange.response_hash,
        }
        seal = _seal(seal, row)
        _INSERT.run(connection, row | {"seal": seal, "request": exchange.request, "response": exchange.response})


def _digest(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _deflated(pieces: Iterable[bytes]) -> bytes:
    deflating = zlib.compressobj(1)
    return b"".join([*map(deflating.compress, pieces), deflating.flush()])


_LAST_SEAL = Statement(
    select(exchange_table.c.seal)
    .where(exchange_table.c.delivery == bindparam("delivery"))
    .order_by(exchange_table.c.attempt.desc(), exchange_table.c.number.desc())
)
_INSERT = Statement(insert(exchange_table).values({column.name: bindparam(column.name) for column in exchange_table.c}))


def _seal(before: str, row: dict[str, Any]) -> str:
    said = json.dumps(row, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(f"{before}\n{said}".encode()).hexdigest()


def of_delivery(connection: Connection, delivery: int) -> list[Kept]:
    """The exchanges of a delivery, oldest first."""
    rows = connection.execute(
        select(exchange_table)
        .where(exchange_table.c.delivery == delivery)
        .order_by(exchange_table.c.attempt, exchange_table.c.number)
    )
    return [_kept(row) for row in rows]


def _kept(row: Row[Any]) -> Kept:
    return Kept(
        row.delivery,
        row.attempt,
        row.number,
        row.step,
        row.endpoint,
        to_datetime(row.started),
        to_datetime(row.ended),
        row.request_hash,
        row.response_hash,
        row.seal,
        None if row.request is None else zlib.decompress(row.request),
        None if row.response is None else zlib.decompress(row.response),
    )


def broken(exchanges: Iterable[Kept]) -> list[Kept]:
    """Those of a delivery's exchanges whose seal, or whose bytes, are not what was written."""
    found, seal = [], FIRST_SEAL
    for one in exchanges:
        row = {
            "delivery": one.delivery,
            "attempt": one.attempt,
            "number": one.number,
            "step": one.step,
            "endpoint": one.endpoint,
            "started": to_microseconds(one.started),
            "ended": to_microseconds(one.ended),
            "request_hash": one.request_hash,
            "response_hash": one.response_hash,
        }
        sound = one.seal == _seal(seal, row)
        held = ((one.request, one.request_hash), (one.response, one.response_hash))
        whole = all(data is None or hashlib.sha256(data).hexdigest() == expected for data, expected in held)
        if not (sound and whole):
            found.append(one)
        seal = one.seal
    return found


def forget(connection: Connection, before: datetime, since: datetime | None = None) -> int:
    """Drop the bytes of exchanges that ended before that time; hashes and seals stay. How many lost theirs.

    `since`: what ended before that has lost its bytes already.
    """
    old = [exchange_table.c.ended < to_microseconds(before), exchange_table.c.request.is_not(None)]
    if since is not None:
        old.append(exchange_table.c.ended >= to_microseconds(since))
    return connection.execute(update(exchange_table).where(*old).values(request=None, response=None)).rowcount


# --- packs ------------------------------------------------------------------------------------------------------------


def pack(
    order: Order,
    deliveries: Sequence[Delivery],
    exchanges: Sequence[Kept],
    now: datetime,
    *,
    redacted: bool,
    certificate: Path | None = None,
    passphrase: str = "",
) -> bytes:
    """The evidence of an order as a ZIP archive; `certificate` is a PEM file of the signer's certificate and key.

    Raises RelaisError when an exchange is not what was written, or when the certificate cannot sign.
    """
    damaged = broken_of(exchanges)
    if damaged:
        message = "the evidence was changed after it was written"
        raise RelaisError([Issue("error", "security", message, _name(one), "SHA-256 chain") for one in damaged])
    manifest = {
        "format": FORMAT,
        "made": instant(now),
        "redacted": redacted,
        "order": _order(order, redacted=redacted),
        "deliveries": [_delivery(one, redacted=redacted) for one in deliveries],
        "exchanges": [_exchange(one) for one in exchanges],
    }
    files = dict(_files(exchanges, redacted=redacted))
    manifest["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    said = json.dumps(manifest, indent=2, ensure_ascii=False).encode()
    if certificate is not None:
        files["manifest.p7s"] = _signature(said, certificate, passphrase)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as written:
        for name, data in {"manifest.json": said, **files}.items():
            written.writestr(zipfile.ZipInfo(name, now.timetuple()[:6]), data, zipfile.ZIP_DEFLATED)
    return archive.getvalue()


def broken_of(exchanges: Sequence[Kept]) -> list[Kept]:
    """As `broken`, for exchanges of several deliveries."""
    deliveries = dict.fromkeys(one.delivery for one in exchanges)
    return [found for key in deliveries for found in broken(one for one in exchanges if one.delivery == key)]


def _order(order: Order, *, redacted: bool) -> dict[str, Any]:
    said = {
        "task": order.task,
        "document": order.document,
        "action": order.action,
        "priority": order.priority,
        "placed": instant(order.placed),
        "requester": order.requester,
    }
    return said if redacted else said | {"focus": order.focus, "subject": order.subject}


def _delivery(delivery: Delivery, *, redacted: bool) -> dict[str, Any]:
    said: dict[str, Any] = {
        "delivery": delivery.key,
        "channel": delivery.channel,
        "state": delivery.state,
        "message_id": delivery.message_id,
        "attempts": [_attempt(attempt, redacted=redacted) for attempt in delivery.attempts],
    }
    return said if redacted else said | {"recipient": delivery.recipient, "reason": delivery.reason}


def _attempt(attempt: Attempt, *, redacted: bool) -> dict[str, Any]:
    said: dict[str, Any] = {
        "number": attempt.number,
        "started": instant(attempt.started),
        "ended": attempt.ended and instant(attempt.ended),
        "outcome": attempt.outcome,
    }
    return said if redacted else said | {"detail": attempt.detail}


def _exchange(one: Kept) -> dict[str, Any]:
    return {
        "name": _name(one),
        "delivery": one.delivery,
        "attempt": one.attempt,
        "step": one.step,
        "endpoint": one.endpoint,
        "started": to_microseconds(one.started),
        "ended": to_microseconds(one.ended),
        "number": one.number,
        "request_sha256": one.request_hash,
        "response_sha256": one.response_hash,
        "seal": one.seal,
    }


def _files(exchanges: Iterable[Kept], *, redacted: bool) -> Iterator[tuple[str, bytes]]:
    for one in exchanges:
        for part, data in (("request", one.request), ("response", one.response)):
            if data is not None and redacted:
                yield f"{_name(one)}-{part}.txt", outline(data).encode()
            elif data is not None:
                yield f"{_name(one)}-{part}.bin", data


def _name(one: Kept) -> str:
    return f"{one.delivery}/{one.attempt:02}-{one.number:02}-{one.step}"


def _signature(data: bytes, certificate: Path, passphrase: str) -> bytes:
    """A detached CMS signature in DER: `openssl cms -verify -inform DER -in manifest.p7s -content manifest.json`."""
    try:
        pem = certificate.read_bytes()
        signer, key = x509.load_pem_x509_certificate(pem), load_pem_private_key(pem, passphrase.encode() or None)
    except (OSError, ValueError, TypeError) as error:
        message = "a PEM file with the certificate and its key, and the right passphrase, are expected"
        raise RelaisError(Issue("error", "not-found", message, "dmp_signing_certificate")) from error
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise RelaisError(Issue("error", "not-supported", "an RSA or EC key is expected", "dmp_signing_certificate"))
    builder = pkcs7.PKCS7SignatureBuilder().set_data(data).add_signer(signer, key, hashes.SHA256())
    return builder.sign(Encoding.DER, [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary])
