"""Text reaches the model as it was typed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.config.compose import Composer, to_config
from launcher.config.text import as_typed, fields, is_text, parsed, quoted

COMPOSER = Composer()
AS_THEY_STAND = [
    "a cat!",
    "café",
    "猫が座っている",
    "🦄 in space",
    "a cat, sitting",
    "a (cat",
    "a {cat} [on] a 'mat'",
    "1_1_1",
    "1.10",
    "1e5",
    "true",
    "nan",
    "  spaces  ",
    "a\\,b",
    "${height}",
    "range(1,3)",
    "x=y: z #1 @a|b 100%",
    "two\nlines",
    "???",
    "\"a\" and 'b'",
    "",
]


@pytest.mark.slow
@pytest.mark.parametrize("text", AS_THEY_STAND)
def test_a_prompt_of_a_single_run_is_taken_as_it_stands(text):
    words = [f"+prompt={text}", f"negative_prompt={text}"]
    COMPOSER.check_words(words, sweep=False)
    config = to_config(COMPOSER.compose(words))
    assert (config.prompt, config.negative_prompt) == (text, text)
    assert as_typed(words, sweep=False)[0] == f"+{as_typed([f'prompt={text}'], sweep=False)[0]}"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_prompt(text):
    (word,) = as_typed([f"prompt={text}"], sweep=False)
    override = parsed(word)
    assert override is not None
    if not (text.lower() == "null" or (len(text) > 1 and text[0] == text[-1] and text[0] in "'\"")):
        assert override.value() == text.replace("${", "\\${") or "${" in text
    assert as_typed([word], sweep=False) == [word]


def test_hydras_quotes_still_work():
    for word in ['prompt="a cat, sitting"', "prompt='a cat, sitting'"]:
        assert to_config(COMPOSER.compose([word])).prompt == "a cat, sitting"
    assert to_config(COMPOSER.compose(["prompt=null"])).prompt is None


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("output.dir=1.10", "1.10"),
        ("output.dir=2024_01_01", "2024_01_01"),
        ("model.revision=12e4", "12e4"),
        ("model.path=my (models)", "my (models)"),
        ("output.dir=[a]", "[a]"),
        ("machine.capability=9.0", "9.0"),
        ("output.dir=${model.name}", "flux_tiny"),
        ("model.revision=null", None),
    ],
)
def test_other_text_is_text_too(word, value):
    config = to_config(COMPOSER.compose([word]))
    part, _, name = word.partition("=")[0].partition(".")
    assert getattr(getattr(config, part), name) == value


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "prompts"),
    [
        ("prompt=a cat, sitting", ["a cat", "sitting"]),
        ("prompt=1.10,1_0", ["1.10", "1_0"]),
        ("prompt=1.10", ["1.10"]),
        ("prompt=café,猫", ["café,猫"]),  # Hydra can't read it: one text, and a note says so
        ("prompt='a, b',null", ["a, b", None]),
        ("prompt=choice(a,b)", ["a", "b"]),
    ],
)
def test_in_a_sweep_hydras_commas_hold_where_it_can_read_them(word, prompts):
    master = COMPOSER.compose([word], sweep=True)
    jobs = COMPOSER.jobs(master, [word])
    assert [to_config(COMPOSER.job(master, job, 0)).prompt for job in jobs] == prompts


def test_which_settings_are_text():
    assert {name for name in fields() if is_text(name)} >= {
        "prompt",
        "prompt_file",
        "model.path",
        "output.dir",
        "resume",
    }
    assert not is_text("height")
    assert not is_text("model")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_quoting_is_read_back(text):
    override = parsed(f"prompt={quoted(text)}")
    assert override is not None
    assert override.value() == text or "${" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    "word",
    [
        "prompt=a cat, a dog: big",
        "prompt=a\\,b,c",
        "prompt='x, y',z\\ \\(w\\)",
        "prompt=${model.name},b",
        "prompt=1.10,b",
        "prompt=back\\\\slash,b",
        "negative_prompt=a  b,c",
        "output.dir=my x,b",
    ],
)
def test_the_words_of_a_sweeps_job_mean_the_same_in_a_single_run(word):
    """So the line in a job's run.json makes its picture again."""
    master = COMPOSER.compose([word], sweep=True)
    jobs = COMPOSER.jobs(master, [word])
    assert len(jobs) == 2
    for job in jobs:
        swept, alone = to_config(COMPOSER.job(master, job, 0)), to_config(COMPOSER.compose(job))
        for setting in ("prompt", "negative_prompt", "output"):
            assert getattr(swept, setting) == getattr(alone, setting)
