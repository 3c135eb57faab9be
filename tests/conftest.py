"""Fixtures for all tests: the launcher as a user runs it, and resolved requests."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
from shared import LAPTOP, Ended, command, hermetic, validated

from launcher.config.compose import Composer, to_config
from launcher.estimates.ways import resolve
from launcher.machines import Machine
from launcher.request.request import Request

Launch = Callable[..., Ended]  # of words, `timeout` in seconds and variables of the environment
Ask = Callable[..., Request]  # of words and a `machine`

# A shell that starts the tests in the background has SIGINT ignored in them, and in all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Timings are no assertions; and a change is judged by what it changes, not by what is drawn: --hypothesis-seed=N draws.
hypothesis.settings.register_profile("same", deadline=None, derandomize=True)
hypothesis.settings.register_profile("drawn", deadline=None)
hypothesis.settings.load_profile("same")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("hypothesis_seed") is not None:
        hypothesis.settings.load_profile("drawn")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/launcher/cli/golden_refusals.txt anew")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none; torch is asked only if there is such a test."""
    need_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if need_gpu:
        import torch

        if not torch.cuda.is_available():
            for item in need_gpu:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    """Run the launcher in a folder of its own and wait for it."""

    def run(*words: str, timeout: float = 240, **env: str) -> Ended:
        result = subprocess.run(
            command(*words),
            cwd=tmp_path,
            env=hermetic(**env),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        validated(tmp_path)
        return Ended(result.returncode, result.stdout, result.stderr, tmp_path / "outputs")

    return run


@pytest.fixture(scope="session")
def composer() -> Composer:
    return Composer()


@pytest.fixture
def ask(composer: Composer) -> Ask:
    """The resolved request for some words of a command line, on a machine of one's choice."""

    def resolved(*words: str, machine: Machine = LAPTOP) -> Request:
        return resolve(to_config(composer.compose(list(words))), machine)

    return resolved
