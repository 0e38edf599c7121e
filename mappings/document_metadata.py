"""XDS metadata derived from a CDA header, and their agreement with it.

CI-SIS volet Partage de documents de santé, annexe "Liens CDA – métadonnées XDS": one DocumentEntry per document, one
SubmissionSet per sending. The code tables are `data/xds_*.tsv`, each with its source and date.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from relais.cda.datatypes import dtm_from_datetime, dtm_from_ts, is_oid
from relais.cda.errors import Issue, MappingError, Severity, UnreadableError
from relais.cda.model import (
    II,
    Address,
    AssignedEntity,
    Author,
    Code,
    Document,
    Interval,
    Patient,
    ServiceEvent,
    Telecom,
)
from relais.cda.reader import read
from relais.cda.templates import CISIS_HEADER, CONFIDENTIALITY, HL7_FRANCE, INS_ROOTS, PS_IDNAT, STRUCT_IDNAT
from relais.cda.xdm import CDA_MIME_TYPES, Archive
from relais.cda.xds import CodedValue, DocumentEntry, MetadataAuthor, Submission, SubmissionSet
from relais.cda.xds_attributes import ACTIVITY_SYSTEM, CLASS_SYSTEM
from relais.cda.xds_types import CX, OBSOLETE_INS_ROOTS, XCN, XON, escape, is_short_oid
from relais.mappings.identity import SOCIAL_SECURITY_ROOTS
from relais.mappings.terminology import concept

Destination = Literal["dmp", "mhd", "mss"]
"""Where the document goes: the DMP wants the INS, a document id that is a bare OID, and its own lists of codes; a FHIR
share (PDSm) wants the bare OID alone, which it writes as a URN; a mailbox or a platform none of them."""

_SIREN_DOMAIN = "1.3.2"
_ANY_ACTIVITY = "97"
_ORDER_REFERENCE = "urn:ihe:iti:xds:2013:order"
_GENERIC_TEMPLATES = (HL7_FRANCE, CISIS_HEADER)
_HOME_PHONE_USES = {None: "PH", "H": "PH", "HP": "PH", "HV": "PH", "MC": "CP"}  # XTN equipment types


# --- deriving -------------------------------------------------------------------------------------------------


def document_entry(
    document: Document,
    data: bytes,
    *,
    entry_id: str = "Document01",
    uri: str | None = None,
    destination: Destination = "dmp",
) -> DocumentEntry:
    """The fiche of `document`, whose exact bytes are `data`.

    But for the DMP a patient without INS is named by the local number (IPP); for MSSanté the document id may have an
    extension. Raises MappingError listing everything that the header lacks, with its XPath.
    """
    derived = _Derivation(document, destination)
    if derived.issues:
        raise MappingError(derived.issues)
    return DocumentEntry(
        entry_id=entry_id,
        mime_type=CDA_MIME_TYPES[document.self_displaying],
        hash=_sha1(data),
        size=len(data),
        uri=uri,
        source_patient_info=_patient_info(document.header.patient),
        **derived.values,
    )


def submission_set(
    document: Document,
    *,
    unique_id: str,
    source_id: str,
    time: datetime,
    content_type: CodedValue | None = None,
    author: MetadataAuthor | None = None,
    title: str | None = None,
    comments: str | None = None,
) -> SubmissionSet:
    """The lot that sends `document`.

    `unique_id` is an OID new for each lot, `source_id` the OID of the sending system, `time` an aware datetime. The
    author is who sends: the first author of the document unless given. The content type is the secteur d'activité of
    the document unless given. Raises MappingError listing everything that is missing.
    """
    derived = _Derivation(document, "mss")  # what the DMP asks more is asked of each entry, of the same patient
    needed = ("recordTarget", "author") if author is None else ("recordTarget",)
    issues = [issue for issue in derived.issues if issue.path.startswith(tuple(f"{_ROOT}/{name}" for name in needed))]
    for name, oid in (("unique_id", unique_id), ("source_id", source_id)):
        if not is_short_oid(oid):
            issues.append(_lack(name, "an OID of at most 64 characters is needed", "value"))
    if unique_id == derived.values.get("unique_id"):
        issues.append(_lack("unique_id", "the lot and its document need different identifiers", "conflict"))
    content_type = content_type or content_type_of(derived.values.get("facility_type"))
    if content_type is None:
        issues.append(_lack("content_type", "the secteur d'activité of the document is no content type: one is needed"))
    if issues or content_type is None:
        raise MappingError(issues)
    return SubmissionSet(
        unique_id=unique_id,
        source_id=source_id,
        patient_id=derived.values["patient_id"],
        submission_time=dtm_from_datetime(time),
        content_type=content_type,
        author=author or derived.values["authors"][0],
        title=title,
        comments=comments,
    )


_ROOT = "/ClinicalDocument"


def _lack(path: str, message: str, code: str = "required") -> Issue:
    return Issue("error", code, message, path, "XDS metadata")


class _Derivation:
    """The attributes that a header gives, by field of DocumentEntry, and what it lacks for the others."""

    def __init__(self, document: Document, destination: Destination) -> None:
        self.document, self.header, self.destination = document, document.header, destination
        self.values: dict[str, Any] = {}
        self.issues: list[Issue] = []
        self._identify()
        self._describe()
        self._name_patient()
        self._name_authors()
        self._classify()
        self._place_act()

    def _refuse(self, path: str, message: str, code: str = "required") -> None:
        self.issues.append(_lack(f"{_ROOT}/{path}", message, code))

    def _identify(self) -> None:
        root, extension = self.header.id.root, self.header.id.extension
        if not root or not is_oid(root) or not is_short_oid(root):
            self._refuse("id/@root", "the document needs an OID of at most 64 characters (a UUID is none)")
            return
        if extension and self.destination != "mss":
            whom = "the DMP" if self.destination == "dmp" else "a FHIR share"
            self._refuse("id/@extension", f"{whom} refuses a document id with an extension", "not-supported")
        self.values["unique_id"] = f"{root}^{extension}" if extension else root

    def _describe(self) -> None:
        for field, path, text in (
            ("title", "title", self.header.title),
            ("language", "languageCode", self.header.language),
        ):
            if text and text.strip():
                self.values[field] = " ".join(text.split())
            else:
                self._refuse(path, "is needed")
        self._put_time("creation_time", self.header.effective_time, "effectiveTime/@value")

    def _put_time(self, field: str, ts: str | None, path: str, *, required: bool = True) -> None:
        if ts is None:
            if required:
                self._refuse(path, "is needed")
            return
        try:
            self.values[field] = dtm_from_ts(ts)
        except ValueError as error:
            self._refuse(path, str(error), "value")

    # people

    def _name_patient(self) -> None:
        path = "recordTarget/patientRole/id"
        patient = self.header.patient
        ins, local = _ins(patient.ids), _local_id(patient.ids)
        if len({identifier.extension for identifier in ins}) > 1:
            self._refuse(path, "two different matricules INS of the same domain", "conflict")
            return
        chosen = ins[0] if ins else local if self.destination != "dmp" else None
        if chosen is None:
            needed = "an INS" if self.destination == "dmp" else "an INS or a local number with the OID of its domain"
            self._refuse(path, f"{needed} is needed to name the patient")
            return
        for identifier in {_cx(chosen), _cx(local or chosen)}:
            for problem in identifier.problems():
                self._refuse(path, problem, "value")
        self.values["patient_id"] = str(_cx(chosen))
        self.values["source_patient_id"] = str(_cx(local or chosen))

    def _name_authors(self) -> None:
        authors = self.header.authors
        if not authors:
            self._refuse("author", "is needed")
        found = [self._author(author, number, len(authors)) for number, author in enumerate(authors, 1)]
        self.values["authors"] = tuple(author for author in found if author is not None)
        validator = self.header.legal_authenticator
        if validator is None:
            self._refuse("legalAuthenticator", "is needed")
        elif person := self._person(validator.assigned, "legalAuthenticator/assignedEntity"):
            self.values["legal_authenticator"] = person

    def _author(self, author: Author, number: int, total: int) -> MetadataAuthor | None:
        path = f"author[{number}]/assignedAuthor" if total > 1 else "author/assignedAuthor"
        person = self._person(author.assigned, path)
        if person is None:
            return None
        function = author.function_code
        return MetadataAuthor(
            person=person,
            institutions=() if XCN.parse(person).type == "NH" else _institutions(author.assigned),
            roles=(function.display,) if function and function.display else (),
            specialties=_specialties(author.assigned.code),
        )

    def _person(self, assigned: AssignedEntity, path: str) -> str | None:
        """The XCN of a professional, a patient or a system; what is missing is noted."""
        xcn = _xcn(assigned)
        if xcn is None:
            self._refuse(path, "a person or a device is needed")
            return None
        problems = xcn.problems()
        if problems:
            self._refuse(path, f"an identifier (root and extension) and a name are needed: {'; '.join(problems)}")
            return None
        return str(xcn)

    # codes

    def _classify(self) -> None:
        self._put_code("type_code", self.header.code, "code", "J07")
        if kind := self.values.get("type_code"):
            self._classify_type(kind)
        self._put_code("confidentiality", self.header.confidentiality, "confidentialityCode", "xds_confidentiality")
        if code := self.values.get("confidentiality"):
            self.values["confidentiality"] = (code,)
        row = _format(self.document)
        if row is None:
            self._refuse(
                "component/nonXMLBody/text/@mediaType", "no format code is known for this body", "not-supported"
            )
        else:
            self.values["format_code"] = CodedValue(row["code"], row["display"], row["system"])
            if self.destination == "dmp" and row["dmp"] == "no":
                self._refuse("templateId", "the DMP does not accept the format of this document", "not-supported")

    def _classify_type(self, kind: CodedValue) -> None:
        row = _types().get((kind.code, kind.system))
        if row is None:
            self._refuse("code", "no class is known for this type of document", "not-supported")
            return
        if self.destination == "dmp" and row["dmp"] == "no":
            self._refuse("code", "the DMP does not accept this type of document", "not-supported")
        label = concept("xds_class", row["class"])
        self.values["class_code"] = CodedValue(row["class"], label.display if label else "", CLASS_SYSTEM)

    def _put_code(self, field: str, code: Code | None, path: str, value_set: str) -> None:
        if code is None or code.null_flavor or not code.code or not code.system:
            self._refuse(path, "a code and its system are needed")
            return
        label = code.display or _label(value_set, code)
        if not label:
            self._refuse(f"{path}/@displayName", "is needed")
        self.values[field] = CodedValue(code.code, label or "", code.system)

    # the act and its place

    def _place_act(self) -> None:
        encounter = self.header.encounter
        facility = encounter.facility if encounter else None
        path = "componentOf/encompassingEncounter/location/healthCareFacility/code"
        self._put_code("facility_type", facility.code if facility else None, path, "J02")
        acts = self.header.service_events
        act = acts[0] if acts else ServiceEvent()  # the first is the main act
        base = "documentationOf[1]/serviceEvent" if len(acts) > 1 else "documentationOf/serviceEvent"
        path = f"{base}/performer/assignedEntity/representedOrganization/standardIndustryClassCode"
        self._put_code("practice_setting", _practice_setting(act), path, "J04")
        time = act.time or Interval()
        self._put_time("service_start", time.low or time.value, f"{base}/effectiveTime/low/@value")
        self._put_time("service_stop", time.high or time.value, f"{base}/effectiveTime/high/@value", required=False)
        codes = [act.code for act in acts if act.code and act.code.code and act.code.system]
        # the label of an event is optional in a CDA, not in XDS: its code then stands for it
        self.values["event_codes"] = tuple(
            CodedValue(str(code.code), code.display or str(code.code), str(code.system)) for code in codes
        )
        self.values["reference_ids"] = tuple(
            f"{escape(str(identifier.extension))}^^^&{identifier.root}&ISO^{_ORDER_REFERENCE}"
            for order in self.header.orders
            for identifier in order.ids
            if identifier.root and identifier.extension
        )


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def _named(identifiers: Iterable[II]) -> list[II]:
    """Identifiers that name something: root and extension."""
    return [identifier for identifier in identifiers if identifier.root and identifier.extension]


def _ins(identifiers: Iterable[II]) -> list[II]:
    """The INS of the first domain that has one (NIR, then NIA, then those of tests)."""
    named = _named(identifiers)
    by_root = ([identifier for identifier in named if identifier.root == root] for root in INS_ROOTS)
    return next((found for found in by_root if found), [])


def _local_id(identifiers: Iterable[II]) -> II | None:
    """The first number that is neither an INS nor a social security number: the IPP."""
    excluded = (*INS_ROOTS, *OBSOLETE_INS_ROOTS, *SOCIAL_SECURITY_ROOTS)
    return next((identifier for identifier in _named(identifiers) if identifier.root not in excluded), None)


def _cx(identifier: II) -> CX:
    return CX(str(identifier.extension), str(identifier.root), "NH" if identifier.root in INS_ROOTS else "PI")


def _xcn(assigned: AssignedEntity) -> XCN | None:
    named = _named(assigned.ids)
    national = [identifier for identifier in named if identifier.root == PS_IDNAT]
    identifier = (national or named or [II()])[0]
    root, extension = identifier.root or "", identifier.extension or ""
    if assigned.device is not None:
        software, model = assigned.device.software_name or "", assigned.device.model_name or ""
        return XCN(extension, software or model, model if software else "", root, "U", "RI")
    if assigned.person is None:
        return None
    families = sorted(assigned.person.families, key=lambda part: part.qualifier == "BR")  # the name in use first
    givens = sorted(assigned.person.givens, key=lambda part: part.qualifier == "BR")
    family, given = (parts[0].text if parts else "" for parts in (families, givens))
    return XCN(extension, family, given, root, "D", _person_id_type(root, extension))


def _person_id_type(root: str, extension: str) -> str:
    if root in INS_ROOTS:
        return "NH"
    return "IDNPS" if root == PS_IDNAT and "/" not in extension else "EI"


def _institutions(assigned: AssignedEntity) -> tuple[str, ...]:
    """The structure by its national number, else by its name alone: a local number is none of XON's domains."""
    organization = assigned.organization
    if organization is None:
        return ()
    name, numbers = organization.name or "", {ii.root: str(ii.extension) for ii in reversed(_named(organization.ids))}
    for root, kind in ((STRUCT_IDNAT, "IDNST"), (_SIREN_DOMAIN, "SIREN")):
        if root in numbers:
            return (str(XON(name, numbers[root], root, kind)),)
    return (str(XON(name, "", "", "")),) if name else ()


