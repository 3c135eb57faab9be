"""`python -m launcher`: the exit code is the command line's."""

import signal
import subprocess
import sys

import pytest
from shared import ROOT, command, hermetic

from launcher import __main__ as entry
from launcher.cli.main import SIGNALS


@pytest.mark.slow
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


INTERRUPTED = """
import os, signal, sys
import launcher.__main__ as entry
class Interrupt:
    def find_spec(self, name, *_):
        if name == "launcher.cli.main":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
entry.main()
"""


def test_a_ctrl_c_while_the_program_is_imported_prints_nothing():
    ended = subprocess.run([sys.executable, "-c", INTERRUPTED], cwd=ROOT, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, b"", b"")


@pytest.mark.slow
def test_modules_of_the_current_folder_are_none_of_ours(tmp_path):
    """`python -m` looks there first."""
    for module in ("queue", "json", "signal", "yaml", "typing", "dataclasses", "logging", "hydra", "__future__"):
        (tmp_path / f"{module}.py").write_text(f"raise SystemExit('{module}.py of the current folder')")
    for words in (command("height"), [sys.executable, "-mlauncher", "height"]):
        ended = subprocess.run(words, cwd=tmp_path, env=hermetic(), capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr[:9]) == (1, "launcher:")


def test_a_package_of_the_current_folder_that_uses_the_launcher_keeps_its_folder(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("import launcher")
    (tmp_path / "mine" / "__main__.py").write_text("import beside")
    (tmp_path / "beside.py").write_text("print('found')")
    words = [sys.executable, "-m", "mine", "launcher"]
    ended = subprocess.run(words, cwd=tmp_path, env=hermetic(), capture_output=True, text=True, check=True)
    assert ended.stdout == "found\n"


@pytest.mark.slow
def test_what_a_library_warns_of_is_not_on_the_screen(tmp_path):
    """With PYTHONWARNINGS=error it would be a failure; a name that the hub's library has given up is one."""
    odd = hermetic(PYTHONWARNINGS="error", HF_HUB_ENABLE_HF_TRANSFER="1", HF_HUB_OFFLINE="1")
    words = command("model.path=a/b")
    ended = subprocess.run(words, cwd=tmp_path, env=odd, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr[:27]) == (1, "launcher: model.path=a/b: n")
