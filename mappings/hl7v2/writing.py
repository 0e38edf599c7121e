"""A document and its transmission order as an HL7 v2 message: MDM 2.6 or ORU 2.5, to a platform or to an LPS.

CI-SIS volets "Transmission de documents CDA-R2 en HL7v2" 2.1 and "Transmission au LPS" 1.1. Patient and document come
from the CDA, everything else from the order; the same order gives the same bytes. What is made is read back by
`reading`, whose rules are the only ones: an order that breaks one is refused with the place where it shows.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator

from relais.cda.model import II, Address, Code, Document, Header, NamePart, Patient, Telecom
from relais.cda.templates import INS_NIA, INS_ROOTS, PS_IDNAT, STRUCT_IDNAT
from relais.mappings.hl7v2 import tables
from relais.mappings.hl7v2.document import replaced_ids
from relais.mappings.hl7v2.er7 import Field, Repetition, encode, header_segment, segment
from relais.mappings.hl7v2.findings import MessageError
from relais.mappings.hl7v2.order import Endpoint, MessageType, Party, Person, Structure, TransmissionOrder
from relais.mappings.hl7v2.reading import TO_LPS, TO_PLATFORM, Policy, examine

VERSIONS: dict[MessageType, str] = {"MDM": "2.6", "ORU": "2.5"}
COUNTRY = "FRA"

_GENDERS = {"F": "F", "M": "M"}  # anything else is U
_ADDRESS_TYPES = {"WP": "O", "TMP": "C"}  # table 0190; anything else is H
_EQUIPMENT = {"MC": "CP", "PG": "BP"}  # table 0202; anything else is PH
_NAMESPACES = {PS_IDNAT: "ASIP-SANTE-PS", STRUCT_IDNAT: "ASIP-SANTE-ST"}
_MAIL_BODIES = (
    ("CORPSMAIL_PS", "Corps du mail pour un PS", "body_for_professionals"),
    ("CORPSMAIL_PATIENT", "Corps du mail pour le patient", "body_for_patient"),
)


def compose(document: Document, data: bytes, order: TransmissionOrder, policy: Policy) -> bytes:
    """The message that carries `data`, the exact bytes of `document`, as `order` says.

    Raises MessageError with everything that a receiver following `policy` would refuse.
    """
    message = encode(_segments(document.header, data, order), order.charset)
    errors = examine(message, policy).findings.errors
    if errors:
        raise MessageError(errors)
    return message


def envelope(
    order_type: tuple[str, str, str], version: str, sending: Endpoint, receiving: Endpoint, **values: str
) -> dict[int, Field]:
    """The fields of MSH that every message of the volets bears; `values`: time, control_id, processing, charset."""
    return {
        3: sending.application,
        4: sending.facility,
        5: receiving.application,
        6: receiving.facility,
        7: values["time"],
        9: order_type,
        10: values["control_id"],
        11: values["processing"],
        12: version,
        17: COUNTRY,
        18: values["charset"],
    }


def _segments(header: Header, data: bytes, order: TransmissionOrder) -> Iterator[str]:
    action = tables.row("actions", "action", order.action) or {}
    document_type = _document_type(header.code)
    yield _msh(order, action["trigger"])
    if order.message == "MDM":
        yield segment("EVN", {2: order.time, 6: order.event_time})
    yield _pid(header.patient, order.identity_status)
    yield _pv1(header, order)
    yield segment("ORC", {1: action["orc"]})
    yield segment("OBR", {4: document_type})
    if order.message == "MDM":
        yield _txa(header, order)
    text = "text" if order.message == "MDM" else "TEXT"
    yield _obx(1, "ED", document_type, ("", text, "XML", "Base64", _base64(data)), action["obx"])
    yield from _participations(order)
    yield from _metadata(order, text)


def _msh(order: TransmissionOrder, trigger: str) -> str:
    types = {"MDM": ("MDM", trigger, "MDM_T02"), "ORU": ("ORU", "R01", "ORU_R01")}
    fields = envelope(
        types[order.message],
        VERSIONS[order.message],
        order.sending,
        order.receiving,
        time=order.time,
        control_id=order.control_id,
        processing=order.processing,
        charset=order.charset,
    )
    return header_segment(fields | {21: TO_LPS if order.mail else TO_PLATFORM})


# --- patient and encounter ----------------------------------------------------------------------------------------


def _pid(patient: Patient, identity_status: str) -> str:
    has_ins = any(ii.root in INS_ROOTS for ii in patient.ids)
    fields: dict[int, Field] = {
        3: [_patient_id(ii) for ii in patient.ids if ii.extension and ii.root],
        5: list(_names(patient)),
        7: patient.birth_time or "",
        8: _GENDERS.get((patient.gender and patient.gender.code) or "", "U"),
        11: [*map(_address, _known(patient.addresses)), *_birthplace(patient)],
        13: list(_telecoms(patient.telecoms)),
        32: identity_status or ("VALI" if has_ins else ""),
    }
    return segment("PID", fields)


def _patient_id(ii: II) -> Repetition:
    if ii.root in INS_ROOTS:
        namespace = "ASIP-SANTE-INS-NIA" if ii.root == INS_NIA else "ASIP-SANTE-INS-NIR"
        return (ii.extension or "", "", "", (namespace, ii.root or "", "ISO"), "INS")
    return (ii.extension or "", "", "", ("", ii.root or "", "ISO"), "PI")


def _names(patient: Patient) -> Iterator[Repetition]:
    """The birth name (L) with first given name and list of given names, then the usual name (D) if there is one."""
    families, givens = patient.name.families, patient.name.givens
    family, given = _part(families, "BR"), _part(givens, "BR")
    listed = _part(givens, None)
    if family:
        yield (family, given or listed, listed, "", "", "", "L")
    elif families:
        yield (families[0].text, given or listed, "", "", "", "", "U")
    usual_family, usual_given = _part(families, "CL"), _part(givens, "CL")
    if usual_family or usual_given:
        yield (usual_family or family, usual_given or given, "", "", "", "", "D")


def _part(parts: Iterable[NamePart], qualifier: str | None) -> str:
    return next((part.text for part in parts if part.qualifier == qualifier), "")


def _known(addresses: Iterable[Address]) -> list[Address]:
    return [address for address in addresses if address.null_flavor is None]


def _address(address: Address) -> Repetition:
    number = " ".join(filter(None, (address.house_number, address.house_number_numeric)))
    street = " ".join(filter(None, (number, address.street_name_type, address.street_name)))
    lines = address.lines or [street]
    others = (address.additional_locator, address.unit_id, address.post_box, address.precinct, *lines[1:])
    other = ", ".join(filter(None, others))
    city, state, country = address.city or "", address.state or "", address.country or ""
    kind = _ADDRESS_TYPES.get(address.use or "", "H")
    return (lines[0], other, city, state, address.postal_code or "", country, kind, "", address.county or "")


def _birthplace(patient: Patient) -> Iterator[Repetition]:
    """The birthplace (BDL) with its INSEE code, which CDA keeps in `county`."""
    place = patient.birthplace and patient.birthplace.address
    if place and (place.county or place.city):
        city, country = place.city or "", place.country or ""
        yield ("", "", city, "", place.postal_code or "", country, "BDL", "", place.county or "")


def _telecoms(telecoms: Iterable[Telecom]) -> Iterator[Repetition]:
    for telecom in telecoms:
        scheme, _, value = (telecom.value or "").partition(":")
        if scheme == "mailto":
            yield ("", "NET", "Internet", value)
        elif value and scheme in ("tel", "fax"):  # no component holds the address of a page
            use = "WPN" if telecom.use == "WP" else "PRN"  # table 0201
            equipment = "FX" if scheme == "fax" else _EQUIPMENT.get(telecom.use or "", "PH")
            yield ("", use, equipment, "", "", "", "", "", "", "", "", value)


def _pv1(header: Header, order: TransmissionOrder) -> str:
    given, stated = order.encounter, header.encounter
    number, authority, admission, discharge = given.number, given.authority, given.admission, given.discharge
    if stated and stated.ids and not number:
        number, authority = stated.ids[0].extension or "", stated.ids[0].root or ""
    if stated and stated.time and given.kind != "N":
        admission, discharge = admission or stated.time.low or "", discharge or stated.time.high or ""
    visit: Repetition = (number, "", "", ("", authority, "ISO" if authority else ""), "VN") if number else ""
    return segment("PV1", {2: given.kind, 19: visit, 44: admission, 45: discharge})


# --- document -----------------------------------------------------------------------------------------------------


def _document_type(code: Code) -> Repetition:
    systems = {oid: name for name, oid in tables.TERMINOLOGIES.items()}
    return (code.code or "", code.display or "", systems.get(code.system or "", ""))


def _txa(header: Header, order: TransmissionOrder) -> str:
    replaced = replaced_ids(header)
    fields: dict[int, Field] = {
        1: "1",
        2: header.code.code or "",
        3: "TEXT",
        12: document_id(header.id),
        13: document_id(replaced[0]) if replaced and order.action == "replace" else "",
        17: "AU",
    }
    return segment("TXA", fields)


def document_id(ii: II) -> Repetition:
    """The id of a document as TXA-12 and TXA-13 write it: the root alone, or extension and root."""
    return (ii.extension, "", ii.root or "", "ISO") if ii.extension else ii.root or ""


def _obx(number: int, kind: str, identifier: Repetition, value: Repetition, status: str = "F") -> str:
    return segment("OBX", {1: str(number), 2: kind, 3: identifier, 5: value, 11: status})


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


# --- participations -----------------------------------------------------------------------------------------------


def _participations(order: TransmissionOrder) -> Iterator[str]:
    if order.sender:
        yield _prt(("SB", "Send by", "participation"), order.sender)
    for recipient in order.recipients:
        yield _prt(("RCT", "Result Copies To", "participation"), recipient)
    for mailbox in order.reply_to:
        yield _prt(("REPLY", "Reply To", "participation"), Party(mailbox=mailbox))


def _prt(role: Repetition, party: Party) -> str:
    fields: dict[int, Field] = {
        2: "UC",
        4: role,
        5: _person(party.person) if party.person else "",
        8: _structure(party.structure) if party.structure else "",
        10: party.device,
        15: ("", "", "X.400", party.mailbox) if party.mailbox else "",
    }
    return segment("PRT", fields)


def _person(person: Person) -> Repetition:
    authority = (_NAMESPACES.get(person.authority, ""), person.authority, "ISO")
    names = (person.id, person.family, person.given)
    return (*names, "", "", "", "", "", authority, person.name_type, "", "", person.id_type)


def _structure(structure: Structure) -> Repetition:
    if not structure.id:
        return structure.name
    authority = (_NAMESPACES.get(structure.authority, ""), structure.authority, "ISO")
    return (structure.name, "", "", "", "", authority, structure.id_type, "", "", structure.id)


# --- metadata -----------------------------------------------------------------------------------------------------


def _metadata(order: TransmissionOrder, text: str) -> Iterator[str]:
    number = 2
    if order.mail:
        identifier = (order.mail.message_id, order.mail.subject)
        yield _obx(number, "ED", identifier, _body(order.mail.body, text))
        number += 1
    coded = "CWE" if order.message == "MDM" else "CE"
    for row in tables.metadata(to_lps=order.mail is not None):
        value = "Y" if getattr(order.flags, row["flag"]) else "N"
        yield _obx(number, coded, _metadata_code(row["code"], row["label"]), (value, "", "expandedYes-NoIndicator"))
        if row["code"] == "DESTMSSANTEPAT" and order.flags.to_patient and not order.patient_may_reply:
            yield segment("NTE", {1: "1", 4: "FIN"})
        number += 1
    for code, label, attribute in () if order.mail else _MAIL_BODIES:
        if body := getattr(order, attribute):
            yield _obx(number, "ED", _metadata_code(code, label), _body(body, text))
            number += 1


def _metadata_code(code: str, label: str) -> Repetition:
    return (code, label, "MetaDMPMSS")


def _body(body: str, text: str) -> Repetition:
    return ("", text, "", "Base64", _base64(body.encode()))
