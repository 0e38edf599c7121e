"""FHIR XML ⇄ JSON: nothing is lost either way, and what is no FHIR XML is refused with its place."""

from __future__ import annotations

import copy
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from relais.profiles.structure import check
from relais.profiles.xml import XmlFormatError, from_xml, to_xml
from support.r4_samples import CARE_PLAN, OBSERVATION, PATIENT, SAMPLES, changed

XHTML = "http://www.w3.org/1999/xhtml"


def serialised(resource: dict[str, Any]) -> str:
    return etree.tostring(to_xml(resource), encoding="unicode")


def there_and_back(resource: dict[str, Any]) -> dict[str, Any]:
    return from_xml(etree.fromstring(serialised(resource)))


def read(xml: str) -> dict[str, Any]:
    return from_xml(etree.fromstring(xml))


def exactly(value: Any) -> Any:
    """A form in which 1.0, 1.00, 1 and true differ, as they do in FHIR."""
    if isinstance(value, dict):
        return {key: exactly(each) for key, each in value.items()}
    if isinstance(value, list):
        return [exactly(each) for each in value]
    return (type(value).__name__, str(value))


@pytest.mark.parametrize("sample", SAMPLES)
def test_json_to_xml_and_back_loses_nothing(sample: str) -> None:
    assert exactly(there_and_back(SAMPLES[sample])) == exactly(SAMPLES[sample])


@pytest.mark.parametrize("digits", ["1.00", "0.10", "-0.0", "1E+3", "1E-8", "100", "12345678901234567890.5"])
def test_decimals_keep_their_digits(digits: str) -> None:
    value = int(digits) if digits.isdigit() else Decimal(digits)
    observation = changed(OBSERVATION, "valueQuantity.value", value)
    assert exactly(there_and_back(observation)) == exactly(observation)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**50), max_value=10**50))
def test_any_decimal_keeps_its_digits(value: Decimal) -> None:
    back = there_and_back(changed(OBSERVATION, "valueQuantity.value", value))["valueQuantity"]["value"]
    assert Decimal(back).as_tuple() == value.as_tuple()


@given(st.text(min_size=1))
def test_any_valid_string_survives(text: str) -> None:
    patient = changed(PATIENT, "name.0.family", text)
    if not check(patient):
        assert there_and_back(patient) == patient


def test_elements_come_in_the_order_of_the_specification() -> None:
    patient = {"resourceType": "Patient", "gender": "male", "birthDate": "1950", "id": "1", "active": True}
    assert serialised(patient) == (
        '<Patient xmlns="http://hl7.org/fhir"><id value="1"/><active value="true"/><gender value="male"/>'
        '<birthDate value="1950"/></Patient>'
    )


def test_extensions_of_primitives_ids_and_urls() -> None:
    given = [{"extension": [{"url": "urn:x", "valueString": "é"}]}, None]
    patient = {"resourceType": "Patient", "name": [{"id": "n1", "given": [None, "Anne"], "_given": given}]}
    assert serialised(patient) == (
        '<Patient xmlns="http://hl7.org/fhir"><name id="n1"><given><extension url="urn:x"><valueString value="é"/>'
        '</extension></given><given value="Anne"/></name></Patient>'
    )
    assert there_and_back(patient) == patient


@pytest.mark.parametrize(
    "name",
    [
        {"given": ["a", "b"], "_given": [None, {"id": "2"}]},
        {"given": ["a", None], "_given": [None, {"extension": [{"url": "x", "valueCode": "y"}]}]},
        {"_given": [{"extension": [{"url": "x", "valueCode": "y"}]}]},
        {"_family": {"extension": [{"url": "x", "valueCode": "y"}]}},
        {"family": "a", "_family": {"id": "f"}},
    ],
)
def test_arrays_of_values_and_extensions_stay_aligned(name: dict[str, Any]) -> None:
    patient = {"resourceType": "Patient", "name": [name]}
    assert check(patient) == []
    assert there_and_back(patient) == patient


def test_contained_resources_and_narrative() -> None:
    xml = serialised({**CARE_PLAN, "text": PATIENT["text"]})
    assert "<contained><Goal><id value=" in xml
    assert f'<div xmlns="{XHTML}"><p>' in xml


@pytest.mark.parametrize(
    "inner",
    [
        "a &amp; b &lt; c",
        "<p>x<br/>y</p>tail",
        "<!-- note -->x",
        '<a href="?a=1&amp;b=2" title="&quot;">é</a>',
        "a\n b",
    ],
)
def test_a_narrative_keeps_its_content(inner: str) -> None:
    div = f'<div xmlns="{XHTML}">{inner}</div>'
    back = there_and_back({"resourceType": "Basic", "text": {"status": "generated", "div": div}})["text"]["div"]
    assert etree.tostring(etree.fromstring(back), method="c14n") == etree.tostring(etree.fromstring(div), method="c14n")


