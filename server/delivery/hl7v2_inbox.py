"""Messages that arrive over MLLP: documents from a platform or another software, business acknowledgements.

CI-SIS volets "Transmission de documents CDA-R2 en HL7v2" 2.1 and "Transmission au LPS" 1.1. The answer AA is given once
what the message brought is committed, together with the answer itself: sent again (same MSH-3 and MSH-10), the message
gets that answer and is not taken twice. A message refused leaves nothing, so that it may come again corrected.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, LargeBinary, PrimaryKeyConstraint, Row, Table, and_, insert, select

from relais.cda.datatypes import ts_from_datetime
from relais.cda.errors import RelaisError
from relais.mappings.hl7v2 import er7
from relais.mappings.hl7v2.acknowledgement import acknowledge
from relais.mappings.hl7v2.context import Policy
from relais.mappings.hl7v2.er7 import Segment
from relais.mappings.hl7v2.findings import Finding, MessageError, Place, answer_code
from relais.mappings.hl7v2.reading import Received, read
from relais.mappings.hl7v2.zam import Zam, read_zam
from relais.server.delivery import mllp
from relais.server.faults import described
from relais.server.fhir.repository import Repository, Transaction
from relais.server.patient_matching import RULE as PATIENT_RULE
from relais.server.store.errors import StoreError, VersionConflictError
from relais.server.store.schema import Bytewise, metadata
from relais.server.store.store import to_microseconds

received_table = Table(
    "hl7v2_received",
    metadata,
    Column("application", Bytewise, nullable=False),  # MSH-3
    Column("control_id", Bytewise, nullable=False),  # MSH-10
    Column("digest", Bytewise, nullable=False),  # SHA-256 of the message
    Column("answer", LargeBinary, nullable=False),
    Column("received", BigInteger, nullable=False),
    PrimaryKeyConstraint("application", "control_id"),
)

log = logging.getLogger("relais.hl7v2")

_RULE = "hl7v2.inbox"


@dataclass(frozen=True, slots=True)
class Inbox:
    """Answers each message; its method `answer` is the handler of an `MllpServer`.

    `take_document` reads what a message brings, outside any transaction; what it returns and `take_zam` write, in the
    transaction that records the answer. A RelaisError they raise refuses the message.
    """

    repository: Repository
    policy: Policy
    take_document: Callable[[Received], Callable[[Transaction], object]]
    take_zam: Callable[[Transaction, Zam], object]

    def answer(self, received: mllp.Received) -> bytes:
        """The ACK of a message.

        Raises StoreError or VersionConflictError when the store cannot serve now: no answer, the sender tries again.
        """
        header = None
        try:
            header = er7.header_of(received.message)
            take = self._understand(received, header)
            return self._record(received.message, header, take)
        except (StoreError, VersionConflictError):
            raise
        except RelaisError as error:
            return self._acknowledged(header, *_findings(error))
        except Exception as error:  # noqa: BLE001 - whatever a message does, its sender is told
            log.error("an HL7 v2 message: a fault of Relais: %s", described(error))
            fault = Finding.error("207", Place("MSH"), "a fault of the receiver", _RULE, "906")
            return self._acknowledged(header, fault)

    def _understand(self, received: mllp.Received, header: Segment | None) -> Callable[[Transaction], object]:
        """What is to be done in the transaction. Raises MessageError when the message is refused."""
        if received.kind == "too-long":
            raise _refusal("199", Place("MSH"), "longer than this receiver takes")
        if header is not None and header.text(9) == "ZAM":
            zam = read_zam(received.message)
            return lambda transaction: self.take_zam(transaction, zam)
        return self.take_document(read(received.message, self.policy))

    def _record(self, message: bytes, header: Segment | None, take: Callable[[Transaction], object]) -> bytes:
        assert header is not None  # noqa: S101 - a message that was understood has its MSH
        application, control_id = header.text(3).strip(), header.text(10).strip()
        digest = hashlib.sha256(message).hexdigest()
        with self.repository.transaction() as transaction:
            transaction.exclusively(f"HL7 v2 message {control_id} of {application}")
            known = _known(transaction, application, control_id)
            if known is not None and known.digest != digest:
                raise _refusal("207", Place("MSH", 1, 10), "another message was taken under this MSH-10")
            if known is not None:
                return bytes(known.answer)
            take(transaction)
            answer = self._acknowledged(header)
            values = {
                "application": application,
                "control_id": control_id,
                "digest": digest,
                "answer": answer,
                "received": to_microseconds(transaction.now),
            }
            transaction.connection.execute(insert(received_table), values)
        return answer

    def _acknowledged(self, header: Segment | None, *errors: Finding) -> bytes:
        now = self.repository.clock()
        name = f"{header.text(3)}\n{header.text(10)}\n{now.isoformat()}" if header else now.isoformat()
        own_id = hashlib.sha256(name.encode()).hexdigest()[:20].upper()
        return acknowledge(header, answer_code(errors), errors, control_id=own_id, time=ts_from_datetime(now))


def _known(transaction: Transaction, application: str, control_id: str) -> Row[Any, Any] | None:
    return transaction.connection.execute(
        select(received_table.c.digest, received_table.c.answer).where(
            and_(received_table.c.application == application, received_table.c.control_id == control_id)
        )
    ).first()


def _refusal(code: str, place: Place, message: str) -> MessageError:
    return MessageError(Finding.error(code, place, message, _RULE, "906" if code == "207" else None))


def _findings(error: RelaisError) -> tuple[Finding, ...]:
    """What refuses a message, whoever refused it: an error from outside this room is one of the application (906)."""
    if isinstance(error, MessageError):
        return error.findings
    place = Place("OBX", 1, 5)
    return tuple(
        Finding.error("207", place, issue.message, issue.rule or _RULE, "904" if issue.rule == PATIENT_RULE else "906")
        for issue in error.issues
    )
