"""The Schematron engine: ISO features on small schemas, and the official profiles against their recorded verdicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from relais.cda.parsing import parse
from relais.cda.schematron import Finding, Processor, Result, SchematronError, read_pattern, read_schema
from relais.cda.schematron_xslt import generate
from relais.cda.validation import Validator
from support.rules import EXAMPLES, PROFILES, example


@pytest.fixture(scope="module")
def processor() -> Processor:
    return Processor()


@pytest.fixture
def judge(processor: Processor, tmp_path: Path) -> Any:
    """Write a schema (and the files it includes) and run it on a document."""

    def run(rules: str, document: str, *, attributes: str = "", **files: str) -> Result:
        for name, content in files.items():
            (tmp_path / f"{name}.sch").write_text(content, encoding="utf-8")
        path = tmp_path / "schema é.sch"
        path.write_text(
            f'<schema xmlns="http://purl.oclc.org/dsdl/schematron" queryBinding="xslt2" {attributes}>{rules}</schema>',
            encoding="utf-8",
        )
        return processor.compile(read_schema(path)).validate(processor.source(parse(document.encode())))

    return run


def texts(findings: tuple[Finding, ...]) -> list[str]:
    return [finding.text for finding in findings]


# --- the official profiles --------------------------------------------------------------------------------------


def recorded(findings: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted((item["text"], item["role"], item["path"], item["line"], item["rule"]) for item in findings)


def found(findings: tuple[Finding, ...]) -> list[tuple[Any, ...]]:
    # The record writes an index only for the second and later elements of a name.
    return sorted((f.text, f.role, f.path.replace("[1]", ""), f.line, f.rule) for f in findings)


@pytest.mark.parametrize("name", PROFILES)
def test_profile_says_what_is_recorded(name: str, validator: Validator, cisis: Path) -> None:
    baseline = json.loads((cisis / "cda" / "baseline.json").read_text(encoding="utf-8"))["profiles"][name]
    compiled = validator.compiled(PROFILES[name])
    assert compiled.gaps == ()
    schema = compiled.schema
    assert (schema.phase, len(schema.patterns), len(schema.rules), schema.check_count) == (
        baseline["phase"],
        baseline["active_patterns"],
        baseline["rules"],
        baseline["checks"],
    )
    for document in EXAMPLES:
        result = compiled.validate(compiled.processor.source(parse(example(cisis, document))))
        expected = baseline["examples"][document]
        assert (result.fired, result.checked) == (expected["fired"], expected["checked"]), document
        assert found(result.failed) == recorded(expected["failed"]), document
        assert found(result.reports) == recorded(expected["reports"]), document
        assert result.not_run == (), document


def test_every_recorded_profile_is_known(cisis: Path) -> None:
    baseline = json.loads((cisis / "cda" / "baseline.json").read_text(encoding="utf-8"))["profiles"]
    assert {name: profile["file"] for name, profile in baseline.items()} == {
        name: profile.file for name, profile in PROFILES.items()
    }


# --- ISO features -------------------------------------------------------------------------------------------------


def test_first_matching_rule_of_a_pattern_takes_the_node(judge: Any) -> None:
    result = judge(
        """<pattern><rule context="a"><assert test="@x">no x</assert></rule>
                    <rule context="*"><assert test="@y">no y</assert></rule></pattern>
           <pattern><rule context="*"><assert test="@z">no z</assert></rule></pattern>""",
        "<r><a y='1'/></r>",
    )
    assert texts(result.failed) == ["no y", "no x", "no z", "no z"]
    assert (result.fired, result.checked) == (4, 4)
    assert [finding.path for finding in result.failed] == ["/{}r", "/{}r/{}a", "/{}r", "/{}r/{}a"]


def test_report_fires_when_true_and_keeps_its_role_and_place(judge: Any) -> None:
    result = judge(
        '<pattern><rule context="a">\n<report test="@x" role="warning">has x</report></rule></pattern>',
        "<r>\n<a/>\n<a x='1'/></r>",
    )
    assert result.failed == ()
    [report] = result.reports
    assert (report.text, report.role, report.path, report.line) == ("has x", "warning", "/{}r/{}a[2]", 3)
    assert report.rule == "schema é.sch:2"


def test_message_mixes_text_and_values_and_has_a_form_without_them(judge: Any) -> None:
    result = judge(
        """<pattern><rule context="a"><assert test="false()">
             <name/> in <name path=".."/> has <emph>x = <value-of select="@x"/></emph>
           </assert></rule></pattern>""",
        "<r><a x='7'/></r>",
    )
    [failed] = result.failed
    assert failed.text == "a in r has x = 7"
    assert failed.fixed_text == "… in … has x = …"


def test_white_space_alone_between_two_values_is_no_part_of_a_message(judge: Any) -> None:
    result = judge(
        """<pattern><rule context="a"><assert test="false()">&lt;<name/>
             <value-of select="@x"/> , <value-of select="@x"/></assert></rule></pattern>""",
        "<r><a x='7'/></r>",
    )
    assert [failed.text for failed in result.failed] == ["<a7 , 7"]


def test_contexts_may_be_the_document_or_an_attribute(judge: Any) -> None:
    result = judge(
        """<pattern><rule context="/"><assert test="b">no b</assert></rule></pattern>
           <pattern><rule context="@x"><assert test=". = '1'">not 1</assert></rule></pattern>
           <pattern><rule context="text()"><assert test="false()">text</assert></rule></pattern>""",
        "<r><a x='2'/>words</r>",
    )
    assert [(f.text, f.path) for f in result.failed] == [("no b", "/"), ("not 1", "/{}r/{}a/@x"), ("text", "/{}r")]


def test_document_context_does_not_test_the_root_element_twice(judge: Any) -> None:
    result = judge('<pattern><rule context="r"><assert test="false()">once</assert></rule></pattern>', "<r/>")
    assert result.fired == 1


def test_namespaces_are_those_the_schema_binds(judge: Any) -> None:
    result = judge(
        """<ns prefix="h" uri="urn:hl7-org:v3"/>
           <pattern><rule context="h:a"><assert test="h:b">no b</assert></rule></pattern>""",
        "<a xmlns='urn:hl7-org:v3'><b xmlns=''/></a>",
    )
    assert texts(result.failed) == ["no b"]


def test_phase_activates_patterns(judge: Any) -> None:
    rules = """<phase id="p"><active pattern="one"/></phase>
               <pattern id="one"><rule context="r"><assert test="false()">one</assert></rule></pattern>
               <pattern id="two"><rule context="r"><assert test="false()">two</assert></rule></pattern>"""
    assert texts(judge(rules, "<r/>").failed) == ["one", "two"]
    assert texts(judge(rules, "<r/>", attributes='defaultPhase="p"').failed) == ["one"]


def test_unknown_phase_is_refused(judge: Any) -> None:
    with pytest.raises(SchematronError, match="no phase q"):
        judge('<pattern><rule context="r"/></pattern>', "<r/>", attributes='defaultPhase="q"')


def test_include_is_resolved_from_the_file_that_holds_it(judge: Any, tmp_path: Path) -> None:
    (tmp_path / "sub dir").mkdir()
    sch = 'xmlns="http://purl.oclc.org/dsdl/schematron"'
    (tmp_path / "sub dir" / "deep.sch").write_text(
        f'<rule {sch} context="r">\n<assert test="false()">deep</assert></rule>', encoding="utf-8"
    )
    result = judge(
        '<include href="outer.sch"/>',
        "<r/>",
        outer=f'<pattern {sch}><include href="sub%20dir/deep.sch"/></pattern>',
    )
    assert [(f.text, f.rule) for f in result.failed] == [("deep", "sub dir/deep.sch:2")]


def test_abstract_pattern_replaces_its_parameters_only(judge: Any) -> None:
    result = judge(
        """<pattern abstract="true" id="has">
             <rule context="$where"><let name="n" value="'$what'"/>
               <assert test="$what or $whatever">$where lacks $what (<value-of select="$n"/>)</assert></rule>
           </pattern>
           <pattern><let name="whatever" value="false()"/><rule context="nothing"/></pattern>
           <pattern is-a="has"><param name="where" value="a"/><param name="what" value="@x"/></pattern>
           <pattern is-a="has"><param name="where" value="b"/><param name="what" value="@y"/></pattern>""",
        "<r><a/><b y='1'/></r>",
    )
    assert texts(result.failed) == ["a lacks @x (@x)"]


def test_abstract_rule_of_another_pattern_is_extended(judge: Any) -> None:
    result = judge(
        """<pattern><rule abstract="true" id="base"><assert test="@x">no x</assert></rule>
             <rule abstract="true" id="more"><extends rule="base"/><assert test="@y">no y</assert></rule></pattern>
           <pattern><rule context="a"><extends rule="more"/><assert test="@z">no z</assert></rule></pattern>""",
        "<r><a/></r>",
    )
    assert texts(result.failed) == ["no x", "no y", "no z"]
    assert result.checked == 3


def test_abstract_rule_shares_variables_with_the_rule_that_extends_it(judge: Any) -> None:
    result = judge(
        """<pattern>
             <rule abstract="true" id="gives"><let name="given" value="@x"/></rule>
             <rule abstract="true" id="takes"><assert test="$taken = 1">taken</assert></rule>
             <rule context="a"><let name="taken" value="2"/><extends rule="gives"/><extends rule="takes"/>
               <assert test="$given = 7">given</assert></rule>
             <rule context="b"><let name="taken" value="1"/><extends rule="takes"/></rule></pattern>""",
        "<r><a x='7'/><b/></r>",
    )
    assert texts(result.failed) == ["taken"]
    assert result.not_run == ()


def test_variables_of_a_rule_are_sequential_and_those_of_a_pattern_are_seen_by_others(judge: Any) -> None:
    result = judge(
        """<pattern><let name="limit" value="count(//a) + 1"/><rule context="nothing"/></pattern>
           <pattern><rule context="r">
             <let name="n" value="$limit"/><assert test="$n = 3">first</assert>
             <let name="n" value="$n + 1"/><assert test="$n = 3"><value-of select="$n"/></assert>
           </rule></pattern>""",
        "<r><a/><a/></r>",
    )
    assert texts(result.failed) == ["4"]


def test_variable_with_two_values_is_refused(judge: Any) -> None:
    with pytest.raises(SchematronError, match="two values"):
        judge('<pattern><let name="n" value="1"/></pattern><pattern><let name="n" value="2"/></pattern>', "<r/>")


# --- not run is not passed ----------------------------------------------------------------------------------------


def test_error_of_one_check_leaves_the_others_running(judge: Any) -> None:
    result = judge(
        """<pattern><rule context="a"><assert test="starts-with(b, 'x')">raises on two</assert>
             <assert test="c">no c</assert></rule></pattern>""",
        "<r><a><b/><b/></a><a><b>x</b><c/></a></r>",
    )
    assert texts(result.failed) == ["no c"]
    [not_run] = result.not_run
    assert (not_run.code, not_run.path, not_run.line) == ("XPTY0004", "/{}r/{}a[1]", 1)
    assert (result.fired, result.checked) == (2, 3)


def test_error_of_a_variable_stops_the_checks_that_use_it(judge: Any) -> None:
    result = judge(
        """<pattern><rule context="a">
             <let name="first" value="xs:integer(@x)"/><let name="next" value="$first + 1"/>
             <assert test="$next = 2">uses it</assert><report test="$first = 0">uses it too</report>
             <assert test="@y">does not</assert></rule></pattern><ns prefix="xs" uri="http://www.w3.org/2001/XMLSchema"/>""",
        "<r><a x='one'/></r>",
    )
    assert texts(result.failed) == ["does not"]
    assert [item.code for item in result.not_run] == ["FORG0001", "FORG0001"]
    assert result.checked == 1


def test_error_in_a_message_does_not_hide_the_failure(judge: Any) -> None:
    result = judge(
        """<pattern><rule context="a"><assert test="false()">x is <value-of select="1 div @zero"/></assert></rule>
           </pattern><pattern><rule context="a"><assert test="false()">y is <value-of select="error()"/></assert>
           </rule></pattern>""",
        "<a zero='0'/>",
    )
    assert texts(result.failed)[-1] == "y is …"
    assert len(result.failed) == 2


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ('<include href="absent.sch"/>', "include absent.sch cannot be read"),
        ('<include href="schema%20%C3%A9.sch"/>', "includes itself"),
        (f'<include href="{"y" * 300}.sch"/>', "cannot be read: File name too long"),
        (
            f"""<pattern><rule context="r"><assert test="document('{"y" * 300}.xml')/v"/></rule></pattern>""",
            "a file of the rules is absent",
        ),
        ('<pattern is-a="absent"/>', "abstract pattern absent is absent"),
        ('<pattern><rule context="r"><extends rule="absent"/></rule></pattern>', "abstract rule absent is absent"),
        (
            """<pattern><rule abstract="true" id="x"><extends rule="x"/></rule>
               <rule context="r"><extends rule="x"/></rule></pattern>""",
            "abstract rule x is circular",
        ),
        (
            '<pattern><rule context="r["><assert test="true()"/></rule></pattern>',
            "context of the rule does not compile",
        ),
        ('<pattern><rule context="r"><assert test="contains(., 1))"/></rule></pattern>', "test does not compile"),
        ('<pattern><rule context="r"><assert test="$unknown"/></rule></pattern>', "test does not compile: XPST0008"),
        ('<pattern><rule context="r"><assert test="p:x"/></rule></pattern>', "test does not compile: XPST0081"),
        (
            """<pattern><rule context="r[@x = doc('absent.xml')/v]"><assert test="true()"/></rule></pattern>""",
            "context of the rule opens absent.xml, which is absent",
        ),
        (
            f"""<pattern><rule context="r[@x = doc('{"y" * 300}.xml')/v]"><assert test="true()"/></rule></pattern>""",
            "which is absent",
        ),
        (
            '<pattern><rule context="r"><let name="v" value="1 +"/><assert test="$v = 1"/></rule></pattern>',
            "variable v does not compile: XPST0003",
        ),
    ],
)
def test_what_cannot_run_is_told_and_the_rest_runs(judge: Any, rules: str, reason: str) -> None:
    control = '<pattern><rule context="/r"><assert test="false()">control</assert></rule></pattern>'
    result = judge(rules + control, "<r/>")
    assert texts(result.failed) == ["control"]
    assert any(reason in item.reason for item in result.not_run), result.not_run


def test_activated_pattern_that_is_absent_is_told(judge: Any) -> None:
    result = judge(
        """<phase id="p"><active pattern="one"/><active pattern="two"/></phase>
           <pattern id="one"><rule context="r"><assert test="false()">one</assert></rule></pattern>""",
        "<r/>",
        attributes='defaultPhase="p"',
    )
    assert texts(result.failed) == ["one"]
    assert [item.reason for item in result.not_run] == ["pattern two, activated, is absent"]


def test_rule_behind_one_with_the_same_context_is_unreachable(cisis: Path, validator: Validator) -> None:
    [rule] = validator.compiled(PROFILES["VSM_2023.01"]).schema.unreachable
    assert rule.at.startswith("schematrons/include/specificationsVolets/VSM_2023.01/Entete/Entete_VSM_2023.sch:")


@pytest.mark.parametrize("content", ["<r/>", "not XML", '<schema xmlns="http://purl.oclc.org/dsdl/schematron"/>'])
def test_file_that_is_no_schema_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.sch").write_text(content, encoding="utf-8")
    with pytest.raises(SchematronError):
        read_schema(tmp_path / "x.sch")


def test_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SchematronError) as refused:
        read_schema(tmp_path / "x.sch")
    assert "x.sch" in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


def test_pattern_alone_is_run_with_the_prefixes_given(processor: Processor, tmp_path: Path) -> None:
    (tmp_path / "p.sch").write_text(
        '<pattern xmlns="http://purl.oclc.org/dsdl/schematron"><rule context="c:a">'
        '<assert test="c:b">no b</assert></rule></pattern>',
        encoding="utf-8",
    )
    compiled = processor.compile(read_pattern(tmp_path / "p.sch", {"c": "urn:c"}))
    assert texts(compiled.validate(processor.source(parse(b"<a xmlns='urn:c'/>"))).failed) == ["no b"]


# --- documents that rules open --------------------------------------------------------------------------------------

OPENS = """<pattern><rule context="r">
    <assert test="doc-available(@href)">not available</assert>
    <assert test="doc(@href)/v = 'inside'">other content</assert>
    <assert test="document(@href)/v = 'inside'">other content by document</assert></rule></pattern>"""


def test_rules_open_files_relative_to_the_schema(judge: Any, tmp_path: Path) -> None:
    (tmp_path / "values.xml").write_text("<v>inside</v>", encoding="utf-8")
    result = judge(OPENS, '<r href="values.xml"/>')
    assert (result.failed, result.not_run, result.checked) == ((), (), 3)


@pytest.mark.parametrize(
    "href", ["../{}/values.xml", "%2e%2e/{}/values.xml", "file:{path}", "http://127.0.0.1:9/v.xml"]
)
def test_rules_open_nothing_outside_their_folder(
    judge: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, href: str
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "values.xml"
    outside.write_text("<v>inside</v>", encoding="utf-8")
    result = judge(OPENS, f'<r href="{href.format(outside.parent.name, path=outside)}"/>')
    assert texts(result.failed) == ["not available"]
    assert [item.code for item in result.not_run] == ["FODC0002", "FODC0002"]


def test_file_is_read_in_place_of_another(processor: Processor, tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / f"{name}.xml").write_text(f"<v>{name}</v>", encoding="utf-8")
    path = tmp_path / "s.sch"
    path.write_text(
        """<schema xmlns="http://purl.oclc.org/dsdl/schematron" queryBinding="xslt2"><pattern><rule context="r">
        <assert test="false()"><value-of select="doc('old.xml')/v"/></assert></rule></pattern></schema>""",
        encoding="utf-8",
    )
    schema, source = read_schema(path), processor.source(parse(b"<r/>"))
    replaced = {tmp_path / "old.xml": tmp_path / "new.xml"}
    assert texts(processor.compile(schema).validate(source).failed) == ["old"]
    assert texts(processor.compile(schema, replaced).validate(source).failed) == ["new"]


def test_text_is_searched_for_in_a_file_as_xpath_would(judge: Any, tmp_path: Path) -> None:
    (tmp_path / "codes.xml").write_text("<l><n>A</n><n><!-- twice -->B<x/>C</n><n> D </n><m>E</m></l>", "utf-8")
    rules = """<let name="folder" value="''"/><pattern><rule context="c">
        <let name="code" value="@code"/>
        <assert test="exists(doc(concat($folder, 'codes', '.xml'))//n[text()= string($code)])"><value-of
        select="$code"/></assert></rule></pattern>"""
    codes = "".join(f'<c code="{code}"/>' for code in ("A", "B", "C", "BC", "D", " D ", "E", "F"))
    result = judge(rules, f"<r>{codes}</r>")
    assert (texts(result.failed), result.not_run) == (["BC", "D", "E", "F"], ())
    (tmp_path / "codes.xml").unlink()
    assert [item.code for item in judge(rules, '<r><c code="A"/></r>').not_run] == ["FODC0002"]


def test_file_that_rules_name_is_read_when_they_are_compiled(processor: Processor, tmp_path: Path) -> None:
    values, path = tmp_path / "values.xml", tmp_path / "s.sch"
    values.write_text("<v>then</v>", encoding="utf-8")
    path.write_text(
        """<schema xmlns="http://purl.oclc.org/dsdl/schematron" queryBinding="xslt2"><pattern>
        <let name="values" value="'values.xml'"/><rule context="r">
        <assert test="document($values)/v = 'now'"><value-of select="document($values)/v"/></assert>
        <assert test="doc('broken.xml')/v">read</assert></rule></pattern></schema>""",
        encoding="utf-8",
    )
    (tmp_path / "broken.xml").write_text("<v>", encoding="utf-8")
    compiled = processor.compile(read_schema(path))
    values.write_text("<v>now</v>", encoding="utf-8")
    result = compiled.validate(processor.source(parse(b"<r/>")))
    assert (texts(result.failed), [item.code for item in result.not_run]) == (["then"], ["FODC0002"])


# --- what costs no more than its size -----------------------------------------------------------------------------

ALIKE = """<pattern><rule context="a | @* | text()">
    <let name="name" value="local-name()"/><let name="x" value="@x"/><let name="y" value="@y"/>
    <let name="others" value="preceding-sibling::*[local-name()=$name] | following-sibling::*[local-name()=$name]"/>
    <assert test="not($others[@x=$x][empty($y)] or $others[@x=$x][@y=$y])">alike</assert>
    <assert test="not(@n and $others[not(@n)])">null beside others</assert>
    <assert test="not($others[@x!=$x])">not understood</assert></rule></pattern>"""
"""How the data types of the official rules compare an element with its siblings."""

SIBLINGS = """<r xmlns:f="urn:f">words<a x="1"/><a x="1" y="1"/><b x="1" y="1"/><f:a x="1" y="1"/><a x="2" y="1"/>
    <a x="1" y=""/><a n="NI"/><a n="NA" x="3"/><a/><c><a x="1"/><a x="4" y="1"/></c><c><a n="NI" x="1"/><a x="4"/></c>
    <c><a n="NI"/><a n="NI" x="4"/><a n="NI" x="4"/></c></r>"""


def test_siblings_that_are_alike_are_found_by_a_key_as_by_looking_at_all(judge: Any) -> None:
    looked_up = judge(ALIKE, SIBLINGS)
    searched = judge(ALIKE.replace("$others[", "$others[true()]["), SIBLINGS)
    said = [[(found.text, found.path) for found in result.failed] for result in (looked_up, searched)]
    assert said[0] == said[1]
    assert sum(text == "alike" for text, _ in said[0]) == 4
    assert sum(text == "null beside others" for text, _ in said[0]) == 3
    assert sum(text == "not understood" for text, _ in said[0]) > 5
    assert looked_up.checked == searched.checked
    assert looked_up.not_run == searched.not_run == ()


def test_nothing_is_counted_or_compared_for_each_of_very_many_alike(processor: Processor, tmp_path: Path) -> None:
    path = tmp_path / "schema.sch"
    path.write_text(f'<schema xmlns="http://purl.oclc.org/dsdl/schematron" queryBinding="xslt2">{ALIKE}</schema>')
    sheet = generate(read_schema(path), {}, {})
    [template] = etree.fromstring(sheet.text).iterfind("{*}template[@{urn:relais:schematron}expression]")
    tests = [test.get("test", "") for test in template.iter("{*}if")]
    assert ["$others" in test for test in tests] == [False, False, True]
    assert "path()" not in sheet.text


def test_place_of_a_finding_is_that_of_its_node_whatever_stands_around(judge: Any) -> None:
    result = judge(
        """<ns prefix="f" uri="urn:f"/>
           <pattern><rule context="@* | comment() | processing-instruction()"><assert test="false()">x</assert></rule>
           </pattern>""",
        "<r><!-- d --><a>words<?e f?><b xmlns='urn:f' g='1'/><b xmlns='urn:f' xmlns:h='urn:h' h:g='1'/></a></r>",
    )
    assert [found.path for found in result.failed] == [
        "/{}r",
        "/{}r/{}a",
        "/{}r/{}a/{urn:f}b[1]/@g",
        "/{}r/{}a/{urn:f}b[2]/@{urn:h}g",
    ]
