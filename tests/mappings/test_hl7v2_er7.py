"""ER7: escaping, taking apart, character sets, and bytes that are no message."""

from __future__ import annotations

import pytest
from hl7apy.parser import parse_segment
from hypothesis import given, settings
from hypothesis import strategies as st

from relais.mappings.hl7v2 import er7
from relais.mappings.hl7v2.er7 import Field
from relais.mappings.hl7v2.findings import MessageError

MSH = b"MSH|^~\\&|A|B|C|D|20260112||ACK^T02^ACK|1|P|2.6|||||FRA|%s\r"
TEXT = st.text(st.characters(codec="utf-8"), max_size=40)


def header(charset: str = "UNICODE UTF-8") -> bytes:
    return MSH % charset.encode()


def refusal(data: bytes) -> tuple[str, str]:
    """Code and place of what is wrong with `data`."""
    with pytest.raises(MessageError) as caught:
        er7.parse(data)
    (finding,) = caught.value.findings
    return finding.code, str(finding.place)


# --- escaping -----------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(TEXT)
def test_any_text_survives_escaping(text: str) -> None:
    assert er7.unescape(er7.escape(text)) == text


@settings(deadline=None)
@given(TEXT)
def test_escaped_text_cannot_break_anything(text: str) -> None:
    escaped = er7.escape(text)
    assert not set(escaped) & set("|^~&\r\n\x0b\x1c")
    assert escaped.count("\\") % 2 == 0


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        ("\\F\\\\S\\\\T\\\\R\\\\E\\", "|^&~\\"),
        ("l\\X27\\eau", "l'eau"),
        ("\\XC3A9\\", "é"),
        ("\\XC3\\\\XA9\\", "é"),
        ("\\E\\X41\\E\\", "\\X41\\"),
        ("a\\.br\\b", "a\nb"),
        ("\\H\\important\\N\\", "important"),
        ("\\Zunknown\\", "\\Zunknown\\"),
        ("\\Xzz\\", "\\Xzz\\"),
        ("plain", "plain"),
    ],
)
def test_escape_sequences(escaped: str, text: str) -> None:
    assert er7.unescape(escaped) == text


def test_hexadecimal_is_in_the_character_set_of_the_message() -> None:
    assert er7.unescape("\\XA4\\", "iso-8859-15") == "€"


# --- segments -----------------------------------------------------------------------------------------------------


def test_fields_components_repetitions() -> None:
    fields: dict[int, Field] = {3: [("a", "", ("b", "c|d")), "e"], 5: "f", 7: "", 8: ("", "")}
    assert er7.segment("PID", fields) == "PID|||a^^b&c\\F\\d~e||f"


@settings(deadline=None)
@given(st.lists(TEXT, min_size=3, max_size=3))
def test_written_and_read_back(texts: list[str]) -> None:
    first, second, third = texts
    line = er7.segment("PRT", {2: "UC", 4: [("x", (first, second)), (third,)], 6: "end"})
    message = er7.parse(er7.encode([header().decode().removesuffix("\r"), line], "UNICODE UTF-8"))
    prt = message.first("PRT")
    assert (prt.text(4, 2), prt.text(4, 2, 2), prt.text(4, 1, repetition=2)) == (first, second, third)
    assert (prt.text(6), prt.text(7), prt.text(4, 9), prt.text(4, 1, 5)) == ("end", "", "", "")


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=("Zs", "Cc")), min_size=1, max_size=20))
def test_hl7apy_reads_the_same_components(text: str) -> None:
    line = er7.segment("PID", {3: (text, "", "", ("ns", "1.2.3", "ISO"), "PI"), 5: ("FAMILLE", "Zoé")})
    parsed = parse_segment(line, version="2.6")
    assert parsed.pid_3.cx_1.to_er7() == er7.escape(text)
    assert parsed.pid_3.cx_4.hd_2.to_er7() == "1.2.3"


