"""The screen is not the run: what can't be shown is dropped or escaped."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from shared import ROOT

from launcher.cli.terminal import complain, say, show
from launcher.problems import Problem, Refused, RunFailed


def test_a_full_screen_is_given_up():
    with open("/dev/full", "w") as full:
        say("what is good to know", full)
        say("and more", full)
        full.flush()  # goes to the null device now
    say("nowhere", None)
    closed = io.StringIO()
    closed.close()
    say("nowhere", closed)


def test_what_was_asked_for_is_missed(monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(RunFailed, match="standard output can't be written: No space left on device"):
            show("a plan")
        monkeypatch.undo()


@pytest.mark.slow
def test_closed_streams_are_opened_and_other_encodings_escaped():
    code = "import os, sys; from launcher.cli.terminal import prepare, say; prepare(); f = os.open('/dev/null', 0)\n"
    code += "assert f > 2, f\nsay('caf\\xe9 \\u732b', sys.stdout)"
    line = 'exec 0<&- 2>&-; exec "$0" -c "$1"'
    words = ["sh", "-c", line, sys.executable, code]
    ended = subprocess.run(
        words, cwd=ROOT, env=os.environ | {"PYTHONIOENCODING": "ascii"}, stdout=subprocess.PIPE, check=True
    )
    assert ended.stdout == b"caf\\xe9 \\u732b\n"


def test_each_problem_has_its_lines(capsys):
    complain(Refused([Problem("a=1", "is odd", "type a=2"), Problem("b\n", "is worse")], "python -m launcher"))
    complain(RunFailed("rank 0: gone"))
    assert capsys.readouterr().err.splitlines() == [
        "launcher: a=1: is odd",
        "          type a=2",
        "launcher: b\\n: is worse",
        "this works on this machine:",
        "  python -m launcher",
        "launcher: rank 0: gone",
    ]


def test_the_terminal_shows_what_a_session_tells(capsys):
    from launcher.cli.terminal import Terminal
    from launcher.running.sweep import Job, Sweep

    terminal, sweep = Terminal(), Sweep([Job(["seed=1"]), Job(["seed=2"])])
    terminal.opening(sweep, Path("x"), ["a note"])
    terminal.job(sweep, 0)
    terminal.unfinished(Path("x"))
    terminal.table(sweep, {})
    terminal.contact_sheet(Path("x/contact.png"))
    terminal.report(Path("x/report.html"))
    out = capsys.readouterr().out
    for part in (
        "2 jobs: seed (1, 2)",
        "note       a note",
        "[1/2] seed=1",
        "resume=x",
        "nothing was run",
        "contact.png",
        "report: x/report.html",
    ):
        assert part in out
