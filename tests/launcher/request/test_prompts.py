"""What someone types or writes into a file is what the ranks are told, whatever the characters."""

import json
import shlex
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared import LAPTOP

from launcher.cli import sweep
from launcher.config.compose import Composer, to_config
from launcher.config.text import quoted
from launcher.estimates.notes import notes
from launcher.estimates.ways import resolve
from launcher.records.run_dir import RunDir
from launcher.running.message import job_message
from launcher.running.planning import jobs_of
from launcher.running.sweep import Sweep, notes_on_prompts
from launcher.wire.jobs import Job
from launcher.wire.messages import pack, unpack
from launcher.wire.protocol import FROM_LAUNCHER

COMPOSER = Composer()
HARD = [
    "a cat, sitting (on a mat) [in] {the} sun",
    "it's \"quoted\" 'twice', and = : ~ + # % ! $HOME `x`",
    "two\nlines\r\nand a tab\t",
    "日本語の文、ελληνικά, العربية, हिन्दी",
    "👩‍🚀 in 🚀, é in two parts: e\u0301",
    "${height} ${oc.env:HOME} \\${x} $${ ${",
    "back\\slash, end\\",
    "  spaces  ",
    "null",
    "1, 2",
    "",
]
anything = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")) | st.text("\\\"'${},a ")


def told(words: list[str]) -> list[str]:
    """The prompts that ranks are told, for a command line."""
    COMPOSER.check_words(words, sweep=False)
    request = resolve(to_config(COMPOSER.compose(words)), LAPTOP)
    job = unpack(pack(job_message(request, RunDir(Path("nowhere")))), FROM_LAUNCHER)
    assert isinstance(job, Job)
    return [job.prompts[picture.prompt] for picture in job.pictures]


@pytest.mark.slow
@pytest.mark.parametrize("prompt", HARD)
def test_a_quoted_prompt_reaches_the_ranks_as_typed(prompt):
    (word,) = shlex.split(shlex.quote(f"prompt={quoted(prompt)}"))
    assert told([word]) == [prompt]


@pytest.mark.slow
@pytest.mark.parametrize("prompt", [*HARD[:-1], "\n\nlast line stays\n"])
def test_a_prompt_file_reaches_the_ranks_as_written(prompt, tmp_path):
    (tmp_path / "one.txt").write_bytes((prompt + "\n").encode())
    (tmp_path / "many.json").write_text(json.dumps([prompt, "b"]), encoding="utf-8")
    assert told([f"prompt_file={tmp_path / 'one.txt'}"]) == [prompt]
    assert told([f"prompt_file={tmp_path / 'many.json'}"]) == [prompt, "b"]


@pytest.mark.slow
@settings(max_examples=40)
@given(prompt=anything)
def test_quoting_keeps_any_text(prompt):
    word = f"prompt={quoted(prompt)}"
    COMPOSER.check_words([word], sweep=False)
    assert to_config(COMPOSER.compose([word])).prompt == prompt


def opening(words: list[str]) -> str:
    """The first lines of a sweep."""
    jobs, _ = jobs_of(COMPOSER.compose(words, sweep=True), words, COMPOSER, LAPTOP)
    return sweep.opening(Sweep(jobs), Path("folder"), notes_on_prompts(Sweep(jobs), words))


@pytest.mark.slow
def test_under_m_a_comma_in_a_prompt_is_not_silent():
    said = opening(["prompt=a cat, sitting"])
    assert "2 jobs: prompt (a cat, sitting)" in said
    assert "the commas make 2 values of prompt; for a single one type 'prompt=\"a cat, sitting\"'" in said
    assert opening(['prompt="a cat, sitting"', "seed=1,2"]).splitlines()[0] == "sweep      2 jobs: seed (1, 2)"
    assert "1 job" in opening(['prompt="a cat, sitting"'])


def test_a_prompt_that_is_not_read_to_its_end_is_told(ask):
    """As many tokens as the model's own tokenizer counts; a note, for the picture can be made."""
    from transformers import AutoTokenizer

    from launcher.families.weights import BUNDLED

    tokenizer = AutoTokenizer.from_pretrained(BUNDLED / "tokenizer_2")
    fits, long = "red dots " * 255, "red dots on white, " * 130
    count = len(tokenizer(long).input_ids)
    assert len(tokenizer(fits).input_ids) == 511
    assert count > 512
    assert notes(ask(f"prompt={quoted(fits)}")) == []
    (note,) = notes(ask(f"prompt={quoted(long)}"))
    assert note == f"the prompt has {count} tokens and flux_tiny reads the first 512; shorten it"
    (note,) = notes(ask(f"prompt={quoted('red dots ' * 20)}", "model.text_tokens=16"))
    assert note.endswith("has 41 tokens and flux_tiny reads the first 16; shorten it, or type model.text_tokens=41")
