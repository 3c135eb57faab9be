"""Hostile YAML in a folder of the user's own is named, at once."""

import os
import time

import pytest

from launcher.config.compose import Composer
from launcher.config.yaml_files import MAX_NODES, MAX_YAML, check
from launcher.problems import Refused
from launcher.reading import UnreadableError

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, f"grows to more than {MAX_NODES} values"),
        ("a: &x [1, *x]", "refers to itself"),
        ("a: &x {b: {c: *x}}", "refers to itself"),
        ("x" * (MAX_YAML + 1), "bytes long"),
        (b"\xff\xfe\xff", "is not UTF-8"),
    ],
)
def test_what_is_refused_before_it_is_loaded(tmp_path, text, said):
    (tmp_path / "x.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UnreadableError, match=said):
        check(tmp_path / "x.yaml")


@pytest.mark.parametrize("text", ["a: 1", "a: &x [1, 2]\nb: *x\nc: {<<: {d: *x}}", "", "- &a 1\n- *a", "*unknown"])
def test_what_is_let_through(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    check(tmp_path / "x.yaml")


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "steps: 0x_",
        "steps: !!int ''",
        "name: !!bool x",
        "name: !!timestamp x",
        "defaults: 3",
        "defaults: [{a: 1, b: 2}]",
        "defaults: [{null: 1}]",
        "steps: " + "1" * 5000,
        "# @package a b",
        "name: &x [*x]",
        "name: " + "[" * 5000,
        "name: ${.name}",
        "steps: ${model.height}\nheight: ${model.steps}",
        "*unknown",
        "a: [",
        "- 1",
        "3",
        "name: !!python/object/apply:os.system [exit]",
        "x" * (MAX_YAML + 1),
    ],
)
def test_a_model_of_the_users_own_that_is_hostile(tmp_path, text):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(text)
    began = time.process_time()
    with pytest.raises(Refused) as refused:
        from launcher.config.compose import to_config

        to_config(Composer(str(tmp_path)).compose(["model=mine"]))
    assert time.process_time() - began < 5
    assert all(problem.rule and problem.instead for problem in refused.value.problems)


def test_what_is_no_file_is_no_option(tmp_path):
    (tmp_path / "model" / "folder.yaml").mkdir(parents=True)
    os.mkfifo(tmp_path / "model" / "pipe.yaml")
    composer = Composer(str(tmp_path))
    for name in ("pipe", "folder"):
        with pytest.raises(Refused):
            composer.check_words([f"model={name}"], sweep=False)
            composer.compose([f"model={name}"])


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_file_of_windows_is_read_with_its_first_line(tmp_path, ends, encoding):
    """Hydra takes what is behind a byte order mark for no `# @package`."""
    (tmp_path / "experiment").mkdir()
    lines = ["# @package _global_", "height: 128", "prompt: a dog", ""]
    (tmp_path / "experiment" / "mine.yaml").write_bytes(ends.join(lines).encode(encoding))
    composed = Composer(str(tmp_path)).compose(["experiment=mine"])
    assert (composed.height, composed.prompt) == (128, "a dog")


def test_a_line_that_is_no_yaml_is_named_without_this_machines_folders(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\n\theight: 128\n")
    with pytest.raises(Refused) as refused:
        Composer(str(tmp_path)).compose(["experiment=mine"])
    (problem,) = refused.value.problems
    assert (problem.value, problem.instead) == ("experiment/mine.yaml: line 2", "indent with spaces")
    assert str(tmp_path) not in str(problem)


@pytest.mark.filterwarnings("ignore:Support for .yml")
def test_a_file_that_hydra_lists_and_does_not_read_is_told_as_that(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yml").write_text("# @package _global_\nheight: 128\n")
    composer = Composer(str(tmp_path))
    composer.check_words(["experiment=mine"], sweep=False)
    with pytest.raises(Refused, match=r"its file ends with \.yml") as refused:
        composer.compose(["experiment=mine"])
    assert refused.value.problems[0].instead == "rename it to mine.yaml"
