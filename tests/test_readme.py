"""What the README says can be typed, and its numbers are the recorded ones."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from compress.cli import _parser

REPO = Path(__file__).resolve().parents[1]
README = (REPO / "README.md").read_text()
LINES = [
    part.split("#", 1)[0].strip()
    for block in re.findall(r"```\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    for part in line.split(";")
]
COMMANDS = [line for line in LINES if line.startswith("compress ")]


def test_the_first_screen_shows_the_two_commands() -> None:
    first = "\n".join(README.splitlines()[:12])
    assert "make demo" in first
    assert "make test" in first


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("make ")])
def test_make_targets_exist(line: str) -> None:
    assert re.search(rf"^{line.split()[1]}:", (REPO / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_parse(line: str) -> None:
    assert callable(_parser().parse_args(shlex.split(line)[1:]).execute)


def test_there_are_commands_to_try() -> None:
    assert len(COMMANDS) > 8


def test_files_that_the_readme_names_exist() -> None:
    named = re.findall(r"\]\(([\w./-]+)\)", README) + re.findall(r"(?:examples|docs)/[\w./-]+\.\w+", README)
    assert named
    assert not [name for name in named if not (REPO / name).exists()]


def test_every_claim_has_its_result_and_its_command() -> None:
    for claim in tomllib.loads((REPO / "benchmarks" / "claims.toml").read_text())["claim"]:
        assert (REPO / claim["result"]).is_file(), claim["what"]
        program, first = claim["command"].split()[:2]
        assert program == "compress" or (REPO / first).is_file()


def test_the_tables_show_the_results() -> None:
    command = [sys.executable, str(REPO / "benchmarks" / "tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
