"""What Relais writes, read by the Python library `hl7`, and spoken with over its own MLLP client and server."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import hl7
import pytest
from hl7.client import MLLPClient
from hl7.mllp import start_hl7_server

from relais.cda.writer import write
from relais.mappings.hl7v2.acknowledgement import ErrorCondition
from relais.mappings.hl7v2.order import Endpoint, MessageType
from relais.mappings.hl7v2.zam import Zam, write_zam
from relais.server.delivery.hl7v2 import Hl7v2Channel
from relais.server.sandbox.hl7v2_platform import Hl7v2Platform
from relais.server.settings import Settings
from support.documents import small_document
from support.hl7v2 import INS, message, order, to_both
from support.shipments import NURSE, small_shipment


@pytest.mark.parametrize("kind", ["MDM", "ORU"])
def test_a_document_message(kind: MessageType) -> None:
    found = hl7.parse(message(to_both(message=kind)).decode())
    assert [str(found["MSH.F9.R1.C1"]), str(found["MSH.F10"]), str(found["MSH.F21.R1.C2"])] == [
        kind,
        "RELAIS0001",
        "CISIS_CDA_HL7_V2",
    ]
    assert str(found["PID.F3.R1.C1"]) == INS
    assert str(found["PID.F3.R1.C4.S2"]) == "1.2.250.1.213.1.4.10"
    assert str(found["OBR.F4.R1.C1"]) == "18776-5"
    document, *flags = found.segments("OBX")
    assert base64.b64decode(str(document[5][0][4])) == write(small_document())
    assert [str(flag[3][0][0]) for flag in flags] == [
        "MASQUE_PS",
        "INVISIBLE_PATIENT",
        "INVISIBLE_REP_LEGAUX",
        "CONNEXION_SECRETE",
        "MODIF_CONF_CODE",
        "DESTDMP",
        "DESTMSSANTEPS",
        "DESTMSSANTEPAT",
        "ACK_RECEPTION",
        "ACK_LECTURE_MSS",
    ]
    assert [str(flag[5][0][0]) for flag in flags] == ["N", "N", "N", "N", "N", "Y", "Y", "Y", "Y", "N"]
    parts = [(str(part[4][0][0]), str(part[15][0][3]) if len(part) > 15 else "") for part in found.segments("PRT")]
    assert parts == [("SB", ""), ("RCT", NURSE), ("RCT", f"{INS}@patient.mssante.fr")]


@pytest.mark.parametrize(("action", "expected"), [("replace", ("T10", "RO", "C")), ("delete", ("T04", "CA", "D"))])
def test_the_other_triggers(action: Any, expected: tuple[str, str, str]) -> None:
    found = hl7.parse(message(order(action=action)).decode())
    assert (str(found["MSH.F9.R1.C2"]), str(found["ORC.F1"]), str(found["OBX.F11"])) == expected


def test_a_name_with_delimiters_is_escaped() -> None:
    found = hl7.parse(message(to_both()).decode())
    nurse = found.segments("PRT")[1]
    assert found.unescape(str(nurse[5][0][1])) == "PETIT & FILS"


def test_a_business_acknowledgement() -> None:
    zam = Zam(
        "Z03",
        "PFI0001",
        "RELAIS0001",
        False,
        "20260112090501+0100",
        Endpoint("PFI", "GHT"),
        Endpoint("RELAIS", "DAC"),
        mailbox=NURSE,
        error=ErrorCondition("207", application="902", application_label="Patient inconnu"),
    )
    found = hl7.parse(write_zam(zam).decode())
    first, second = found.segments("OBX")
    assert (str(found.segment("MSH")[9]), str(first[4]), str(first[5][0][0])) == ("ZAM^Z03^ZAM_Z01", "RELAIS0001", "N")
    assert (str(second[2]), str(second[5][0][3]), str(found["ERR.F5.R1.C1"])) == ("XTN", NURSE, "902")


def test_its_client_speaks_with_our_server(tmp_path: Path) -> None:
    with Hl7v2Platform(tmp_path / "platform", None) as platform, MLLPClient("127.0.0.1", platform.port) as client:
        for _ in range(2):
            answer = hl7.parse(client.send_message(message(to_both()).decode()).decode().strip("\x0b\x1c\r"))
            assert (str(answer["MSA.F1"]), str(answer["MSA.F2"])) == ("AA", "RELAIS0001")
        assert len(platform.messages()) == 1


@contextmanager
def foreign_server(code: str) -> Iterator[tuple[int, list[hl7.Message]]]:
    """An MLLP server of the library that answers every message with `code`; its port, and what it was sent."""
    taken: list[hl7.Message] = []
    ready, port = threading.Event(), [0]
    loop = asyncio.new_event_loop()

    async def converse(reader: Any, writer: Any) -> None:
        while not reader.at_eof():
            try:
                received = await reader.readmessage()
            except asyncio.IncompleteReadError:
                break
            taken.append(received)
            writer.writemessage(received.create_ack(ack_code=code))
            await writer.drain()
        writer.close()

    async def serve() -> None:
        async with await start_hl7_server(converse, "127.0.0.1", 0, encoding="utf-8", limit=10_000_000) as server:
            port[0] = server.sockets[0].getsockname()[1]
            ready.set()
            await server.serve_forever()

    def run() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()

    task = loop.create_task(serve())
    thread = threading.Thread(target=run)
    thread.start()
    ready.wait(30)
    try:
        yield port[0], taken
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()


def test_our_client_speaks_with_its_server() -> None:
    with foreign_server("AA") as (port, taken):
        channel = Hl7v2Channel(
            Settings.of(
                {
                    "hl7v2_host": "127.0.0.1",
                    "hl7v2_port": port,
                    "hl7v2_tls": False,
                    "hl7v2_receiving_application": "PFI",
                    "hl7v2_receiving_facility": "GHT",
                    "organization_name": "DAC",
                }
            )
        )
        shipment = small_shipment(recipients=(NURSE,))
        first, second = channel.send(shipment), channel.send(shipment)
        channel.close()
    assert first == second
    assert [base64.b64decode(str(one.segment("OBX")[5][0][4])) for one in taken] == [shipment.document] * 2
