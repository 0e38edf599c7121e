"""Section 2 of the PPS, *directives anticipées* → Consent: inverse of `to_cda.directives`."""

from __future__ import annotations

import base64

from relais.cda.model import Boolean, Media, Section, Statement
from relais.cda.templates import ADVANCE_DIRECTIVE
from relais.mappings.context import Resource
from relais.mappings.from_cda.datatypes import absent, concept, identifiers, period
from relais.mappings.from_cda.header import CONSENT_SCOPES
from relais.mappings.from_cda.plan import RULE, Plan, has_template, is_denied, report_unread, subentries
from relais.mappings.from_cda.reading import SECTION_RULE, Reading

UNTITLED = "Document"
"""How `to_cda.directives` names a document without title."""

POLICY = "Directives anticipées : code de la santé publique, article L. 1111-11"


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
    if is_denied(reading, entry, path):
        return []
    report_unread(reading, entry, path, "ids", "code", "time", "values", "relationships")
    attachment = _attachment(reading, entry, path)
    exists = True if attachment else _exists(entry)
    if exists is None:
        reading.warn(f"{path}/value", "does not say whether the directive exists: narrative only", RULE, "required")
        return []
    time = period(reading, entry.time, f"{path}/effectiveTime")
    is_moment = entry.time is not None and entry.time.value is not None
    elements: Resource = {
        "identifier": identifiers(entry.ids),
        "status": "active" if exists else "inactive",
        "scope": {"coding": [{"system": CONSENT_SCOPES, "code": "adr"}]},
        "category": [concept(entry.code) or absent("UNK")],
        "patient": plan.subject,
        "dateTime": time.get("start") if is_moment else None,
        "sourceAttachment": attachment,
        "policyRule": {"text": POLICY},
        "provision": {"period": time} if time and not is_moment else None,
    }
    return [reading.add("Consent", ("directive", path), elements)]


def _exists(entry: Statement) -> bool | None:
    return next((one.value for one in entry.values if isinstance(one, Boolean)), None)


def _attachment(reading: Reading, entry: Statement, path: str) -> Resource | None:
    """The document of the directive, from an observationMedia under the entry."""
    for media, place in subentries(entry, path):
        content = next((one for one in media.values if isinstance(one, Media)), None)
        if media.kind == "observationMedia" and content is not None and content.data is not None:
            found = {"contentType": content.media_type, "data": base64.b64encode(content.data).decode()}
            title = reading.words.caption(media.xml_id)
            return found | ({"title": title} if title and title != UNTITLED else {})
        reading.inform(place, "not the document of the directive: narrative only", SECTION_RULE)
    return None
