"""The words of issues: both languages, the same arguments, every key that code uses and no other."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import pytest

import relais.profiles
from relais.profiles import definitions
from relais.profiles.messages import LANGUAGES, Message, RuleText, table
from relais.profiles.packages import Registry
from relais.profiles.primitives import TESTS
from relais.server import deposit_rules, identity_rules

SPEAKERS = [
    *Path(next(iter(relais.profiles.__path__))).rglob("*.py"),
    *(Path(module.__file__) for module in (identity_rules, deposit_rules)),
]
SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in SPEAKERS)


@pytest.mark.parametrize("key", table())
def test_both_languages_say_the_same_things(key: str) -> None:
    texts = [table()[key][language] for language in LANGUAGES]
    arguments = [{name for _, name, _, _ in Formatter().parse(text) if name} for text in texts]
    assert arguments[0] == arguments[1]
    assert all(text.strip() for text in texts)


def test_keys_are_those_that_code_uses() -> None:
    prefixes = ("value-", "binding-", "type-", "minValue", "maxValue", "narrative-")
    used = set(re.findall(r'Message\(\s*"([a-zA-Z0-9-]+)"', SOURCES))
    named = {key for key in table() if f'"{key}"' in SOURCES}
    assert used <= table().keys()
    assert {key for key in table().keys() - named if not key.startswith(prefixes)} == set()
    assert {f"type-{name}" for name in TESTS} <= table().keys()


def test_messages_hold_messages() -> None:
    message = Message("not-checked", reason=Message("profile-unknown", profile="p"))
    assert message.render("en") == "not checked: the profile p is not in the loaded packages"
    assert message.render("fr").startswith("non vérifié : le profil p")


def test_rules_of_r4_in_french() -> None:
    [rule] = definitions.invariants("Period")
    assert RuleText(rule.key, rule.human).render("en") == rule.human
    assert RuleText(rule.key, rule.human).render("fr") == "Le début ne peut suivre la fin."
    assert RuleText("mine-1", "my rule").render("fr") == "my rule"


def test_rules_of_packages_in_french(registry: Registry) -> None:
    """Every rule of an official package that is published in English, or in French already."""
    published = {
        (str(rule["key"]), str(rule.get("human")))
        for definition in registry.definitions("StructureDefinition")
        if definition.header.kind == "resource" and not definition.package.startswith("hl7.fhir.r4.core#")
        for element in definition.resource["snapshot"]["element"]
        for rule in element.get("constraint", ())
        if rule.get("expression")
    }
    english = {key for key, human in published if RuleText(key, human).render("fr") == human}
    assert english <= {"req-met-1", "req-met", "event-subject"}  # published in French
