"""What a script may use of this package, and that importing it costs nothing."""

import subprocess
import sys

import pytest

import launcher
from launcher import problems, version


def test_a_script_finds_what_it_needs():
    assert launcher.__version__ == version.__version__
    for name in set(launcher.__all__) - {"__version__"}:
        assert getattr(launcher, name).__name__ == name
    assert launcher.Refused is problems.Refused
    assert issubclass(launcher.RunFailed, launcher.LauncherError)


def test_another_name_is_answered_with_those_that_are_there():
    with pytest.raises(AttributeError, match="Pool"):
        launcher.Pol  # noqa: B018


def test_importing_it_imports_nothing_else():
    code = "import sys, launcher; sys.exit(bool({'hydra', 'omegaconf', 'PIL', 'torch'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_plan_from_python():
    planned = launcher.plan("machine=h100x8", model="flux", height=1000, prompt="1_1_1")
    assert planned.rendered.height == 1008
    with pytest.raises(launcher.Refused, match="type height=1"):
        launcher.plan(heigth=1)