def _specialties(code: Code | None) -> tuple[str, ...]:
    if code is None or not code.code or not code.system:
        return ()
    label = code.display or _label("J01", code) or ""
    return (f"{escape(code.code)}^{escape(label)}^{code.system}",)


def _label(value_set: str, code: Code) -> str | None:
    found = concept(value_set, code.code, code.system)
    return found.display if found else None


def _practice_setting(act: ServiceEvent) -> Code | None:
    organizations = (performer.assigned.organization for performer in act.performers)
    return next((found.industry_class for found in organizations if found and found.industry_class), None)


def _format(document: Document) -> dict[str, str] | None:
    """The row of the format table: by media type for an N1 body, by model for an N3 one."""
    if document.non_xml_body is not None:
        return _formats().get(document.non_xml_body.media_type or "?")
    models = (template.root for template in document.header.template_ids if template.root not in _GENERIC_TEMPLATES)
    return next((row for model in models if model and (row := _formats().get(model))), _formats()[""])


def content_type_of(facility: CodedValue | None) -> CodedValue | None:
    """The secteur d'activité as the contentTypeCode of a lot; None for one that is none, as that of a hospital."""
    row = _content_types().get((facility.code, facility.system)) if facility else None
    return CodedValue(row["code"], row["display"], row["system"]) if row else None


