"""The forms of a report: each holds the hashes, the findings and what could not be run, and quotes safely."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace

import pytest
from lxml import etree, html

from relais.cda.errors import RelaisError
from relais.server.reports.formats import FORMS
from relais.server.validation.language import translated
from relais.server.validation.report import Check, Finding, Part, Report, RuleSetUsed, worst

SHA = "ab" * 32
HOSTILE = "<script>alert(1)</script>\x00\ud800"[:-1]
FOUND = Finding(
    "error",
    "invariant",
    f"message {HOSTILE}",
    "/ClinicalDocument/title",
    7,
    "rules.sch:1",
    f"<title>words of it {HOSTILE}",
    "message …",
    "a note",
    "count(x) = 1",
    "cda:title",
)
REPORTED = Finding(
    "warning", "invariant", "a report", "/ClinicalDocument/id/@root", 3, "rules.sch:2", is_report=True, test="x"
)
NOT_RUN = Finding("error", "incomplete", "XPTY0004: too many", "/x", 4, "rules.sch:3")
LIMIT = Finding("information", "incomplete", "never verified", rule="relais-code-system")
REPORT = Report(
    f"folder/{HOSTILE}.xml",
    (
        Part("", "cda", SHA, 10, (
            Check("profile", "set@1", fired=3, checked=9, findings=(FOUND, REPORTED)),
            Check("other", "set@1", fired=1, checked=1, not_run=(NOT_RUN,), limits=(LIMIT,)),
            Check("silent", "set@1", fired=0, checked=0),
        )),
        Part("inside", "fhir", SHA, 5, (Check("resource", "FHIR", official=False),)),
    ),
    (RuleSetUsed("set", "cd" * 32),),
)  # fmt: skip


def written(form: str, language: str = "fr") -> bytes:
    return FORMS[form].write([REPORT], "fr" if language == "fr" else "en")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_holds_hashes_findings_and_what_was_not_run(form: str) -> None:
    content = written(form).decode()
    for expected in (
        SHA,
        "words of it",
        "cd" * 32,
        "rules.sch:1",
        "a report",
        "XPTY0004",
        "never verified",
        "7",
        "/ClinicalDocument/",
    ):
        assert expected in content or expected.replace("/C", "/hl7:C") in content, expected


@pytest.mark.parametrize("form", FORMS)
def test_name_that_is_not_utf_8_is_written_and_nothing_commands_a_terminal(form: str) -> None:
    name = os.fsdecode(b"caf\xe9\x1b[2J\r\x9b\nb.xml")
    finding = replace(FOUND, excerpt="\x1b]0;title\x07", message="\x9b31m\rX: CONFORMANT")
    content = FORMS[form].write(
        [Report(name, (Part("", "cda", SHA, 1, (Check("x", "y", findings=(finding,)),)),))], "en"
    )
    assert "caf\ufffd" in content.decode()
    if form == "text":
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", content.decode())
        assert content.startswith("caf��[2J���b.xml: NOT CONFORMANT\n".encode())


def test_page_runs_nothing_loads_nothing_and_escapes_everything() -> None:
    page = written("html").decode()
    tree = html.fromstring(page)
    assert "<script>" not in page
    assert not tree.xpath("//script | //link | //img | //iframe | //object | //@onload | //@src | //@onclick")
    assert not re.search(r"url\(|@import|https?://", page)
    assert tree.xpath("//meta[@http-equiv='Content-Security-Policy']/@content") == [
        "default-src 'none'; style-src 'unsafe-inline'"
    ]
    assert "alert(1)" in tree.text_content()
    assert "\x00" not in page


def test_page_of_several_files_begins_with_a_table_that_leads_to_each() -> None:
    tree = html.fromstring(FORMS["html"].write([REPORT, REPORT], "fr"))
    assert tree.xpath("//table[1]//a/@href") == ["#f1", "#f2"]
    assert len(tree.xpath("//article[@id='f1' or @id='f2']")) == 2


def test_json_is_a_list_with_verdicts() -> None:
    [data] = json.loads(written("json"))
    assert (data["verdict"], data["conformant"], data["sha256"]) == ("not-conformant", False, SHA)
    checks = data["parts"][0]["checks"]
    assert [check["outcome"] for check in checks] == ["failed", "not entirely run", "nothing applies"]
    assert checks[0]["findings"][0]["line"] == 7
    assert "line" not in checks[1]["limits"][0]


def test_junit_counts_failures_errors_and_skipped() -> None:
    suite = etree.fromstring(written("junit"))[0]
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["3", "1", "1", "1"]
    assert [[child.tag for child in case] for case in suite.iter("testcase")] == [
        ["failure", "system-out"],
        ["error", "system-out"],
        ["skipped"],
    ]


def test_svrl_tells_asserts_from_reports_by_evaluable_xpaths() -> None:
    top = etree.fromstring(written("svrl"))
    [failed] = top.findall("{*}failed-assert")
    [fired] = top.findall("{*}successful-report")
    assert (failed.get("test"), failed.get("location")) == ("count(x) = 1", "/hl7:ClinicalDocument/hl7:title")
    assert fired.get("location") == "/hl7:ClinicalDocument/hl7:id/@root"
    assert failed.getprevious().get("context") == "cda:title"
    said = [pattern.getnext().get("flag") for pattern in top.iterfind("{*}active-pattern")]
    assert said == [None, "not-entirely-run", "nothing-applies", "passed"]
    assert failed.findtext("{*}text", "").endswith(" [rules.sch:1]")
    tokens = [element.get(name, "-") for element in top.iter() for name in ("role", "flag")]
    assert all(re.fullmatch(r"[\w.:-]+", token, re.ASCII) for token in tokens)
    order = [etree.QName(child).localname for child in top]
    assert order.index("ns-prefix-in-attribute-values") > order.index("text")


@pytest.mark.parametrize("uri", ["urn:x", "http://example.org/a'b"])
def test_svrl_finds_elements_of_other_namespaces(uri: str) -> None:
    finding = replace(FOUND, path=f"/ClinicalDocument/title/{{{uri}}}foo[2]")
    part = Part("", "cda", SHA, 10, (Check("profile", "set@1", fired=1, checked=1, findings=(finding,)),))
    output = etree.fromstring(FORMS["svrl"].write([Report("a.xml", (part,))], "en"))
    [failed] = output.iterfind("{*}failed-assert")
    document = etree.fromstring(
        f'<ClinicalDocument xmlns="urn:hl7-org:v3"><title><x:foo xmlns:x="{uri}"/><x:foo xmlns:x="{uri}"/></title>'
        "</ClinicalDocument>"
    )
    assert document.xpath(failed.get("location", ""), namespaces={"hl7": "urn:hl7-org:v3"}) == [document[0][1]]


def test_svrl_is_of_one_file() -> None:
    with pytest.raises(RelaisError, match="folder"):
        FORMS["svrl"].write([REPORT, REPORT], "fr")


def test_text_is_in_the_language_asked_for() -> None:
    assert "NON CONFORME" in written("text").decode()
    assert "NOT CONFORMANT" in written("text", "en").decode()


@pytest.mark.parametrize(
    ("text", "french"),
    [
        ("larger than 60000000 bytes", "plus de 60000000 octets"),
        (
            "3 codes of 1.2.3 X: no published rule verifies them",
            "3 codes de 1.2.3 X : aucune règle publiée ne les vérifie",
        ),
        ("not in the table", "not in the table"),
    ],
)
def test_texts_of_relais_are_in_french(text: str, french: str) -> None:
    assert translated(text, "fr") == french
    assert translated(text, "en") == text


def test_worst_verdict_decides() -> None:
    assert worst([]) == "conformant"
    assert worst(["conformant", "doubtful", "not-judged"]) == "not-judged"
    assert Check("x", "relais", official=False, findings=(FOUND,)).verdict == "doubtful"
    assert Part("", "cda", SHA, 1, ()).verdict == "not-judged"
