"""What may go where, as `$transmit` answers it at once: agenda, notification and PPS, at both levels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from relais.mappings.context import Resource
from support.appointments import AGENDAS
from support.facade import RunningFacade, issues, running_facade
from support.notifications import NOTICES
from support.plans import PLANS

MAILBOX = "medecin.traitant@cabinet.mssante.fr"
DMP_TYPES = "JDV_J66, ASS_X04"
CARRIERS = {
    "pps": ("CarePlan", PLANS["full"]),
    "agenda": ("Patient", AGENDAS["minimal"]),
    "appointment": ("Appointment", AGENDAS["minimal"]),
    "discharge": ("CommunicationRequest", NOTICES["discharge"]),
    "note": ("Communication", NOTICES["note"]),
}


SETTINGS = {
    "organization_name": "Dispositif d'appui à la coordination du Val d'Orge",
    "organization_finess": "910019447",
    "responsible_rpps": "10101234567",
    "responsible_family": "ORME",
    "responsible_given": "Claire",
    "mss_sender": "coordination@dac.mssante.fr",
    "dmp_url": "https://dmp.example/",
    "hl7v2_host": "127.0.0.1",
    "mhd_url": "https://share.example/fhir",
    "hl7v2_receiving_application": "PFI",
    "hl7v2_receiving_facility": "GHT",
}


@pytest.fixture(scope="module")
def facade(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFacade]:
    """A facade that has every channel; nobody is there."""
    with running_facade(tmp_path_factory.mktemp("facade"), **SETTINGS) as running:
        yield running


@pytest.fixture(scope="module")
def stored(facade: RunningFacade) -> dict[str, str]:
    """The `Type/[id]` of what each document is about."""
    found = {}
    for kind, (resource_type, bundle) in CARRIERS.items():
        answer = facade.post("", bundle)
        assert answer.status_code == 200, answer.text
        names = [entry["response"]["location"].split("/_history/")[0] for entry in answer.json()["entry"]]
        found[kind] = next(name for name in names if name.startswith(f"{resource_type}/"))
    return found


def order(facade: RunningFacade, carrier: str, channel: str, level: str = "n3") -> requests.Response:
    """Order a transmission; nothing is kept of it."""
    parameters: list[Resource] = [
        {"name": "channel", "valueCode": channel},
        {"name": "level", "valueCode": level},
        {"name": "dryRun", "valueBoolean": True},
    ]
    if channel == "mss":
        parameters.append({"name": "recipient", "valueString": MAILBOX})
    if carrier.startswith("Patient/"):
        parameters.append({"name": "model", "valueCode": "agenda"})
    return facade.post(f"{carrier}/$transmit", {"resourceType": "Parameters", "parameter": parameters})


@pytest.mark.parametrize("level", ["n3", "n1"])
@pytest.mark.parametrize("channel", ["mss", "hl7v2", "mhd", "dmp"])
@pytest.mark.parametrize("kind", CARRIERS)
def test_the_dmp_takes_what_its_list_of_types_holds_and_the_others_take_all(
    facade: RunningFacade, stored: dict[str, str], kind: str, channel: str, level: str
) -> None:
    answer = order(facade, stored[kind], channel, level)
    if channel == "dmp" and kind in ("agenda", "appointment", "discharge"):
        assert answer.status_code == 422, answer.text
        (issue,) = issues(answer)
        assert (issue["code"], issue["expression"]) == ("not-supported", ["ClinicalDocument/code"])
        assert issue["details"]["text"] == DMP_TYPES
    else:
        assert answer.status_code == 200, answer.text