def usual_content_type(*sectors: CodedValue | None) -> CodedValue:
    """The first of these secteurs d'activité that is a contentTypeCode; for hospitals, any activity (TRE_R209)."""
    found = next((kind for sector in sectors if (kind := content_type_of(sector))), None)
    return found or CodedValue(
        _ANY_ACTIVITY, _content_types()[(_ANY_ACTIVITY, ACTIVITY_SYSTEM)]["display"], ACTIVITY_SYSTEM
    )


# --- sourcePatientInfo ----------------------------------------------------------------------------------------


def _patient_info(patient: Patient) -> tuple[str, ...]:
    """The PID fields of ITI TF-3 §4.2.3.2.23 that the header gives."""
    fields = (
        ("PID-3", "~".join(str(_cx(one)) for one in _named(patient.ids) if one.root not in SOCIAL_SECURITY_ROOTS)),
        ("PID-5", "~".join(_patient_names(patient))),
        *_traits(patient),
        ("PID-11", "~".join(_patient_addresses(patient))),
        ("PID-13", _patient_phone(patient.telecoms)),
    )
    return tuple(f"{name}|{value}" for name, value in fields if value)


def _traits(patient: Patient) -> tuple[tuple[str, str], ...]:
    """Date of birth and sex."""
    sex = {"M": "M", "F": "F", "UN": "U"}.get((patient.gender and patient.gender.code) or "", "")
    return ("PID-7", (patient.birth_time or "")[:8]), ("PID-8", sex)


