"""Value sets and concept maps of the guide, made from the tables that the mappings read, so that they cannot disagree.

Sources: `mappings/data/*.tsv` (each names its own in its first line) and the public status tables of `mappings.to_cda`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, NamedTuple

from relais.mappings import terminology
from relais.mappings.terminology import Concept
from relais.mappings.to_cda import actions, appointments, goals, notification, pps

Resource = dict[str, Any]

BASE = terminology.RELAIS_CODES.removesuffix("CodeSystem/")
"""Canonical base of the guide, with its slash."""

_HL7 = "http://hl7.org/fhir/"
_ACT_STATUS = "2.16.840.1.113883.5.14"


def resources() -> list[Resource]:
    """Every value set and concept map that comes from a table."""
    return [*(_value_set(one) for one in _VALUE_SETS), *(_concept_map(one) for one in _CONCEPT_MAPS)]


# Value sets -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Codes:
    """A value set made of the codes of a table that `keep` keeps."""

    table: str
    id: str
    title: str
    keep: Callable[[str], bool] = lambda _: True


_VALUE_SETS = (
    _Codes(
        "pps",
        "pps-disposition",
        "Dispositions médico-sociales du PPS",
        lambda code: code.startswith("PAT-") or code == "ORG-013",
    ),
    _Codes("pps_problem", "pps-problem", "Problèmes du PPS"),
    _Codes("pps_care_kind", "pps-care-kind", "Types de prise en charge d'une action"),
    _Codes("pps_status", "pps-status", "Statut du PPS"),
    _Codes("gir", "gir", "Classes GIR"),
    _Codes("directive", "directive", "Types de directive anticipée"),
    _Codes("problem_kind", "problem-kind", "Genres de problème"),
    _Codes("event_status", "event-status", "Statut d'un évènement (FR-Statut)"),
    _Codes("event_motive", "event-motive", "Motifs de non-réalisation d'un évènement"),
    _Codes("act_priority", "act-priority", "Priorité d'un acte"),
)


def _value_set(codes: _Codes) -> Resource:
    included: dict[str, list[Resource]] = {}
    for concept in terminology.value_set(codes.table).values():
        if codes.keep(concept.code):
            included.setdefault(_uri(concept.system), []).append({"code": concept.code, "display": concept.display})
    return _described("ValueSet", codes.id, codes.title, codes.table) | {
        "compose": {"include": [{"system": system, "concept": found} for system, found in included.items()]}
    }


# Concept maps ---------------------------------------------------------------------------------------------------------


class _Pair(NamedTuple):
    """One correspondence. `system` is a URI; an empty `code` stands for every code that is not listed."""

    system: str
    code: str
    display: str
    target: Concept


@dataclass(frozen=True)
class _Map:
    """A concept map. `equivalence` says how the target stands to the source (R4 ConceptMapEquivalence)."""

    id: str
    title: str
    origin: str  # table or module that it is made from
    equivalence: str
    pairs: Callable[[], Iterable[_Pair]]


def _types() -> Iterator[_Pair]:
    for row in _rows("xds_type_class"):
        kind = terminology.concept("J07", row["code"], row["system"])
        target = terminology.value_set("xds_class")[row["class"]]
        yield _Pair(_uri(row["system"]), row["code"], kind.display if kind else "", target)


def _formats() -> Iterator[_Pair]:
    for row in _rows("xds_format"):
        system = "urn:ietf:bcp:13" if "/" in row["model"] else f"{terminology.RELAIS_CODES}cda-template-id"
        yield _Pair(system, row["model"], "", Concept(row["code"], row["system"], row["display"]))


def _named(table: str, targets: str) -> Callable[[], Iterable[_Pair]]:
    """The third column of `table` is a code of the value set `targets`."""
    return lambda: (
        _Pair(_uri(one.system), one.code, "", terminology.value_set(targets)[one.display])
        for one in terminology.value_set(table).values()
    )


def _appointments() -> Iterator[_Pair]:
    for status, state in appointments.STATES.items():
        target = terminology.value_set("event_status")[state.business]
        yield _Pair(f"{_HL7}appointmentstatus", status, state.words, target)


def _coded(system: str, codes: Mapping[str, str], targets: str) -> Callable[[], Iterable[_Pair]]:
    """FHIR codes of `system`, each written as a code of the value set `targets`."""
    return lambda: (
        _Pair(f"{_HL7}{system}", code, "", terminology.value_set(targets)[written]) for code, written in codes.items()
    )


def _act_statuses(system: str, statuses: Mapping[str, str]) -> Callable[[], Iterable[_Pair]]:
    return lambda: (
        _Pair(f"{_HL7}{system}", status, "", Concept(written, _ACT_STATUS, "")) for status, written in statuses.items()
    )


_CONCEPT_MAPS = (
    _Map("type-document-classe", "Type de document → classe (XDS)", "xds_type_class", "wider", _types),
    _Map("modele-format", "Modèle de document → formatCode (XDS)", "xds_format", "relatedto", _formats),
    _Map("parente", "Lien de parenté → relation du document (JDV_J11)", "kinship", "wider", _named("kinship", "J11")),
    _Map(
        "motif-annulation",
        "Motif d'annulation → motif du CI-SIS",
        "cancellation_reason",
        "wider",
        _named("cancellation_reason", "event_motive"),
    ),
    _Map("statut-rendez-vous", "Statut du rendez-vous → FR-Statut", "appointments.STATES", "relatedto", _appointments),
    _Map(
        "statut-rendez-vous-acte",
        "Statut du rendez-vous → statusCode",
        "appointments.STATES",
        "relatedto",
        _act_statuses("appointmentstatus", {code: state.status for code, state in appointments.STATES.items()}),
    ),
    _Map(
        "statut-plan",
        "Statut du plan → statut du document",
        "pps.STATUSES",
        "relatedto",
        _coded("request-status", pps.STATUSES, "pps_status"),
    ),
    _Map(
        "statut-objectif",
        "Statut de l'objectif → statusCode",
        "goals.STATUSES",
        "relatedto",
        _act_statuses("goal-status", goals.STATUSES),
    ),
    _Map(
        "statut-tache",
        "Statut d'une action (Task) → statusCode",
        "actions.STATUSES",
        "relatedto",
        _act_statuses("task-status", actions.STATUSES["Task"]),
    ),
    _Map(
        "statut-activite",
        "Statut d'une activité du plan → statusCode",
        "actions.STATUSES",
        "relatedto",
        _act_statuses("care-plan-activity-status", actions.STATUSES[""]),
    ),
    _Map(
        "statut-notification",
        "Statut de la notification → statusCode",
        "notification.STATUSES",
        "relatedto",
        _act_statuses("request-status", notification.STATUSES),
    ),
    _Map(
        "priorite",
        "Priorité → priorityCode",
        "notification.PRIORITIES",
        "equivalent",
        _coded("request-priority", notification.PRIORITIES, "act_priority"),
    ),
)


def _concept_map(stated: _Map) -> Resource:
    groups: dict[tuple[str, str], Resource] = {}
    unlisted: list[_Pair] = []
    for pair in stated.pairs():
        if not pair.code:
            unlisted.append(pair)
            continue
        systems = (pair.system, _uri(pair.target.system))
        group = groups.setdefault(systems, {"source": systems[0], "target": systems[1], "element": []})
        target = _shown(code=pair.target.code, display=pair.target.display, equivalence=stated.equivalence)
        group["element"].append(_shown(code=pair.code, display=pair.display) | {"target": [target]})
    for pair in unlisted:
        fixed = {"mode": "fixed", "code": pair.target.code, "display": pair.target.display}
        groups[pair.system, _uri(pair.target.system)]["unmapped"] = fixed
    return _described("ConceptMap", stated.id, stated.title, stated.origin) | {"group": list(groups.values())}


# Both -----------------------------------------------------------------------------------------------------------------


def _described(resource_type: str, resource_id: str, title: str, origin: str) -> Resource:
    return {
        "resourceType": resource_type,
        "id": resource_id,
        "url": f"{BASE}{resource_type}/{resource_id}",
        "name": "Relais" + "".join(part.capitalize() for part in resource_id.split("-")),
        "title": title,
        "status": "draft",
        "experimental": False,
        "description": _provenance(origin),
    }


def _provenance(origin: str) -> str:
    """Where the codes come from: the first line of the table, or the module that holds them."""
    if "." in origin:
        return f"Fait à partir de `mappings.to_cda.{origin}`, que la conversion lit."
    first = _text(origin).partition("\n")[0].removeprefix("#").strip()
    return f"Fait à partir de `mappings/data/{origin}.tsv`, que la conversion lit. Source : {first}."


def _shown(**element: str) -> Resource:
    return {name: value for name, value in element.items() if value}


def _uri(oid: str) -> str:
    return terminology.uri_of(oid) or ""


def _text(table: str) -> str:
    return files("relais.mappings").joinpath("data", f"{table}.tsv").read_text(encoding="utf-8")


def _rows(table: str) -> list[dict[str, str]]:
    lines = (line for line in _text(table).splitlines() if not line.startswith("#"))
    return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
