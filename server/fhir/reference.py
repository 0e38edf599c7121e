"""The reference page `docs/reference.md`, made from the registry:

python -m relais.server.fhir.reference > docs/reference.md
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator

from relais.server import app as app  # registers every operation
from relais.server.fhir.capabilities import searched
from relais.server.fhir.facade import Facade
from relais.server.fhir.openapi import summary
from relais.server.fhir.registry import Registry
from relais.server.settings import Settings
from relais.server.store import Store

_HEAD = """# Reference

Made by `python -m relais.server.fhir.reference`; a test keeps it so. The same registry makes the routes, the
CapabilityStatement (`GET [base]/metadata`) and the OpenAPI description (`GET [base]/openapi.json`). Deviations from
FHIR R4 are in [conformance.md](conformance.md).

Addresses are below the base (`http://host:port/fhir`). Every answer is FHIR JSON or FHIR XML, as the Accept header or
`_format` asks; `_pretty=true` indents it. `HEAD` is served wherever `GET` is.
"""


def page() -> str:
    """The whole page, Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(f"sqlite:///{folder}/empty.sqlite")
        registry = Facade(Settings(administration=True, fhir_packages="none"), store).registry
        store.close()
    return "\n".join([_HEAD, *_interactions(registry), *_operations(registry), *_types(registry)]) + "\n"


def _interactions(registry: Registry) -> Iterator[str]:
    yield "## Interactions\n"
    yield "| interaction | request | what it does |"
    yield "|---|---|---|"
    for one in registry.interactions:
        yield f"| {one.code} | `{one.method} {_written(one.path)}` | {_cell(summary(one))} |"
    yield ""


def _operations(registry: Registry) -> Iterator[str]:
    yield "## Operations\n"
    yield "| operation | request | types | what it does |"
    yield "|---|---|---|---|"
    for one in sorted(registry.operations, key=lambda one: (one.name, one.level)):
        types = ", ".join(one.resource_types) or ("" if one.level == "system" else "all")
        by_setting = f" Offered by the setting `{one.setting}`." if one.setting else ""
        request = f"`{'`, `'.join(one.methods)}` `{_written(one.path)}`"
        yield f"| {one.name} | {request} | {types} | {_cell(summary(one))}.{by_setting} |"
    yield ""


def _types(registry: Registry) -> Iterator[str]:
    yield "## Resource types and their search parameters\n"
    yield "Result parameters: `_count`, `_sort`, `_total`, `_include`, `_revinclude`, `_summary`, `_elements`."
    yield "Every type also has `_filter`, `_has` and `_list`.\n"
    for name in sorted(registry.resource_types):
        parameters = ", ".join(f"{found.code} ({found.type})" for found in searched(name))
        yield f"- **{name}**: {parameters}"


def _written(path: str) -> str:
    return path.replace("<", "[").replace(">", "]").replace("resource_type", "type")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page())
