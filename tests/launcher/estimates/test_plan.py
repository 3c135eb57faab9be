"""The plan: its figures against definitions and public timings."""

import pytest

from attention_backends.catalog import MODES
from launcher.estimates.plan import plan
from launcher.rules import problems


def test_flux_on_four_gpus_moves_what_the_papers_say(ask):
    """With u = S/N H D 2 bytes a ring moves 2 (N - 1) u, Ulysses 4 (N - 1) / N u, 2 x 2 ranks of both 4 u."""
    rows = {row.mode: row for row in plan(ask("model=flux", "machine=rtx4090x4", "cp=ring")).modes}
    u = (4096 + 512) // 4 * 24 * 128 * 2
    assert {name: row.layer_bytes for name, row in rows.items()} == {
        "none": 0,
        "ring": 6 * u,
        "ring_anything": 6 * u,
        "ulysses": 3 * u,
        "ulysses_anything": 3 * u,
        "unified": 4 * u,
        "unified_anything": 4 * u,
        "attention2d": 4 * u + 1152 * 24 * 4,  # and a log-sum-exp of each query and head
    }
    assert rows["ring"].step_bytes == 57 * 6 * u
    assert [rows[mode].relative for mode in ("ring", "ulysses", "unified")] == [2.0, 1.0, 1.33]


def test_the_estimate_is_near_the_public_timing(ask):
    """FLUX.1-dev at 1024 x 1024 on four RTX 4090, diffusers' pull request 13545: 259 ms a step with Ulysses."""
    words = ["model=flux", "machine=rtx4090x4", "cp=ulysses"]
    rows = {row.mode: row for row in plan(ask(*words, "model.single_layers=null")).modes}  # which hides nothing
    assert rows["ulysses"].seconds == pytest.approx(0.259, rel=0.05)


@pytest.mark.slow
def test_what_runs_meanwhile_hides_the_wire_of_marked_layers(ask):
    """No wire makes a step faster than its computation, and none hides what runs in the model's own order."""
    words = ["model=flux", "machine=rtx4090x4", "cp=ulysses"]
    hidden, plain, compiled, free = (
        {row.mode: row.seconds for row in plan(ask(*words, *more)).modes}
        for more in ([], ["model.single_layers=null"], ["compile=full"], ["machine.link_gbps=1e6", "machine.link_us=0"])
    )
    assert compiled == plain
    for mode in ("ring", "ulysses"):
        assert free[mode] <= hidden[mode] < 0.9 * plain[mode]
    assert free["unified"] <= hidden["unified"] < plain["unified"]
    assert hidden["attention2d"] == plain["attention2d"]
    wrong = problems(ask(*words, "model.single_layers=58"), plan=True)
    assert [problem.value for problem in wrong] == ["model.single_layers=58"]


def test_the_table_has_every_mode_once_and_says_why_not(ask):
    made = plan(ask("model=flux", "machine=h100x8", "machine.gpus=5", "cp=ulysses", "height=1000"))
    assert [row.mode for row in made.modes] == list(MODES)
    assert [row.mode for row in made.modes if row.legal] == [
        "none",
        "ulysses_anything",
        "ring_anything",
        "unified_anything",
    ]
    assert not made.legal
    for row in made.modes:
        assert row.legal == (not row.reasons) == (row.seconds is not None)


def test_one_stream_alone_gets_a_size_that_helps(ask):
    (problem,) = problems(ask("cp=ring", "cp.ring_degree=2", "height=1000", "width=1000"))
    assert "type height=992" in problem.instead
    found = problems(ask("cp=ring", "cp.ring_degree=3", "height=1000", "width=1000"))
    assert not any("height=" in problem.instead for problem in found)  # 512 text tokens stay in the way
