"""HL7 v2 data types as XDS metadata write them: CX (identifier), XCN (person), XON (organisation), DTM, OID.

IHE ITI TF-3 table 4.2.3.1.7-2, restricted by the CI-SIS annexe on HL7 v2.5 data types. A delimiter inside a component
(`| ^ & ~ \\`) is written as its HL7 v2 escape sequence (HL7 v2.5 §2.7): a name can never break the string it stands in.
Reading never fails: parts that are not there read as empty strings, and `problems()` says, without quoting a value,
what makes the string ill-formed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from relais.cda.datatypes import dtm_from_ts, is_oid, is_ts
from relais.cda.identifiers import ins_is_valid, is_ps_idnat
from relais.cda.templates import INS_ROOTS, PS_IDNAT

_DELIMITERS = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
_ESCAPES = str.maketrans(_DELIMITERS)
_UNESCAPES = {sequence[1]: char for char, sequence in _DELIMITERS.items()}
_ESCAPE_SEQUENCE = re.compile(r"\\([EFSTR])\\")

OBSOLETE_INS_ROOTS = ("1.2.250.1.213.1.4.1", "1.2.250.1.213.1.4.2")  # INS-A, INS-C

_MAX_OID = 64
_MAX_EXTENSION = 16


def escape(text: str) -> str:
    """`text` as one component: white space collapsed, delimiters escaped."""
    return " ".join(text.split()).translate(_ESCAPES)


def unescape(component: str) -> str:
    """The text that a component stands for."""
    return _ESCAPE_SEQUENCE.sub(lambda match: _UNESCAPES[match[1]], component)


def is_short_oid(text: str) -> bool:
    """Whether `text` is a dotted OID of at most 64 characters, without prefix: the OIDs of XDS."""
    return len(text) <= _MAX_OID and is_oid(text)


def is_document_id(text: str) -> bool:
    """Whether `text` is the uniqueId of a document: an OID, or `OID^extension` (never for the DMP)."""
    root, separator, extension = text.partition("^")
    return is_short_oid(root) and (not separator or 0 < len(extension) <= _MAX_EXTENSION)


def is_dtm(text: str) -> bool:
    """Whether `text` is an XDS DTM: 4 to 14 digits that make a real date and time, no offset."""
    return text.isdecimal() and is_ts(text)


def without_offset(text: str) -> str | None:
    """The DTM in UTC of a time that wrongly carries an offset (`20130104153000+0100`), to the same precision.

    None when `text` is not such a time.
    """
    return dtm_from_ts(text) if text[-5:-4] in ("+", "-") and is_ts(text) else None


@dataclass(frozen=True, slots=True)
class CX:
    """An identifier of a patient: `type` is NH (INS) or PI (local number); `oid` is the domain."""

    id: str
    oid: str
    type: str

    def __str__(self) -> str:
        return f"{escape(self.id)}^^^&{self.oid}&ISO^{self.type}"

    @classmethod
    def parse(cls, text: str) -> CX:
        """The identifier that `text` writes."""
        parts = _components(text, 5)
        return cls(unescape(parts[0]), _authority(parts[3]), parts[4])

    def problems(self) -> list[str]:
        """What is wrong with this identifier of a patient."""
        found = _authority_problems(self.oid, 4)
        if not self.id:
            found.append("component 1 (identifier) is empty")
        if self.type not in ("NH", "PI"):
            found.append("component 5 (identifier type) is neither NH nor PI")
        if self.oid in OBSOLETE_INS_ROOTS:
            found.append("the domain is that of the obsolete INS-A or INS-C")
        if self.oid in INS_ROOTS and not ins_is_valid(self.id):
            found.append("component 1 is not a matricule INS with a right key")
        if (self.type == "NH") != (self.oid in INS_ROOTS) and self.type in ("NH", "PI"):
            found.append("the identifier type does not fit the domain (NH is for the INS, PI for any other)")
        return found


@dataclass(frozen=True, slots=True)
class XCN:
    """A person or a system: `name_type` is D (person) or U (system), `type` IDNPS, EI, RI or NH."""

    id: str
    family: str
    given: str
    oid: str
    name_type: str
    type: str

    def __str__(self) -> str:
        names = f"{escape(self.family)}^{escape(self.given)}"
        return f"{escape(self.id)}^{names}^^^^^^&{self.oid}&ISO^{self.name_type}^^^{self.type}"

    @classmethod
    def parse(cls, text: str) -> XCN:
        """The person that `text` writes."""
        parts = _components(text, 13)
        identifier, family, given = (unescape(part) for part in parts[:3])
        return cls(identifier, family, given, _authority(parts[8]), parts[9], parts[12])

    def problems(self) -> list[str]:
        """What is wrong with this person."""
        found = _authority_problems(self.oid, 9)
        if not self.id:
            found.append("component 1 (identifier) is empty")
        if not self.family:
            found.append("component 2 (family name) is empty")
        if self.name_type not in ("D", "U"):
            found.append("component 10 (name type) is neither D nor U")
        if self.type not in ("IDNPS", "EI", "RI", "NH"):
            found.append("component 13 (identifier type) is none of IDNPS, EI, RI, NH")
        return found

    def doubts(self) -> list[str]:
        """What looks wrong without making the string unusable."""
        if self.oid == PS_IDNAT and self.type == "IDNPS" and not is_ps_idnat(self.id):
            return [
                "component 1 has not the shape of a PS_IdNat (8 and RPPS, 0 and ADELI, or structure and internal id)"
            ]
        return []


@dataclass(frozen=True, slots=True)
class XON:
    """A structure: name and Struct_IdNat; one of them may be unknown (empty)."""

    name: str
    id: str
    oid: str
    type: str

    def __str__(self) -> str:
        if not self.id:
            return escape(self.name)
        return f"{escape(self.name)}^^^^^&{self.oid}&ISO^{self.type}^^^{escape(self.id)}"

    @classmethod
    def parse(cls, text: str) -> XON:
        """The structure that `text` writes."""
        parts = _components(text, 10)
        return cls(unescape(parts[0]), unescape(parts[9]), _authority(parts[5]), parts[6])

    def problems(self) -> list[str]:
        """What is wrong with this structure."""
        if not self.id:
            found = ["components 1 (name) and 10 (identifier) are both empty"] if not self.name else []
            return found + (["components 6 and 7 qualify no identifier"] if self.oid or self.type else [])
        found = _authority_problems(self.oid, 6)
        if not self.type:
            found.append("component 7 (identifier type) is empty")
        return found


def _components(text: str, count: int) -> list[str]:
    parts = text.split("^")
    return parts + [""] * (count - len(parts))


def _authority(component: str) -> str:
    """The OID of an assigning authority `&OID&ISO`; empty when it has another form."""
    namespace, _, rest = component.partition("&")
    oid, _, kind = rest.partition("&")
    return oid if not namespace and kind == "ISO" else ""


def _authority_problems(oid: str, number: int) -> list[str]:
    return [] if is_short_oid(oid) else [f"component {number} (assigning authority) has not the form &OID&ISO"]
