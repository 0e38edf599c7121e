"""Value sets and concept maps of the guide, made from the tables that the mappings read, so that they cannot disagree.

Sources: `mappings/data/*.tsv` (each names its own in its first line) and the public status tables of `mappings.to_cda`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, NamedTuple

from relais.mappings import terminology
from relais.mappings.to_cda import actions, appointments, goals, notification, pps

Resource = dict[str, Any]

BASE = terminology.RELAIS_CODES.removesuffix("CodeSystem/")
"""Canonical base of the guide, with its slash."""

_ACT_STATUS = "http://terminology.hl7.org/CodeSystem/v3-ActStatus"
_EVENT_STATUS_OID = "1.2.250.1.213.3.3.250"


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
            system = terminology.uri_of(concept.system) or ""
            included.setdefault(system, []).append({"code": concept.code, "display": concept.display})
    return _described("ValueSet", codes.id, codes.title, codes.table) | {
        "compose": {"include": [{"system": system, "concept": found} for system, found in included.items()]}
    }


# Concept maps ---------------------------------------------------------------------------------------------------------


class _Pair(NamedTuple):
    """One correspondence; systems are URIs. An empty `code` stands for every code that is not listed."""

    system: str
    code: str
    display: str
    target_system: str
    target: str
    target_display: str


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
        target = terminology.value_set("xds_class")[row["class"]]
        kind = terminology.concept("J07", row["code"], row["system"])
        yield _Pair(
            terminology.uri_of(row["system"]) or "",
            row["code"],
            kind.display if kind else "",
            terminology.uri_of(target.system) or "",
            target.code,
            target.display,
        )


def _formats() -> Iterator[_Pair]:
    for row in _rows("xds_format"):
        source = "urn:ietf:bcp:13" if "/" in row["model"] else f"{terminology.RELAIS_CODES}cda-template-id"
        yield _Pair(source, row["model"], "", terminology.uri_of(row["system"]) or "", row["code"], row["display"])


def _kinship() -> Iterator[_Pair]:
    relations = terminology.value_set("J11")
    for concept in terminology.value_set("kinship").values():
        system = terminology.uri_of(concept.system) or ""
        target = relations[concept.display]
        yield _Pair(system, concept.code, "", terminology.uri_of(target.system) or "", target.code, target.display)


def _cancellation() -> Iterator[_Pair]:
    motives = terminology.value_set("event_motive")
    for concept in terminology.value_set("cancellation_reason").values():
        target = motives[concept.display]
        system = terminology.uri_of(concept.system) or ""
        yield _Pair(system, concept.code, "", terminology.uri_of(target.system) or "", target.code, target.display)


def _appointments() -> Iterator[_Pair]:
    business = terminology.value_set("event_status")
    for status, state in appointments.STATES.items():
        target = business[state.business]
        yield _Pair(
            "http://hl7.org/fhir/appointmentstatus",
            status,
            state.words,
            terminology.uri_of(_EVENT_STATUS_OID) or "",
            target.code,
            target.display,
        )


def _plan() -> Iterator[_Pair]:
    written = terminology.value_set("pps_status")
    for status, code in pps.STATUSES.items():
        target = written[code]
        yield _Pair(
            "http://hl7.org/fhir/request-status",
            status,
            "",
            terminology.uri_of(target.system) or "",
            code,
            target.display,
        )


def _priorities() -> Iterator[_Pair]:
    known = terminology.value_set("act_priority")
    for priority, code in notification.PRIORITIES.items():
        target = known[code]
        yield _Pair(
            "http://hl7.org/fhir/request-priority",
            priority,
            "",
            terminology.uri_of(target.system) or "",
            code,
            target.display,
        )


def _act_statuses(system: str, statuses: dict[str, str]) -> Callable[[], Iterable[_Pair]]:
    return lambda: (_Pair(system, status, "", _ACT_STATUS, written, "") for status, written in statuses.items())


_CONCEPT_MAPS = (
    _Map("type-document-classe", "Type de document → classe (XDS)", "xds_type_class", "wider", _types),
    _Map("modele-format", "Modèle de document → formatCode (XDS)", "xds_format", "relatedto", _formats),
    _Map("parente", "Lien de parenté → relation du document (JDV_J11)", "kinship", "wider", _kinship),
    _Map("motif-annulation", "Motif d'annulation → motif du CI-SIS", "cancellation_reason", "wider", _cancellation),
    _Map("statut-rendez-vous", "Statut du rendez-vous → FR-Statut", "appointments.STATES", "relatedto", _appointments),
    _Map(
        "statut-rendez-vous-acte",
        "Statut du rendez-vous → statusCode",
        "appointments.STATES",
        "relatedto",
        _act_statuses(
            "http://hl7.org/fhir/appointmentstatus",
            {status: state.status for status, state in appointments.STATES.items()},
        ),
    ),
    _Map("statut-plan", "Statut du plan → statut du document", "pps.STATUSES", "relatedto", _plan),
    _Map(
        "statut-objectif",
        "Statut de l'objectif → statusCode",
        "goals.STATUSES",
        "relatedto",
        _act_statuses("http://hl7.org/fhir/goal-status", goals.STATUSES),
    ),
    _Map(
        "statut-tache",
        "Statut d'une action (Task) → statusCode",
        "actions.STATUSES",
        "relatedto",
        _act_statuses("http://hl7.org/fhir/task-status", actions.STATUSES["Task"]),
    ),
    _Map(
        "statut-activite",
        "Statut d'une activité du plan → statusCode",
        "actions.STATUSES",
        "relatedto",
        _act_statuses("http://hl7.org/fhir/care-plan-activity-status", actions.STATUSES[""]),
    ),
    _Map(
        "statut-notification",
        "Statut de la notification → statusCode",
        "notification.STATUSES",
        "relatedto",
        _act_statuses("http://hl7.org/fhir/request-status", notification.STATUSES),
    ),
    _Map("priorite", "Priorité → priorityCode", "notification.PRIORITIES", "equivalent", _priorities),
)


def _concept_map(stated: _Map) -> Resource:
    groups: dict[tuple[str, str], Resource] = {}
    unlisted: list[_Pair] = []
    for pair in stated.pairs():
        if not pair.code:
            unlisted.append(pair)
            continue
        systems = (pair.system, pair.target_system)
        group = groups.setdefault(systems, {"source": systems[0], "target": systems[1], "element": []})
        target = _shown({"code": pair.target, "display": pair.target_display}) | {"equivalence": stated.equivalence}
        group["element"].append(_shown({"code": pair.code, "display": pair.display}) | {"target": [target]})
    for pair in unlisted:
        fixed = {"mode": "fixed", "code": pair.target, "display": pair.target_display}
        groups[pair.system, pair.target_system]["unmapped"] = fixed
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


def _shown(element: Resource) -> Resource:
    return {name: value for name, value in element.items() if value}


def _text(table: str) -> str:
    return files("relais.mappings").joinpath("data", f"{table}.tsv").read_text(encoding="utf-8")


def _rows(table: str) -> list[dict[str, str]]:
    lines = (line for line in _text(table).splitlines() if not line.startswith("#"))
    return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
