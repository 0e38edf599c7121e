"""What may go where: agenda and administrative documents stay out of the DMP, a PPS goes everywhere."""

from __future__ import annotations

import pytest

from relais.cda import templates
from relais.cda.errors import MappingError
from relais.cda.model import II, Code
from relais.mappings import terminology
from relais.mappings.document_metadata import document_entry
from relais.mappings.document_rules import DESTINATIONS, FACILITY_PATH, Destination, destinations, refusals
from support.documents import small_pps


def loinc(code: str) -> Code:
    return Code(code, templates.LOINC, "label")


@pytest.mark.parametrize("code", ["18776-5", "28653-4", "86531-1", "11506-3"])
def test_types_of_the_dmp_go_everywhere(code: str) -> None:
    assert destinations(loinc(code)) == set(DESTINATIONS)


@pytest.mark.parametrize("code", ["56446-8", "51851-4"])
def test_management_documents_stay_out_of_the_dmp(code: str) -> None:
    assert destinations(loinc(code)) == {"mss", "hl7v2", "mhd"}


@pytest.mark.parametrize("kind", [loinc("00000-0"), Code("18776-5", "1.2.3"), Code(null_flavor="UNK")])
def test_a_type_that_nobody_classes_goes_nowhere(kind: Code) -> None:
    assert destinations(kind) == frozenset()


@pytest.mark.parametrize("destination", DESTINATIONS)
def test_a_pps_is_refused_nowhere(destination: Destination) -> None:
    assert refusals(small_pps(), destination) == []


def test_an_agenda_is_refused_for_the_dmp_alone_and_the_reason_is_said() -> None:
    document = small_pps()
    document.header.code = loinc("56446-8")
    document.header.template_ids[-1] = II("2.25.1")
    assert refusals(document, "mss") == refusals(document, "hl7v2") == []
    (issue,) = refusals(document, "dmp")
    assert issue.path == "ClinicalDocument/code"
    assert "MSSanté" in issue.message


def test_a_format_that_the_dmp_does_not_hold() -> None:
    document = small_pps()
    document.header.template_ids[-1] = II("1.2.250.1.213.1.1.1.58")  # export of a DUI
    assert [issue.path for issue in refusals(document, "dmp")] == ["ClinicalDocument/templateId"]
    assert refusals(document, "mss") == []


def test_a_sector_that_the_dmp_does_not_hold() -> None:
    document = small_pps()
    assert document.header.encounter is not None
    for code, refused in (("SA63", False), ("SA66", True), ("SA67", True)):
        assert document.header.encounter.facility is not None
        document.header.encounter.facility.code = terminology.coded("J02", code)
        assert [issue.path for issue in refusals(document, "dmp")] == [FACILITY_PATH] * refused
        assert refusals(document, "mss") == refusals(document, "hl7v2") == refusals(document, "mhd") == []


def test_what_may_not_leave_for_the_dmp_gets_no_metadata_for_it_either() -> None:
    document = small_pps()
    document.header.code = loinc("56446-8")
    with pytest.raises(MappingError, match="does not accept this type"):
        document_entry(document, b"<x/>", destination="dmp")
    assert document_entry(document, b"<x/>", destination="mss").type_code.code == "56446-8"
