"""Section 2 of the PPS, *directives anticipées* → Consent: inverse of `to_cda.directives`."""

from __future__ import annotations

import base64

from relais.cda.model import Boolean, Code, Media, Section, Statement
from relais.cda.templates import ADVANCE_DIRECTIVE
from relais.mappings.context import Resource
from relais.mappings.from_cda.datatypes import absent, concept, identifiers, period
from relais.mappings.from_cda.header import CONSENT_SCOPES
from relais.mappings.from_cda.plan import (
    RULE,
    Plan,
    has_template,
    is_denied,
    is_no_fact,
    report_unread,
    subentries,
)
from relais.mappings.from_cda.reading import SECTION_RULE, Reading
from relais.mappings.terminology import value_set
from relais.mappings.to_cda.directives import GENERAL, OTHER_DIRECTIVE, POLICY

UNTITLED = "Document"
"""How `to_cda.directives` names a document without title."""


def read_directives(reading: Reading, section: Section, plan: Plan, path: str) -> list[Resource]:
    """References to the Consents of the section, in its order."""
    found = []
    for index, entry in enumerate(section.entries, 1):
        place = f"{path}/entry[{index}]/{entry.kind}"
        if has_template(entry, ADVANCE_DIRECTIVE):
            found += _consent(reading, plan, entry, place)
        else:
            reading.inform(place, "not an advance directive: narrative only", SECTION_RULE)
    plan.supporting_info += found
    return found


def _consent(reading: Reading, plan: Plan, entry: Statement, path: str) -> list[Resource]:
    if is_denied(reading, entry, path) or is_no_fact(reading, entry, path):
        return []
    if entry.status not in (None, "completed", "active"):
        reading.warn(f"{path}/statusCode", "a directive that does not stand: narrative only", RULE)
        return []
    report_unread(reading, entry, path, "ids", "code", "time", "values", "relationships")
    attachment = _attachment(reading, entry, path)
    value = next((one.value for one in entry.values if isinstance(one, Boolean)), None)
    code = (entry.code.code if entry.code else None) or ""
    in_words = code == OTHER_DIRECTIVE and not entry.values
    if value is None and not attachment and not in_words:
        reading.warn(f"{path}/value", "does not say whether the directive exists: narrative only", RULE, "required")
        return []
    is_decision = code in value_set("directive") and code not in GENERAL and value is not None
    time = period(reading, entry.time, f"{path}/effectiveTime")
    is_moment = entry.time is not None and entry.time.value is not None
    decided = {"type": "permit" if value else "deny"} if is_decision else {}
    lasting = {"period": time} if time and not is_moment else {}
    elements: Resource = {
        "identifier": identifiers(entry.ids),
        "status": "inactive" if value is False and not is_decision and not attachment else "active",
        "scope": {"coding": [{"system": CONSENT_SCOPES, "code": "adr"}]},
        "category": [concept(entry.code) or absent("UNK")],
        "patient": plan.subject,
        "dateTime": time.get("start") if is_moment else None,
        "sourceAttachment": attachment,
        "policyRule": {"text": _details(reading, entry, path) or POLICY},
        "provision": decided | lasting or None,
    }
    return [reading.add("Consent", ("directive", path), elements)]


def _details(reading: Reading, entry: Statement, path: str) -> str:
    """The words that stand behind the name of a directive; all of them for one that words alone say."""
    code = entry.code or Code()
    label = code.display or ""
    text = reading.text(entry.text, f"{path}/text/reference") or ""
    if code.code == OTHER_DIRECTIVE and not entry.values:
        return "" if text == label else text
    return text.removeprefix(f"{label} : ") if text.startswith(f"{label} : ") else ""


def _attachment(reading: Reading, entry: Statement, path: str) -> Resource | None:
    """The document of the directive, from an observationMedia under the entry."""
    for media, place in subentries(entry, path):
        content = next((one for one in media.values if isinstance(one, Media)), None)
        if media.kind == "observationMedia" and content is not None and content.data is not None:
            reading.warn_of_end(content, place)
            found = {"contentType": content.media_type, "data": base64.b64encode(content.data).decode()}
            title = reading.words.caption(media.xml_id)
            return found | ({"title": title} if title and title != UNTITLED else {})
        reading.inform(place, "not the document of the directive: narrative only", SECTION_RULE)
    return None
