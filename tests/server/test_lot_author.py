"""Who sends: the author of the lot is of the structure of the settings, whoever wrote the document."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from relais.cda import xdm
from relais.cda.errors import RelaisError
from relais.server.commands import pack
from relais.server.delivery import lot_author, vihf
from relais.server.delivery.mail_message import _archive
from relais.server.store import Store
from support.orders import NOW, Office, document_of
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


def test_an_archive_says_where_its_sender_is_to_be_found(store: Store) -> None:
    asked = {"organization_address": "1 rue du Val, 91000 Évry", "organization_phone": "01 60 00 00 00"}
    office = Office(store, mss_domains_file="", **asked)
    office.order(office.post(PLANS["full"], "CarePlan"), "mss", recipient="medecin@cabinet.mssante.fr")
    office.work()
    [shipment] = office.channels["mss"].taken
    author = shipment.submission.submission_set.author
    ours = lot_author.named_in_archives(author, office.settings)
    assert (ours.address, ours.phone) == tuple(asked.values())
    archive = zipfile.ZipFile(io.BytesIO(_archive(shipment, office.settings)))
    readme, index = (archive.read(name).decode() for name in ("README.TXT", "INDEX.HTM"))
    assert all(text in readme for text in asked.values())
    assert "téléphone : 01 60 00 00 00" in index
    elsewhere = lot_author.named_in_archives(
        author, replace(office.settings, organization_finess="", organization_name="X")
    )
    assert (elsewhere.address, elsewhere.phone) == (None, None)


def test_packed_by_hand_a_document_is_sent_by_who_would_send_it_by_mail(store: Store) -> None:
    content = document_of(office := Office(store), office.post(PLANS["full"], "CarePlan"))
    settings = replace(office.settings, organization_finess="910020254", facility_type="SA01", organization_name="DAC")
    archive = xdm.unpack(pack([content], settings, NOW))
    lot = archive.submission.submission_set
    assert [text.rpartition("^")[2] for text in lot.author.institutions] == ["1910020254"]
    assert lot.content_type.code != "SA01"
    unknown = replace(settings, responsible_rpps="")
    lot = xdm.unpack(pack([content], unknown, NOW)).submission.submission_set
    assert "1910019447" in lot.author.institutions[0]
