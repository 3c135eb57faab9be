"""The screen is not the run: a picture is made whatever becomes of its output, and the exit code tells."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from shared import command, hermetic

pytestmark = pytest.mark.slow

SMALL = command("runtime=cpu", "height=32", "width=32", "steps=1", "seed=1", "cp=none")
B = [*SMALL, "prompt=猫 café 🦄", "output.dir=bücher"]


@pytest.mark.parametrize(
    ("redirected", "more"),
    [
        (">/dev/full 2>&-", {}),
        (">&- 2>/dev/full", {"LC_ALL": "C", "PYTHONUTF8": "0"}),
        ("2>&1 >out | true; exit ${PIPESTATUS[0]}", {"PYTHONIOENCODING": "latin-1"}),
    ],
)
def test_a_screen_that_is_full_closed_gone_or_of_few_letters(tmp_path, redirected, more):
    line = f'"$0" "$@" {redirected}'
    ended = subprocess.run(
        ["bash", "-c", line, *B], cwd=tmp_path, env=hermetic(**more), stderr=subprocess.PIPE, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    (record,) = (tmp_path / "bücher").rglob("run.json")
    told = json.loads(record.read_text(encoding="utf-8"))
    assert told["status"] == "done"
    assert told["prompts"] == ["猫 café 🦄"]
    assert (record.parent / "0000.png").exists()
    if Path(tmp_path / "out").exists():
        assert "\\u732b caf\xe9 \\U0001f984" in (tmp_path / "out").read_text(encoding="latin-1")


def test_a_plan_that_nobody_can_read_is_a_failure(tmp_path):
    line = '"$0" "$@" >/dev/full'
    words = ["bash", "-c", line, *command("plan")]
    ended = subprocess.run(words, cwd=tmp_path, env=hermetic(), capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "launcher: standard output can't be written: No space left on device\n"