def _patient_names(patient: Patient) -> list[str]:
    """XPN of the birth name (L), with every given name of the birth certificate third, then of the used name (D)."""

    def part(parts: Sequence[Any], *qualifiers: str | None) -> str:
        for qualifier in qualifiers:
            for candidate in parts:
                if candidate.qualifier == qualifier:
                    return escape(candidate.text)
        return ""

    families, givens = patient.name.families, patient.name.givens
    names = []
    if birth_family := part(families, "BR", None):
        all_givens = part(givens, None) if part(givens, "BR") else ""
        names.append(f"{birth_family}^{part(givens, 'BR', None)}^{all_givens}^^^^L")
    used = part(families, "CL"), part(givens, "CL")
    if any(used):
        names.append(f"{used[0]}^{used[1]}^^^^^D")
    return names


def _patient_addresses(patient: Patient) -> list[str]:
    """XAD of the first address, then of the birth place (type BDL, INSEE code of the commune ninth)."""
    addresses = [_xad(address) for address in patient.addresses[:1] if not address.null_flavor]
    birth = patient.birthplace.address if patient.birthplace else None
    if birth and (birth.county or birth.city):
        addresses.append(f"^^{escape(birth.city or '')}^^^^BDL^^{escape(birth.county or '')}")
    return [address for address in addresses if address.strip("^")]


