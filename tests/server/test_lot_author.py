"""Who sends: the author of the lot is of the structure of the settings, whoever wrote the document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relais.cda.errors import RelaisError
from relais.server.delivery import vihf
from relais.server.store import Store
from support.orders import Office
from support.plans import PLANS


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


def test_who_wrote_it_in_our_structure_sends_it(store: Store) -> None:
    office = Office(store)
    office.order(office.post(PLANS["full"], "CarePlan"), "dmp")
    office.work()
    [shipment] = office.channels["dmp"].taken
    assert shipment.submission.submission_set.author == shipment.submission.entries[0].authors[0]


def test_whom_the_dmp_would_refuse_is_refused_at_once(store: Store) -> None:
    office = Office(store, organization_finess="910020254", responsible_rpps="")
    with pytest.raises(RelaisError, match="responsible_rpps"):
        office.order(office.post(PLANS["full"], "CarePlan"), "dmp")
