"""Odd environments: what has nothing to do with a run does not disturb it, and what ends it is told by its cause."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from pathlib import Path

import pytest
from shared import Ended, cause, command, hermetic

pytestmark = pytest.mark.slow
SMALL = ["cp=ring_anything", "cp.ring_degree=2", "runtime=cpu", "height=64", "width=64", "steps=1", "seed=1"]


@functools.cache
def nobody() -> list[str]:
    """Starts a command as a user without a name, where the system lets one do so."""
    line = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]
    try:
        subprocess.run([*line, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return line


@pytest.fixture
def odd(tmp_path):
    """Run the launcher in an environment with everything odd in it that has nothing to do with the run."""

    def run(*words: str, **env: str) -> Ended:
        hub, temporary, here = tmp_path / "hub", tmp_path / ("x" * 150), tmp_path / "here"
        (hub / "accelerate").mkdir(parents=True)
        (hub / "accelerate" / "default_config.yaml").write_text("no_key_of_accelerates: 1\n")
        for folder in (temporary, here):
            folder.mkdir()
        for module in ("queue", "random", "torch"):
            (here / f"{module}.py").write_text(f"raise SystemExit('the {module}.py of the current folder')")
        environment = hermetic(HF_HOME=str(hub), TMPDIR=str(temporary), PYTHONIOENCODING="ascii", **env)
        for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME"):
            environment.pop(name, None)
        line = [*nobody(), *command(*SMALL, *words)]
        ended = subprocess.run(
            line, cwd=here, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert list(temporary.iterdir()) == []
        assert not {path.name for path in here.iterdir()} - {"outputs", "queue.py", "random.py", "torch.py"}
        return Ended(ended.returncode, ended.stdout, ended.stderr, here / "outputs")

    return run


def record(ended: Ended) -> dict[str, object]:
    (run,) = ended.runs
    found: dict[str, object] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return found


def test_what_has_nothing_to_do_with_a_run_does_not_disturb_it(odd):
    """No home, no name, the user's own accelerate, a long TMPDIR, an ASCII terminal, modules in the current folder."""
    ended = odd()
    assert ended.code == 0, ended.err
    assert record(ended)["status"] == "done"


def test_a_network_device_that_is_not_there_is_told_as_that(odd):
    """Rank 1 is ended by the starting process, and is not to blame."""
    ended = odd(GLOO_SOCKET_IFNAME="eth9")
    assert ended.code == 1
    assert "Unable to find address for: eth9" in cause(ended.err)
    assert record(ended)["status"] == "failed"
    assert "Unable to find address for: eth9" in str(record(ended)["error"])
    log = cause(ended.err).rsplit("(log: ", 1)[1].rstrip(")")
    assert "eth9" in (ended.folder.parent / log).read_text()
    assert not os.path.exists(Path(ended.folder).parent / "~")