def test_an_official_looking_document_is_read() -> None:
    found = read(
        f"""<?xml version="1.0"?><!-- note -->
        <f:Patient xmlns:f="http://hl7.org/fhir" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
            xsi:schemaLocation="http://hl7.org/fhir fhir-all.xsd">
          <f:text><f:status value="generated"/><h:div xmlns:h="{XHTML}">x</h:div></f:text>
          <!-- note --><f:active value="true"/>
          <f:multipleBirthInteger value="2"/>
        </f:Patient>"""
    )
    assert {name: found[name] for name in ("resourceType", "active", "multipleBirthInteger")} == {
        "resourceType": "Patient",
        "active": True,
        "multipleBirthInteger": 2,
    }
    assert check(found) == []


@pytest.mark.parametrize(
    ("inner", "path"),
    [
        ("<foo value='1'/>", "Patient.foo"),
        ("<resourceType value='Patient'/>", "Patient.resourceType"),
        ("<gender value='male'/><active value='true'/>", "Patient.active"),
        ("<gender value='male'/><gender value='male'/>", "Patient.gender"),
        ("<name/><telecom/><name/>", "Patient.name"),
        ("<name><given value='a'/><given foo='b'/></name>", "Patient.name[0].given[1]"),
        ("texte<gender value='male'/>", "Patient"),
        ("<gender value='male'/>texte", "Patient"),
        ("<name value='a'/>", "Patient.name[0]"),
        ("<gender xmlns='urn:x' value='male'/>", "Patient"),
        ("<contained><foo/></contained>", "Patient.contained[0]"),
        ("<contained/>", "Patient.contained[0]"),
        ("<contained><Goal/><Goal/></contained>", "Patient.contained[0]"),
        ("<contained><Goal><id value='1' x='2'/></Goal></contained>", "Patient.contained[0].id"),
        ("<text><status value='empty'/><div>x</div></text>", "Patient.text.div"),
        ("<extension><url value='a'/></extension>", "Patient.extension[0].url"),
    ],
)
def test_what_is_no_fhir_xml_is_refused_with_its_place(inner: str, path: str) -> None:
    with pytest.raises(XmlFormatError) as caught:
        read(f'<Patient xmlns="http://hl7.org/fhir">{inner}</Patient>')
    assert caught.value.issue.path == path


@pytest.mark.parametrize("xml", ["<Patient/>", '<Nothing xmlns="http://hl7.org/fhir"/>', '<Patient xmlns="urn:x"/>'])
def test_another_root_is_refused(xml: str) -> None:
    with pytest.raises(XmlFormatError):
        read(xml)


@pytest.mark.parametrize(
    ("inner", "path", "rule"),
    [
        ("<active value='yes'/>", "Patient.active", "boolean"),
        ("<active/>", "Patient.active", "boolean"),
        ("<birthDate value=''/>", "Patient.birthDate", "date"),
        ("<multipleBirthInteger value='1.0'/>", "Patient.multipleBirth.ofType(integer)", "integer"),
        ("<telecom><rank value='one'/></telecom>", "Patient.telecom[0].rank", "positiveInt"),
        ("<name><given/></name>", "Patient.name[0].given[0]", "json-null"),
    ],
)
def test_a_wrong_value_is_left_to_the_structure_check(inner: str, path: str, rule: str) -> None:
    found = read(f'<Patient xmlns="http://hl7.org/fhir">{inner}</Patient>')
    assert [(issue.path, issue.rule) for issue in check(found)] == [(path, rule)]


@pytest.mark.parametrize(
    ("place", "value", "path"),
    [
        ("foo", 1, "Patient"),
        ("name", {"family": "a"}, "Patient.name"),
        ("active", [True], "Patient.active"),
        ("active", 1.5, "Patient.active"),
        ("name.0.family", "a\x00", "Patient.name[0].family"),
        ("text.div", "x", "Patient.text.div"),
        ("name.0._given", [None, None, None], "Patient.name[0].given[2]"),
        ("contained", [1], "Patient.contained[0]"),
        ("address", [None], "Patient.address[0]"),
    ],
)
def test_what_has_no_place_in_xml_is_refused_not_dropped(place: str, value: Any, path: str) -> None:
    with pytest.raises(XmlFormatError) as caught:
        to_xml(changed(PATIENT, place, value))
    assert caught.value.issue.path == path


def test_conversion_leaves_its_input_alone() -> None:
    before = copy.deepcopy(CARE_PLAN)
    to_xml(CARE_PLAN)
    assert before == CARE_PLAN


def test_the_order_is_that_of_a_second_copy_of_the_specification(cisis: Path) -> None:
    folder = cisis / "fhir" / "hl7.fhir.r4.core#4.0.1" / "package"
    if not folder.is_dir():
        pytest.skip("package hl7.fhir.r4.core#4.0.1 not found")
    snapshot = json.loads((folder / "StructureDefinition-CarePlan.json").read_text())["snapshot"]["element"]
    order = [each["path"].partition(".")[2] for each in snapshot if each["path"].count(".") == 1]
    written = [etree.QName(child).localname for child in to_xml(CARE_PLAN)]
    assert written == sorted(written, key=order.index)
