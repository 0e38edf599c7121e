"""Whether a patient has a DMP and whether it is open (TD0.2): HL7 V3 PRPA_IN201307UV02 over SOAP.

SEL-MP-037; where the answer says what the caller is authorised to is not public: only the status is read. Identity
traits of the answer are never shown, nor stored.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Literal
from uuid import uuid4

from lxml import etree

from relais.cda.xds_types import CX
from relais.server.delivery.channel import quoted
from relais.server.delivery.dmp_soap import Dmp, Transaction, failure
from relais.server.delivery.vihf import Requester
from relais.server.settings import Settings

HL7 = "urn:hl7-org:v3"
EXISTENCE = Transaction("TD0.2", f"{HL7}:PRPA_IN201307UV02", "dmp_patients_url")
DMP_DEVICE = "1.2.250.1.213.4.1.1.1"
REASONS = "1.2.250.1.213.1.1.4.11"
INTERACTIONS = "2.16.840.1.113883.1.6"

KNOWN_FOR = 600.0
"""Seconds an answer `open` is believed."""

Existence = Literal["open", "closed", "absent"]


class DmpPatients:
    """The existence test, with a short memory of who has an open DMP; safe for threads."""

    def __init__(self, dmp: Dmp) -> None:
        self._dmp = dmp
        self._lock = threading.Lock()
        self._open: dict[str, float] = {}

    def status(self, patient: str, who: Requester) -> Existence:
        """The state of the DMP of `patient` (CX). Raises DeliveryError."""
        asked = CX.parse(patient)
        payload = etree.tostring(request(asked, self._dmp.settings))
        return read_status(self._dmp.call(EXISTENCE, payload, who, patient).body, asked)

    def check_open(self, patient: str, who: Requester) -> None:
        """Raises DeliveryError (no retry) when the patient has no DMP, or a closed one."""
        now = time.monotonic()
        with self._lock:
            self._open = {one: since for one, since in self._open.items() if since > now - KNOWN_FOR}
            if patient in self._open:
                return
        status = self.status(patient, who)
        if status != "open":
            said = "is closed" if status == "closed" else "does not exist"
            raise failure("not-found", f"the DMP of the patient {said}: nothing was sent", rule="TD0.2")
        with self._lock:
            self._open[patient] = now


def request(patient: CX, settings: Settings) -> etree._Element:
    """The PRPA_IN201307UV02 that asks whether a patient has a DMP."""
    root = etree.Element(f"{{{HL7}}}PRPA_IN201307UV02", {"ITSVersion": "XML_1.0"}, {None: HL7})  # type: ignore[dict-item]
    _add(root, "id", root=settings.source_oid, extension=str(uuid4()))
    _add(root, "creationTime", value=datetime.now(UTC).strftime("%Y%m%d%H%M%S+0000"))
    _add(root, "interactionId", root=INTERACTIONS, extension="PRPA_IN201307UV02")
    _add(root, "processingCode", code="P" if settings.ins_environment == "production" else "T")
    _add(root, "processingModeCode", code="T")
    _add(root, "acceptAckCode", code="AL")
    for role, oid, name in (("receiver", DMP_DEVICE, "DMP"), ("sender", settings.source_oid, "Relais")):
        device = _add(
            _add(root, role, typeCode="RCV" if role == "receiver" else "SND"),
            "device",
            classCode="DEV",
            determinerCode="INSTANCE",
        )
        _add(device, "id", root=oid)
        _add(device, "softwareName").text = name
    act = _add(root, "controlActProcess", classCode="CACT", moodCode="EVN")
    _add(act, "reasonCode", code="TEST_EXST", codeSystem=REASONS)
    query = _add(act, "queryByParameter")
    _add(query, "queryId", root=settings.source_oid, extension=str(uuid4()))
    _add(query, "statusCode", code="new")
    asked = _add(_add(query, "parameterList"), "patientIdentifier")
    _add(asked, "value", root=patient.oid, extension=patient.id)
    _add(asked, "semanticsText").text = "Patient.id"
    return root


def read_status(answer: etree._Element, patient: CX) -> Existence:
    """What a PRPA_IN201308UV02 says of the patient that was asked for. Raises DeliveryError."""
    names = {"h": HL7}
    if answer.tag != f"{{{HL7}}}PRPA_IN201308UV02":
        raise EXISTENCE.unclear("no PRPA_IN201308UV02 in the answer")
    acknowledged = _code(answer, "h:acknowledgement/h:typeCode")
    if acknowledged != "AA":
        detail = answer.find("h:acknowledgement/h:acknowledgementDetail", names)
        code = "" if detail is None else _code(detail, "h:code")
        if code == "DMPClosed":
            return "closed"
        text = "" if detail is None else detail.findtext("h:text", "", names)
        raise failure("processing", quoted(f"{acknowledged or 'no code'} {code}: {text}"), rule="TD0.2")
    if _code(answer, "h:controlActProcess/h:queryAck/h:queryResponseCode") == "NF":
        return "absent"
    found = answer.find(".//h:registrationEvent//h:patient", names)
    if found is None:
        raise EXISTENCE.unclear("the answer neither shows nor denies a patient")
    ids = {(one.get("root"), one.get("extension")) for one in found.iterfind("h:id", names)}
    if (patient.oid, patient.id) not in ids:
        raise failure("conflict", "the DMP answers about another patient", rule="TD0.2")
    return "open" if _code(found, "h:statusCode") == "active" else "closed"


def _code(element: etree._Element, path: str) -> str:
    found = element.find(path, {"h": HL7})
    return "" if found is None else found.get("code", "")


def _add(parent: etree._Element, tag: str, **attributes: str) -> etree._Element:
    return etree.SubElement(parent, f"{{{HL7}}}{tag}", attributes)