def _xad(address: Address) -> str:
    number = (address.house_number, address.house_number_numeric, address.street_name_type, address.street_name)
    other = (address.additional_locator, address.unit_id, address.post_box, address.precinct, *address.lines[1:])
    street = (*address.lines[:1], *number)
    parts = (_joined(street), _joined(other), address.city, address.state, address.postal_code, address.country)
    return "^".join(escape(part or "") for part in parts)


def _joined(parts: Iterable[str | None]) -> str:
    return " ".join(part for part in parts if part)


def _patient_phone(telecoms: Iterable[Telecom]) -> str:
    """XTN of the first home or mobile phone, the number unformatted in component 12."""
    for telecom in telecoms:
        if telecom.value and telecom.value.startswith("tel:") and telecom.use in _HOME_PHONE_USES:
            return f"^PRN^{_HOME_PHONE_USES[telecom.use]}^^^^^^^^^{escape(telecom.value[4:])}"
    return ""


# --- checking -------------------------------------------------------------------------------------------------


def check_agreement(entry: DocumentEntry, document: Document, data: bytes) -> list[Issue]:
    """What the fiche says otherwise than the document, by rule `xdm.mismatch.<attribute>`.

    Error for what files the document (identity, patient, type, times, authors, bytes), warning for the rest. Hash and
    size are compared where the fiche states them: a sender of ITI-41 may leave them out.
    """
    issues = []
    if entry.size and entry.size != len(data):
        issues.append(_mismatch("size"))
    if entry.hash and entry.hash.lower() != _sha1(data):
        issues.append(_mismatch("hash"))
    return issues + check_header(entry, document)


