"""Shapes and check digits of national identifiers. Every number here is invented or published as an example."""

from __future__ import annotations

import pytest

from relais.cda.identifiers import (
    finess_is_valid,
    ins_is_valid,
    ins_key,
    is_ps_idnat,
    is_struct_idnat,
    rpps_is_valid,
    siren_is_valid,
    siret_is_valid,
)


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ("2790351215189", "89"),
        ("2770763220829", "10"),
        ("2070585756270", "97"),
        ("1460263220001", "96"),
        ("2550699999999", "34"),
        ("155082A123456", f"{97 - 1550819123456 % 97:02d}"),
        ("155082B123456", f"{97 - 1550818123456 % 97:02d}"),
    ],
)
def test_ins_key(body: str, key: str) -> None:
    assert ins_key(body) == key
    assert ins_is_valid(body + key)


@pytest.mark.parametrize(
    "body", ["", "279035121518", "27903512151890", "2790352C15189", "279035121518٩", "A790351215189"]
)
def test_ins_key_of_another_form_is_refused(body: str) -> None:
    with pytest.raises(ValueError, match="13 digits"):
        ins_key(body)


@pytest.mark.parametrize("ins", ["279035121518988", "2790351215189", "2790351215189 89", "27903512151898", ""])
def test_ins_that_is_not_valid(ins: str) -> None:
    assert not ins_is_valid(ins)


def test_every_changed_digit_of_an_ins_is_noticed() -> None:
    ins = "279035121518989"
    changed = {f"{ins[:at]}{digit}{ins[at + 1 :]}" for at in range(15) for digit in "0123456789"} - {ins}
    assert not any(ins_is_valid(other) for other in changed)


def test_luhn_keys() -> None:
    assert rpps_is_valid("99700218896")
    assert siren_is_valid("732829320")
    assert siret_is_valid("73282932000074")
    assert finess_is_valid("750712184")
    assert not rpps_is_valid("99700218897")
    assert not siren_is_valid("732829321")
    assert not siret_is_valid("73282932000075")
    assert not finess_is_valid("750712185")


@pytest.mark.parametrize("number", ["", "7507121840", "75071218", "75071218²", "7507 12184"])
def test_luhn_key_of_another_form_is_not_valid(number: str) -> None:
    assert not any(check(number) for check in (rpps_is_valid, siren_is_valid, siret_is_valid, finess_is_valid))


def test_siret_of_la_poste_follows_its_own_rule() -> None:
    assert siret_is_valid("35600000000048")
    assert siret_is_valid("35600000049837")
    assert not siret_is_valid("35600000049838")


def test_corsican_finess_has_a_letter() -> None:
    assert finess_is_valid("2A0000014")
    assert not finess_is_valid("2C0000014")
    assert not finess_is_valid("2A00000145")


@pytest.mark.parametrize(
    "extension",
    ["810101234567", "0751234567", "02A1234567", "3750100125/1453", "473282932/a", "1A12/7", "610101234567/7"],
)
def test_ps_idnat_shapes(extension: str) -> None:
    assert is_ps_idnat(extension) == (extension != "473282932/a")


@pytest.mark.parametrize("extension", ["10101234567", "8101012345678", "3750100125", "", "9101234567", "3750100125/"])
def test_ps_idnat_of_another_shape(extension: str) -> None:
    assert not is_ps_idnat(extension)


@pytest.mark.parametrize("extension", ["1750712184", "12A0000014", "2732829320", "373282932000074", "41010123456701"])
def test_struct_idnat_shapes(extension: str) -> None:
    assert is_struct_idnat(extension)


@pytest.mark.parametrize("extension", ["750712184", "17507121840", "2801234567897", "3732829320", "5750712184", ""])
def test_struct_idnat_of_another_shape(extension: str) -> None:
    assert not is_struct_idnat(extension)
