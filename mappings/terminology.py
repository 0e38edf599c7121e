"""Code tables of the CI-SIS documents: labels and OIDs of codes, and FHIR URI ⇄ OID of code systems.

The tables are data files under `data/` (one per value set, with source and date in the first line), read once on first
use. CI-SIS annexe "Jeux de valeurs", nomenclatures of the ANS (TRE, JDV, ASS).
"""

from __future__ import annotations

from functools import cache, lru_cache
from importlib.resources import files
from typing import NamedTuple

from relais.cda.model import Code

NOS = "https://mos.esante.gouv.fr/NOS/"
TRE_G15 = f"{NOS}TRE_G15-ProfessionSante/FHIR/TRE-G15-ProfessionSante"
TRE_R38 = f"{NOS}TRE_R38-SpecialiteOrdinale/FHIR/TRE-R38-SpecialiteOrdinale"
V2_CONTACT_ROLE = "http://terminology.hl7.org/CodeSystem/v2-0131"
PROFESSION_KNOW_HOW = "1.2.250.1.213.1.1.4.5"  # TRE_A02: G15_10/SM26…
LEGAL_PROTECTION = "1.2.250.1.213.1.1.4.327"  # TRE_R217: TUTEUR, CURATEUR, MSVG
RELAIS_CODES = "https://relais.example/fhir/CodeSystem/"  # code systems of our own guide
TERMINOLOGIE_CISIS_URI = "https://smt.esante.gouv.fr/fhir/CodeSystem/terminologie-cisis"


class Concept(NamedTuple):
    """One line of a value set; `system` is the OID of the code system."""

    code: str
    system: str
    display: str

    def as_code(self) -> Code:
        """A new coded value with the published label."""
        return Code(*self)


@cache
def value_set(name: str) -> dict[str, Concept]:
    """The value set of that name (`J47`, `pps_problem`…: the file names under `data/`), by code."""
    return {row[0]: Concept(*row) for row in _rows(name)}


def concept(name: str, code: str | None, system: str | None = None) -> Concept | None:
    """The concept of value set `name` with that code; when `system` (OID or URI) is given it must agree."""
    found = value_set(name).get(code) if code else None
    if found is None or (system is not None and oid_of(system) != found.system):
        return None
    return found


def coded(name: str, value: str) -> Code:
    """A coded value of value set `name`. The code is one of ours: an unknown one is a programming error (KeyError)."""
    return value_set(name)[value].as_code()


@lru_cache(maxsize=1024)
def oid_of(system: str | None) -> str | None:
    """The OID of a code system named by FHIR URI, `urn:oid:` or OID; None when unknown."""
    if not system:
        return None
    if system.startswith("urn:oid:"):
        return system[8:]
    return system if system[0].isdigit() else _oids().get(system)


@lru_cache(maxsize=1024)
def uri_of(oid: str | None) -> str | None:
    """The FHIR URI of a code system OID: the published one, else `urn:oid:…`."""
    return (_systems().get(oid) or (f"urn:oid:{oid}", ""))[0] if oid else None


@lru_cache(maxsize=1024)
def name_of(oid: str | None) -> str | None:
    """The French name of a code system OID, if known (codeSystemName)."""
    return _systems().get(oid, ("", None))[1] if oid else None


@cache
def _systems() -> dict[str, tuple[str, str]]:
    systems: dict[str, tuple[str, str]] = {}
    for oid, uri, name in _rows("code_systems"):
        systems.setdefault(oid, (uri, name))
    return systems


@cache
def _oids() -> dict[str, str]:
    return {uri: oid for oid, uri, _ in _rows("code_systems")}


def _rows(name: str) -> list[tuple[str, str, str]]:
    text = files("relais.mappings").joinpath("data", f"{name}.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines() if line and not line.startswith("#"))
    return [(first, second, third) for first, second, third in rows]
