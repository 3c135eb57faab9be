"""What a report tells of each run."""

import json
from pathlib import Path

import pytest

from launcher.reporting.rows import Row, rows
from launcher.running.hold import is_held


def test_rows_tell_what_sets_runs_apart_and_how_close_they_are(sweep, evil):
    found = {row.label: row for row in rows([sweep], is_held)}
    alone = found["cp=none cp.ring_degree=1 prompt=x"]
    assert (alone.baseline, alone.speedup, alone.tokens, alone.backend) == ("", 1.0, 12, "none")
    two = found["cp=ring cp.ring_degree=2 prompt=x"]
    assert (two.baseline, two.ideal, two.backend, two.shape) == (alone.label, 2.0, "ring 2 x 1", "24 x 32")
    assert two.speedup == pytest.approx(1 / 0.6)
    assert two.rate == pytest.approx(1 / 0.6)
    assert two.apart is not None
    assert two.apart.largest == 3
    assert found["cp=ring cp.ring_degree=4 prompt=x"].apart.same == "bytes"
    failed = found["cp=ring cp.ring_degree=3 prompt=x"]
    assert (failed.status, failed.reason, failed.step, failed.picture) == ("failed", "rank 1: it broke", None, None)
    refused = found["cp=ulysses cp.ring_degree=5"]
    assert (refused.status, refused.mode, refused.reason) == ("refused", "ulysses", "24 heads do not divide | by 5")
    strange = next(row for row in found.values() if row.prompt == evil)
    assert strange.baseline == ""  # another prompt is another picture: it is compared with nothing else


def test_a_chosen_baseline_is_what_all_are_compared_with(sweep):
    found = rows([sweep], is_held, sweep / "1")
    assert [row.baseline for row in found if row.folder.endswith("/1")] == [""]
    assert {row.baseline for row in found if row.status == "done" and not row.folder.endswith("/1")} == {
        "cp=ring cp.ring_degree=2 prompt=x"
    }


def test_the_jobs_of_a_sweep_come_in_their_order(tmp_path, put):
    for number in (10, 2, 0):
        put(tmp_path, number, "ring", started="2026-01-01T00:00:00+00:00")
    assert [Path(row.folder).name for row in rows([tmp_path], is_held)] == ["0", "2", "10"]
    assert len({row.label for row in rows([tmp_path], is_held)}) == 3


def test_where_no_run_is_on_one_rank_the_first_is_the_baseline(tmp_path, put):
    put(tmp_path, 0, "ring", 2, step=0.6, status="failed", error="it broke")
    put(tmp_path, 1, "ring", 4, step=0.5)
    put(tmp_path, 2, "ulysses", 8, step=0.25)
    failed, first, second = rows([tmp_path], is_held)
    assert (failed.baseline, failed.speedup) == (None, None)
    assert (first.baseline, first.speedup, first.ideal) == ("", 1.0, 1.0)
    assert (second.baseline, second.speedup, second.ideal) == (first.label, 2.0, 2.0)


def test_what_skips_steps_is_told_and_compared_with_what_computes_all(tmp_path, put):
    def job(number, skipped, **changes):
        timed = {"step_seconds": [[9.0, 0.1, 0.5, 0.1, 0.1]], "skipped_steps": [skipped]}
        place = put(tmp_path, number, "ring", noise=number % 3, **timed)
        record = json.loads((place / "run.json").read_text())
        record["config"] |= {"cache": {"name": "first_block"}} | changes
        (place / "run.json").write_text(json.dumps(record))

    job(0, [2])
    job(1, [])
    job(2, [], compile="regional")
    job(3, [], cache={"name": "none"}, quantization="int8")
    skips, whole, compiled, quantised = rows([tmp_path], is_held)
    assert [row.baseline for row in (skips, whole, compiled, quantised)] == [whole.label, "", *[whole.label] * 2]
    assert (skips.told_skipped, whole.told_skipped, quantised.told_skipped) == ("1 of 2", "0 of 2", "")
    assert (skips.step, whole.step) == (pytest.approx(0.2), 0.1)  # the mean where steps were skipped, else the median
    assert (skips.closeness, whole.closeness) != ("", "")
    assert float(skips.closeness) > 40


def test_a_picture_that_leads_elsewhere_is_not_shown(tmp_path, put):
    secret = tmp_path / "secret.png"
    secret.write_bytes((put(tmp_path / "a", 0, "none") / "0000.png").read_bytes())
    linked = put(tmp_path / "b", 0, "none") / "0000.png"
    linked.unlink()
    linked.symlink_to(secret)
    put(tmp_path / "b", 1, "none", files=({"file": "../../secret.png"},))
    assert [row.picture for row in rows([tmp_path / "b"], is_held)] == [None, None]


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        ({"config": 3}, {"mode": "", "shape": "", "ranks": None, "step": 0.5}),
        (
            {"config": {"cp": [], "model": {"name": None}, "runtime": {"processes": "2"}, "height": 8}},
            {"model": "", "mode": "", "shape": "", "ranks": None},
        ),
        (
            {"files": [3], "tokens_per_rank": [3, {"text": "8", "image": 4}], "times": [1], "overrides": "cp=ring"},
            {"picture": None, "tokens": 4, "times": {}, "label": "(NAME/0)"},
        ),
        (
            {"step_seconds": [["1"]], "times": {"load": "1"}, "peak_bytes": {}, "seconds": "4", "seed": []},
            {"step": None, "times": {}, "peak": None, "seconds": None, "seed": None},
        ),
        ({"started": 7, "prompts": [None], "command": None}, {"prompt": "", "command": ""}),
    ],
)
def test_of_a_record_of_another_shape_is_told_what_can_be(tmp_path, put, odd, told):
    place = put(tmp_path, 0, "ring")
    record = json.loads((place / "run.json").read_text())
    (place / "run.json").write_text(json.dumps(record | odd))
    (row,) = rows([tmp_path], is_held)
    found = {name: getattr(row, name) for name in told}
    assert found == {k: v.replace("NAME", tmp_path.name) if k == "label" else v for k, v in told.items()}


def test_no_folder_has_no_rows(tmp_path):
    assert rows([], is_held) == []
    assert rows([tmp_path, tmp_path / "nowhere"], is_held) == []


def test_rate_and_backend_follow_from_the_rest():
    assert Row("a", "a", "done", step=0.25).rate == 4.0
    assert Row("a", "a", "done", step=0.0).rate is None
    assert Row("a", "a", "done", mode="none", degrees="1 x 1").backend == "none"
    assert Row("a", "a", "refused", mode="ring").backend == "ring"
    assert Row("a", "a", "broken").backend == ""


def test_quantised_weights_are_compared_with_whole_ones(tmp_path, put):
    for number, how in enumerate(("int8", "none")):
        folder = put(tmp_path, number, "none", noise=number)
        record = json.loads((folder / "run.json").read_text())
        record["config"]["quantization"] = how
        (folder / "run.json").write_text(json.dumps(record))
    quantised, whole = rows([tmp_path], is_held)
    assert (quantised.baseline, whole.baseline) == (whole.label, "")
    assert quantised.apart is not None
    assert quantised.apart.largest == 1
