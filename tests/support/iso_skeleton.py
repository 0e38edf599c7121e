"""The official rules run by other means than Relais' engine: the ISO Schematron skeleton that lxml ships.

The skeleton writes XSLT 1; what it writes runs as XSLT 2, as the `queryBinding` of the rules asks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from lxml import etree, isoschematron
from saxonche import PySaxonProcessor

_SKELETON = Path(isoschematron.__file__).parent / "resources" / "xsl" / "iso-schematron-xslt1"
_SVRL = "{http://purl.oclc.org/dsdl/svrl}"
_BASE = "{http://www.w3.org/XML/1998/namespace}base"


class Opinion(NamedTuple):
    """How many rules fired, and the texts of failed asserts and of reports that fired, sorted."""

    fired: int
    texts: list[str]


class IsoSkeleton:
    """Runs schema files; each is compiled once, which takes seconds."""

    def __init__(self) -> None:
        self._saxon: Any = PySaxonProcessor(license=False)
        # what the skeleton writes is too much for the optimizer: it takes minutes, or stops
        self._saxon.set_configuration_property("http://saxon.sf.net/feature/optimizationLevel", "0")
        self._compiled: dict[Path, Any] = {}

    def judge(self, schema: Path, document: bytes) -> Opinion:
        """What the rules of a schema file, in its default phase, say of a document."""
        if schema not in self._compiled:
            self._compiled[schema] = self._compile(schema)
        # parsed by lxml first: white space and processing instructions reach Saxon as they reach Relais' engine
        text = etree.tostring(etree.fromstring(document, etree.XMLParser(huge_tree=True))).decode()
        source = self._saxon.parse_xml(xml_text=text)
        output = etree.fromstring(self._compiled[schema].transform_to_string(xdm_node=source).encode())
        found = [
            " ".join(str(element.xpath("string(*[local-name()='text'])")).split())
            for element in output.iter(f"{_SVRL}failed-assert", f"{_SVRL}successful-report")
        ]
        return Opinion(len(output.findall(f"{_SVRL}fired-rule")), sorted(found))

    def _compile(self, schema: Path) -> Any:
        resolved = self._step("iso_dsdl_include", self._saxon.parse_xml(xml_file_name=str(schema)))
        plain = self._step("iso_abstract_expand", self._saxon.parse_xml(xml_text=resolved))
        tree = etree.fromstring(plain.encode())
        tree.set("queryBinding", "xslt")  # the skeleton refuses another one
        phase = tree.get("defaultPhase") or "#ALL"
        node = self._saxon.parse_xml(xml_text=etree.tostring(tree).decode())
        sheet = etree.fromstring(self._step("iso_svrl_for_xslt1", node, phase).encode())
        sheet.set("version", "2.0")
        sheet.set(_BASE, schema.as_uri())
        return self._saxon.new_xslt30_processor().compile_stylesheet(stylesheet_text=etree.tostring(sheet).decode())

    def _step(self, name: str, node: Any, phase: str = "") -> str:
        step = self._saxon.new_xslt30_processor().compile_stylesheet(stylesheet_file=str(_SKELETON / f"{name}.xsl"))
        if phase:
            step.set_parameter("phase", self._saxon.make_string_value(phase))
        written: str = step.transform_to_string(xdm_node=node)
        return written
