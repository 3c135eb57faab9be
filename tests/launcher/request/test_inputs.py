"""What is read before a request is resolved."""

import builtins
import json
import os
import secrets

import pytest
from shared import GPUS

from launcher import machines
from launcher.config.compose import to_config
from launcher.estimates.notes import notes
from launcher.estimates.ways import resolved
from launcher.request.inputs import read


@pytest.mark.slow
def test_a_seed_is_drawn_once_and_a_given_one_is_kept(ask):
    assert ask("seed=7").seed == 7
    assert 0 <= ask().seed < 2**32
    assert ask().seed != ask().seed


@pytest.mark.slow
def test_the_prompt_is_the_models_own_unless_given(ask, tmp_path):
    assert ask().prompts == ("red dots on a yellow background",)
    assert ask("prompt=green waves").prompts == ("green waves",)
    odd = 'a "cat", (sitting) {here}\non = two lines, ünï ☃ 猫 🐈'
    (tmp_path / "one.txt").write_text(odd + "\n", encoding="utf-8")
    assert ask(f"prompt_file={tmp_path / 'one.txt'}").prompts == (odd,)
    (tmp_path / "many.json").write_text(json.dumps(["one", odd]), encoding="utf-8")
    assert ask(f"prompt_file={tmp_path / 'many.json'}").prompts == ("one", odd)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.txt", None, "can't be read (No such file or directory)"),
        ("binary.txt", b"\xff\xfe\x00a", "is not UTF-8"),
        ("broken.json", b"[", "is not valid JSON"),
        ("nothing.txt", b"", "holds no text"),
        ("blanks.txt", b" \r\n\n", "holds no text"),
        ("number.json", b"[1]", "must be a list of strings"),
        ("empty.json", b"[]", "must be a list of strings"),
        ("large.txt", b"a" * 2_000_000, "is 2000000 bytes long"),
        ("deep.json", b"[" * 100_000, "is not valid JSON"),
    ],
)
def test_a_prompt_file_that_cannot_be_used_is_a_problem(ask, tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    (problem,) = ask(f"prompt_file={tmp_path / name}").problems
    assert said in problem.rule
    assert problem.instead


def test_a_prompt_from_standard_input_is_told_how(ask, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("-", tmp_path / "pipe"):
        (problem,) = ask(f"prompt_file={name}").problems
        assert problem.instead == 'type prompt="$(cat)" to take it from standard input'


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_a_prompt_file_that_is_none_is_told_at_once(ask, tmp_path, make):
    make(tmp_path / "p.txt")
    (problem,) = ask(f"prompt_file={tmp_path / 'p.txt'}").problems
    assert "not a regular file" in problem.rule


def test_resolving_reads_nothing(composer, monkeypatch, tmp_path):
    """From inputs that were read before, a request follows without a file, a clock or chance."""
    config = to_config(composer.compose(["model=qwenimage", "cp=auto", f"prompt_file={tmp_path / 'p.txt'}"]))
    (tmp_path / "p.txt").write_text("a cat")
    inputs = read(config)
    (tmp_path / "p.txt").unlink()
    for name in ("open", "stat", "scandir"):
        monkeypatch.setattr(os, name, None)
    monkeypatch.setattr(secrets, "randbelow", None)
    monkeypatch.setattr(builtins, "open", None)
    machines.presets()  # conf/machine is part of the program, read once
    first = resolved(config, inputs, GPUS)
    assert first == resolved(config, inputs, GPUS)
    assert first.prompts == ("a cat",)


@pytest.mark.slow
def test_a_file_that_looks_like_several_prompts_is_noted(ask, tmp_path):
    (tmp_path / "p.txt").write_text("a cat\n\na dog\n")
    (tmp_path / "p.jsonl").write_text('{"prompt": "a cat"}\n')
    (tmp_path / "one.txt").write_text("a cat\n")
    (note,) = notes(ask(f"prompt_file={tmp_path / 'p.txt'}"))
    assert note.startswith("prompt_file=p.txt has 2 lines and is one prompt")
    (note,) = notes(ask(f"prompt_file={tmp_path / 'p.jsonl'}"))
    assert ".json" in note
    assert notes(ask(f"prompt_file={tmp_path / 'one.txt'}")) == []
