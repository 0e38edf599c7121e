"""HL7 v2 for tests: an order for the small document, and messages changed in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from relais.cda import templates
from relais.cda.model import II, Document, RelatedDocument
from relais.cda.writer import write
from relais.mappings.hl7v2.order import Endpoint, Flags, Party, Person, Structure, TransmissionOrder
from relais.mappings.hl7v2.reading import Policy
from relais.mappings.hl7v2.writing import compose
from support.documents import small_document

POLICY = Policy(ins_environment="test")
STRICT = Policy(ins_environment="test", strict=True)
INS = "279035121518989"
FORMER = "2.25.301245378217395437813294710347591823411"

SENDER = Party(
    Person("810101234564", "LEMOINE", "Hélène", templates.PS_IDNAT, "IDNPS"),
    Structure("Cabinet des Tilleuls", "1750099996", templates.STRUCT_IDNAT, "IDNST"),
)
NURSE = Party(
    Person("810109876540", "PETIT & FILS", "Zoé", templates.PS_IDNAT, "IDNPS"), mailbox="infirmier@ssiad.mssante.fr"
)
PATIENT = Party(
    Person(INS, "PATTERSON", "DOMINIQUE", templates.INS_NIR_TEST, "INS", "L"), mailbox=f"{INS}@patient.mssante.fr"
)


def order(**changes: object) -> TransmissionOrder:
    """To the DMP and to a nurse; `changes` are of its fields."""
    plain = TransmissionOrder(
        control_id="RELAIS0001",
        time="20260112090500+0100",
        action="initial",
        sending=Endpoint("RELAIS", "DAC du Val"),
        receiving=Endpoint("PFI", "GHT"),
        flags=Flags(to_dmp=True, to_professionals=True, want_reception=True, want_reading=True),
        sender=SENDER,
        recipients=(NURSE,),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def to_both(**changes: object) -> TransmissionOrder:
    """To the DMP, to a nurse and to the patient: a combination that the volet lists (M1)."""
    flags = Flags(to_dmp=True, to_professionals=True, to_patient=True, want_reception=True)
    return order(**({"flags": flags, "recipients": (NURSE, PATIENT)} | changes))


def replacing() -> Document:
    """The small document as the second version of its lineage."""
    document = small_document()
    document.header.version_number = 2
    document.header.related_documents = [RelatedDocument([II(FORMER)])]
    return document


def adding() -> Document:
    """The small document as an addendum (APND) to the one that `replacing` replaces."""
    document = replacing()
    document.header.related_documents[0].type_code = "APND"
    return document


def message(transmission: TransmissionOrder | None = None, document: Document | None = None) -> bytes:
    """The message of an order for a document."""
    transmission = transmission or to_both()
    document = document or (small_document() if transmission.action == "initial" else replacing())
    return compose(document, write(document), transmission, POLICY)


# --- changes ------------------------------------------------------------------------------------------------------


def lines(data: bytes) -> list[str]:
    """The segments of a message in UTF-8."""
    return data.decode().removesuffix("\r").split("\r")


def joined(segments: list[str]) -> bytes:
    """The message of these segments."""
    return "".join(f"{segment}\r" for segment in segments).encode()


def with_field(data: bytes, place: str, value: str | Callable[[str], str]) -> bytes:
    """The message with the field at `PID-3` or `OBX[2]-5` as `value` writes it (ER7), or made from what stood there."""
    name, _, field = place.partition("-")
    name, _, ordinal = name.removesuffix("]").partition("[")
    segments = lines(data)
    index = [at for at, segment in enumerate(segments) if segment.startswith(f"{name}|")][int(ordinal or 1) - 1]
    fields = segments[index].split("|")
    number = int(field) - (name == "MSH")
    fields += [""] * (number + 1 - len(fields))
    fields[number] = value if isinstance(value, str) else value(fields[number])
    return joined([*segments[:index], "|".join(fields), *segments[index + 1 :]])


def without(data: bytes, name: str) -> bytes:
    """The message without its segments of that name."""
    return joined([segment for segment in lines(data) if not segment.startswith(f"{name}|")])


def moved(data: bytes, name: str, before: str) -> bytes:
    """The message with its first segment of a name standing before the first of another."""
    segments = lines(data)
    segment = segments.pop(next(at for at, line in enumerate(segments) if line.startswith(f"{name}|")))
    segments.insert(next(at for at, line in enumerate(segments) if line.startswith(f"{before}|")), segment)
    return joined(segments)


def inserted(data: bytes, segment: str, before: str) -> bytes:
    """The message with one more segment before the first of a name."""
    segments = lines(data)
    segments.insert(next(at for at, line in enumerate(segments) if line.startswith(f"{before}|")), segment)
    return joined(segments)
