"""Sorting by any parameter on both engines, and pages that neither skip nor repeat while others write."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from relais.server.search import SearchError
from relais.server.store import Store
from support.searches import add, every_page, ids, run


def patient(resource_id: str, family: str = "", birth: str = "", given: str = "") -> dict[str, Any]:
    resource: dict[str, Any] = {"resourceType": "Patient", "id": resource_id, "gender": "female"}
    if family or given:
        resource["name"] = [{"family": family or "x", "given": [given or "x"]}]
    if birth:
        resource["birthDate"] = birth
    return resource


PATIENTS = [
    patient("a", "Élan", "1950-01-01"),
    patient("b", "Zola", "1970-01-01"),
    patient("c", "", "1960-01-01"),
    patient("d", "eco", "1950-01-01"),
    patient("e"),
    patient("f", "Élan", "1940-01-01"),
]
ORDERS = {
    "family": "dafbce",
    "-family": "bafdce",
    "birthdate": "fadcbe",
    "-birthdate": "bcadfe",
    "family,-birthdate": "dafbce",
    "birthdate,family": "fdacbe",
    "-birthdate,-_id": "bcdafe",
    "family,-_lastUpdated": "dfabec",
    "gender,-_id": "fedcba",
    "identifier,-birthdate": "bcadfe",
}


@pytest.mark.parametrize("order", ORDERS)
def test_values_in_order_then_those_without_any(store: Store, order: str) -> None:
    add(store, *PATIENTS)
    for criterion in ("", "&gender=female", "&gender=female,male&_lastUpdated=gt2000"):
        assert "".join(ids(store, f"Patient?_sort={order}{criterion}")) == ORDERS[order]
        assert "".join(every_page(store, f"Patient?_count=2&_sort={order}{criterion}")) == ORDERS[order]
    page = run(store, f"Patient?_sort={order}&_count=4").next_page
    before = run(store, f"Patient?_sort={order}&_count=2", page=page).previous_page
    found = run(store, f"Patient?_sort={order}&_count=3", page=before)
    assert "".join(one.id for one in found.matches) == ORDERS[order][1:4]
    assert found.previous_page
    first = run(store, f"Patient?_sort={order}", page=found.previous_page)
    assert ("".join(one.id for one in first.matches), first.previous_page) == (ORDERS[order][0], None)


def test_each_kind_of_value_has_an_order(store: Store) -> None:
    def observation(resource_id: str, value: float, subject: str) -> dict[str, Any]:
        return {
            "resourceType": "Observation",
            "id": resource_id,
            "valueQuantity": {"value": value},
            "subject": {"reference": f"Patient/{subject}"},
            "meta": {"profile": [f"http://example.org/{subject}"]},
        }

    add(store, observation("one", 10, "z"), observation("two", 9.5, "y"), observation("three", -1, "x"))
    for key in ("value-quantity", "subject", "_profile"):
        assert ids(store, f"Observation?_sort={key}") == ["three", "two", "one"]
        assert ids(store, f"Observation?_sort=-{key}") == ["one", "two", "three"]


def test_a_resource_with_several_values_stands_at_its_first(store: Store) -> None:
    several = {"resourceType": "Patient", "id": "m", "name": [{"family": "Zola"}, {"family": "Abel"}]}
    add(store, *PATIENTS, several)
    assert ids(store, "Patient?_sort=family")[0] == "m"
    assert "m" in ids(store, "Patient?_sort=-family")[:2]


@pytest.mark.parametrize("order", ["family", "-family", "birthdate,-family"])
def test_pages_stand_while_others_write(store: Store, order: str) -> None:
    """Whoever matches throughout with an unchanged key is found exactly once."""
    add(store, *(patient(f"p{n:02}", f"f{n % 5}", f"19{n % 7 + 50}-01-01") for n in range(20)))
    add(store, *(patient(f"q{n:02}") for n in range(5)))
    numbers = itertools.count()

    def write() -> None:
        number = next(numbers)
        add(store, patient(f"n{number}", f"f{number % 5}", "1953-01-01"))
        add(store, {**patient(f"p{number:02}", f"f{number % 5}", f"19{number % 7 + 50}-01-01"), "active": True})
        with store.transaction() as transaction:
            doomed = f"p{19 - number:02}"
            current = transaction.read("Patient", doomed)
            assert current is not None
            transaction.delete("Patient", doomed, current.version + 1, current.last_updated)

    found = every_page(store, f"Patient?_sort={order}&_count=4", write)
    assert len(found) == len(set(found))
    assert {name for name in ids(store, "Patient?_count=100") if name[0] in "pq"} <= set(found)


def test_a_page_tells_nothing_and_belongs_to_its_search(store: Store) -> None:
    add(store, *PATIENTS)
    page = run(store, "Patient?_sort=family&_count=1").next_page
    assert page is not None
    assert len(run(store, "Patient?_sort=family&_count=3", page=page).matches) == 3
    for other in ("Patient?_sort=-family", "Patient?_sort=family&gender=female", "Group?_sort=_id"):
        with pytest.raises(SearchError):
            run(store, other, page=page)
    with pytest.raises(SearchError):
        run(store, "Patient?_sort=family", page=page[:-2] + "AA")


def test_an_old_page_is_refused_as_expired(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, *PATIENTS)
    page = run(store, "Patient?_count=1").next_page
    tomorrow = time.time() + 25 * 3600
    monkeypatch.setattr(time, "time", lambda: tomorrow)
    with pytest.raises(SearchError) as raised:
        run(store, "Patient?_count=1", page=page)
    assert raised.value.issues[0].code == "expired"
