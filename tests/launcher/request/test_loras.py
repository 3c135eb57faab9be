"""LoRAs are asked for one by one, as lists, or all in one word; what can't be told apart or scaled is refused."""

import pytest

from launcher.problems import Refused
from launcher.request.loras import Lora, flaws, loras, settings


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], []),
        (["lora.scale=1"], []),
        (["lora.path=a/style.safetensors"], [("a/style.safetensors", 1.0, "style")]),
        (["lora.path=a", "lora.scale=-0.5", "lora.name=loud"], [("a", -0.5, "loud")]),
        (["lora.path=[a.x,b]", "lora.scale=[1,0.5]", "lora.name=[one,two]"], [("a.x", 1.0, "one"), ("b", 0.5, "two")]),
        (["lora.path=[a,b]"], [("a", 1.0, "a"), ("b", 1.0, "b")]),
        (["lora=[{path: a b, scale: 2},{path: c/d.x, name: 3}]"], [("a b", 2.0, "a b"), ("c/d.x", 1.0, "3")]),
        (["lora=[{path: a, scale: 2},{path: b}]", "lora.scale=[0,1]"], [("a", 0.0, "a"), ("b", 1.0, "b")]),
    ],
)  # fmt: skip
def test_what_is_asked_for(ask, words, expected):
    config = ask(*words).config.lora
    assert [(one.path, one.scale, one.name) for one in loras(config)] == expected
    assert list(flaws(config)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["lora.path=[a,b]", "lora.scale=0.5"], "1 for 2 LoRAs, and each needs one; type 'lora.scale=[0.8,0.8]'"),
        (["lora.path=a", "lora.scale=[1,2]"], "lora.scale=[1,2]: 2 for 1 LoRAs"),
        (["lora.path=a", "lora.scale=[1,x]"], "lora.scale=x: must be a number; type lora.scale=1"),
        (["lora.path=a", "lora.scale=true"], "lora.scale=True: must be a number"),
        (["lora.path=a", "lora.scale=much"], "lora.scale=much: must be a number"),
        (["lora.path=[a,b]", "lora.name=x"], "lora.name=x: 1 for 2 LoRAs"),
        (["lora.path=[a,b]", "lora.name=[x,x]"], "lora.name=x: is given to two LoRAs"),
        (["lora.path=a", "lora.name=x/y"], "up to 64 letters"),
        (["lora.path=[a,a]"], "lora.path=a: is given twice"),
        (["lora.name=x"], "lora.name=x: names a LoRA, and none is given"),
        (["lora.fuse=true"], "lora.fuse=true: fuses a LoRA, and none is given"),
        (["lora=[{path: a}]", "lora.path=b"], "lora.path=b: lora=[...] gives its LoRAs a path each; leave one out"),
        (["lora=[]"], "must be a list of LoRAs, at least one"),
        (["lora=[a]"], "item 1 must have a path"),
        (["lora=[{path: a},{scale: 1}]"], "item 2 has no path"),
        (["lora=[{path: a, weight: 1}]"], "unknown key, weight; it may have path, scale and name; type 'lora=[{path"),
        (["lora=[{path: a, scale: null}]"], "empty scale"),
        (["lora=[{path: a, scale: x}]"], "lora.scale=x: must be a number"),
    ],
)
def test_what_is_refused(ask, words, told):
    config = ask(*words).config.lora
    assert told in str(next(iter(flaws(config))))
    assert loras(config) == ()


def test_records_have_one_spelling(ask):
    stack = ask("lora=[{path: a, scale: 2},{path: b}]").config.lora
    lists = ask("lora.path=[a,b]", "lora.scale=[2,1]").config.lora
    kept = {"path": "[a,b]", "scale": [2.0, 1.0], "name": "[a,b]", "fuse": False, "stack": None}
    assert settings(stack) == settings(lists) == kept
    assert settings(ask("lora=[{path: a}]").config.lora) == kept | {"path": "a", "scale": 1.0, "name": "a"}
    assert loras(lists)[1] == Lora("lora.path[1]", "b", 1.0, "b")


def test_a_sweep_takes_lists_of_each(composer):
    words = ["lora=[{path: a}],[{path: b},{path: c}]", "lora.scale=1,0.5"]
    composer.check_words(words, sweep=True)
    jobs = composer.jobs(composer.compose(words, sweep=True), words)
    assert jobs[1] == ["lora.stack=[{path:a}]", "lora.scale=0.5"]
    assert len(jobs) == 4
    with pytest.raises(Refused, match="a single run takes one value"):
        composer.check_words(words, sweep=False)
