"""Thousands of random requests, and random bytes wherever bytes can be given: words come back, never a traceback."""

from __future__ import annotations

import collections
import copy
import functools
import json
import os
import string
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shared import GPUS, LAPTOP

from attention_backends.catalog import KERNELS, MODES
from launcher.cli.main import main
from launcher.cli.plan_page import page
from launcher.config.compose import Composer, to_config
from launcher.config.model_schema import TaskConfig
from launcher.config.paths import PICTURES
from launcher.config.schema import LaunchConfig
from launcher.config.text import fields, is_text
from launcher.estimates.plan import plan
from launcher.estimates.ways import resolve
from launcher.machines import Machine
from launcher.problems import Problem, Refused
from launcher.records.run_dir import RunDir
from launcher.rules import problems
from launcher.running.message import job_message

COMPOSER = Composer()
REQUESTS = 2000 if "FAMILY_SAMPLES" in os.environ else 300
few = st.none() | st.integers(1, 4)
numbers = few | st.integers(-2, 9) | st.integers()
sides = st.tuples(st.integers(1, 1500), st.integers(1, 1500))
text = st.text(max_size=20) | st.sampled_from(
    ["", "\0", "{}", "[", "${x}", "a, b", "猫 🐈", "\ud800", "~\0", "~\ud800"]
)


odd_fields = st.lists(st.sampled_from(sorted(fields())), max_size=3)
wild_sides = st.tuples(st.integers(-3, 3000) | st.integers(), st.integers(-3, 3000))
wild = st.tuples(numbers, numbers, numbers, wild_sides, st.sampled_from(sorted(KERNELS)), odd_fields)


@functools.cache
def once(word: str) -> LaunchConfig:
    return to_config(COMPOSER.compose([word]))


def composed(word: str) -> LaunchConfig:
    """The configuration of one word, which the caller may change."""
    return copy.deepcopy(once(word))


def told(found: Sequence[Problem]) -> bool:
    """Whether each problem says what to do."""
    return all(problem.instead for problem in found)


def put(config: LaunchConfig, name: str, value: object) -> None:
    *path, last = name.split(".")
    for part in path:
        config = getattr(config, part)
    setattr(config, last, value)


def value(name: str) -> st.SearchStrategy[object]:
    """Something of a field's type, mostly odd: what a composed configuration may hold."""
    kind = str(fields()[name].type)
    if "Any" in kind and "[" not in kind:  # one or several
        few_of_them = st.lists(st.integers(-1, 9) | st.floats() | text, max_size=4)
        return st.none() | st.integers(-2, 9) | st.integers() | st.floats() | text | few_of_them
    if "TaskConfig" in kind:  # the schema lets nothing else be the value of a key
        needs, none = st.lists(text | st.sampled_from(PICTURES), max_size=2), st.none()
        task = st.builds(TaskConfig, needs, none | text, none | st.floats(), st.integers(-1, 4))
        return st.dictionaries(text, none | task, max_size=2)
    if "dict" in kind:
        return st.none() | st.dictionaries(text, text, max_size=2)
    if "list[str]" in kind:
        return st.lists(text, max_size=2)
    if "list" in kind:
        return st.none() | st.lists(st.integers(-1, 9), max_size=4)
    basic = next(made for type_, made in {
        "bool": st.booleans(), "int": st.integers(-2, 9) | st.integers(), "float": st.floats(), "str": text,
    }.items() if type_ in kind)  # fmt: skip
    return st.none() | basic if "Optional" in kind else basic


