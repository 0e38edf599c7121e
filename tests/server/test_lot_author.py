"""Who sends: the author of the lot is of the structure of the settings, whoever wrote the document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relais.cda.errors import RelaisError
from relais.cda.xds import MetadataAuthor
from relais.server.delivery import vihf
from relais.server.delivery.lot_author import lot_author
from relais.server.settings import Settings
from relais.server.store import Store
from support.orders import Office, settings_of
from support.plans import PLANS
from support.shipments import AUTHOR

OWN = "Appui du Val^^^^^&1.2.250.1.71.4.2.2&ISO^IDNST^^^1910020254"
NURSE = MetadataAuthor("810100000019^LEFRANC^Isabelle^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS", (OWN,))
PATIENT = MetadataAuthor("279035121518989^PAT-TROIS^DOMINIQUE^^^^^^&1.2.250.1.213.1.4.10&ISO^D^^^NH")
RESPONSIBLE = MetadataAuthor("810101234567^ORME^Claire^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS", (OWN,))
SOFTWARE = MetadataAuthor(
    "3910020254/Relais^Relais^Relais^^^^^^&1.2.250.1.71.4.2.1&ISO^U^^^RI",
    (OWN,),
    specialties=("AUTOMATE^Automate^1.2.250.1.213.1.1.4.6",),
)


def structure(**changes: str) -> Settings:
    named = {"responsible_rpps": "10101234567", "responsible_family": "ORME", "responsible_given": "Claire"}
    return settings_of(**{"organization_finess": "910020254", "organization_name": "Appui du Val", **named, **changes})


@pytest.mark.parametrize(
    ("authors", "changes", "expected"),
    [
        ((AUTHOR, NURSE), {}, NURSE),
        ((AUTHOR,), {}, RESPONSIBLE),
        ((PATIENT,), {}, RESPONSIBLE),
        ((AUTHOR,), {"responsible_rpps": ""}, SOFTWARE),
        ((AUTHOR, NURSE), {"organization_finess": ""}, AUTHOR),
    ],
)
def test_the_author_of_a_lot(
    authors: tuple[MetadataAuthor, ...], changes: dict[str, str], expected: MetadataAuthor
) -> None:
    assert lot_author(authors, structure(**changes)) == expected


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path / 'orders.sqlite'}")
    yield opened
    opened.close()


def test_what_somebody_of_another_structure_wrote_is_sent_in_the_name_of_ours(store: Store) -> None:
    office = Office(store, organization_finess="910020254")
    office.order(office.post(PLANS["full"], "CarePlan"), "dmp")
    office.work()
    [shipment] = office.channels["dmp"].taken
    [entry], lot = shipment.submission.entries, shipment.submission.submission_set
    assert "1910019447" in entry.authors[0].institutions[0]
    assert [text.rpartition("^")[2] for text in lot.author.institutions] == ["1910020254"]
    assert vihf.sender(lot.author, office.settings).structure == "1910020254"


def test_whom_the_dmp_would_refuse_is_refused_at_once(store: Store) -> None:
    office = Office(store, organization_finess="910020254", responsible_rpps="")
    with pytest.raises(RelaisError, match="responsible_rpps"):
        office.order(office.post(PLANS["full"], "CarePlan"), "dmp")
