"""The words around findings, in English or French."""

from __future__ import annotations

import re

from relais.cda.errors import Severity
from relais.profiles.messages import Language
from relais.server.validation.language import translated
from relais.server.validation.report import Check, Kind, Part, Report, Verdict

_VERDICTS: dict[Verdict, str] = {
    "conformant": "CONFORMANT",
    "doubtful": "CONFORMANT to the published rules, with errors in Relais' own checks",
    "not-judged": "COULD NOT BE JUDGED",
    "not-conformant": "NOT CONFORMANT",
}
_NO_MODEL = "no rule of its document model is held here: its content was not checked"
_KINDS: dict[Kind, str] = {
    "cda": "CDA document",
    "xdm": "IHE_XDM archive",
    "metadata": "XDS metadata",
    "agreement": "agreement of metadata and documents",
    "hl7v2": "HL7 v2 message",
    "fhir": "FHIR resource",
    "unknown": "unknown content",
}
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def writable(text: str) -> str:
    """The text without what XML cannot hold, a terminal obeys or UTF-8 cannot write: bytes of a file name, say."""
    return _FORBIDDEN.sub("�", text)


class Words:
    """Renders labels in one language; called with an English label."""

    def __init__(self, language: Language) -> None:
        self.language: Language = language

    def __call__(self, text: str) -> str:
        return translated(text, self.language)

    def verdict(self, judged: Report | Part) -> str:
        """The verdict, and what it does not say."""
        verdict = self(_VERDICTS[judged.verdict])
        return f"{verdict}, {self(_NO_MODEL)}" if judged.lacks_model else verdict

    def kind(self, kind: Kind) -> str:
        """What a part is."""
        return self(_KINDS[kind])

    def severity(self, severity: Severity) -> str:
        """A severity."""
        return self(severity)

    def check(self, check: Check) -> str:
        """Name and authority of a check, and whether it is one of Relais' own."""
        own = "" if check.official else f", {self('not part of the official profiles')}"
        authority = f" ({check.authority}{own})" if check.authority else ""
        return f"{self(check.name)}{authority}"

    def outcome(self, check: Check) -> str:
        """What a check says, with how much it looked at."""
        if check.fired is None:
            return self(check.outcome)
        return f"{self(check.outcome)} ({self(f'{check.fired} rules fired, {check.checked} checks')})"

    def totals(self, report: Report) -> str:
        """How many errors and warnings there are."""
        errors, warnings = report.count("fatal", "error"), report.count("warning")
        not_made = sum(len(check.not_run) for part in report.parts for check in part.checks)
        return self(
            f"{self.kind(report.kind)}, {report.size} bytes: {errors} errors, {warnings} warnings, {not_made} not run"
        )
