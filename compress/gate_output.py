"""The gate's findings for other programs: JUnit XML, Markdown, annotations of GitHub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from compress.gate import Finding

__all__ = ["github", "junit", "markdown"]

_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(findings: Sequence[Finding], suite: str) -> bytes:
    """A test suite, one test case a finding."""
    root = ElementTree.Element("testsuites")
    failures = sum(not f.passed for f in findings)
    counts = {"tests": str(len(findings)), "failures": str(failures), "errors": "0", "skipped": "0"}
    cases = ElementTree.SubElement(root, "testsuite", {"name": _xml(suite), **counts})
    for finding in findings:
        names = {"classname": _xml(finding.file), "name": _xml(finding.what)}
        case = ElementTree.SubElement(cases, "testcase", names)
        if not finding.passed:
            text = _xml(finding.text)
            ElementTree.SubElement(case, "failure", {"type": "regression", "message": text}).text = text
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def markdown(findings: Sequence[Finding]) -> str:
    """A table for a pull request, failures first."""
    failures = sum(not f.passed for f in findings)
    verdict = f"**{failures} of {len(findings)} checks failed**" if failures else f"All {len(findings)} checks passed"
    lines = [f"### compress gate: {verdict}", "", "| | file | check | found | at most |", "|---|---|---|---:|---:|"]
    for f in sorted(findings, key=lambda finding: finding.passed):
        mark = "pass" if f.passed else "**FAIL**"
        lines.append(f"| {mark} | {_cell(f.file)} | {_cell(f.what)} | {f.found:+.4f} | {f.allowed:g} |")
    return "\n".join(lines) + "\n"


def github(findings: Sequence[Finding]) -> str:
    """A workflow command of GitHub Actions for each failure."""
    failed = [f for f in findings if not f.passed]
    return "".join(f"::error title={_escape_property(f.file)}::{_escape(f.text)}\n" for f in failed)


def _xml(text: str) -> str:
    """Without the characters that XML 1.0 (section 2.2) has no way to hold."""
    return _NOT_XML.sub("?", text)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("\\", "\\\\").replace("|", "\\|")


def _escape(text: str) -> str:
    """As the runner of GitHub Actions decodes the message of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape(text).replace(":", "%3A").replace(",", "%2C")
