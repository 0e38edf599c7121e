"""Reports as one page that stands alone: no script, nothing loaded from elsewhere, every value escaped."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template

from relais.profiles.messages import Language
from relais.server.reports.text import in_order
from relais.server.reports.words import Words, writable
from relais.server.validation.report import Report


def page(reports: Sequence[Report], language: Language) -> bytes:
    """Every report; more than one begins with a table of them."""
    words = Words(language)
    text = _template().render(reports=reports, words=words, in_order=in_order, language=language)
    return writable(text).encode()


@cache
def _template() -> Template:
    source = files("relais.server.reports").joinpath("page.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source)
