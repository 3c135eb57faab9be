"""What a rank knows of where it runs, and how it takes the time."""

import subprocess
import sys
import time

import pytest
from shared import ROOT, hermetic

from launcher.worker import surroundings


def test_moments_are_told_by_what_lies_between_them():
    moments = surroundings.Moments()
    assert moments.seconds() == ()
    moments.mark()
    time.sleep(0.02)
    moments.mark()
    moments.mark()
    first, second = moments.seconds()
    assert 0.02 <= first < 1
    assert second < first


def test_only_what_json_holds_is_told_of_a_scheduler():
    class Scheduler:
        config = {"shift": 3.0, "list": [1, None], "_version": "1", "array": object(), "far": float("inf")}  # noqa: RUF012

    class Pipe:
        scheduler = Scheduler()

    told = surroundings.scheduler(Pipe)
    assert (told.name, told.config) == ("Scheduler", {"shift": 3.0, "list": [1, None]})


def test_the_environment_says_how_numbers_are_made():
    found = surroundings.environment("cpu")
    assert found.keys() == {"matmul_precision", "deterministic", "cpu_capability"}
    assert found["deterministic"] == "false"


def test_a_jobs_peak_on_a_gpu_is_counted_from_what_it_needs(monkeypatch):
    """Not run on one: what torch keeps for later tensors goes back before what is reserved counts."""
    calls = []
    monkeypatch.setattr(surroundings.torch.cuda, "is_initialized", lambda: True)
    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(surroundings.torch.cuda, name, lambda name=name: calls.append(name))
    surroundings.reset_peak_memory()
    assert calls == ["empty_cache", "reset_peak_memory_stats"]


@pytest.mark.slow
def test_deterministic_refuses_what_gives_another_result_each_time():
    """In a process of its own, for torch keeps it for all that follows."""
    code = """
import torch
from launcher.worker import surroundings
surroundings.deterministic()
assert surroundings.environment("cpu")["deterministic"] == "true"
assert torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=hermetic(), check=True)
