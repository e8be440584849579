"""Recipes: TOML and objects are the same thing; what a mistaken one is told."""

import dataclasses
from pathlib import Path

import pydantic
import pytest

from compress import recipe
from compress.errors import RecipeError
from compress.methods.equalize import Equalize
from compress.methods.free_concats import FreeConcats
from compress.methods.quantize import Quantize
from compress.methods.reparameterize import Reparameterize
from compress.registry import METHODS
from compress.train import load_recipe


def another_value(schema, default):
    """A value that the field takes and that is not its default."""
    if "enum" in schema:
        return next(v for v in schema["enum"] if v != default)
    if schema.get("type") == "boolean":
        return not default
    if "exclusiveMaximum" in schema:
        return default / 2
    if schema.get("type") in ("integer", "number"):
        most = schema.get("maximum", default + 1)
        return most if most != default else schema["minimum"]
    if schema.get("type") == "string":
        return default + "x"
    if schema.get("type") == "array":
        return (*default, *(("a=1", "b") if schema["items"]["type"] == "string" else (4, 8)))
    raise NotImplementedError(f"teach this test to change a field of {schema}")


def changed(method):
    """A step with every field changed."""
    default = METHODS[method]()
    fields = pydantic.TypeAdapter(METHODS[method]).json_schema().get("properties", {})
    values = {name: another_value(schema, getattr(default, name)) for name, schema in fields.items()}
    return dataclasses.replace(default, **values)


@pytest.mark.parametrize("change", [False, True], ids=["defaults", "changed"])
@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_goes_through_toml_unchanged(method, change):
    step = changed(method) if change else METHODS[method]()
    before = recipe.Recipe((step,))
    text = before.to_toml()
    assert recipe.parse(text, "test") == before
    assert all(f"{field.name} = " in text for field in dataclasses.fields(step)), "every field is written out"


def test_all_methods_in_one_recipe_keep_their_order():
    steps = [*(METHODS[m]() for m in METHODS), *(changed(m) for m in reversed(list(METHODS)))]
    before = recipe.Recipe(tuple(steps))
    assert recipe.parse(before.to_toml(), "test") == before


def test_a_recipe_without_steps_goes_through_toml_unchanged():
    assert recipe.parse(recipe.Recipe(()).to_toml(), "test") == recipe.Recipe(())


def test_fields_that_are_not_given_have_their_defaults():
    found = recipe.parse('[[step]]\nmethod = "quantize"\ncalibration_crops = 7\n', "test")
    assert found.steps == (Quantize(calibration_crops=7),)


def test_steps_are_applied_in_order(monkeypatch):
    calls = []

    def step(name):
        return lambda network, task, workshop: calls.append((name, network, task)) or f"{network}+{name}"

    monkeypatch.setattr(recipe, "_name", lambda step: "some")
    assert recipe.Recipe((step("a"), step("b"))).apply("net", "task") == "net+a+b"
    assert calls == [("a", "net", "task"), ("b", "net+a", "task")]


@pytest.mark.parametrize("name", recipe.names())
def test_every_built_in_recipe_loads_and_says_what_it_is(name):
    assert all(type(step) in [METHODS[m] for m in METHODS] for step in recipe.load(name).steps)
    assert len(recipe.summary(name)) > 10


def test_int8_merges_before_it_quantizes():
    steps = [Reparameterize, Equalize, FreeConcats, Quantize]
    assert [type(step) for step in recipe.load("int8-tuned").steps] == steps
    assert recipe.load("int8").steps == (Reparameterize(), Quantize())


def test_a_recipe_file_is_loaded_by_its_path(tmp_path):
    (tmp_path / "my.toml").write_text(recipe.Recipe((Quantize("tensor"),)).to_toml())
    assert recipe.load(str(tmp_path / "my.toml")).steps == (Quantize("tensor"),)


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(RecipeError, match=r"unknown recipe 'int9': no such file, and did you mean 'int8'\? known:"):
        recipe.load("int9")


def test_a_missing_recipe_file_is_named(tmp_path):
    with pytest.raises(RecipeError, match=r"gone\.toml': no such file"):
        recipe.load(str(tmp_path / "gone.toml"))


def test_a_recipe_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "my.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match=r"recipe .*my\.toml:"):
        recipe.load(str(tmp_path / "my.toml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[step]]\nmethod = "quantise"\n', r"step 1: unknown method 'quantise'; did you mean 'quantize'\? known: "),
        (
            '[[step]]\nmethod = "quantize"\n[[step]]\nmethod = "quantize"\ncalibration_crop = 3\n',
            r"step 2 \(quantize\): unknown key 'calibration_crop'; did you mean 'calibration_crops'\? known: ",
        ),
        (
            '[[step]]\nmethod = "quantize"\ngranularity = "row"\n',
            r"step 1 \(quantize\): granularity = 'row': .*'channel' or 'tensor'",
        ),
        (
            '[[step]]\nmethod = "quantize"\ncalibration_crops = 0\n',
            r"calibration_crops = 0: .*greater than or equal to 1",
        ),
        ('[[step]]\nmethod = "quantize"\ncalibration_size = 1000\n', r"calibration_size = 1000: .*equal to 512"),
        ('[[step]]\nmethod = "quantize"\ncalibration_size = "big"\n', r"calibration_size = 'big': .*integer"),
        ("[[step]]\nx = 1\n", r"step 1: no method; known: .*quantize"),
        ("[[step]]\nmethod = 3\n", "step 1: no method"),
        ("", r"expected \[\[step\]\] tables"),
        ('step = "quantize"\n', r"expected \[\[step\]\] tables"),
        ("step = [1, 2]\n", r"expected \[\[step\]\] tables"),
        ('[[steps]]\nmethod = "quantize"\n', r"unknown key 'steps', expected \[\[step\]\]"),
        ("[[step]]\nmethod = quantize\n", r"recipe here: .*line 2"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_cure(text, message):
    with pytest.raises(RecipeError, match=message) as caught:
        recipe.parse(text, "here")
    assert str(caught.value).startswith("recipe here")


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "examples").glob("*.toml")), ids=lambda p: p.name)
def test_the_examples_load(path):
    assert recipe.load(str(path)).steps if "[[step]]" in path.read_text() else load_recipe(path).steps > 0
