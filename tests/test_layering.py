"""Imports point down: the table of CONTRIBUTING.md, held by walking the sources."""

import ast
from pathlib import Path

import pytest

# package: which of ours it may import
PACKAGES = {
    "targets": set(),
    "search": set(),
    "export": {"targets"},
    "compress": {"export", "search", "targets"},
}
# part of compress: which other parts it may not import
NOT_BELOW = ["compress.pipeline", "compress.cli"]
PARTS = {
    "compress.methods": NOT_BELOW,
    "compress.models": [*NOT_BELOW, "compress.methods"],
    "compress.data": [*NOT_BELOW, "compress.methods", "compress.models", "compress.task", "compress.recipe"],
    "compress.task": [*NOT_BELOW, "compress.methods", "compress.models", "compress.tasks"],
    "compress.tasks": [*NOT_BELOW, "compress.methods", "compress.models", "compress.sources"],
    "compress.zoo": [*NOT_BELOW, "compress.methods", "compress.models", "compress.sources", "compress.tasks"],
    "compress.source": [*NOT_BELOW, "compress.methods", "compress.models", "compress.sources"],
    "compress.sources": [*NOT_BELOW, "compress.methods", "compress.models", "compress.tasks"],
    "compress.recipe": NOT_BELOW,
    "compress.registry": [*NOT_BELOW, "compress.task", "compress.recipe", "compress.data", "compress.zoo"],
}
ENTRY_POINT = "compress.__main__"
VAGUE = {"utils", "util", "common", "core", "helpers", "helper", "base", "misc"}


def inside(module: str, part: str) -> bool:
    """Whether a module is a part or lies in it."""
    return module == part or module.startswith(part + ".")


def imported(source: str, module: str, is_package: bool) -> set[str]:
    """Everything that a source imports, wherever in it; ``from a import b`` counts as a and as a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parent = module.split(".")[: None if is_package else -1]
            parent = parent[: len(parent) - node.level + 1] if node.level else []
            start = ".".join([*parent, *([node.module] if node.module else [])])
            found |= {start} | {f"{start}.{alias.name}" for alias in node.names}
    return found


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """The imports of a source that point up."""
    own = module.split(".")[0]
    found = []
    for name in sorted(imported(source, module, is_package)):
        top = name.split(".")[0]
        if top in PACKAGES and top != own and top not in PACKAGES[own]:
            found.append(f"{module} imports {name}: {own} may import {sorted(PACKAGES[own]) or 'none of ours'}")
        for part, refused in PARTS.items():
            if inside(module, part) and any(inside(name, r) for r in refused):
                found.append(f"{module} imports {name}: {part} lies below it")
        if inside(name, "compress.cli") and not inside(module, "compress.cli") and module != ENTRY_POINT:
            found.append(f"{module} imports {name}: nothing but the command line imports it")
    return sorted(set(found))


def sources(root: Path) -> dict[str, Path]:
    """Module name to file, of all four packages."""
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def test_no_import_points_up(repository):
    modules = sources(repository)
    assert set(PACKAGES) <= set(modules)
    found = [
        v
        for module, path in modules.items()
        for v in violations(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")
    ]
    assert found == []


def test_no_module_has_a_name_that_says_nothing(repository):
    vague = [m for m in sources(repository) if VAGUE & {part.strip("_") for part in m.split(".")}]
    assert vague == []


def test_nothing_in_the_packages_imports_the_tests_or_examples(repository):
    for module, path in sources(repository).items():
        tops = {name.split(".")[0] for name in imported(path.read_text(encoding="utf-8"), module, False)}
        assert not tops & {"tests", "examples", "benchmarks"}, module


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("targets.check", "import export.parity"),
        ("search.pareto", "from targets import profile"),
        ("export.parity", "from compress.task import Task"),
        ("export.formats.onnx", "def write():\n    import search.pareto"),
        ("compress.methods.prune", "from compress import pipeline"),
        ("compress.methods.prune", "from compress.cli import main"),
        ("compress.methods.prune", "from ..pipeline import run"),
        ("compress.models.edsr", "from compress.methods.reparameterize import merged"),
        ("compress.models.edsr", "if TYPE_CHECKING:\n    from compress.methods import quantize"),
        ("compress.data.folder", "import compress.models.span"),
        ("compress.data.folder", "from .. import pipeline"),
        ("compress.pipeline", "from compress.cli._options import network"),
        ("compress.registry", "from compress.recipe import load"),
        ("compress.sources.onnx_file", "from compress.pipeline import reach_of"),
        ("compress.sources.checkpoint", "from compress.methods.reparameterize import merged"),
        ("compress.sources.zoo", "from compress.models.span import Span"),
        ("compress.tasks.restoration", "import compress.models.dncnn"),
        ("compress.tasks.classification", "from compress.cli import main"),
        ("compress.zoo", "from compress.models import span"),
        ("compress.zoo", "from compress.methods.reparameterize import merged"),
        ("compress.task", "from compress.tasks import restoration"),
    ],
)
def test_the_check_finds(module, source):
    assert len(violations(source, module)) >= 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("targets.check", "import numpy\nfrom targets.profile import Limit\nfrom . import profile"),
        ("export.parity", "from targets.errors import EdgepressError"),
        ("compress.pipeline", "import targets.profile\nfrom export import formats\nfrom search.pareto import front"),
        ("compress.cli.run", "from compress.cli._options import output\nfrom compress import pipeline"),
        ("compress.__main__", "from compress.cli import main"),
        ("compress.client", "from compress import clients"),
        ("compress.sources.checkpoint", "from compress import zoo\nfrom compress.source import Request"),
        ("compress.tasks.restoration", "from compress.task import Task\nfrom compress.data import degraded"),
        ("compress.zoo", "from compress.registry import MODELS\nfrom compress.weights import read"),
        ("compress.measure", "from compress.methods.reparameterize import mergeable"),
    ],
)
def test_the_check_allows(module, source):
    assert violations(source, module) == []
