"""What care staff read in a Task is French; the store and the operator's commands keep the English."""

from __future__ import annotations

import ast
import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from relais import server
from relais.cda.errors import Issue
from relais.mappings import to_cda
from relais.server.delivery.channel import DeliveryError
from relais.server.delivery.task import refused_order
from relais.server.delivery.words import french
from relais.server.store import Store
from support.notifications import NOTICES
from support.orders import Office, trouble
from support.plans import PLANS

DOCTOR = "medecin.traitant@cabinet.mssante.fr"
ENGLISH = ("delivered", "retry", "refused", "the document", "awaited", "was ", "nothing", "patient of")


@pytest.fixture
def office(lite: Store) -> Office:
    return Office(lite, triggers="validated-plan=dmp")


def read(task: dict[str, Any]) -> str:
    """All that a person reads of what became of an order."""
    told = [one.get("valueString", "") for one in task.get("output", ())]
    return "\n".join([*told, task.get("statusReason", {}).get("text", ""), task["code"]["text"]])


def test_a_task_is_read_in_french(office: Office) -> None:
    plan = office.post(PLANS["minimal"], "CarePlan")
    office.channels["mss"].failures = [trouble()]
    task = office.order(plan, "mss", recipient=DOCTOR)
    office.work()
    assert "échec, nouvelle tentative prévue : asked of the test" in read(office.task(task))
    office.wait(hours=1)
    office.work()
    said = read(office.task(task))
    assert "remis" in said
    assert "Accusé de réception" not in said  # a label, not a value
    assert "attendu jusqu'au" in said
    assert not any(word in said for word in ENGLISH)


def test_why_it_was_given_up_is_read_in_french_and_kept_in_english(office: Office) -> None:
    plan = office.post(PLANS["full"], "CarePlan")
    task = office.order(plan, "hl7v2")
    office.change(office.read(plan)["subject"]["reference"], active=False)
    office.work()
    told = office.task(task)
    assert "le dossier du patient n'est plus utilisé (active vaut false)" in told["statusReason"]["text"]
    assert "Patient.active" in told["statusReason"]["text"]
    [delivery] = office.deliveries(task)
    assert "the record of the patient is not in use" in delivery.reason


def test_what_the_rules_refuse_of_an_event_is_read_in_french(office: Office) -> None:
    office.post(PLANS["consent-refused"], "CarePlan")
    [task] = [entry["resource"] for entry in office.read("Task?status=rejected")["entry"]]
    assert "la personne s'oppose au partage" in task["statusReason"]["text"]
    assert "error: " not in task["statusReason"]["text"]


def test_words_of_a_counterpart_stay_as_they_are(office: Office) -> None:
    refusal = DeliveryError(
        Issue("error", "processing", "XDSInventedError: a; b", "lot", "XDSInventedError"), retry=False
    )
    office.channels["hl7v2"].failures = [refusal]
    task = office.order(office.post(NOTICES["note"], "Communication"), "hl7v2")
    office.work()
    assert "lot : XDSInventedError: a; b [XDSInventedError]" in office.task(task)["statusReason"]["text"]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            "stored by the repository; the document it replaces is not in the registry: sent as a new one",
            "enregistré par le DMP ; le document à remplacer n'est pas dans le DMP : envoyé comme nouveau document",
        ),
        (
            "error: no answer in time; error: x: no answer in time [R]",
            "pas de réponse à temps ; x : pas de réponse à temps [R]",
        ),
        (
            "error: mss_certificate: our certificate has expired [TLS]",
            "mss_certificate : notre certificat a expiré [TLS]",
        ),
        (
            "error: recipients[0]: refused for now: 452 full [RFC 5321]",
            "recipients[0] : refusé pour l'instant : 452 full [RFC 5321]",
        ),
        (
            "error: the DMP cannot be reached (Connection refused): nothing was sent",
            "le DMP est injoignable (connexion refusée) : rien n'a été envoyé",
        ),
        (
            "error: the share cannot be reached: nothing was sent",
            "le partage de documents est injoignable : rien n'a été envoyé",
        ),
        (
            "error: the answer cannot be read: not well-formed XML (tag name mismatch): the document may have been"
            " stored",
            "la réponse est illisible : XML mal formé (la balise fermante n'est pas celle de l'élément ouvert) : le"
            " document est peut-être enregistré",
        ),
        (
            "error: dmp_ca_file: the certificate of the DMP is not trusted: nothing was sent [TLS]",
            "dmp_ca_file : le certificat du DMP n'est pas accepté (émetteur qui n'est pas de confiance) : rien n'a été"
            " envoyé [TLS]",
        ),
        (
            "error: mss_certificate: the mail server refuses the connection or our certificate (unknown ca): nothing"
            " was taken [TLS]",
            "mss_certificate : le serveur de messagerie refuse la connexion ou notre certificat (autorité de"
            " certification inconnue) : rien n'a été reçu [TLS]",
        ),
        (
            "error: /ClinicalDocument/id: the PDF has no end marker: it is cut short [relais-media-end]",
            "/ClinicalDocument/id : le fichier PDF n'a pas de marque de fin : il est tronqué [relais-media-end]",
        ),
        (
            "error: recipients[0]: refused for now: 452 a mailbox size is required [RFC 5321]",
            "recipients[0] : refusé pour l'instant : 452 a mailbox size is required [RFC 5321]",
        ),
        ("", ""),
        ("250 2.0.0 Ok: queued", "250 2.0.0 Ok: queued"),
    ],
)
def test_sentences_issues_and_what_is_neither(told: str, expected: str) -> None:
    assert french(told) == expected


def _refusals() -> Iterator[str]:
    """What a conversion refuses in fixed words: a Task of an order that an event would have placed shows them."""
    for path in sorted(Path(to_cda.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "refuse":
                message = node.args[1]
                if isinstance(message, ast.Constant) and message.value != "Base64":
                    yield str(message.value)


@pytest.mark.parametrize("message", sorted(set(_refusals())))
def test_what_a_conversion_refuses_is_said_in_french(message: str) -> None:
    assert french(f"error: CarePlan.x: {message} [rule]").partition(" : ")[2] not in (f"{message} [rule]", " [rule]")


def test_what_pretends_to_be_many_texts_in_one_another_is_told_as_it_is() -> None:
    assert french("failed: " * 500).endswith("failed: ")


def test_a_refused_order_tells_errors_alone() -> None:
    issues = [
        Issue("error", "required", "the administrative gender", "Patient.gender", "R"),
        Issue("warning", "business-rule", "no profession of JDV_J01", "x", "R"),
    ]
    task = refused_order("CarePlan/1", None, ("dmp",), issues, datetime(2026, 3, 2, tzinfo=UTC))
    assert task["statusReason"]["text"] == "Patient.gender : le sexe administratif [R]"


@pytest.mark.parametrize("table", ["delivery/french.tsv", "validation/french.tsv", "validation/reasons.tsv"])
def test_the_table_says_each_thing_once_and_fills_in_as_much_as_it_takes(table: str) -> None:
    path = Path(server.__file__).parent / table
    with path.open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert len({row["en"] for row in rows}) == len(rows)
    assert [row["en"] for row in rows if not row["fr"] or row["en"].count("{}") != row["fr"].count("{}")] == []
