"""The official judges and examples, for tests: warm validators, and altered copies of the official documents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

from relais.cda import templates
from relais.cda.parsing import V3, XSI, parse
from relais.cda.rule_sets import CURRENT, GENERIC_PROFILES, OF_2023_12, TERMINOLOGIES, Profile
from relais.cda.validation import Validator

PREFIXES = {"v3": V3, "xsi": XSI}

PPS = "PPS-PAERPA_2022.01.xml"
CANCER_PPS = "CANCER-PPS_2025.01.xml"
DISCHARGE_LETTER = "LDL-SES_2022.01.xml"
UNSTRUCTURED = "DOC_NON_STRUCTURE_CDA-R2-N1.xml"
EXAMPLES = (PPS, CANCER_PPS, DISCHARGE_LETTER, UNSTRUCTURED)

MODELS = {
    templates.PPS_PAERPA: "PPS-PAERPA_2022.01",
    "1.2.250.1.213.1.1.1.26": "CANCER-PPS_2025.01",
    "1.2.250.1.213.1.1.1.13": "VSM_2023.01",
    "1.2.250.1.213.1.1.1.29": "LDL-SES_2022.01",
    "1.2.250.1.213.1.1.1.22": "DLU-EHPAD-DLU_2022.01",
    "1.2.250.1.213.1.1.1.23": "DLU-EHPAD-FLUDT_2022.01",
    "1.2.250.1.213.1.1.1.24": "DLU-EHPAD-FLUDR_2022.01",
    "1.2.250.1.213.1.1.1.62": "DLU-FR-SU_2025.01",
    "1.2.250.1.213.1.1.1.61": "DLU-FT-SU_2025.01",
}
"""The profiles of document models in the pack, by the templateId that calls for them."""

ORPHAN = "PPS-PAERPA_2022.01 header (orphan pattern)"

PROFILES = {
    profile.name: profile
    for profile in (*GENERIC_PROFILES, *(Profile(name, f"schematrons/CI-SIS_{name}.sch") for name in MODELS.values()))
}
"""The official profiles of the pack, by name."""

INVENTED = frozenset(
    {"relais-header-time", "relais-rpps-key", "relais-finess-key", "relais-siren-key", "relais-siret-key"}
)
"""Rules of the warnings that documents of invented people deserve: made in the past, with invented numbers."""


@pytest.fixture(scope="session")
def validator(cisis: Path) -> Validator:
    """The newest official rules; profiles are compiled when first used, then stay warm for the whole session."""
    return Validator(cisis, CURRENT)


@pytest.fixture(scope="session")
def validator_of_2023_12(cisis: Path, validator: Validator) -> Validator:
    """The official rules with the terminology of the last day on which PPS-PAERPA was published.

    Profiles that look into no terminology are the same in both rule sets: they are compiled once.
    """
    made = Validator(cisis, OF_2023_12)
    validator.warm_up()
    made._processor = validator._processor
    made._compiled = {name: schema for name, schema in validator._compiled.items() if name != TERMINOLOGIES}
    return made


def example(cisis: Path, name: str) -> bytes:
    """The bytes of an official example."""
    return (cisis / "cda" / "examples" / name).read_bytes()


def altered(data: bytes, xpath: str, change: Callable[[etree._Element], object]) -> bytes:
    """The document with a change made to the first element that `xpath` (prefixes v3, xsi) finds."""
    tree = parse(data)
    found = tree.xpath(xpath, namespaces=PREFIXES)
    assert isinstance(found, list) and found, f"nothing to alter at {xpath}"
    element = found[0]
    assert isinstance(element, etree._Element)
    change(element)
    return etree.tostring(tree, encoding="UTF-8", xml_declaration=True)


def remove(element: etree._Element) -> None:
    """A change: take the element away."""
    parent = element.getparent()
    assert parent is not None
    parent.remove(element)


def attribute(name: str, value: str) -> Callable[[etree._Element], object]:
    """A change: give an attribute another value."""
    return lambda element: element.set(name, value)


def text(value: str) -> Callable[[etree._Element], object]:
    """A change: give the element another text."""
    return lambda element: setattr(element, "text", value)


def insert(xml: str) -> Callable[[etree._Element], object]:
    """A change: put elements (in HL7 V3, prefix xsi bound) right after the element."""

    def change(element: etree._Element) -> None:
        parsed = etree.fromstring(f'<x xmlns="{V3}" xmlns:xsi="{XSI}">{xml}</x>')
        for new in reversed(parsed):
            element.addnext(new)

    return change
