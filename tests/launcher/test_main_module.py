"""`python -m launcher`: the exit code is the command line's."""

import signal
import subprocess

import pytest
from shared import command, hermetic

from launcher import __main__ as entry
from launcher.cli.main import SIGNALS


def test_the_exit_code_is_passed_on():
    assert subprocess.run(command("height"), env=hermetic(), capture_output=True, check=False).returncode == 1


def test_nothing_interrupts_the_end(monkeypatch):
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    monkeypatch.setattr("launcher.cli.main.main", lambda: 7)
    try:
        with pytest.raises(SystemExit) as ended:
            entry.main()
        assert ended.value.code == 7
        assert all(signal.getsignal(signum) == signal.SIG_IGN for signum in SIGNALS)
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
