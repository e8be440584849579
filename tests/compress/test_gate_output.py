"""What the gate writes for other programs, read back by their rules."""

from xml.etree import ElementTree

from compress import gate_output
from compress.gate import Finding

GOOD = Finding("onnx-int8", "size growth", 0.0, 0.02, True, "1000 bytes")
BAD = Finding("onnx-int8", "worst drop dB", 0.2, 0.1, False, "50% of <a|b>,\nc: \x01")


def test_junit_holds_every_check_and_the_reason_of_a_failure():
    root = ElementTree.fromstring(gate_output.junit([GOOD, BAD], "trial"))
    (suite,) = root
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("trial", "2", "1")
    good, bad = suite
    assert (good.get("classname"), good.get("name"), list(good)) == ("onnx-int8", "size growth", [])
    (failure,) = bad
    assert failure.tag == "failure" and failure.text == "50% of <a|b>,\nc: ?", "XML cannot hold \\x01"


def test_markdown_puts_failures_first():
    lines = gate_output.markdown([GOOD, BAD]).splitlines()
    assert lines[0] == "### compress gate: **1 of 2 checks failed**"
    assert lines[4] == "| **FAIL** | onnx-int8 | worst drop dB | +0.2000 | 0.1 |"
    assert lines[5] == "| pass | onnx-int8 | size growth | +0.0000 | 0.02 |"
    assert gate_output.markdown([GOOD]).startswith("### compress gate: All 1 checks passed\n")


def test_a_bar_in_a_name_does_not_break_the_table():
    text = gate_output.markdown([Finding("a|b", "x", 0.0, 1.0, True, "")])
    assert "| a\\|b | x |" in text


def test_annotations_are_one_escaped_line_a_failure():
    assert gate_output.github([GOOD, BAD]) == "::error title=onnx-int8::50%25 of <a|b>,%0Ac: \x01\n"
    assert gate_output.github([Finding("a:b,c", "x", 2.0, 1.0, False, "t")]) == "::error title=a%3Ab%2Cc::t\n"
