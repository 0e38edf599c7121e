"""The HL7 v2 listener on a store: documents filed, deletions, doubts, business acknowledgements; as a process."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from sqlalchemy import update

from relais.cda.errors import RelaisError
from relais.cda.model import II, RelatedDocument
from relais.cda.writer import write
from relais.mappings.context import Resource
from relais.mappings.hl7v2.acknowledgement import Acknowledgement, ErrorCondition, read_acknowledgement
from relais.mappings.hl7v2.order import Endpoint, Flags
from relais.mappings.hl7v2.zam import Zam, write_zam
from relais.server import document_imports, documents, reception
from relais.server.delivery.hl7v2 import beginning_of_message_id, control_id
from relais.server.delivery.mllp import MllpClient
from relais.server.delivery.service import worker
from relais.server.delivery.tls import client_context
from relais.server.delivery.transmit import Wanted, transmit_document
from relais.server.delivery.visibility import Audience, hidden_by_labels
from relais.server.sandbox.authority import Authority
from relais.server.sandbox.hl7v2_platform import Hl7v2Platform
from relais.server.search import search
from relais.server.settings import Settings
from relais.server.store import Store
from support.certificates import revocation_list
from support.documents import small_document
from support.hl7v2 import NURSE as HL7_NURSE
from support.hl7v2 import message, order, to_both
from support.shipments import NURSE, PROFESSIONAL, small_shipment


class Office:
    """A Relais that listens for HL7 v2 messages."""

    def __init__(self, store: Store, **changes: Any) -> None:
        self.settings = Settings.of({"hl7v2_listen_port": 0, "fhir_packages": "none", **changes})
        self.repository = reception.repository_of(self.settings, store)
        self.server = reception.hl7v2_server(self.repository, self.settings)

    def send(self, data: bytes) -> Acknowledgement:
        with MllpClient(self.server.host, self.server.port, timeout=20) as client:
            return read_acknowledgement(client.exchange(data, lambda _: True))

    def references(self) -> list[str]:
        """The status of each DocumentReference, in the order in which they were filed."""
        with self.repository.snapshot() as connection:
            found = search(connection, self.repository.base, "DocumentReference", []).matches
        loaded: list[Resource] = [self.repository.load("DocumentReference", one.id) for one in found]
        return sorted(one["status"] for one in loaded)


@pytest.fixture
def office(store: Store) -> Iterator[Office]:
    made = Office(store)
    with made.server:
        yield made


@pytest.fixture
def quick_office(tmp_path: Path) -> Iterator[Office]:
    """On SQLite alone, where the store is not what matters."""
    store = Store.open(f"sqlite:///{tmp_path / 'quick.sqlite'}")
    made = Office(store)
    with made.server:
        yield made
    store.close()


def codes(answer: Acknowledgement) -> tuple[str, list[str]]:
    return answer.code, [error.application or error.code for error in answer.errors]


@pytest.mark.parametrize("kind", ["MDM", "ORU"])
def test_a_document_is_filed_once(office: Office, kind: Any) -> None:
    data = message(to_both(message=kind, control_id="RELAIS01"))
    assert codes(office.send(data)) == ("AA", [])
    assert codes(office.send(data)) == ("AA", [])
    assert office.references() == ["current"]
    assert codes(office.send(message(to_both(message=kind, control_id="RELAIS02")))) == ("AA", [])
    assert office.references() == ["current"]


def test_who_may_not_read_a_document_is_known_where_it_is_filed(office: Office) -> None:
    def sent(number: int, **flags: bool) -> frozenset[Audience]:
        chosen = order(control_id=f"RELAIS{number:02}", flags=Flags(to_professionals=True, **flags), action=action)
        assert codes(office.send(message(chosen, document))) == ("AA", [])
        return hidden_by_labels(_references(office)[0])

    action, document = "initial", small_document()
    assert sent(1, hidden_from_patient=True) == {"patient"}
    assert sent(2, hidden_from_representatives=True) == {"patient", "representatives"}
    assert sent(3) == {"patient", "representatives"}


def test_a_change_of_visibility_alone_shows_a_document_again(quick_office: Office) -> None:
    document = small_document()
    document.header.version_number, document.header.related_documents = 2, [RelatedDocument([II("2.25.98")])]
    hidden = Flags(to_professionals=True, hidden_from_patient=True)
    shown = replace(hidden, hidden_from_patient=False, visibility_change_only=True)
    for number, (flags, audiences) in enumerate(((hidden, {"patient"}), (shown, set())), 1):
        sent = order(control_id=f"RELAIS{number:02}", action="replace", flags=flags)
        assert codes(quick_office.send(message(sent, document))) == ("AA", [])
        assert hidden_by_labels(_references(quick_office)[0]) == audiences


def test_a_replacement_and_a_deletion(quick_office: Office) -> None:
    former = small_document()
    later = small_document()
    later.header.id = II("2.25.99")
    later.header.version_number = 2
    later.header.related_documents = [RelatedDocument([former.header.id])]
    quick_office.send(message(order(control_id="RELAIS01"), former))
    assert codes(quick_office.send(message(order(control_id="RELAIS02", action="replace"), later))) == ("AA", [])
    assert quick_office.references() == ["current", "superseded"]
    assert codes(quick_office.send(message(order(control_id="RELAIS03", action="delete"), later))) == ("AA", [])
    assert quick_office.references() == ["entered-in-error", "superseded"]


def test_a_deletion_of_what_is_not_here_is_refused(quick_office: Office) -> None:
    assert codes(quick_office.send(message(order(action="delete"), small_document()))) == ("AE", ["906"])
    assert quick_office.references() == []


def test_a_deletion_that_is_of_another_document_or_patient_is_refused(quick_office: Office) -> None:
    quick_office.send(message(order(control_id="RELAIS01")))
    forged = small_document()
    forged.header.patient.ids = [II(forged.header.patient.ids[0].root, "277076322082910")]
    forged.header.patient.birth_time = "19770707"
    assert codes(quick_office.send(message(order(control_id="RELAIS02", action="delete"), forged))) == ("AE", ["906"])
    assert quick_office.references() == ["current"]
    [found] = _references(quick_office)
    _file_with_another(quick_office, found)
    answer = quick_office.send(message(order(control_id="RELAIS03", action="delete"), small_document()))
    assert (codes(answer), quick_office.references()) == (("AE", ["904"]), ["current"])


def _references(office: Office) -> list[Resource]:
    with office.repository.snapshot() as connection:
        found = search(connection, office.repository.base, "DocumentReference", []).matches
    return [office.repository.load("DocumentReference", one.id) for one in found]


def _file_with_another(office: Office, reference: Resource) -> None:
    with office.repository.transaction() as transaction:
        other = transaction.create({"resourceType": "Patient"})
        transaction.update(reference | {"subject": {"reference": f"Patient/{other.id}"}})


def test_a_document_issued_here_is_not_deleted_by_a_message(quick_office: Office) -> None:
    content = write(small_document())
    received = document_imports.receive(content)
    with quick_office.repository.transaction() as transaction:
        document_imports.file(transaction, received)
        table = documents.document_table
        transaction.connection.execute(update(table).values(carrier="CarePlan/1"))
    assert codes(quick_office.send(message(order(action="delete"), small_document()))) == ("AE", ["906"])
    assert quick_office.references() == ["current"]


def test_another_content_under_the_same_document_id_is_refused(quick_office: Office) -> None:
    quick_office.send(message(order(control_id="RELAIS01")))
    other = small_document()
    other.header.title = "Autre titre"
    assert codes(quick_office.send(message(order(control_id="RELAIS02"), other))) == ("AE", ["906"])


def test_a_patient_who_is_not_quite_the_same_is_refused(quick_office: Office) -> None:
    quick_office.send(message(order(control_id="RELAIS01")))
    other = small_document()
    other.header.id = other.header.set_id = II("2.25.98")
    other.header.patient.birth_time = "19790329"
    assert codes(quick_office.send(message(order(control_id="RELAIS02"), other))) == ("AE", ["904"])
    assert quick_office.references() == ["current"]


# --- business acknowledgements --------------------------------------------------------------------------------------


def test_control_ids_lead_back_to_their_message() -> None:
    name = "<2f5c9a04-53ce-4d5f-8b4c-6a2f6d1f0b11@relais.mssante.fr>"
    assert control_id(name) == "2F5C9A0453CE4D5F8B4C"
    assert name.startswith(beginning_of_message_id(control_id(name)))
    assert beginning_of_message_id(control_id("<autre@relais.mssante.fr>")) == ""


def ordered(office: Office, platform: Hl7v2Platform, *mailboxes: str) -> tuple[str, str]:
    """Order the small document for these mailboxes, and deliver it to the platform: the Task, and the MSH-10."""
    settings = replace(
        office.settings,
        hl7v2_host="127.0.0.1",
        hl7v2_port=platform.port,
        hl7v2_tls=False,
        hl7v2_receiving_application="PFI",
        hl7v2_receiving_facility="GHT",
        organization_name="DAC",
    )
    with office.repository.transaction() as transaction:
        wanted = Wanted(("hl7v2",), mailboxes)
        task = transmit_document(transaction, small_shipment().document, wanted, settings, transaction.now)
    assert worker(office.repository, settings, lambda *_: []).step()
    [taken] = platform.messages()
    return task.id, taken.control_id


def said(office: Office, task: str) -> list[str]:
    """What the Task says of acknowledgements."""
    outputs = office.repository.load("Task", task)["output"]
    return [one["valueString"] for one in outputs if one["type"]["coding"][0]["code"].startswith("acknowledgement")]


def test_acknowledgements_of_a_platform_find_their_order(office: Office, tmp_path: Path) -> None:
    with Hl7v2Platform(tmp_path / "platform", None) as platform:
        task, name = ordered(office, platform, NURSE)
        answers = platform.emit(name, office.server.host, office.server.port)
    assert [answer.code for answer in answers] == ["AA"] * len(answers)
    assert any("Z02" in line for line in said(office, task))
    assert any("Z03" in line for line in said(office, task))


def test_one_mailbox_that_refuses_is_told_whatever_others_say(quick_office: Office, tmp_path: Path) -> None:
    with Hl7v2Platform(tmp_path / "platform", None) as platform:
        task, name = ordered(quick_office, platform, PROFESSIONAL, NURSE)
        platform.unknown.add(PROFESSIONAL)
        platform.emit(name, quick_office.server.host, quick_office.server.port)
    assert any(f"Z02 {PROFESSIONAL}: no" in line for line in said(quick_office, task))


def acknowledgement(trigger: Any, name: str, mailbox: str = "", *, positive: bool = True) -> Zam:
    error = None if positive else ErrorCondition("207", application="550", application_label="Inconnu")
    endpoints = Endpoint("PFI", "GHT"), Endpoint("RELAIS", "DAC")
    return Zam(trigger, "PFI0001", name, positive, "20260112090501+0100", *endpoints, mailbox=mailbox, error=error)


def test_reception_is_what_every_mailbox_says_and_no_other(quick_office: Office, tmp_path: Path) -> None:
    with Hl7v2Platform(tmp_path / "platform", None) as platform:
        task, name = ordered(quick_office, platform, PROFESSIONAL, NURSE)

    def take(trigger: str, mailbox: str = "", *, positive: bool = True) -> str:
        with quick_office.repository.transaction() as transaction:
            reception.take_zam(transaction, acknowledgement(trigger, name, mailbox, positive=positive))
        [line, *_] = [one for one in said(quick_office, task) if "Z0" in one and "Z03" not in one]
        return next(word for word in line.replace(":", " ").split() if word in ("attendu", "positif", "négatif"))

    assert take("Z01") == "attendu"
    assert take("Z02", NURSE.upper()) == "attendu"
    assert take("Z02", PROFESSIONAL, positive=False) == "négatif"
    assert take("Z02", NURSE) == "négatif"
    assert take("Z02", PROFESSIONAL) == "positif"
    with pytest.raises(RelaisError, match="did not go to this mailbox"):
        take("Z03", "autre@cabinet.mssante.fr")


def test_reading_is_what_mailboxes_say_that_took_the_message(quick_office: Office, tmp_path: Path) -> None:
    with Hl7v2Platform(tmp_path / "platform", None) as platform:
        task, name = ordered(quick_office, platform, PROFESSIONAL, NURSE)

    def take(trigger: str, mailbox: str, *, positive: bool = True) -> list[str]:
        with quick_office.repository.transaction() as transaction:
            reception.take_zam(transaction, acknowledgement(trigger, name, mailbox, positive=positive))
        words = [line.replace(":", " ").split() for line in said(quick_office, task)]
        return [next(word for word in line if word in ("attendu", "positif", "négatif")) for line in words]

    assert take("Z02", PROFESSIONAL, positive=False) == ["attendu", "négatif"]
    assert take("Z03", NURSE) == ["positif", "négatif"]


def test_nobody_reads_what_every_mailbox_refused(quick_office: Office, tmp_path: Path) -> None:
    with Hl7v2Platform(tmp_path / "platform", None) as platform:
        task, name = ordered(quick_office, platform, NURSE)
    with quick_office.repository.transaction() as transaction:
        reception.take_zam(transaction, acknowledgement("Z02", name, NURSE, positive=False))
    assert len(said(quick_office, task)) == 1


def test_an_acknowledgement_of_nothing_of_ours_is_refused(quick_office: Office) -> None:
    zam = Zam(
        "Z02",
        "PFI0001",
        "2F5C9A0453CE4D5F8B4C",
        False,
        "20260112090501+0100",
        Endpoint("PFI", "GHT"),
        Endpoint("RELAIS", "DAC"),
        mailbox=PROFESSIONAL,
        error=ErrorCondition("207", application="550", application_label="Inconnu"),
    )
    assert codes(quick_office.send(write_zam(zam))) == ("AE", ["906"])


# --- process --------------------------------------------------------------------------------------------------------


def test_the_command_listens_under_mutual_tls_and_ends_when_told(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "127.0.0.1")
    server = tmp_path / "server.pem"
    server.write_bytes(
        authority._server.private_key_pem.bytes() + b"".join(pem.bytes() for pem in authority._server.cert_chain_pems)
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    values = {
        "DATABASE_URL": f"sqlite:///{tmp_path / 'store.sqlite'}",
        "HL7V2_LISTEN_PORT": str(port),
        "HL7V2_LISTEN_CERTIFICATE": str(server),
        "HL7V2_LISTEN_CA_FILE": str(authority.ca_file),
        "FHIR_PACKAGES": "none",
    }
    environment = os.environ | {f"RELAIS_{name}": value for name, value in values.items()}
    process = subprocess.Popen([sys.executable, "-m", "relais.server.cli", "hl7v2"], env=environment)
    try:
        _wait_for(port)
        known = Settings.of(
            {"hl7v2_ca_file": str(authority.ca_file), "hl7v2_certificate": str(authority.client_certificate())}
        )
        with MllpClient("127.0.0.1", port, timeout=30, context=lambda: client_context(known, "hl7v2")) as client:
            answer = read_acknowledgement(client.exchange(message(to_both()), lambda _: True))
        assert answer.code == "AA"
        stranger = replace(known, hl7v2_certificate="")
        client = MllpClient("127.0.0.1", port, timeout=30, context=lambda: client_context(stranger, "hl7v2"))
        with client, pytest.raises(OSError):
            client.exchange(message(to_both()), lambda _: True)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def test_a_client_that_was_revoked_is_refused_from_then_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    authority = trustme.CA()
    client = authority.issue_cert("client.example")
    files = {name: tmp_path / f"{name}.pem" for name in ("certificate", "ca_file", "crl_file")}
    files["certificate"].write_bytes(authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.bytes())
    authority.cert_pem.write_to_path(files["ca_file"])
    files["crl_file"].write_bytes(revocation_list(authority))
    store = Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}")
    office = Office(store, **{f"hl7v2_listen_{name}": str(path) for name, path in files.items()})
    context = ssl.create_default_context(cafile=str(files["ca_file"]))
    client.configure_cert(context)

    def said() -> str:
        with MllpClient(office.server.host, office.server.port, timeout=20, context=lambda: context) as sender:
            return read_acknowledgement(sender.exchange(message(order()), lambda _: True)).code

    with office.server:
        assert said() == "AA"
        certificate = x509.load_pem_x509_certificate(client.cert_chain_pems[0].bytes())
        files["crl_file"].write_bytes(revocation_list(authority, certificate))
        with pytest.raises(OSError):
            said()
        files["crl_file"].write_text("-----BEGIN X509 CRL-----")
        with pytest.raises(OSError):
            said()
        assert "a connection is closed" in caplog.text
        files["crl_file"].write_bytes(revocation_list(authority))
        renewed = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.bytes()
        files["certificate"].write_bytes(renewed)
        assert said() == "AA"
        with (
            socket.create_connection((office.server.host, office.server.port), timeout=20) as raw,
            context.wrap_socket(raw, server_hostname="127.0.0.1") as connection,
        ):
            shown = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")
        assert shown == x509.load_pem_x509_certificates(renewed)[0]
    store.close()


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"hl7v2_listen_ca_file": "x.pem"}, "hl7v2_listen_certificate"),
        ({"hl7v2_listen_certificate": __file__, "hl7v2_listen_crl_file": "x.pem"}, "hl7v2_listen_ca_file"),
        ({"hl7v2_listen_certificate": "absent.pem"}, "hl7v2_listen_certificate"),
        ({"hl7v2_listen_certificate": __file__}, "hl7v2_listen_certificate"),
    ],
)
def test_certificates_that_cannot_be_used(tmp_path: Path, changes: dict[str, str], path: str) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}")
    try:
        with pytest.raises(RelaisError) as caught:
            Office(store, **changes)
        assert caught.value.issues[0].path == path
    finally:
        store.close()


def test_the_listed_trust_space_is_that_of_messages_too(tmp_path: Path) -> None:
    listed = tmp_path / "domaines.txt"
    listed.write_text("ssiad.mssante.fr\npatient.mssante.fr\n")
    store = Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}")
    office = Office(store, mss_domains_file=str(listed))
    elsewhere = order(recipients=(replace(HL7_NURSE, mailbox="infirmier@autre.ssiad.mssante.fr"),))
    with office.server:
        assert office.send(message(order())).code == "AA"
        assert office.send(message(replace(elsewhere, control_id="RELAIS0002"))).code == "AE"
    store.close()
