"""The self-check with real ranks: a right plan passes it, a wrong one ends the run before a picture is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from shared import LAPTOP, cause
from warm import Warm

from launcher.config.compose import Composer, to_config
from launcher.estimates.ways import resolve
from launcher.problems import RunFailed
from launcher.records.record import Check, read_record
from launcher.records.run_dir import RunDir
from launcher.running.job import Crew, execute

pytestmark = pytest.mark.slow

WORDS = ["cp=ring_anything", "cp.ring_degree=2", "runtime=cpu", "height=40", "width=48", "steps=3", "seed=1"]
WORDS += ["model.text_tokens=24"]
SMALL = dataclasses.replace(LAPTOP, free_gib=0.01)  # one rank alone does not fit
# Attention of one block that goes over no other rank: a plan that draws another picture.
WRONG = "defaults: [flux_tiny, _self_]\nname: wrong\ncp_plan:\n  local: [transformer_blocks.0.attn]\n"


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    (folder / "model").mkdir()
    (folder / "model" / "wrong.yaml").write_text(WRONG, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def warm(tmp_path_factory) -> Iterator[Warm]:
    group = Warm(tmp_path_factory.mktemp("warm"), "trusting")
    yield group
    group.close()


def check(warm: Warm, own: Path, *words: str, machine=LAPTOP) -> tuple[Check | None, Path, str]:
    """What is recorded of a check, the run's folder, and the error if there is one."""
    config = to_config(Composer(str(own)).compose([*WORDS, "check=true", *words]))
    run_dir = RunDir(warm.folder / str(next(warm.count)))
    error = ""
    try:
        execute([Crew(resolve(config, machine), warm.ranks)], run_dir, [], only_check=True)
    except RunFailed as failed:
        error = str(failed)
    record = read_record(run_dir.path_of_record)
    assert (record.status == "failed") == bool(error)
    assert record.files == ()
    return record.check, run_dir.path, error


@pytest.mark.parametrize(("machine", "part"), [(LAPTOP, "step"), (SMALL, "block")])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_right_plan_is_as_one_rank(warm, own, dtype, machine, part):
    found, _, error = check(warm, own, f"runtime.dtype={dtype}", machine=machine)
    assert not error
    assert found is not None
    assert (found.part, found.dtype, found.close) == (part, dtype, True)
    assert found.relative <= found.bound


def test_a_wrong_one_is_seen_in_one_block(warm, own):
    found, _, error = check(warm, own, "model=wrong", machine=SMALL)
    assert found is not None
    assert (found.part, found.close) == ("block", False)
    assert found.relative > 10 * found.bound
    assert "off by" in error
    assert "in one block of each kind, as all do not fit on a rank" in error
    assert "type cp=none" in error


def test_from_the_command_line(launch, own):
    ended = launch("check", "--config-dir", str(own), *WORDS, "model=wrong")
    assert ended.code == 1
    assert "ValueError: transformer_blocks.0.attn stays local by the plan" in cause(ended.err)
    (run,) = ended.runs
    assert [path.name for path in run.iterdir() if path.suffix == ".png"] == []
    assert read_record(run / "run.json").status == "failed"
