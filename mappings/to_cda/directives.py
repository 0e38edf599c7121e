"""Consent, Observation, DocumentReference → section 2 of the PPS-PAERPA 2022.01, *directives anticipées*.

The value of FR-Directive-anticipee says of an intervention whether the person allows it (CI-SIS Modèles de contenus
CDA, E_directiveAnticipee_fr), of directives as such whether there are any. One never stands in for the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from relais.cda import sections
from relais.cda.datatypes import datetime_from_ts
from relais.cda.media import PDF
from relais.cda.model import Code, Interval, Section, Statement
from relais.cda.narrative import Element, Node, table
from relais.mappings import identity, terminology
from relais.mappings.context import Resource
from relais.mappings.to_cda.consents import consents, is_directive, is_directive_consent
from relais.mappings.to_cda.conversion import Conversion
from relais.mappings.to_cda.datatypes import concept_text, from_jdv, period
from relais.mappings.to_cda.enclosures import read_media
from relais.mappings.to_cda.prose import french_date, french_period, marked

RULE = "CI-SIS PPS-PAERPA 2022.01, section 2"
MODIFIER_RULE = "FHIR R4 2.4, modifier extensions"
DECISION_RULE = "CI-SIS Modèles de contenus CDA, FR-Directive-anticipee"
DIRECTIVES, OTHER_DIRECTIVE = "42348-3", "75793-0"
GENERAL = frozenset({DIRECTIVES, OTHER_DIRECTIVE})
"""Codes of JDV_TypeDirectiveAnticipee that name no intervention."""

POLICY = "Directives anticipées : code de la santé publique, article L. 1111-11"
"""What the import states where FHIR asks for a policy and the document has none."""

_IN_FORCE = {"active": True, "inactive": False, "rejected": False}
_DECISIONS = {"permit": True, "deny": False}
_FACTS = frozenset({"final", "amended", "corrected"})
_NO_DOCUMENTS = frozenset({"preliminary", "entered-in-error"})
_PLAIN = frozenset({"id", "extension", "period", "type"})
"""What a provision may hold that is a decision and nothing else: the rest limits it or makes exceptions."""

LIMITED = "avec des conditions ou des exceptions, qui ne sont pas dites ici"


class Directive(NamedTuple):
    """A directive of the person. `value` says whether there is one or, of an intervention, whether it is allowed; None
    when no value says what is known. `details` are words that go with it; `is_limited` that conditions or exceptions
    keep a decision from having a value."""

    resource: Resource
    path: str
    code: Code
    value: bool | None
    details: str = ""
    is_limited: bool = False


def directive_section(conversion: Conversion) -> Section | None:
    """Section 2; None when the resources record nothing: the lack of a resource never means "no directive"."""
    entries: list[Statement] = []
    rows: list[list[list[Node]]] = []
    for entry, row in _directives(conversion):
        entries.append(entry)
        rows.append(row)
    if not entries:
        return None
    text: list[Node] = [table(("Directive", "Ce qui est dit", "Date", "Document"), rows)]
    return sections.section(sections.ADVANCE_DIRECTIVES, conversion.computed_id("section", "directives"), text, entries)


def _directives(conversion: Conversion) -> Iterator[tuple[Statement, list[list[Node]]]]:
    for number, directive in enumerate(_facts(conversion), 1):
        yield _entry(conversion, directive, f"directive-{number}")


def _facts(conversion: Conversion) -> list[Directive]:
    """The directives, without those that another one of the same kind overrides; which is said, or refused in doubt."""
    found = list(_stated(conversion))
    return [one for one in found if not any(_is_overridden(conversion, one, other) for other in found)]


def _is_overridden(conversion: Conversion, one: Directive, other: Directive) -> bool:
    """Whether a directive has ended while the other holds, or says the contrary of a later one. A decision with
    conditions overrides an earlier one: what holds today is said in words, no longer by the value."""
    if one.code.code != other.code.code or one.value == other.value:
        return False
    if _has_ended(one) or _has_ended(other):
        overridden = _has_ended(one)
    elif one.value is None or (other.value is None and not other.is_limited):
        return False
    else:
        mine, its = (_begin(conversion, each) for each in (one, other))
        if mine is None or its is None or mine == its:
            if other.value is not None:
                message = "a directive of which another one says the contrary: which one holds?"
                conversion.refuse(one.path, message, DECISION_RULE, "business-rule")
            return False
        overridden = mine < its
    if overridden:
        conversion.warn(one.path, "another directive holds in its place: not written", DECISION_RULE)
    return overridden


def _has_ended(directive: Directive) -> bool:
    """Whether a Consent only says that a directive is no longer in force."""
    return directive.resource.get("resourceType") == "Consent" and directive.resource.get("status") != "active"


def _begin(conversion: Conversion, directive: Directive) -> datetime | None:
    """Since when a directive is so."""
    time, _ = _time(conversion, directive.resource, directive.path)
    since = (time.value or time.low) if time else None
    return datetime_from_ts(since) if since else None


def _stated(conversion: Conversion) -> Iterator[Directive]:
    for consent, path in consents(conversion):
        if is_directive_consent(consent) and (found := _of_consent(conversion, consent, path)):
            yield found
    for observation, path in conversion.shared("Observation"):
        is_fact = observation.get("status") in _FACTS and is_directive([observation.get("code", {})])
        if is_fact and conversion.same_patient(observation, "subject", path):
            conversion.reached.add(id(observation))
            if "valueBoolean" in observation:
                yield Directive(observation, path, _codes(observation)[0], observation["valueBoolean"])
            else:
                message = "whether there is a directive or, of an intervention, whether it is allowed"
                conversion.refuse(f"{path}.valueBoolean", message, RULE)
    for document, path in conversion.shared("DocumentReference"):
        kinds = [document.get("type", {}), *document.get("category", ())]
        is_current = document.get("status") == "current" and is_directive(kinds)
        if is_current and document.get("docStatus") in _NO_DOCUMENTS:
            conversion.inform(f"{path}.docStatus", "a draft or an error, no directive: not written", RULE)
        elif is_current and conversion.same_patient(document, "subject", path):
            conversion.reached.add(id(document))
            code = _codes(document)[0]
            yield Directive(document, path, code, True if code.code in GENERAL else None)


def _of_consent(conversion: Conversion, consent: Resource, path: str) -> Directive | None:
    """The directive that a Consent records: that there is one, or what the person decides of an intervention."""
    in_force = _IN_FORCE.get(consent.get("status", ""))
    if in_force is None:
        conversion.inform(f"{path}.status", "neither in force nor ended: not written", RULE)
        return None
    codes, provision = _codes(consent), consent.get("provision", {})
    code = codes[0]
    if len({one.code for one in codes} - GENERAL) > 1:
        conversion.warn(f"{path}.category", "a Consent for each intervention is needed: the first is written", RULE)
    read = {"id", "period"} if code.code in GENERAL else {"id", "period", "type"}
    if "modifierExtension" in provision:
        place = f"{path}.provision.modifierExtension"
        conversion.refuse(place, "it may change the meaning: not understood", MODIFIER_RULE, "extension")
    for name in sorted(provision.keys() - read):
        conversion.inform(f"{path}.provision.{name}", "this element has no place in the document", RULE)
    policy = (consent.get("policyRule", {}).get("text") or "").strip()
    details = "" if policy == POLICY else policy
    if code.code == DIRECTIVES or (code.code == OTHER_DIRECTIVE and not in_force):
        return Directive(consent, path, code, in_force, details)
    if not in_force:
        conversion.inform(f"{path}.status", "a decision that is no longer in force: not written", DECISION_RULE)
        return None
    if code.code not in GENERAL and not identity.covers(provision.get("period", {}), conversion.today):
        conversion.warn(f"{path}.provision.period", "a decision that does not hold today: not written", DECISION_RULE)
        return None
    decided = _DECISIONS.get(provision.get("type", ""))
    if code.code == OTHER_DIRECTIVE:
        return Directive(consent, path, code, None, details)
    if decided is None:
        message = "whether the person allows the intervention is not said: written without a value"
        conversion.warn(f"{path}.provision.type", message, DECISION_RULE)
    elif not _PLAIN.issuperset(provision) and not _only_repeats(provision, code):
        conversion.warn(f"{path}.provision", "a decision with conditions: written without a value", DECISION_RULE)
        return Directive(consent, path, code, None, " – ".join(filter(None, (details, LIMITED))), is_limited=True)
    return Directive(consent, path, code, decided, details)


def _only_repeats(provision: Resource, code: Code) -> bool:
    """Whether all that a provision holds besides its decision is the intervention that it is about."""
    about = {one.code for concept in provision.get("code", ()) if (one := from_jdv("directive", [concept]))}
    return provision.keys() - _PLAIN == {"code"} and about == {code.code}


def _codes(resource: Resource) -> list[Code]:
    """What a directive is about, interventions first; directives as such when no code of the list says it."""
    concepts = [*resource.get("category", ()), resource.get("code", {}), resource.get("type", {})]
    single = [{"coding": [coding]} for concept in concepts for coding in concept.get("coding", ())]
    found = [code for one in single if (code := from_jdv("directive", [one]))]
    return sorted(found, key=lambda code: code.code in GENERAL) or [terminology.coded("directive", DIRECTIVES)]


def _entry(conversion: Conversion, directive: Directive, narrative_id: str) -> tuple[Statement, list[list[Node]]]:
    resource, path, code, value, *_ = directive
    attachment, place = _attachment(conversion, resource, path)
    exists = value is not False or code.code not in GENERAL
    media = _media(conversion, attachment, resource, place, exists, narrative_id)
    name, stated = _name(directive), _words(directive)
    if value is None or (media is not None and code.code not in GENERAL):
        name, stated = " – ".join(filter(None, (name, stated))), ""
        code = terminology.coded("directive", OTHER_DIRECTIVE)
    time, when = _time(conversion, resource, path)
    entry = sections.advance_directive(
        conversion.entry_id(resource, path), code, text=narrative_id, time=time, value=value, media=media
    )
    return entry, [
        [marked(name, narrative_id)],
        [stated],
        [when],
        [*_document_cell(resource, attachment, media)],
    ]


def _name(directive: Directive) -> str:
    """What the narrative calls a directive; one that no code of the list names is known by its words."""
    label, details = directive.code.display or "", directive.details
    if directive.value is None and directive.code.code == OTHER_DIRECTIVE and details:
        return details
    return f"{label} : {details}" if details else label


def _words(directive: Directive) -> str:
    """What the narrative says beside the name: what the value says."""
    if directive.value is None:
        return ""
    if directive.code.code in GENERAL:
        return "Oui" if directive.value else "Non"
    return "Autorisé par la personne" if directive.value else "Refusé par la personne"


def _time(conversion: Conversion, resource: Resource, path: str) -> tuple[Interval | None, str]:
    bounds = resource.get("provision", {}).get("period") or resource.get("effectivePeriod")
    if bounds:
        return period(conversion, bounds, f"{path}.period"), french_period(bounds)
    moment = resource.get("dateTime") or resource.get("effectiveDateTime") or resource.get("date")
    value = conversion.time(moment, f"{path}.dateTime")
    return (Interval(value=value) if value else None), french_date(moment)


def _attachment(conversion: Conversion, resource: Resource, path: str) -> tuple[Resource, str]:
    contents = resource.get("content", ())
    if len(contents) > 1:
        conversion.inform(f"{path}.content", "a directive has one document: the first one is written", RULE)
    if contents:
        return contents[0].get("attachment", {}), f"{path}.content[0].attachment"
    return resource.get("sourceAttachment", {}), f"{path}.sourceAttachment"


def _media(
    conversion: Conversion, attachment: Resource, container: Resource, path: str, exists: bool, narrative_id: str
) -> Statement | None:
    """The PDF of a directive in force, in the attachment or in the Binary that it points to.

    Anything that is not what it says to be is refused; what is not written is said.
    """
    binary = conversion.resources.resolve(attachment.get("url"), container)
    holder = binary if binary is not None and binary.get("resourceType") == "Binary" else attachment
    if not holder.get("data"):
        if "url" in attachment and not attachment["url"].startswith("https://"):
            conversion.inform(f"{path}.url", "no address that a receiver can follow: not written", RULE)
        return None
    if not exists:
        conversion.inform(f"{path}.data", "the document of a directive that is not in force: not written", RULE)
        return None
    media = read_media(conversion, holder, attachment, path)
    if media is not None and media.media_type != PDF:
        conversion.refuse(f"{path}.contentType", "a directive is attached as PDF", RULE, "value")
        return None
    return sections.attached_media(f"{narrative_id}-document", media) if media else None


def _document_cell(resource: Resource, attachment: Resource, media: Statement | None) -> list[Node]:
    title = attachment.get("title") or concept_text(resource.get("type")) or "Document"
    if media is not None and media.xml_id:
        return [title, " ", Element("renderMultiMedia", {"referencedObject": media.xml_id})]
    url = attachment.get("url", "")
    return [Element("linkHtml", {"href": url}, [title])] if url.startswith("https://") else []