def check_archive(archive: Archive) -> list[Issue]:
    """The same for every CDA of an archive whose bytes `cda.xdm` has checked, and the codes of its metadata.

    A CDA is told by its bytes: one that its metadata call something else is compared all the same.
    """
    issues = check_codes(archive.submission, dmp=False)
    for packed in archive.documents:
        announced = packed.entry.mime_type in CDA_MIME_TYPES
        try:
            document = read(packed.data).document
        except UnreadableError as error:
            if announced:
                issues += [replace(issue, path=packed.path, rule="xdm.not-cda") for issue in error.issues]
            continue
        found = [] if announced else [_mismatch("mimeType")]
        found += check_header(packed.entry, document)
        issues += [replace(issue, path=f"{packed.path}#{issue.path}") for issue in found]
    return issues


def check_codes(submission: Submission, *, dmp: bool) -> list[Issue]:
    """Codes of the metadata outside their value sets: errors for the DMP, warnings for a mail.

    A class that is not the one of the type is an error for both.
    """
    severity: Severity = "error" if dmp else "warning"
    issues = []

    def unknown(path: str, message: str, severity: Severity = severity) -> None:
        issues.append(Issue(severity, "code-invalid", message, path, "xdm.metadata-attribute"))

    content = submission.submission_set.content_type
    row = _content_types().get((content.code, content.system))
    if row is None or row["dmp" if dmp else "cisis"] == "no":
        unknown("SubmissionSet.contentTypeCode", "the code is not in the value set")
    for number, entry in enumerate(submission.entries, 1):
        path = f"DocumentEntry[{number}]"
        kind = _types().get((entry.type_code.code, entry.type_code.system))
        if kind is None or (dmp and kind["dmp"] == "no"):
            unknown(f"{path}.typeCode", "the type is not in the value set")
        if kind is not None and kind["class"] != entry.class_code.code:
            unknown(f"{path}.classCode", "the class is not that of the type", "error")
        if not any(
            row["code"] == entry.format_code.code and row["system"] == entry.format_code.system and _allowed(row, dmp)
            for row in _formats().values()
        ):
            unknown(f"{path}.formatCode", "the format is not in the value set")
        for attribute, value_set, codes in (
            ("healthcareFacilityTypeCode", "J61" if dmp else "J02", (entry.facility_type,)),
            ("practiceSettingCode", "J04", (entry.practice_setting,)),
            ("confidentialityCode", "xds_confidentiality", entry.confidentiality),
        ):
            if not all(concept(value_set, code.code, code.system) for code in codes):
                unknown(f"{path}.{attribute}", "the code is not in the value set")
    return issues


def _allowed(row: dict[str, str], dmp: bool) -> bool:
    return not dmp or row["dmp"] == "yes"