def test_header_segment() -> None:
    line = er7.header_segment({3: "A&B", 9: ("ACK", "T02"), 21: ""})
    assert line == "MSH|^~\\&|A\\T\\B||||||ACK^T02"


def test_numbers_of_segments() -> None:
    message = er7.parse(header() + b"OBX|1\rPRT|x\rOBX|2\r")
    assert [(segment.name, segment.number) for segment in message.segments[1:]] == [("OBX", 1), ("PRT", 1), ("OBX", 2)]
    assert str(message.all("OBX")[1].place(5, 2, 3)) == "OBX[2]-5(2).3"
    assert message.header.text(1) == "|"
    assert message.header.field(2) == "^~\\&"


# --- character sets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("charset", "codec", "text"),
    [
        ("UNICODE UTF-8", "utf-8", "Lœuf coûte 3 € à Ōsaka"),
        ("8859/15", "iso-8859-15", "Lœuf coûte 3 €"),
        ("8859/1", "iso-8859-1", "été"),
    ],
)
def test_character_sets(charset: str, codec: str, text: str) -> None:
    data = er7.encode([header(charset).decode().removesuffix("\r"), er7.segment("NTE", {3: text})], charset)
    assert text.encode(codec) in data
    assert er7.parse(data).first("NTE").text(3) == text


def test_a_character_the_set_lacks_is_refused_not_replaced() -> None:
    with pytest.raises(MessageError, match="UNICODE UTF-8"):
        er7.encode(["NTE|||œ"], "8859/1")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (header() + "NTE|||é\r".encode("iso-8859-1"), ("102", "MSH-18")),
        (header("8859/15") + "NTE|||Lœuf à 3 €\r".encode(), ("199", "MSH-18")),  # UTF-8 in disguise
        (header("UNICODE UTF-16"), ("103", "MSH-18")),
        (header(""), ("101", "MSH-18")),
        (b"MSH|^~\\&|A\r", ("101", "MSH-18")),
        (b"MSH|^~\\&|\xff\r", ("101", "MSH-18")),
    ],
)
def test_wrong_character_sets(data: bytes, expected: tuple[str, str]) -> None:
    assert refusal(data) == expected


def test_an_empty_character_set_may_be_assumed() -> None:
    assert er7.parse(header("") + "NTE|||é\r".encode(), assumed_charset="UNICODE UTF-8").first("NTE").text(3) == "é"


# --- no message ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", ("199", "MSH")),
        (b"garbage", ("199", "MSH")),
        (b"\xef\xbb\xbf" + header(), ("199", "MSH")),
        (b" " + header(), ("199", "MSH")),
        (header().replace(b"^~\\&", b"@~\\&"), ("102", "MSH-2")),
        (header().replace(b"\r", b"\n") + b"NTE|1\n", ("199", "MSH")),
        (header().replace(b"\r", b"\r\n") + b"NTE|1\r\n", ("199", "MSH")),
        (header() + b"\r", ("199", "MSH")),
        (header() + b"nte|1\r", ("199", "MSH")),
        (header() + b"NTE|1\x00\r", ("199", "MSH-18")),
        (header() + b"<ClinicalDocument/>\r", ("199", "MSH")),
    ],
)
def test_what_is_no_message(data: bytes, expected: tuple[str, str]) -> None:
    assert refusal(data) == expected


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    for candidate in (data, header() + data, b"MSH|" + data):
        try:
            er7.parse(candidate)
        except MessageError as error:
            assert error.findings


def test_the_last_segment_may_lack_its_end() -> None:
    assert er7.parse(header() + b"NTE|1").names == ["MSH", "NTE"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_message_kept_in_a_file(end: bytes) -> None:
    wire = header() + b"NTE|1\r"
    assert er7.from_file(b"\xef\xbb\xbf" + wire.replace(b"\r", end)) == wire


def test_a_large_text_stays_affordable() -> None:
    data = header() + b"OBX|1|ED|||^text^XML^Base64^" + b"QUJD" * 7_000_000 + b"\r"
    assert len(er7.parse(data).first("OBX").text(5, 5)) == 28_000_000
