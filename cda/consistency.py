"""What a CI-SIS document must keep to and no official rule verifies: references, identifiers, times, attached files.

Rules are those of the CI-SIS texts (volet Structuration minimale, Référentiel INS, Annexe PS/structures); each has an
id `relais-…`. The document is read as XML, so that any CDA can be checked, even one the model cannot hold. What depends
on the moment of the check, and not on the document alone, is `check_clock`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from lxml import etree

from relais.cda import media, pdf_content, templates
from relais.cda.datatypes import datetime_from_ts
from relais.cda.errors import Issue, Severity, limited
from relais.cda.identifiers import (
    finess_is_valid,
    ins_is_valid,
    is_ps_idnat,
    is_struct_idnat,
    rpps_is_valid,
    siren_is_valid,
    siret_is_valid,
)
from relais.cda.parsing import SDTC, V3, Places

_NS = {"v3": V3, "sdtc": SDTC}
_STATEMENTS = (
    "act",
    "encounter",
    "observation",
    "observationMedia",
    "organizer",
    "procedure",
    "regionOfInterest",
    "substanceAdministration",
    "supply",
)
_INTERNAL_REFERENCE = "1.3.6.1.4.1.19376.1.5.3.1.4.4.1"
_ABSOLUTE_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_NARRATIVE_REFERENCES = (("renderMultiMedia", "referencedObject"), ("footnoteRef", "IDREF"))
"""Elements of a narrative (CDA R2 §4.3.5) and their attribute of type IDREF or IDREFS, that nobody verifies."""
_IGNORED = re.compile(r"[\x00-\x20]+")  # by browsers, within the scheme of an address
_SCRIPT = re.compile(r"(?:javascript|vbscript|data):", re.IGNORECASE)
_WHOLE_TIME = re.compile(r"\d{14}(\.\d+)?[+-]\d{4}")
_TIME = re.compile(r"(?P<digits>\d{4,14})(?:\.\d+)?(?P<offset>[+-]\d{4})?")

_IDENTIFIERS: tuple[tuple[tuple[str, ...], Callable[[str], bool], str, str], ...] = (
    (
        templates.INS_ROOTS,
        ins_is_valid,
        "relais-ins",
        "an INS has 15 characters, of which the two last are a key that agrees with the others",
    ),
    (
        (templates.PS_IDNAT,),
        is_ps_idnat,
        "relais-ps-idnat",
        "a PS_IdNat is 8 and an RPPS (11 digits), 0 and an ADELI (9), or a structure number, / and an internal id",
    ),
    (
        (templates.STRUCT_IDNAT,),
        is_struct_idnat,
        "relais-struct-idnat",
        "a Struct_IdNat is 1 and a FINESS (9 characters), 2 and a SIREN (9), 3 and a SIRET (14), or a cabinet number",
    ),
)

_KEYED: tuple[tuple[str, str, Callable[[str], bool], str, str], ...] = (
    (templates.PS_IDNAT, "8", rpps_is_valid, "relais-rpps-key", "the key of the RPPS does not agree with its digits"),
    (
        templates.STRUCT_IDNAT,
        "1",
        finess_is_valid,
        "relais-finess-key",
        "the key of the FINESS does not agree with its digits",
    ),
    (
        templates.STRUCT_IDNAT,
        "2",
        siren_is_valid,
        "relais-siren-key",
        "the key of the SIREN does not agree with its digits",
    ),
    (
        templates.STRUCT_IDNAT,
        "3",
        siret_is_valid,
        "relais-siret-key",
        "the key of the SIRET does not agree with its digits",
    ),
)
"""Root, type digit, check of the number after it. A wrong key is a warning: invented numbers of tests have such."""


_DONE = (
    "/*/v3:effectiveTime",
    "/*/v3:recordTarget/v3:patientRole/v3:patient/v3:birthTime",
    "/*/v3:recordTarget/v3:patientRole/v3:patient/sdtc:deceasedTime",
    "/*/v3:author/v3:time",
    "/*/v3:dataEnterer/v3:time",
    "/*/v3:legalAuthenticator/v3:time",
    "/*/v3:authenticator/v3:time",
)
"""Times of what has happened, by CDA R2 §4.2: creation of the document, birth, death, contributions, signatures. Acts,
stays and participations may be planned."""

_SKEW = timedelta(minutes=5)  # two clocks may differ by so much
_ZONES = timedelta(days=1)  # no time zone is so far from another


def check(tree: etree._ElementTree) -> list[Issue]:
    """Everything inconsistent in a CDA document, in the order of the rules. Messages never quote the document."""
    root = tree.getroot()
    return _issues(finding for rule in _RULES for finding in rule(root))


def check_files(tree: etree._ElementTree) -> list[Issue]:
    """Of `check`, what is said of the files in a document: body and attached ones."""
    return _issues(_attached_files(tree.getroot()))


def check_clock(tree: etree._ElementTree, now: datetime) -> list[Issue]:
    """The times of the header that tell of what has happened, and are later than `now`, the moment of the check.

    An error by more than a day; a warning by more than five minutes where the offset from UTC is given.
    """
    return _issues(_future(tree.getroot(), now))


def _issues(findings: Iterable[_Finding]) -> list[Issue]:
    places = Places()
    return list(
        limited(
            Issue(finding.severity, finding.code, finding.message, places.of(finding.element), finding.rule)
            for finding in findings
        )
    )


class _Finding(NamedTuple):
    element: etree._Element
    rule: str
    message: str
    code: str = "value"
    severity: Severity = "error"


def _find(root: etree._Element, xpath: str) -> list[etree._Element]:
    found = root.xpath(xpath, namespaces=_NS)
    return [element for element in found if isinstance(element, etree._Element)] if isinstance(found, list) else []


def _references(root: etree._Element) -> Iterator[_Finding]:
    targets = {element.get("ID", "").strip() for element in _find(root, "//*[@ID]")}
    small = {name.lower() for name in targets}
    for reference in _find(root, "//v3:reference[@value]"):
        value = reference.get("value", "").strip()  # XML Schema collapses the white space of both types
        if value.startswith("#"):
            if value[1:] not in targets:
                yield _dangling(reference, {value[1:]}, small)
        elif not _ABSOLUTE_URL.match(value):
            message = "a reference inside the document begins with #; this one leads nowhere"
            yield _Finding(reference, "relais-reference-fragment", message, severity="warning")
    for name, attribute in _NARRATIVE_REFERENCES:
        for reference in _find(root, f"//v3:{name}[@{attribute}]"):
            if absent := set(reference.get(attribute, "").split()) - targets:
                yield _dangling(reference, absent, small)


def _dangling(reference: etree._Element, absent: set[str], small: set[str]) -> _Finding:
    """`small` are the IDs of the document in small letters."""
    message = "no element has the ID this refers to"
    if any(name.lower() in small for name in absent):
        message += "; an ID that differs in capitals only exists"
    return _Finding(reference, "relais-reference", message, "not-found")


def _links(root: etree._Element) -> Iterator[_Finding]:
    for link in _find(root, "//v3:linkHtml[@href]"):
        if _SCRIPT.match(_IGNORED.sub("", link.get("href", ""))):
            yield _Finding(link, "relais-link", "a link of the narrative runs a script when it is followed", "security")


def _unique_narrative_ids(root: etree._Element) -> Iterator[_Finding]:
    seen: set[str] = set()
    for element in _find(root, "//*[@ID]"):
        if (name := element.get("ID", "").strip()) in seen:
            yield _Finding(element, "relais-narrative-id", "another element has the same ID", "duplicate")
        seen.add(name)


def _unique_entry_ids(root: etree._Element) -> Iterator[_Finding]:
    seen: set[tuple[str | None, str | None]] = set()
    statements = " or ".join(f"self::v3:{name}" for name in _STATEMENTS)
    reference = f"v3:templateId/@root = '{_INTERNAL_REFERENCE}'"
    for identifier in _find(root, f"//v3:id[@root][parent::*[({statements}) and not({reference})]]"):
        if (key := (identifier.get("root"), identifier.get("extension"))) in seen:
            message = "another entry has the same id"
            yield _Finding(identifier, "relais-entry-id", message, "duplicate", "warning")
        seen.add(key)


def _identifiers(root: etree._Element) -> Iterator[_Finding]:
    for roots, is_valid, rule, message in _IDENTIFIERS:
        for identifier in _find(root, "//v3:id[@extension]"):
            if identifier.get("root") in roots and not is_valid(identifier.get("extension", "")):
                yield _Finding(identifier, rule, message)


def _keys(root: etree._Element) -> Iterator[_Finding]:
    for identifier in _find(root, "//v3:id[@extension]"):
        number = identifier.get("extension", "")
        shape = is_ps_idnat if identifier.get("root") == templates.PS_IDNAT else is_struct_idnat
        for owner, kind, is_valid, rule, message in _KEYED:
            if identifier.get("root") == owner and number[:1] == kind and shape(number) and not is_valid(number[1:]):
                yield _Finding(identifier, rule, message, severity="warning")


def _one_patient(root: etree._Element) -> Iterator[_Finding]:
    targets = _find(root, "/*/v3:recordTarget")
    for target in targets[1:]:
        yield _Finding(target, "relais-one-patient", "a document is about one patient", "invariant")
    for target in targets:
        known: set[str] = set()
        for identifier in _find(target, "v3:patientRole/v3:id[@extension]"):
            if identifier.get("root") in templates.INS_ROOTS:
                if known and identifier.get("extension", "") not in known:
                    message = "another INS than the one before: two patients, or a matricule that was replaced"
                    yield _Finding(identifier, "relais-one-ins", message, "invariant")
                known.add(identifier.get("extension", ""))


def _intervals(root: etree._Element) -> Iterator[_Finding]:
    for interval in _find(root, "//*[(self::v3:effectiveTime or self::v3:time) and v3:low/@value and v3:high/@value]"):
        low, high = (_bound(interval, name) for name in ("low", "high"))
        if low and high and _precedes(high, low):
            yield _Finding(interval, "relais-interval", "high is before low", "invariant")


def _bound(interval: etree._Element, name: str) -> re.Match[str] | None:
    bound = interval.find(f"{{{V3}}}{name}")
    return _TIME.fullmatch(bound.get("value", "")) if bound is not None else None


def _precedes(first: re.Match[str], second: re.Match[str]) -> bool:
    """Whether a time is certainly before another: compared at the precision of the less precise."""
    precision = min(len(first["digits"]), len(second["digits"]))
    starts = []
    for time in (first, second):
        offset = time["offset"] if precision > len("YYYYMMDD") else None
        try:
            starts.append(datetime_from_ts(time["digits"][:precision] + (offset or "")))
        except ValueError:
            return False  # the schema and the official rules judge the form of a time
    return starts[0] < starts[1]


def _order_of_times(root: etree._Element) -> Iterator[_Finding]:
    made = _find(root, "/*/v3:effectiveTime[@value]")
    for xpath, rule, message in (
        ("/*/v3:recordTarget/v3:patientRole/v3:patient/v3:birthTime", "relais-birth", "born after the document"),
        ("/*/v3:author/v3:time", "relais-author-time", "the author's part is later than the document"),
    ):
        for element in _find(root, f"{xpath}[@value]") if made else ():
            time, document = (_TIME.fullmatch(one.get("value", "")) for one in (element, made[0]))
            if time and document and _precedes(document, time):
                yield _Finding(element, rule, message, "invariant", "warning")


def _future(root: etree._Element, now: datetime) -> Iterator[_Finding]:
    message = "later than the moment of the check, though it tells when something has happened"
    for element in (found for xpath in _DONE for found in _find(root, f"{xpath}[@value]")):
        time = _TIME.fullmatch(element.get("value", ""))
        try:
            ahead = datetime_from_ts(f"{time['digits']}{time['offset'] or ''}") - now if time else timedelta()
        except ValueError:
            continue  # the schema and the official rules judge the form of a time
        if ahead > _ZONES:
            yield _Finding(element, "relais-future", message, "invariant")
        elif time and time["offset"] and ahead > _SKEW:
            yield _Finding(element, "relais-future", message, "invariant", "warning")


def _header_times(root: etree._Element) -> Iterator[_Finding]:
    time = "self::v3:effectiveTime or self::v3:time or parent::v3:effectiveTime or parent::v3:time"
    for element in _find(root, f"/*/*[not(self::v3:component)]/descendant-or-self::*[@value and ({time})]"):
        if not _WHOLE_TIME.fullmatch(element.get("value", "")):
            message = "a time of the header is given to the second, with its offset from UTC"
            yield _Finding(element, "relais-header-time", message, severity="warning")


def _version(root: etree._Element) -> Iterator[_Finding]:
    for version in _find(root, "/*/v3:versionNumber[@value < 1]"):
        yield _Finding(version, "relais-version", "versions are numbered from 1 on")


def _replacement(root: etree._Element) -> Iterator[_Finding]:
    for version in _find(root, "/*[not(v3:relatedDocument[@typeCode = 'RPLC'])]/v3:versionNumber[@value > 1]"):
        message = "from version 2 on, relatedDocument (RPLC) names the version this one replaces"
        yield _Finding(version, "relais-replacement", message, "required")


def _body(root: etree._Element) -> Iterator[_Finding]:
    unstructured = f"v3:templateId/@root = '{templates.UNSTRUCTURED}'"
    for body in _find(root, f"/*[{unstructured}]/v3:component/v3:structuredBody"):
        message = f"the template {templates.UNSTRUCTURED} is that of a document without sections"
        yield _Finding(body, "relais-body-template", message, "structure")
    for body in _find(root, "/*/v3:component/v3:nonXMLBody/v3:text"):
        if body.get("mediaType") not in media.BODY_TYPES:
            message = f"a body has one of the types {', '.join(media.BODY_TYPES)}"
            yield _Finding(body, "relais-body-media-type", message, "code-invalid")
        if body.get("representation") != "B64":
            yield _Finding(body, "relais-body-representation", "a body has representation B64")


def _attached_files(root: etree._Element) -> Iterator[_Finding]:
    for element in _find(root, "//*[@representation = 'B64']"):
        media_type = element.get("mediaType")
        try:
            data = base64.b64decode("".join((element.text or "").split()), validate=True)
        except (binascii.Error, ValueError):
            data = b""
        if not data:
            yield _Finding(element, "relais-base64", "the content is empty or not Base64", "structure")
        elif media.contradicts(media_type, data):
            yield _Finding(element, "relais-media-content", "the content is not of the type that mediaType tells")
        elif media.is_cut_short(data, media_type):
            kind = media.extension(media_type).upper()
            message = f"the {kind} has no end marker: it is cut short"
            yield _Finding(element, "relais-media-end", message, "incomplete")
        elif media_type == media.PLAIN_TEXT:
            yield from _text(element, data)
        elif media_type == media.PDF:
            yield from _pdf(element, data)


def _is_body(element: etree._Element) -> bool:
    parent = element.getparent()
    return parent is not None and parent.tag == f"{{{V3}}}nonXMLBody"


def _text(element: etree._Element, data: bytes) -> Iterator[_Finding]:
    if media.has_controls(data):
        message = "a plain text holds no control characters but tabs, line and page breaks"
        yield _Finding(element, "relais-media-text", message)
    elif _is_body(element) and not media.is_utf_8(data):
        message = "a plain text is encoded in UTF-8 (IHE XDS-SD)"
        yield _Finding(element, "relais-media-encoding", message, severity="warning")


def _pdf(element: etree._Element, data: bytes) -> Iterator[_Finding]:
    """An unstructured body is PDF/A-1, as its format code says (IHE XDS-SD); of an attached PDF nothing is demanded."""
    is_body = _is_body(element)
    content = pdf_content.examine(data)
    for rule, message in content.forbidden():
        yield _Finding(element, rule, message, "business-rule", "error" if is_body else "warning")
    if content.unread:
        message = "not all of the PDF could be looked into for scripts, other files and encryption"
        yield _Finding(element, "relais-pdf-unread", message, "incomplete", "warning")
    if is_body and not pdf_content.claims_pdf_a_1(data):
        message = "the PDF does not declare PDF/A-1, which its format code designates"
        yield _Finding(element, "relais-pdf-a-1", message, severity="warning")


_RULES: tuple[Callable[[etree._Element], Iterator[_Finding]], ...] = (
    _references,
    _links,
    _unique_narrative_ids,
    _unique_entry_ids,
    _one_patient,
    _identifiers,
    _keys,
    _intervals,
    _order_of_times,
    _header_times,
    _version,
    _replacement,
    _body,
    _attached_files,
)