@pytest.mark.slow
def test_random_requests_are_legal_or_told_why_not():
    seen = collections.Counter()

    @settings(max_examples=REQUESTS, suppress_health_check=[HealthCheck.too_slow])
    @given(
        data=st.data(),
        model=st.just("flux_tiny") | st.sampled_from(COMPOSER.groups["model"]),
        planned=st.just("here") | st.sampled_from(COMPOSER.groups["machine"]),
        machine=st.sampled_from([LAPTOP, GPUS, Machine(cores=1)]),
        mode=st.sampled_from(["auto", *MODES]),
        asked=st.tuples(few, few, few, sides, st.just("auto"), st.just([])) | wild,
    )
    def check(data, model, planned, machine, mode, asked):
        ring, ulysses, processes, size, kernel, odd = asked
        config = composed(f"model={model}")
        config.machine = composed(f"machine={planned}").machine
        config.cp.mode, config.cp.ring_degree, config.cp.ulysses_degree = mode, ring, ulysses
        config.runtime.processes, (config.height, config.width), config.attention.kernel = processes, size, kernel
        for name in odd:
            put(config, name, data.draw(value(name), label=name))
        request = resolve(config, machine)
        found = problems(request)
        made = plan(request)
        assert told([*found, *made.problems])
        assert made.legal == (not made.problems)
        assert page(made, request, "")
        assert json.dumps(made.asdict())
        seen["run"] += not found
        seen["plan"] += made.legal
        if made.legal:
            assert request.processes in (None, request.mesh.ranks)
            mine = (request.mode, request.mesh.cfg)
            assert [row.legal for row in made.modes if (row.mode, row.mesh.cfg) == mine] == [True]
        if not found:
            assert request.machine.here
            assert job_message(request, RunDir(Path("nowhere"))).sharing.schedule in ("gather", "staged")

    check()
    assert min(seen["run"], seen["plan"] - seen["run"]) > REQUESTS // 100, seen  # else nothing legal was tried


@pytest.mark.parametrize("odd", ["", "\0", "\ud800", "~\0", "~\ud800"])
@pytest.mark.parametrize("model", ["flux_tiny", "flux", "qwenimage"])
@pytest.mark.parametrize("name", sorted(filter(is_text, fields())))
def test_no_text_makes_a_rule_or_the_plan_fail(model, name, odd):
    config = composed(f"model={model}")
    put(config, name, odd)
    request = resolve(config, LAPTOP)
    made = plan(request)
    assert told([*problems(request), *made.problems])
    assert page(made, request, "")


pieces = st.text(string.printable, max_size=12) | text
names = st.sampled_from([*fields(), *COMPOSER.groups, "hydra.run.dir", "x"]) | pieces


@pytest.mark.slow
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.builds("{}{}{}".format, names, st.sampled_from(["=", ":", "+", ""]), pieces), max_size=3))
def test_random_words_are_refused_or_composed(words):
    try:
        COMPOSER.check_words(words, sweep=False)
        found = problems(resolve(to_config(COMPOSER.compose(words)), LAPTOP))
    except Refused as refused:
        found = refused.problems
    assert told(found)


@pytest.mark.slow
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | text.map(lambda said: said.encode("utf-8", "surrogatepass")))
@pytest.mark.parametrize("suffix", [".txt", ".json"])
def test_random_prompt_files_are_read_or_told(tmp_path, suffix, content):
    path = tmp_path / f"prompt{suffix}"
    path.write_bytes(content)
    config = composed("model=flux_tiny")
    config.prompt_file = str(path)
    request = resolve(config, LAPTOP)
    assert bool(request.prompts) != bool(request.problems)
    assert told(request.problems)


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=60)
    | st.builds("{}: {}\n".format, names, pieces).map(lambda said: said.encode(errors="replace"))
)
def test_a_file_of_the_users_with_random_bytes_is_told(tmp_path, content):
    (tmp_path / "model").mkdir(exist_ok=True)
    (tmp_path / "model" / "mine.yaml").write_bytes(content)
    own = Composer(str(tmp_path))
    try:
        found = problems(resolve(to_config(own.compose(["model=mine"])), LAPTOP))
    except Refused as refused:
        found = refused.problems
    assert told(found)


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.text(max_size=10) | st.sampled_from(["-m", "--cfg", "--json", "plan", "-h"]), max_size=4))
def test_random_command_lines_end_in_words(capfd, monkeypatch, tmp_path, words):
    monkeypatch.chdir(tmp_path)
    words = [*words, "steps=0"]  # nothing here is to run
    assert main(words) in (0, 1)
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    assert "internal error" not in err
