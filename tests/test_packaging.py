"""The installed thing: cheap to import, safe from the user's own files, described everywhere."""

import ast
import os
import re
import subprocess
import sys
import tomllib

import pytest

PACKAGES = ["compress", "export", "search", "targets"]
HEAVY = ["torch", "numpy", "onnx", "onnxruntime", "openvino", "ai_edge_litert", "ai_edge_quantizer", "litert_torch"]
HEAVY += ["tensorflow", "pydantic", "PIL", "matplotlib", "jinja2", "rich", "safetensors"]
HEAVY += ["timm", "spandrel", "torchvision", "onnx2torch", "h5py"]
HEAVY += ["optuna", "xgboost", "sklearn", "scipy", "sqlalchemy"]


@pytest.fixture
def python(repository, tmp_path):
    """Runs code in a fresh interpreter, in an empty folder that is first on its path."""

    def run(code):
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
        environment["PYTHONPATH"] = str(repository)
        return subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )

    return run


@pytest.fixture(scope="session")
def project(repository):
    """pyproject.toml."""
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "code",
    [
        "import compress",
        "import compress.cli",
        "import compress.cli; compress.cli.main(['--help'])",
        "import compress.cli; compress.cli.main(['run', '--help'])",
    ],
    ids=["package", "command-line", "help", "help-of-a-command"],
)
def test_it_loads_no_framework(python, code):
    done = python(f"import sys; {code}\nprint('LOADED', *sorted({{m.split('.')[0] for m in sys.modules}}))")
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.rpartition("LOADED")[2].split()
    assert "compress" in loaded
    assert [name for name in HEAVY if name in loaded] == []


@pytest.mark.parametrize("name", ["export", "search", "targets"])
def test_a_file_of_the_users_that_hides_a_package_is_named(python, tmp_path, name):
    (tmp_path / f"{name}.py").write_text("raise SystemExit('the user\\'s file was run')")
    done = python("import compress")
    assert done.returncode == 1
    assert f"ImportError: `import {name}` finds {tmp_path / name}.py, expected " in done.stderr
    assert f"{name}/__init__.py (part of edgepress); rename or move that file" in done.stderr


def test_a_package_of_the_users_that_hides_ours_is_named(python, tmp_path):
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets/__init__.py").touch()
    done = python("import compress")
    assert f"ImportError: `import targets` finds {tmp_path}/targets/__init__.py" in done.stderr


def test_a_folder_of_the_users_that_is_no_package_does_no_harm(python, tmp_path):
    """``export/`` without ``__init__.py``, e.g. exported files."""
    (tmp_path / "export").mkdir()
    assert python("import compress.cli").returncode == 0


def test_the_wheel_holds_the_four_packages(project, repository):
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == PACKAGES
    assert all((repository / name / "__init__.py").is_file() for name in PACKAGES)


def test_the_version_is_stated_once(project, python):
    assert project["tool"]["hatch"]["version"]["path"] == "compress/__init__.py"
    done = python("import compress; print(compress.__version__)")
    assert done.stdout.strip().count(".") == 2


def test_the_command_leads_to_a_function(project, python):
    module, function = project["project"]["scripts"]["compress"].split(":")
    assert python(f"from {module} import {function}; assert callable({function})").returncode == 0


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_and_its_public_names_have_a_docstring(repository, package):
    missing = []
    for path in sorted((repository / package).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        kinds = (ast.FunctionDef, ast.ClassDef)
        public = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
        missing += [f"{path}: {getattr(n, 'name', 'module')}" for n in [tree, *public] if not ast.get_docstring(n)]
    assert missing == []


def test_every_format_has_an_extra_of_its_name(project, repository):
    formats = {p.stem for p in (repository / "export/formats").glob("*.py") if not p.stem.startswith("_")}
    assert formats - {"c", "lut"} == set(project["project"]["optional-dependencies"]) - {
        "all",
        "zoo",
        "keras",
        "search",
        "numba",
    }


def test_the_extras_that_messages_name_exist(project, repository):
    extras = project["project"]["optional-dependencies"]
    named = set()
    for package in PACKAGES:
        for path in (repository / package).rglob("*.py"):
            named |= set(re.findall(r"edgepress\[(\w+)\]", path.read_text(encoding="utf-8")))
    assert {"onnx", "zoo", "all"} <= named <= set(extras)


def test_all_brings_every_extra(project):
    extras = project["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    assert set(everything.removeprefix("edgepress[").removesuffix("]").split(",")) == set(extras) - {"all"}


def test_importing_a_registry_does_not_need_the_packages_of_others(python):
    """timm, spandrel and onnx2torch are asked for when a model of theirs is, not before."""
    code = "import sys\nfrom compress.registry import MODELS, SOURCES, TASKS\n[*MODELS, *SOURCES, *TASKS]\n"
    code += "print(sorted({m.split('.')[0] for m in sys.modules} & {'timm', 'spandrel', 'onnx2torch', 'torchvision'}))"
    done = python(code)
    assert done.stdout.strip() == "[]", done.stderr
