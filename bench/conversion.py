"""PPS conversion and import, documents per second on one core, against building the same XML tree with bare lxml.

    .venv/bin/python bench/conversion.py [seconds]

The baseline builds the very tree of the document, element by element with `etree.SubElement` from values prepared
beforehand, and serialises it: what remains when mapping, checks and document model cost nothing. The import reads the
document that Relais wrote, then the same one laid out otherwise.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from lxml import etree

from relais.cda.reader import read
from relais.cda.writer import write
from relais.mappings.context import Deployment, Emission
from relais.mappings.from_cda import to_bundle
from relais.mappings.to_cda import convert
from relais.server.fhir.json_format import load

PLAN = Path(__file__).parent.parent / "server" / "demo_plan.json"
EMISSION = Emission(
    Deployment(practice_setting="AMBULATOIRE", facility_type="SA07"), datetime(2026, 3, 2, 9, tzinfo=UTC)
)


def main() -> None:
    """Print both figures, their ratio, and a JSON line."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    bundle = load(PLAN.read_bytes())
    document = write(convert(bundle, EMISSION).document)
    prepared = _prepare(etree.fromstring(document))
    assert _canonical(_rebuild(prepared)) == _canonical(document), "the baseline must build the same document"
    baseline = _rate(lambda: _rebuild(prepared), seconds)
    conversion = _rate(lambda: write(convert(bundle, EMISSION).document), seconds)
    foreign = etree.tostring(etree.fromstring(document), encoding="UTF-8", pretty_print=True)
    imported = _rate(lambda: to_bundle(read(document).document, document), seconds)
    compared = _rate(lambda: to_bundle(read(foreign).document, foreign), seconds)
    print(f"document                {len(document)} bytes, {len(prepared)} elements")
    for name, rate in (
        ("bare lxml", baseline),
        ("FHIR → PPS", conversion),
        ("PPS → FHIR", imported),
        ("PPS → FHIR, other layout", compared),
    ):
        print(f"{name:<24}{rate:8.0f} documents/s, ratio {rate / baseline:.2f}")
    figures = {"baseline": baseline, "conversion": conversion, "import": imported, "import_foreign": compared}
    print(json.dumps({"bench": "conversion", **figures}))


def _prepare(root: etree._Element) -> list[tuple[int, str, dict[str, str], str | None, str | None]]:
    """The tree as a flat list of (depth, tag, attributes, text, tail)."""

    def visit(element: etree._Element, depth: int) -> None:
        flat.append(
            (depth, str(element.tag), {str(k): str(v) for k, v in element.attrib.items()}, element.text, element.tail)
        )
        for child in element:
            visit(child, depth + 1)

    flat: list[tuple[int, str, dict[str, str], str | None, str | None]] = []
    visit(root, 0)
    return flat


def _rebuild(prepared: list[tuple[int, str, dict[str, str], str | None, str | None]]) -> bytes:
    names = {None: "urn:hl7-org:v3", "xsi": "http://www.w3.org/2001/XMLSchema-instance"}
    _, tag, attributes, _, _ = prepared[0]
    path = [etree.Element(tag, attributes, nsmap=names)]  # type: ignore[arg-type]
    for depth, tag, attributes, text, tail in prepared[1:]:
        del path[depth:]
        element = etree.SubElement(path[-1], tag, attributes)
        element.text, element.tail = text, tail
        path.append(element)
    return etree.tostring(path[0], encoding="UTF-8", xml_declaration=True)


def _canonical(document: bytes) -> bytes:
    return etree.tostring(etree.fromstring(document), method="c14n")


def _rate(work: Callable[[], object], seconds: float) -> float:
    """Runs per second of `work` on this core, the best of five slices."""
    best = 0.0
    for _ in range(5):
        count, started = 0, time.process_time()
        while time.process_time() - started < seconds / 5:
            work()
            count += 1
        best = max(best, count / (time.process_time() - started))
    return best


if __name__ == "__main__":
    main()
