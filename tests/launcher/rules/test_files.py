"""Files and folders: weights, a LoRA, where pictures go."""

import shutil

import pytest
from refusals import REFUSALS

from launcher.rules import problems


@pytest.mark.parametrize(("line", "said", "machine"), REFUSALS["files"])
def test_it_is_refused(refuse, line, said, machine):
    refuse(line, said, machine)


def test_a_full_disk_is_seen_before_the_start(ask, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 2 << 20})())
    (problem,) = problems(ask("height=4000", "width=4000"))
    assert problem.rule == "2 MiB are free, and 1 picture may take 62 MiB"
