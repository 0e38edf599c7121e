"""CommunicationRequest or Communication → event notification document (volet NdE; docs/mapping-notification.md).

An event that happened is stated as FR-Evenement, with the message, the attached and the referenced documents in
sections of their own. No volet publishes a model of the document; its type depends on the event.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from email.message import Message

import msgspec
from msgspec.structs import replace

from relais.cda import event_sections, sections, templates
from relais.cda.datatypes import datetime_from_ts
from relais.cda.model import (
    II,
    AssignedEntity,
    Code,
    Document,
    EntryAuthor,
    Informant,
    Interval,
    Section,
    Statement,
    Text,
)
from relais.cda.narrative import Element, Node, content, paragraph, table
from relais.mappings import extensions, identity, terminology
from relais.mappings.context import Emission, Mapped, Resource
from relais.mappings.resources import ResourceSet
from relais.mappings.to_cda.appointments import (
    STRUCTURE,
    check_extensions,
    check_identifiers,
    french_slot,
    readable,
)
from relais.mappings.to_cda.consents import read_oppositions
from relais.mappings.to_cda.conversion import Conversion
from relais.mappings.to_cda.datatypes import concept_text, current_name, display_name, from_jdv, period
from relais.mappings.to_cda.enclosures import Enclosures, is_plain_text, read_media
from relais.mappings.to_cda.header import header
from relais.mappings.to_cda.header_sources import Carrier
from relais.mappings.to_cda.kept import kept_sections
from relais.mappings.to_cda.parties import (
    assigned_entity,
    configured_responsible,
    is_national_structure,
    read_party,
    structure_ids,
)
from relais.mappings.to_cda.prose import annotation, french_date, french_period, marked, remarks_block
from relais.mappings.to_cda.relatives import related_entities

RULE = "docs/mapping-notification.md"
KIND = "notification"
DEFAULT_TYPE = "51851-4"
TITLE = "Notification d'évènement"
WITHDRAWAL_TITLE = "Retrait d'une notification d'évènement"
WITHDRAWAL = "Notification retirée : l'évènement n'est plus à prendre en compte"
EVENT_TITLE, MESSAGE_TITLE = "Évènement notifié", "Message"

STATUSES = {
    "active": "completed",
    "completed": "completed",
    "in-progress": "completed",
    "unknown": "completed",
    "on-hold": "held",
    "revoked": "cancelled",
    "stopped": "cancelled",
}
"""Status of the notification → statusCode of the entry; the others (draft, preparation, not-done…) have no document."""

PRIORITIES = {"routine": "R", "urgent": "UR", "asap": "A", "stat": "S"}
WITHDRAWN = "cancelled"
DOCUMENT_EVENT = "DOC"

_LOST = (
    "groupIdentifier",
    "partOf",
    "inResponseTo",
    "replaces",
    "instantiatesCanonical",
    "instantiatesUri",
    "received",
)
_CARRIED = frozenset(
    {
        *("resourceType", "id", "meta", "language", "text", "contained", "extension", "identifier", "status"),
        *("statusReason", "category", "priority", "medium", "subject", "topic", "about", "encounter", "sent"),
        *("recipient", "sender", "requester", "reasonCode", "reasonReference", "payload", "note", "basedOn"),
        *("occurrenceDateTime", "occurrencePeriod", "authoredOn", "modifierExtension", "implicitRules"),
    }
)


class Notice(msgspec.Struct, gc=False):
    """A notification as the document states it: entry and narrative are both made from it."""

    source: Resource
    path: str
    kind: Code
    status: str
    mood: event_sections.Mood
    time: Interval
    when: str
    emitted: str | None  # FHIR dateTime
    priority: Code | None = None
    sender: tuple[Resource, str] | None = None  # (Reference, path)
    messages: list[str] = []
    comments: list[str] = []
    facts: list[tuple[str, str]] = []  # lines of the narrative: label, words
    orders: list[tuple[Resource, Resource | None, str]] = []
    encounter: tuple[Resource, str] | None = None
    enclosures: Enclosures = msgspec.field(default_factory=Enclosures)


def notification_document(
    communication: Resource,
    resources: ResourceSet,
    emission: Emission,
    *,
    composition: Resource | None = None,
    document_id: II | None = None,
) -> Mapped:
    """The document of a CommunicationRequest (declaration or order of the volet NdE) or of a Communication.

    A correction is the next version (`emission.version`); so is a withdrawal, whose source is revoked or stopped. A
    later event is another notification. Raises MappingError that lists everything that is missing, each with its path.
    """
    conversion = Conversion(resources, emission)
    composition = composition or {}
    path = str(communication.get("resourceType"))
    patient = conversion.resolve(communication.get("subject"), f"{path}.subject", communication)
    if patient is None or patient.get("resourceType") != "Patient":
        conversion.refuse(f"{path}.subject", "a reference to the Patient whom the event concerns", RULE)
        conversion.finish()
    conversion.patient = patient or {}
    read_oppositions(conversion)
    conversion.say_opposed(communication, path)
    conversion.lineage = _lineage(conversion, communication, composition)
    if composition:
        conversion.same_patient(composition, "subject", "Composition")
    notice = _read(conversion, communication, path)
    head = header(conversion, _carrier(conversion, notice), composition, document_id)
    made = [_event(conversion, notice), _message(conversion, notice), *notice.enclosures.sections(conversion)]
    found = [*(section for section in made if section is not None), *kept_sections(conversion, composition)]
    return Mapped(Document(head, found), conversion.finish())


def _lineage(conversion: Conversion, communication: Resource, composition: Resource) -> II:
    stated = identity.ii_of(composition.get("identifier", {}))
    first = next((ii for ii in map(identity.ii_of, communication.get("identifier", ())) if ii), None)
    named = (first.root or "", first.extension or "") if first else (str(communication.get("id", "")),)
    return stated or identity.made_set_id(conversion.deployment, KIND, *named)


# --- reading ----------------------------------------------------------------------------------------------------


def _read(conversion: Conversion, source: Resource, path: str) -> Notice:
    check_identifiers(conversion, source, path)
    check_extensions(conversion, source, path, set(_EXTENSIONS))
    for name in (*_LOST, *sorted(source.keys() - _CARRIED - set(_LOST))):
        if name in source and not name.startswith("_"):
            conversion.inform(f"{path}.{name}", "this element has no place in the document", RULE)
    emitted = extensions.value(source, extensions.EVENT_EMISSION_TIME) or source.get("authoredOn") or source.get("sent")
    time, when = _event_time(conversion, source, path, emitted)
    future = time.low is not None and datetime_from_ts(time.low) > conversion.emission.now
    status = _status(conversion, source, path)
    notice = Notice(
        source,
        path,
        kind=_kind(conversion, source, path),
        status="active" if future and status == "completed" else status,
        mood="INT" if future else "EVN",
        time=time,
        when=when,
        emitted=emitted,
    )
    place = _emission_path(source, path)
    if emitted and (ts := conversion.time(emitted, place)):
        notice.facts.append(("Émise le", french_date(emitted)))
        if datetime_from_ts(ts) > conversion.emission.now:
            conversion.warn(place, "the notification is emitted after the document is made", RULE)
    _read_other_times(notice)
    _read_priority(conversion, notice)
    _read_parties(conversion, notice)
    _read_reasons(conversion, notice)
    _read_encounter(conversion, notice)
    _read_payload(conversion, notice)
    return notice


_EXTENSIONS = (extensions.EVENT_TYPE, extensions.EVENT_TIME, extensions.EVENT_EMISSION_TIME)


def _status(conversion: Conversion, source: Resource, path: str) -> str:
    status = STATUSES.get(source.get("status", ""))
    if status is None:
        message = "a notification that was sent, is to be sent, or is withdrawn"
        conversion.refuse(f"{path}.status", message, RULE, "code-invalid")
    if source.get("doNotPerform"):
        conversion.refuse(f"{path}.doNotPerform", "a notification that must not be sent", RULE, "business-rule")
    if source.get("status") == "unknown":
        conversion.warn(f"{path}.status", "unknown: taken for sent", RULE)
    version = conversion.emission.version
    if status == WITHDRAWN and version.number == 1 and version.replaces is None:
        message = "a withdrawal replaces a notification that was sent: none is known"
        conversion.refuse(f"{path}.status", message, RULE, "business-rule")
    return status or "completed"


def _kind(conversion: Conversion, source: Resource, path: str) -> Code:
    """The type of event (JDV_J46)."""
    stated = extensions.value(source, extensions.EVENT_TYPE)
    place = f"{path}.extension('{extensions.EVENT_TYPE}').value"
    topic = [source["topic"]] if "topic" in source else []
    concepts = [stated] if stated else [*source.get("category", ()), *topic, *source.get("reasonCode", ())]
    found = from_jdv("J46", concepts)
    if found is None:
        conversion.refuse(place, "the type of the event, in JDV_J46", RULE, "code-invalid" if stated else "required")
    return replace(found, system_name=terminology.name_of(found.system)) if found else Code(null_flavor="UNK")


def _event_time(conversion: Conversion, source: Resource, path: str, emitted: str | None) -> tuple[Interval, str]:
    """When the event happened, also in words; its emission stands in for an unknown time."""
    if "occurrencePeriod" in source and not extensions.value(source, extensions.EVENT_TIME):
        stated = source["occurrencePeriod"]
        found = period(conversion, stated, f"{path}.occurrencePeriod") or Interval()
        return found, french_slot(stated.get("start"), stated.get("end"))
    candidates = (
        (extensions.value(source, extensions.EVENT_TIME), _time_path(path)),
        (source.get("occurrenceDateTime"), f"{path}.occurrenceDateTime"),
        (emitted, _emission_path(source, path)),
    )
    moment, place = next((one for one in candidates if one[0]), (None, ""))
    return Interval(low=conversion.time(moment, place)), french_slot(moment, moment)


def _time_path(path: str) -> str:
    return f"{path}.extension('{extensions.EVENT_TIME}').value"


def _emission_path(source: Resource, path: str) -> str:
    if extensions.value(source, extensions.EVENT_EMISSION_TIME):
        return f"{path}.extension('{extensions.EVENT_EMISSION_TIME}').value"
    return f"{path}.{'authoredOn' if 'authoredOn' in source else 'sent'}"


def _read_other_times(notice: Notice) -> None:
    """Times that others outrank: when to send, and when the order to send was given."""
    source = notice.source
    if extensions.value(source, extensions.EVENT_TIME):
        planned = french_date(source.get("occurrenceDateTime")) or french_period(source.get("occurrencePeriod"))
        notice.facts.append(("Transmission prévue", planned))
    if extensions.value(source, extensions.EVENT_EMISSION_TIME):
        notice.facts.append(("Ordre de notification du", french_date(source.get("authoredOn"))))
    if source.get("sent") not in (None, notice.emitted):
        notice.facts.append(("Envoyée le", french_date(source["sent"])))


def _read_priority(conversion: Conversion, notice: Notice) -> None:
    priority = notice.source.get("priority")
    if priority in PRIORITIES:
        notice.priority = terminology.coded("act_priority", PRIORITIES[priority])
        notice.facts.append(("Priorité", notice.priority.display or ""))
    elif priority:
        conversion.inform(f"{notice.path}.priority", "no request-priority: not written", RULE)


def _read_parties(conversion: Conversion, notice: Notice) -> None:
    """Who declared the event, to whom it is told, by which medium."""
    source, path = notice.source, notice.path
    for name in ("requester", "sender"):
        if name in source and notice.sender is None:
            notice.sender = (source[name], f"{path}.{name}")
        elif name in source:
            conversion.inform(f"{path}.{name}", "who declared the event is the author: in words only", RULE)
            notice.facts.append(("Envoyée par", _named(conversion, source, source[name])))
    if notice.sender is None:
        conversion.refuse(f"{path}.{_declarant(source)}", "who declares the event", RULE)
    else:
        notice.facts.append(("Émetteur", _named(conversion, source, notice.sender[0])))
    told = [words for one in source.get("recipient", ()) if (words := _named(conversion, source, one))]
    notice.facts += [("Destinataire", words) for words in told]
    for index, medium in enumerate(source.get("medium", ())):
        known = from_jdv("R200", [medium])
        words = (known.display if known else None) or concept_text(medium)
        if words:
            notice.facts.append(("Canal", words))
        else:
            conversion.inform(f"{path}.medium[{index}]", "a medium without words is not written", RULE)


def _declarant(source: Resource) -> str:
    """The element that names who declares the event."""
    return "requester" if source.get("resourceType") == "CommunicationRequest" else "sender"


def _named(conversion: Conversion, container: Resource, reference: Resource) -> str:
    """What one calls who a Reference names."""
    target = conversion.resources.resolve(reference, container) or {}
    party = read_party(conversion, target, "")
    name = target.get("name")
    stated = display_name(current_name(name)) if isinstance(name, list) else name
    structure = (party.structure or {}).get("name") if party else None
    person = (party.display if party else "") or stated or reference.get("display") or ""
    return f"{person}, {structure}" if structure and structure != person else person


def _read_reasons(conversion: Conversion, notice: Notice) -> None:
    source, path = notice.source, notice.path
    coded = [("Catégorie", one) for one in source.get("category", ())]
    coded += [("Objet", source["topic"])] if "topic" in source else []
    coded += [("Motif", one) for one in source.get("reasonCode", ())]
    for label, concept in coded:
        if from_jdv("J46", [concept]) is None and (words := readable(concept)):
            notice.facts.append((label, words))
    for reference, target, place in conversion.references(source, "reasonReference", path):
        words = concept_text((target or {}).get("code")) or (reference.get("display") or "").strip()
        if target is not None:
            conversion.same_patient(target, "subject", place)
        if words:
            notice.facts.append(("Motif", words))
        else:
            conversion.inform(place, "a reason without words is not written", RULE)
    for one in source.get("note", ()):
        if words := annotation(conversion, one, source):
            notice.comments.append(words)
    for reference, target, place in conversion.references(source, "basedOn", path):
        if (target or {}).get("resourceType") == "ServiceRequest" or reference.get("type") == "ServiceRequest":
            notice.orders.append((reference, target, place))
        else:
            conversion.inform(place, "only a prescription has a place in the header", RULE)


def _read_encounter(conversion: Conversion, notice: Notice) -> None:
    """The stay that the event is about; whatever else it is about is in words."""
    source, path = notice.source, notice.path
    stated = [(source["encounter"], f"{path}.encounter")] if "encounter" in source else []
    about = [(one, f"{path}.about[{index}]") for index, one in enumerate(source.get("about", ()))]
    for reference, place in [*stated, *about]:
        target = conversion.resolve(reference, place, source)
        if target is not None and target.get("resourceType") == "Encounter" and notice.encounter is None:
            notice.encounter = (target, f"{place}.resolve()")
        elif words := (reference.get("display") or "").strip():
            notice.facts.append(("Au sujet de", words))
        else:
            conversion.inform(place, "what the event is about has no place in the document", RULE)


def _read_payload(conversion: Conversion, notice: Notice) -> None:
    path = notice.path
    for index, payload in enumerate(notice.source.get("payload", ())):
        place = f"{path}.payload[{index}]"
        check_extensions(conversion, payload, place, set())
        if words := (payload.get("contentString") or "").strip():
            notice.messages.append(words)
        elif "contentAttachment" in payload:
            _read_attachment(conversion, notice, payload["contentAttachment"], f"{place}.contentAttachment")
        elif "contentReference" in payload:
            _read_reference(conversion, notice, payload["contentReference"], f"{place}.contentReference")
    named = notice.enclosures.referenced or notice.enclosures.attached or conversion.has_refused(f"{path}.payload")
    if notice.kind.code == DOCUMENT_EVENT and not named:
        conversion.warn(f"{path}.payload", "a deposit of document that names no document", RULE)


def _read_attachment(conversion: Conversion, notice: Notice, attachment: Resource, path: str) -> None:
    """Words in text/plain are the message; anything else goes with the document."""
    if "data" in attachment and not attachment.keys() - _WORDS and is_plain_text(attachment):
        media = read_media(conversion, attachment, attachment, path)
        words = _readable((media.data if media else None) or b"", attachment["contentType"])
        if media is None or words:
            title = (attachment.get("title") or "").strip()
            notice.messages += [f"{title}\n{words}" if title else words] if words else []
            return
    notice.enclosures.add_attachment(conversion, attachment, path, notice.source)


_WORDS = frozenset({"id", "contentType", "language", "data", "size", "hash", "title"})
"""Elements of an Attachment that is words and nothing more."""


_CHARSETS = frozenset({"utf-8", "ascii", "iso8859-1", "iso8859-15", "cp1252"})
"""Names that `codecs` gives to the charsets of a text."""


def _readable(data: bytes, content_type: str) -> str:
    """Text that XML can hold, in the charset that is stated, UTF-8 by default; nothing for any other content."""
    stated = Message()
    stated["Content-Type"] = content_type
    try:
        charset = codecs.lookup(stated.get_content_charset() or "utf-8").name
        words = data.decode(charset).strip() if charset in _CHARSETS else ""
    except (LookupError, UnicodeDecodeError):
        return ""
    return words if all(char.isprintable() or char in "\t\n\r\u00a0\u202f" for char in words) else ""


def _read_reference(conversion: Conversion, notice: Notice, reference: Resource, path: str) -> None:
    target = conversion.resolve(reference, path, notice.source)
    if target is not None and notice.enclosures.add_resource(conversion, target, f"{path}.resolve()"):
        return
    if words := (reference.get("display") or "").strip():
        notice.messages.append(words)
    elif not conversion.has_refused(path):
        conversion.refuse(path, "a DocumentReference, a Binary, or at least what it is called", RULE, "not-supported")


# --- header -----------------------------------------------------------------------------------------------------


def _carrier(conversion: Conversion, notice: Notice) -> Carrier:
    source, path = notice.source, notice.path
    structure = _structure(conversion, notice)
    title = WITHDRAWAL_TITLE if notice.status == WITHDRAWN else TITLE
    declared = _declarant(source)
    return Carrier(
        resource=source,
        path=path,
        labels=notice.enclosures.labels(),
        kind=KIND,
        templates=[
            II(templates.HL7_FRANCE),
            II(templates.CISIS_HEADER),
            identity.model_id(KIND, conversion.deployment.model_arc),
        ],
        code=_document_type(conversion, notice),
        title=f"{title} – {notice.kind.display}" if notice.kind.display else title,
        authored=notice.emitted,
        act_time=notice.time,
        act=notice.kind if notice.kind.code else None,
        start_path=_time_path(path),
        authors=[notice.sender] if notice.sender else [],
        custodians=[notice.sender] if notice.sender and structure else [],
        custodian_path=f"{path}.{declared}",
        performer=structure,
        responsible=list(_responsible(conversion, notice)),
        responsible_path=f"{path}.{declared}",
        by_software=True,
        relatives=False,
        recipients=[(one, f"{path}.recipient[{index}]") for index, one in enumerate(source.get("recipient", ()))],
        orders=notice.orders,
        encounter=_setting(notice, structure),
    )


def _document_type(conversion: Conversion, notice: Notice) -> Code:
    """The type of the document, by type of event (setting notification_types)."""
    wanted = dict(conversion.deployment.notification_types).get(notice.kind.code or "", DEFAULT_TYPE)
    found = terminology.concept("J07", wanted)
    if found is None:
        message = "the type of document for this event is no type of JDV_J07"
        conversion.refuse("setting notification_types", message, RULE, "code-invalid")
        return terminology.coded("J07", DEFAULT_TYPE)
    return found.as_code()


def _structure(conversion: Conversion, notice: Notice) -> tuple[Resource, str] | None:
    """The Organization that declared the event, when that is no person and it has a national number."""
    if notice.sender is None:
        return None
    reference, path = notice.sender
    target = conversion.resources.resolve(reference, notice.source)
    if target is None or target.get("resourceType") != "Organization":
        return None
    known = is_national_structure(structure_ids(conversion, target, f"{path}.resolve()"))
    return (target, f"{path}.resolve()") if known else None


def _responsible(conversion: Conversion, notice: Notice) -> Iterator[tuple[Resource, str]]:
    """Who may answer: the professional who declared the event, else the one configured for the service."""
    if notice.sender is not None:
        reference, path = notice.sender
        target = conversion.resources.resolve(reference, notice.source)
        if target is not None:
            yield target, f"{path}.resolve()"
    for resource in configured_responsible(conversion.deployment):
        yield resource, "setting responsible"


def _setting(notice: Notice, structure: tuple[Resource, str] | None) -> tuple[Resource, str] | None:
    """The Encounter of the event; without it a virtual one in the structure that declared the event."""
    encounter, path = notice.encounter or ({"resourceType": "Encounter", "class": {"code": "VR"}}, notice.path)
    if structure is None or "serviceProvider" in encounter:
        return notice.encounter
    beside = [*notice.source.get("contained", ()), *encounter.get("contained", ())]
    contained = [*beside, structure[0] | {"id": STRUCTURE}]
    return encounter | {"contained": contained, "serviceProvider": {"reference": f"#{STRUCTURE}"}}, path


# --- sections ---------------------------------------------------------------------------------------------------


def _event(conversion: Conversion, notice: Notice) -> Section:
    """FR-Evenements with the one event, and what is known of the notification."""
    label = notice.kind.display or ""
    rows: list[list[list[Node]]] = [[["Évènement"], [content(label, id="evt-1")]], [["Date"], [notice.when]]]
    rows.append([["Statut"], [Element("content", {"ID": "statut-1"}, _status_words(notice))]])
    rows += [[[name], [words]] for name, words in dict.fromkeys(notice.facts) if words]
    if notice.comments:
        rows.append([["Commentaire"], [marked("\n".join(notice.comments), "com-1")]])
    entry = event_sections.event(
        conversion.entry_ids(notice.source, notice.path),
        replace(notice.kind, original_text=Text(reference="#evt-1")),
        mood=notice.mood,
        text="evt-1",
        status=notice.status,
        time=notice.time,
        priority=notice.priority,
        authors=_entry_authors(conversion, notice),
        informants=_entry_informants(conversion, notice),
        observations=[_business_status(conversion, notice)],
        remark="com-1" if notice.comments else None,
    )
    text: list[Node] = [table(("Rubrique", "Contenu"), rows), *remarks_block(conversion.remarks)]
    section_id = conversion.computed_id("section", "event")
    return sections.section(event_sections.EVENTS, section_id, text, [entry], title=EVENT_TITLE)


def _business_status(conversion: Conversion, notice: Notice) -> Statement:
    """FR-Statut: the event happened, is announced, or is no longer to be reckoned with."""
    withdrawn = notice.status == WITHDRAWN
    status = "ANNULE" if withdrawn else "PLANIFIE" if notice.mood == "INT" else "REALISE"
    reason = concept_text(notice.source.get("statusReason"))
    motive = Code(null_flavor="OTH", original_text=Text(reference="#raison-1")) if reason else Code(null_flavor="UNK")
    time = conversion.time(notice.emitted, _emission_path(notice.source, notice.path))
    return event_sections.business_status(
        conversion.entry_id(notice.source, notice.path, "status"),
        terminology.coded("event_status", status),
        text="statut-1",
        time=Interval(value=time) if time else None,
        motive=motive if withdrawn else None,
    )


def _status_words(notice: Notice) -> list[Node]:
    said = "Annoncé" if notice.mood == "INT" else "Survenu"
    words = {WITHDRAWN: WITHDRAWAL, "held": f"{said}, notification suspendue"}.get(notice.status, said)
    reason = concept_text(notice.source.get("statusReason"))
    return [words, " – motif : ", content(reason, id="raison-1")] if reason else [words]


def _entry_authors(conversion: Conversion, notice: Notice) -> list[EntryAuthor]:
    """Who declared the event, and when."""
    if notice.sender is None:
        return []
    reference, path = notice.sender
    target = conversion.resources.resolve(reference, notice.source)
    party = read_party(conversion, target, f"{path}.resolve()")
    if party is None:
        return []
    time = conversion.time(notice.emitted, path)
    if party.is_professional:
        assigned = assigned_entity(conversion, party)
    else:
        found = assigned_entity(conversion, party)
        assigned = AssignedEntity(ids=found.ids, code=found.code, person=found.person, organization=found.organization)
    return [EntryAuthor(assigned, time, None if time else "UNK")]


def _entry_informants(conversion: Conversion, notice: Notice) -> list[Informant]:
    """A relative who declared the event."""
    reference, path = notice.sender or ({}, "")
    target = conversion.resources.resolve(reference, notice.source)
    if target is None or target.get("resourceType") != "RelatedPerson":
        return []
    if not conversion.same_patient(target, "patient", f"{path}.resolve()"):
        return []
    return [Informant(related=entity) for entity in related_entities(conversion, target, f"{path}.resolve()")]


def _message(conversion: Conversion, notice: Notice) -> Section | None:
    """FR-Commentaire-non-code: the words of the notification."""
    if not notice.messages:
        return None
    text: list[Node] = [
        paragraph(marked(words, f"message-{number}")) for number, words in enumerate(notice.messages, 1)
    ]
    section_id = conversion.computed_id("section", "message")
    return sections.section(sections.COMMENT, section_id, text, title=MESSAGE_TITLE)
