"""The code in docs/search.md runs."""

import re

import pytest


@pytest.fixture
def blocks(repository):
    return re.findall(r"```python\n(.*?)```", (repository / "docs/search.md").read_text(encoding="utf-8"), re.DOTALL)


def test_every_block_runs(blocks, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block, "docs/search.md", "exec"), {})
    said = capsys.readouterr().out
    assert "'clipping': 'KL'" in said or "clipping='KL'" in said
    assert "{'conv1': 'int4', 'conv2': 'int8'}" in said or "{'conv1': 'int8', 'conv2': 'int4'}" in said
    assert (tmp_path / "runs/search/best.json").exists()
