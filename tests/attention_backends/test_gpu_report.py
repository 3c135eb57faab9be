"""The README's figures of a GPU are those that a run on one wrote, and say so where the code has changed since."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from gpu import report

ROOT = Path(__file__).parent.parent.parent
FOUND = json.loads((report.PACKAGE / "gpu.json").read_text(encoding="utf-8"))


def test_the_readme_has_the_figures_of_the_last_run():
    page = (report.PACKAGE / "README.md").read_text(encoding="utf-8")
    assert report.readme(page, FOUND, report.sources()) == page, "run python tests/gpu/report.py"


def test_other_sources_than_those_that_ran_are_told():
    told = f"Not run on CUDA since commit {FOUND['commit']}"
    assert told in report.tables(FOUND, "other sources")
    assert told not in report.tables(FOUND, FOUND["sources"])


def test_the_digest_is_of_names_and_contents(tmp_path):
    (tmp_path / "a.py").write_text("1")
    first = report.sources(tmp_path)
    (tmp_path / "note.md").write_text("2")
    assert report.sources(tmp_path) == first
    (tmp_path / "a.py").write_text("2")
    second = report.sources(tmp_path)
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert len({first, second, report.sources(tmp_path)}) == 3


def test_nothing_that_went_wrong_is_left_out():
    found = report.Report(0.0)
    found.check("size", "FLUX, 1 of 2: a step", 12.345678, unit="ms")
    found.check("size", "FLUX, 1 of 2: plan off by", 0.2, 0.1)
    found.check("kernels", "auto float32, mask full: out", float("nan"), 1e-6)
    found.check("kernels", "auto float32, causal: out", 1e-7, 1e-6)
    found.tests |= {"a": "passed", "b": "failed: it broke", "c": "skipped: no card", "d": report.NOT_RUN}
    told = {"date": "2026-01-01T00:00", "commit": "abc", "sources": "s", "seconds": 1.0, "device": "a card"}
    told |= {
        "memory_gib": 80.0,
        "driver": "1",
        "versions": dict.fromkeys(("torch", "cudnn", "triton", "diffusers"), "2"),
    }
    page = report.tables({**told, "tests": found.tests, "checks": found.checks}, "s")
    assert "Tests: 1 passed, 1 failed, 1 skipped, 1 not run." in page
    for said in ("b: failed: it broke", "Skipped: no card", "d: not run", "plan off by: 0.2 (0.1)", "out: nan (1e-06)"):
        assert said in page
    assert "| FLUX, 1 of 2 | 12.3 | 0.2 |" in page


def test_the_worst_of_a_line_is_shown():
    checks = [{"row": "a", "name": "out", "figure": figure, "unit": ""} for figure in (1.0, 3.0, 2.0)]
    assert report.pivot(checks, "of")[-1] == "| a | 3 |"
    checks.append({"row": "a", "name": "out", "figure": float("nan"), "unit": ""})
    assert report.pivot(checks, "of")[-1] == "| a | nan |"


@pytest.mark.parametrize("figure", [float("nan"), float("inf")])
def test_what_is_no_number_is_above_every_limit(figure):
    found = report.Report(0.0)
    found.check("kernels", "a: out", figure, 1.0)
    assert not found.checks[0]["passed"]


@pytest.mark.slow
def test_without_a_gpu_the_reason_is_told_and_the_figures_stay(tmp_path):
    kept = tmp_path / "gpu.json"
    kept.write_text("{}")
    words = ["-m", "pytest", "--confcutdir=tests/gpu", "tests/gpu", "--report", str(kept), "-p", "no:cacheprovider"]
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, *words], cwd=ROOT, env=hidden, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "No check ran: needs a " in ended.stdout
    assert kept.read_text() == "{}"