def check_header(entry: DocumentEntry, document: Document) -> list[Issue]:
    """The same without size and hash, where they were compared before."""
    derived = _Derivation(document, "mss").values
    issues = [
        _mismatch(attribute, severity)
        for attribute, field, key, severity in _AGREEMENTS
        if key(derived.get(field)) != key(getattr(entry, field))
    ]
    patient = document.header.patient
    if _cx_key(entry.patient_id) not in {_key(identifier) for identifier in _ins(patient.ids) or _named(patient.ids)}:
        issues.append(_mismatch("patientId"))
    if _cx_key(entry.source_patient_id) not in {_key(identifier) for identifier in _named(patient.ids)}:
        issues.append(_mismatch("sourcePatientId"))
    stated = dict(field.split("|", 1) for field in entry.source_patient_info if "|" in field)
    if any(stated[name] != (value or None) for name, value in _traits(patient) if name in stated):
        issues.append(_mismatch("sourcePatientInfo"))
    return issues


def _mismatch(attribute: str, severity: Severity = "error") -> Issue:
    message = "the metadata do not say what the document says"
    return Issue(severity, "conflict", message, f"DocumentEntry.{attribute}", f"xdm.mismatch.{attribute}")


def _key(identifier: II) -> tuple[str | None, str | None]:
    return identifier.extension, identifier.root


def _cx_key(text: str) -> tuple[str | None, str | None]:
    cx = CX.parse(text)
    return cx.id, cx.oid


def _text_key(text: str | None) -> str:
    return " ".join((text or "").split())


def _code_key(code: CodedValue | None) -> tuple[str, str] | None:
    return (code.code, code.system) if code else None


def _confidentiality_key(codes: Sequence[CodedValue] | None) -> list[str]:
    """The level of confidentiality; maskings come from the sender, not from the document."""
    return [code.code for code in codes or () if code.system == CONFIDENTIALITY]


def _person_key(text: str | None) -> tuple[str, str]:
    person = XCN.parse(text or "")
    return person.id, person.oid


def _author_key(authors: Sequence[MetadataAuthor] | None) -> list[tuple[str, str]]:
    return sorted(_person_key(author.person) for author in authors or ())


_AGREEMENTS: tuple[tuple[str, str, Callable[[Any], object], Severity], ...] = (
    ("uniqueId", "unique_id", _text_key, "error"),
    ("typeCode", "type_code", _code_key, "error"),
    ("title", "title", _text_key, "error"),
    ("creationTime", "creation_time", _text_key, "error"),
    ("languageCode", "language", _text_key, "error"),
    ("confidentialityCode", "confidentiality", _confidentiality_key, "error"),
    ("author", "authors", _author_key, "error"),
    ("legalAuthenticator", "legal_authenticator", _person_key, "error"),
    ("classCode", "class_code", _code_key, "warning"),
    ("formatCode", "format_code", _code_key, "warning"),
    ("healthcareFacilityTypeCode", "facility_type", _code_key, "warning"),
    ("practiceSettingCode", "practice_setting", _code_key, "warning"),
    ("serviceStartTime", "service_start", _text_key, "warning"),
    ("serviceStopTime", "service_stop", _text_key, "warning"),
)


# --- tables ---------------------------------------------------------------------------------------------------


def _rows(name: str) -> list[dict[str, str]]:
    text = files("relais.mappings").joinpath("data", f"{name}.tsv").read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def type_row(kind: Code) -> dict[str, str] | None:
    """What ASS_X04 says of a type of document (columns of `data/xds_type_class.tsv`), None for no type of it."""
    return _types().get((kind.code or "", kind.system or ""))


def format_row(document: Document) -> dict[str, str] | None:
    """The XDS format of a document (columns of `data/xds_format.tsv`), None for an unknown body."""
    return _format(document)


@cache
def _types() -> dict[tuple[str, str], dict[str, str]]:
    """ASS_X04: the class of each type of document, and whether the DMP takes the type."""
    return {(row["code"], row["system"]): row for row in _rows("xds_type_class")}


@cache
def _formats() -> dict[str, dict[str, str]]:
    """ASS_A11 and ASS_A12: the format of each model and each media type; the empty model is any other."""
    return {row["model"]: row for row in _rows("xds_format")}


@cache
def _content_types() -> dict[tuple[str, str], dict[str, str]]:
    return {(row["code"], row["system"]): row for row in _rows("xds_content_type")}
