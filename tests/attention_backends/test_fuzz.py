"""A sample of fuzz.py; the module's own command runs as many cases as one likes."""

import subprocess
import sys

import pytest
from shared import ROOT

from tests.attention_backends.fuzz import draw, wrong


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_random_cases_are_right_or_refused(ranks, seed):
    problems = [f"{case}: {problem}" for case in draw(seed, 25) if (problem := wrong(case, ranks))]
    assert not problems, "\n".join(problems)


@pytest.mark.slow
def test_the_command_repeats_a_case():
    words = ["--seed", "0", "--only", "3"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.attention_backends.fuzz", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "1 cases, 0 wrong\n"
