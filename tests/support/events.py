"""What the published template of FR-Evenement demands and no Schematron verifies."""

from __future__ import annotations

from typing import Any

from lxml import etree

from relais.cda.parsing import V3, XSI, parse
from relais.mappings import terminology

PREFIXES = {"v3": V3, "xsi": XSI}
STATUSES = {"new", "active", "held", "suspended", "completed", "cancelled", "aborted"}
MOOD_TEMPLATES = {"INT": "2.16.840.1.113883.10.20.1.25", "EVN": "2.16.840.1.113883.10.20.1.21"}


def assert_events(data: bytes) -> None:
    """Every rule of the section FR-Evenements and of its entries, on the XML."""
    (section,) = _find(parse(data), "//v3:section[v3:templateId/@root='1.2.250.1.213.1.1.2.248']")
    assert _values(section, "v3:code/@code") == ["89793-4"]
    assert len(_find(section, "v3:id")) == len(_find(section, "v3:text")) == 1
    events = _find(section, "v3:entry/*")
    assert events
    for event in events:
        _assert_event(event)


def _assert_event(event: Any) -> None:
    assert etree.QName(event).localname == "encounter"
    mood = event.get("moodCode")
    assert event.get("classCode") == "ENC"
    assert set(_values(event, "v3:templateId/@root")) == {"1.2.250.1.213.1.1.3.215", MOOD_TEMPLATES[mood]}
    assert _find(event, "v3:id")
    assert len(_find(event, "v3:code")) == 1
    assert _values(event, "v3:statusCode/@code")[0] in STATUSES
    assert len(_find(event, "v3:effectiveTime/v3:low")) == 1
    assert len(_find(event, "v3:effectiveTime/v3:high")) <= 1
    for performer in _find(event, "v3:performer"):
        assert _find(performer, "v3:assignedEntity/v3:id")
    _assert_participants(event)
    _assert_details(event)


def _assert_participants(event: Any) -> None:
    places = _find(event, "v3:participant[@typeCode='LOC']/v3:participantRole")
    structures = _find(event, "v3:participant[@typeCode='RESP']/v3:participantRole")
    assert len(places) <= 1
    assert len(structures) <= 1
    assert len(_find(event, "v3:participant")) == len(places) + len(structures)
    for place in places:
        assert place.get("classCode") == "SDLOC"
        assert _find(place, "v3:playingEntity[@classCode='PLC']/v3:name")
    for structure in structures:
        assert _find(structure, "v3:scopingEntity/v3:id")
        assert _find(structure, "v3:scopingEntity/v3:desc")


def _assert_details(event: Any) -> None:
    details = "v3:entryRelationship[@typeCode='COMP'][@inversionInd='false']/v3:observation"
    comments = "v3:entryRelationship[@typeCode='SUBJ'][@inversionInd='true']/v3:act"
    assert len(_find(event, comments)) <= 1
    assert len(_find(event, "v3:entryRelationship")) == len(_find(event, details)) + len(_find(event, comments))
    (status,) = _find(event, f"{details}[v3:templateId/@root='1.2.250.1.213.1.1.3.217']")
    assert _values(status, "v3:code/@code") == ["106199-3"]
    assert len(_find(status, "v3:effectiveTime")) == 1
    (code,) = _values(status, "v3:value/@code")
    assert code in terminology.value_set("event_status")
    motives = _find(status, "v3:value/v3:qualifier[v3:name/@code='GEN-348']/v3:value")
    assert len(motives) == (1 if code == "ANNULE" else 0)
    for motive in motives:
        assert motive.get("nullFlavor") in ("UNK", "OTH") or motive.get("code") in terminology.value_set("event_motive")


def _find(node: Any, xpath: str) -> list[Any]:
    return list(node.xpath(xpath, namespaces=PREFIXES))


def _values(node: Any, xpath: str) -> list[str]:
    return [str(value) for value in node.xpath(xpath, namespaces=PREFIXES)]
