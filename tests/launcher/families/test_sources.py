"""What is read of diffusers' sources is what Python has of the classes."""

import ast
import inspect
from pathlib import Path

import diffusers
import pytest

from launcher.families import sources
from launcher.families.sources import REQUIRED, attributes, has_own_plan, method, parameters, part_of

# Fetched here, for diffusers imports a class when it is asked for, and that takes seconds.
PIPELINES = [
    diffusers.FluxPipeline,
    diffusers.WanImageToVideoPipeline,
    diffusers.LTX2Pipeline,
    diffusers.StableDiffusion3Pipeline,
]
MODELS = [
    diffusers.FluxTransformer2DModel,
    diffusers.WanTransformer3DModel,
    diffusers.WanVACETransformer3DModel,
    diffusers.SD3Transformer2DModel,
]


def parsed(text: str) -> ast.ClassDef:
    (node,) = ast.parse(text).body
    assert isinstance(node, ast.ClassDef)
    return node


@pytest.mark.parametrize("kind", PIPELINES)
def test_a_pipeline_stands_where_it_is_imported_from(kind):
    assert sources.pipelines()[kind.__name__] == Path(inspect.getfile(kind)).parent.name


@pytest.mark.parametrize("kind", PIPELINES)
def test_the_arguments_of_a_call_are_pythons(kind):
    call = method(sources.pipeline(kind.__name__), "__call__")
    asked = inspect.signature(kind.__call__).parameters.values()
    expected = {each.name: each.default for each in asked if each.name != "self"}
    found = parameters(call)
    assert list(found) == list(expected)
    for name, default in found.items():
        if default is not REQUIRED:
            assert default == expected[name], name


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_a_models_own_plan_is_pythons(kind):
    assert has_own_plan(kind.__name__) == (getattr(kind, "_cp_plan", None) is not None)


def test_a_plan_is_inherited_unless_it_is_taken_away(monkeypatch):
    text = (
        "class A(Base): _cp_plan = {'': {}}\nclass B(A): pass\nclass C(B, Other): _cp_plan = None\nclass D(Base): x = 1"
    )
    classes = {node.name: node for node in ast.parse(text).body}
    monkeypatch.setattr(sources, "transformer", lambda _: classes)
    assert [has_own_plan(kind) for kind in classes] == [True, True, False, False]


def test_a_model_comes_with_the_blocks_that_several_share():
    classes = sources.transformer("FluxTransformer2DModel")
    assert {"FluxTransformer2DModel", "FluxTransformerBlock", "FeedForward"} <= set(classes)
    assert "CogVideoXBlock" not in classes


def test_parts_are_told_by_their_annotation():
    assert part_of("FluxPipeline", "transformer") == "FluxTransformer2DModel"
    assert part_of("FluxPipeline", "image_encoder") == "CLIPVisionModelWithProjection"  # with a default
    assert part_of("WanPipeline", "transformer_2") == "WanTransformer3DModel"  # X | None
    assert part_of("FluxPipeline", "nothing") == ""


@pytest.mark.parametrize("kind", ["", "NoSuch", "flux", "../FluxPipeline", "Flux("])
def test_what_diffusers_does_not_have_is_nothing(kind):
    assert sources.pipeline(kind) is None
    assert sources.transformer(kind) is None
    assert part_of(kind, "transformer") == ""
    assert not has_own_plan(kind)


def test_every_kind_of_parameter_is_read():
    node = parsed("class A:\n def f(self, a, b=None, c=[1, -2], d=f(3), *rest, e, g='x', h=C.y, **more): ...")
    assert parameters(method(node, "f")) == {
        "a": REQUIRED,
        "b": None,
        "c": [1, -2],
        "d": REQUIRED,
        "e": REQUIRED,
        "g": "x",
        "h": REQUIRED,
    }
    assert method(node, "__init__") is None


def test_attributes_are_those_of_self_that_a_constructor_sets():
    node = parsed(
        "class A:\n def __init__(self):\n  self.a = 1\n  if b:\n   self.c = D()\n  e = 2\n def f(self): self.g = 3"
    )
    assert {name: ast.unparse(value) for name, value in attributes(node)} == {"a": "1", "c": "D()"}
    assert list(attributes(parsed("class A: ..."))) == []
