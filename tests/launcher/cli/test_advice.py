"""Advice works when it is typed: every setting that golden_refusals.txt tells to type exists and takes that value.

What an answer advises is put into the line that it answers, and the same complaint must not come again.
"""

from __future__ import annotations

import re
import shlex

import pytest
from shared import GPUS, LAPTOP

from launcher import machines
from launcher.cli import subcommands
from launcher.cli.commands import run
from launcher.config.compose import Composer
from launcher.problems import Problem, Refused
from launcher.rules import problems
from launcher.running.session import Session

from .test_golden import GOLDEN, read

pytestmark = pytest.mark.slow

# Other subcommands have words of their own, such as the filters of `runs`.
OTHERS = tuple(f"python -m launcher {name}" for name in set(subcommands.names()) - {"run", "plan", "check"})
ENTRIES = {
    entry: said
    for entry, said in read(GOLDEN.read_text(encoding="utf-8")).items()
    if not f"{entry} ".startswith(tuple(f"{start} " for start in OTHERS))
}
SETTING = re.compile(r"'[\w./]+=(?:[^']|'\"'\"')*'|[\w./]+=\"[^\"]*\"|[\w./]+=\[[^\]]*\]|[\w./]+=[^\s,'\"]+")
PLACEHOLDER = re.compile(r"[A-Z]+(,[A-Z]+)*|\[?\.\.\.\]?")


def line_of(entry: str) -> tuple[list[str], machines.Machine, bool, bool]:
    """A golden line's settings, its machine, and whether it is a sweep or a plan."""
    words = shlex.split(entry, comments=True)[3:]
    machine = GPUS if "# with four GPUs" in entry else LAPTOP
    settings = [word for word in words if word not in ("-m", "plan") and not word.startswith("--")]
    return settings, machine, "-m" in words, "plan" in words


def told(said: str) -> list[tuple[str, list[str]]]:
    """Each complaint and the alternatives that are advised: settings to type."""
    found = []
    for match in re.finditer(r"^launcher: (.*)\n {10}(.*)$", said, re.MULTILINE):
        found.append((match[1], [word.strip("'") for word in SETTING.findall(match[2])]))
    return found


def complaints(words: list[str], machine: machines.Machine, plan: bool, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(machines, "here", lambda: machine)
    try:
        _, request = Session(COMPOSER).resolve(words)
    except Refused as refused:
        return [f"{problem.value}: {problem.rule}" for problem in refused.problems]
    return [f"{problem.value}: {problem.rule}" for problem in problems(request, plan)]


COMPOSER = Composer()
ADVISED = [(entry, *advice) for entry, said in ENTRIES.items() for advice in told(said) if advice[1]]


def test_there_is_advice():
    assert len(ADVISED) > 60


@pytest.mark.parametrize(("entry", "complaint", "advised"), ADVISED, ids=lambda value: str(value)[:60])
def test_advice_can_be_typed(monkeypatch, tmp_path, entry, complaint, advised):
    monkeypatch.chdir(tmp_path)
    words, machine, sweep, plan = line_of(entry)
    for word in advised:
        key, _, value = word.partition("=")
        if PLACEHOLDER.fullmatch(value.strip('"')):
            word = f"{key}=1"
            COMPOSER.check_words([word], sweep=False)
            continue
        COMPOSER.check_words([word], sweep=True)
        if sweep or "machine" in key:
            continue
        asked = complaint.partition(": ")[0]
        kept = [each for each in words if each.partition("=")[0] != key and each != asked]
        again = complaints([*kept, word], machine, plan, monkeypatch)
        assert complaint not in again, (word, again)


def test_the_line_that_works_on_this_machine_is_legal(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    lines = {
        line for said in ENTRIES.values() for line in re.findall(r"^  (python -m launcher .*)$", said, re.MULTILINE)
    }
    assert lines
    for line in lines:
        words, machine, _, _ = line_of(line)
        monkeypatch.setattr(machines, "here", lambda machine=machine: machine)
        assert problems(Session(COMPOSER).resolve(words)[1]) == []


def test_options_that_are_advised_exist():
    parser = run._parser()
    for said in ENTRIES.values():
        for option in re.findall(r"type (-[\w-]+)", said):
            assert option in parser.options(), option


def test_a_problem_of_the_tests_own_would_be_seen(monkeypatch, tmp_path):
    """The check can fail: advice that repeats the fault is found."""
    monkeypatch.chdir(tmp_path)
    bad = Problem("height=0", "must be at least 1", "type height=0")
    assert f"{bad.value}: {bad.rule}" in complaints(["height=0"], LAPTOP, False, monkeypatch)
