"""Rule sets that are invented: a schema that takes any document, and Schematrons of a rule or two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from relais.cda.rule_sets import GENERIC_PROFILES, XML_SCHEMA

_XML_SCHEMA = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:hl7-org:v3">
<xs:element name="ClinicalDocument"><xs:complexType><xs:sequence>
<xs:any processContents="skip" minOccurs="0" maxOccurs="unbounded"/></xs:sequence></xs:complexType></xs:element>
</xs:schema>"""
_RULE = '<pattern><rule context="cda:ClinicalDocument"><assert test="true()">always</assert></rule></pattern>'


def schematron(rules: str = _RULE) -> str:
    """A schema of these rules; by default of one that fires on every document, and holds."""
    return f"""<schema xmlns="http://purl.oclc.org/dsdl/schematron" queryBinding="xslt2">
<ns prefix="cda" uri="urn:hl7-org:v3"/>{rules}</schema>"""


def write_rule_set(folder: Path, models: Iterable[str] = (), files: Mapping[str, str] | None = None) -> str:
    """Write a rule set that holds some document models (`VAC_2023.01`), and `files` by path; its name for a setting."""
    made = {profile.file: schematron() for profile in GENERIC_PROFILES}
    made |= {f"schematrons/CI-SIS_{model}.sch": schematron() for model in models}
    for name, content in {XML_SCHEMA: _XML_SCHEMA, **made, **(files or {})}.items():
        path = folder / "cda" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return f"invented={folder}"


def document(templates: str, code: str = "34133-9") -> bytes:
    """A document of these templates (`root` or `root^extension`, by spaces) and type code, and nothing else."""
    parts = [template.partition("^") for template in templates.split()]
    ids = "".join(
        f'<templateId root="{root}"{f" extension={chr(34)}{version}{chr(34)}" if version else ""}/>'
        for root, _, version in parts
    )
    return f'<ClinicalDocument xmlns="urn:hl7-org:v3">{ids}<code code="{code}"/></ClinicalDocument>'.encode()
