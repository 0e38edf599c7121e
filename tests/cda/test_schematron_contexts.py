"""Rules that may take the same node stay together, and no node that a context matches is left out."""

from __future__ import annotations

import pytest
from lxml import etree

from relais.cda.schematron_contexts import Path, groups
from relais.cda.schematron_schema import Rule


def grouped(*contexts: str) -> list[list[str]]:
    """The contexts of each group."""
    return [[rule.context for rule in rules] for rules, _ in groups([Rule(context, (), "") for context in contexts])]


def selected(context: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Paths and keys that a context alone selects."""
    [(_, selection)] = groups([Rule(context, (), "")])
    return [f"{path.start}/{path.rest}" if path.rest else path.start for path in selection.paths], list(selection.keyed)


@pytest.mark.parametrize(
    ("contexts", "expected"),
    [
        (["a", "b"], [["a"], ["b"]]),
        (["a", "*"], [["a", "*"]]),
        (["a", "b", "*"], [["a", "b", "*"]]),
        (["a[@x]", "b", "a"], [["a[@x]", "a"], ["b"]]),
        (["x/a", "y/a"], [["x/a"], ["y/a"]]),
        (["a", "y/a"], [["a", "y/a"]]),
        (["//r/*[@x]", "//r/s/*"], [["//r/*[@x]"], ["//r/s/*"]]),
        (["x//a", "y/a"], [["x//a", "y/a"]]),
        (["p:a", "q:a"], [["p:a", "q:a"]]),  # both prefixes may be bound to one namespace
        (["p:*", "q:a"], [["p:*", "q:a"]]),
        (["/", "a"], [["/"], ["a"]]),
        (["a | b", "b", "c"], [["a | b", "b"], ["c"]]),
        (["a", "@x", "b"], [["a", "@x", "b"]]),
        (["a", "text()"], [["a", "text()"]]),
    ],
)
def test_only_rules_that_cannot_take_the_same_node_are_parted(contexts: list[str], expected: list[list[str]]) -> None:
    assert grouped(*contexts) == expected


@pytest.mark.parametrize(
    ("context", "paths", "keyed"),
    [
        ("a", ["//a"], []),
        ("/", ["/"], []),
        ("/a/b[c/@d = 'e']", ["/a/b"], []),
        ("//a[b | c]/d", ["//a/d"], []),
        ("a | b[@x = '|']", ["//a", "//b"], []),
        ("*[t:id/@root='1.2']", [], [("t:id/@root", "'1.2'")]),
        ('t:x[t:id/@root = "1.2"][@y]', [], [("t:id/@root", '"1.2"')]),
        ("*[t:id/@root='1.2']/b", ["//*/b"], []),
        ("*[t:id/@root='1.2' and @y]", ["//*"], []),
        ("*[t:id/@root='1.2'] | b", ["//*", "//b"], []),
        ("a[@b='x']/@c", ["(/ | //node() | //@*)"], []),
        ("a[contains(., 'x')]", ["//a"], []),
        ("self::a", ["(/ | //*)"], []),
    ],
)
def test_selection_holds_at_least_what_the_context_matches(
    context: str, paths: list[str], keyed: list[tuple[str, str]]
) -> None:
    assert selected(context) == (paths, keyed)


def test_a_path_is_an_xpath() -> None:
    tree = etree.fromstring("<r><a><b/></a><c><b/></c></r>")
    path = Path("//a", "b")
    assert len(tree.xpath(f"{path.start}/{path.rest}")) == 1
