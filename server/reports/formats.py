"""The forms of a report by name, with the extension of their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from relais.cda.errors import Issue, RelaisError
from relais.profiles.messages import Language
from relais.server.reports.data import json
from relais.server.reports.junit import junit
from relais.server.reports.page import page
from relais.server.reports.svrl import svrl
from relais.server.reports.text import text
from relais.server.validation.report import Report


class Form(NamedTuple):
    """How a form is written."""

    extension: str
    write: Callable[[Sequence[Report], Language], bytes]


def _single(reports: Sequence[Report], language: Language) -> bytes:
    if len(reports) != 1:
        message = "SVRL holds the report of one file: give a folder as output for several"
        raise RelaisError(Issue("error", "not-supported", message, "--format svrl"))
    return svrl(reports[0], language)


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "text": Form("txt", lambda reports, language: text(reports, language).encode()),
        "json": Form("json", lambda reports, _language: json(reports)),
        "junit": Form("xml", junit),
        "svrl": Form("svrl", _single),
        "html": Form("html", page),
    }
)
