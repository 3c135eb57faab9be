"""The plan: its figures against definitions and public timings, its page and its data, cp=auto and the schedule."""

import copy
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from shared import GPUS, LAPTOP, ROOT, hermetic

from attention_backends.catalog import MODES
from launcher.config.compose import Composer, to_config
from launcher.estimates.memory import parameters
from launcher.estimates.notes import notes
from launcher.estimates.plan import page, plan
from launcher.estimates.ways import linear_flops, priced, resolve
from launcher.families.weights import BUNDLED
from launcher.machines import Gpu, Machine
from launcher.rules.general import problems
from launcher.rules.sharing import sharing_problems


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
    }
    assert rows["ring"].step_bytes == 57 * 6 * u
    assert [rows[mode].relative for mode in ("ring", "ulysses", "unified")] == [2.0, 1.0, 1.33]


def test_a_step_of_flux_has_as_many_flops_as_was_counted(ask):
    """74 TFLOP at 1024 x 1024: shared/facts, from the model's own shapes."""
    request = ask("model=flux", "machine=h100x8", "cp=none")
    tokens = sum(request.streams.values())
    assert 57 * (tokens * linear_flops(request) + 4 * tokens**2 * 24 * 128) == pytest.approx(74e12, rel=0.02)


def test_the_estimate_is_near_the_public_timing(ask):
    """FLUX.1-dev at 1024 x 1024 on four RTX 4090, diffusers' pull request 13545: 259 ms a step with Ulysses."""
    rows = {row.mode: row for row in plan(ask("model=flux", "machine=rtx4090x4", "cp=ulysses")).modes}
    assert rows["ulysses"].seconds == pytest.approx(0.259, rel=0.05)


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


DEFAULTS = to_config(Composer().compose(["model=flux", "machine=h100x8", "model.path=bundled"]))


@given(
    processes=st.none() | st.integers(1, 9),
    ring=st.none() | st.integers(1, 5),
    ulysses=st.none() | st.integers(1, 5),
    height=st.integers(1, 4000),
    text=st.integers(1, 512),
    gpus=st.integers(1, 8),
    link=st.sampled_from([0.1, 20, 450]),
    schedule=st.sampled_from(["auto", "gather", "staged"]),
)
def test_auto_takes_the_fastest_legal_mode_of_the_table(processes, ring, ulysses, height, text, gpus, link, schedule):
    config = copy.deepcopy(DEFAULTS)
    config.cp.mode, config.cp.ring_degree, config.cp.ulysses_degree = "auto", ring, ulysses
    config.cp.schedule, config.runtime.processes, config.height = schedule, processes, height
    config.model.text_tokens, config.machine.gpus, config.machine.link_gbps = text, gpus, link
    request = resolve(config, LAPTOP)
    table = priced(request)
    assert table is request.ways  # priced once, for cp=auto and for the plan
    legal = [one for one in table if not one.problems]
    if legal:
        (mine,) = [one for one in table if one.mode == request.mode]
        assert not sharing_problems(request)
        assert mine.seconds == min(one.seconds for one in legal)
        assert mine.name in request.why
    assert resolve(config, LAPTOP).schedule == request.schedule
    assert bool(request.schedule) == MODES[request.mode].has_ring


def test_a_slow_link_is_worth_a_staged_ring(ask):
    line = ["model=flux", "machine=rtx4090x4", "cp=ring_anything", "height=1000"]
    assert ask(*line).schedule == "staged"
    assert ask(*line, "machine.link_gbps=400").schedule == "gather"
    assert ask(*line, "cp.schedule=gather").schedule == "gather"


def test_weights_are_counted_by_their_headers(ask):
    numbers = {}
    for path in BUNDLED.glob("*/*.safetensors"):
        with safe_open(path, "pt") as file:
            numbers[path.parent.name] = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    assert parameters(ask()) == numbers
    memory = plan(ask("runtime.dtype=bfloat16")).memory
    assert memory.weights == 2 * sum(numbers.values())


def test_notes_are_numbers_with_what_to_type(ask):
    busy = Machine(16, tuple(Gpu(index, "NVIDIA H100 80GB HBM3", 81559, 70000 * (index == 1)) for index in range(2)))
    assert notes(ask("cp=ring_anything", machine=busy)) == [
        "GPU 1 is in use: others hold 68.4 of 79.6 GiB; type runtime.devices=[...] to choose others"
    ]
    assert notes(ask("cp=none", machine=busy)) == []
    small = Machine(2, memory_gib=1, free_gib=0.5)
    assert "GiB a rank are needed and 0.5 are free" in notes(ask("height=2000", machine=small))[0]
    assert "50 times slower" in notes(ask("runtime.dtype=float16"))[0]


@pytest.mark.parametrize("machine", [LAPTOP, GPUS])
def test_the_page_fits_a_terminal(ask, machine):
    for words in (["cp=auto"], ["cp=ulysses", "cp.ulysses_degree=5"], ["model=flux", "cp=unified"], ["height=-5"]):
        request = ask(*words, machine=machine)
        text = page(plan(request), request)
        assert max(map(len, text.splitlines())) <= 120
        assert all(f"  {mode} " in text or f"* {mode} " in text for mode in MODES)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    code = f"""
    import sys
    from launcher.cli.main import main
    code = main({list(words)!r})
    heavy = {{"torch", "diffusers", "accelerate", "transformers", "numpy"}} & set(sys.modules)
    sys.exit(f"imported {{heavy}}" if heavy else code)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, env=hermetic(), cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_plan_needs_no_gpu_no_weights_and_no_torch(tmp_path):
    ended = run("plan", "machine=h100x8", "model=flux", "height=1000")
    assert ended.returncode == 0, ended.stderr
    for part in (
        "1000 x 1024 pixels, rendered at 1008 x 1024",
        "64 + 504",
        "--num_processes 8",
        "not here: model.path",
    ):
        assert part in ended.stdout
    refused = run("plan", "machine=h100x8", "model=flux", "cp=ulysses", "cp.ulysses_degree=5")
    assert refused.returncode == 1
    assert "24 heads cannot be shared by 5 ranks" in refused.stderr
    assert "all modes" in refused.stdout


def test_the_data_say_the_same(ask):
    ended = run("plan", "--json", "cp=ring_anything", "height=1000", "runtime=cpu")
    data = json.loads(ended.stdout)
    assert ended.returncode == 0
    assert data["legal"]
    assert data["rendered"] == {"height": 1008, "width": 512}
    assert data["tokens_per_rank"] == [{"text": 256, "image": 1008}] * 2
    assert [row["mode"] for row in data["modes"]] == list(MODES)
    assert data["memory"]["total"] > data["memory"]["weights"] > 1e6
    assert str(Path.home()) not in ended.stdout


def test_what_is_legal_and_far_too_large_is_noted(ask):
    made = plan(ask("machine=h100x8", "model=flux", "height=60000", "width=60000"))
    assert made.legal
    assert (
        "GiB a rank are needed and 79.6 are free: it may end for want of memory; type a smaller size" in made.notes[0]
    )
    assert "type runtime=gpu_offload" in notes(ask("machine=rtx4090x4", "model=flux"))[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plan", "-m", "height=1,2"], "a plan is of one request"),
        (["plan", "resume=x"], "is for sweeps"),
        (["plan", "experiment=odd_sizes"], "asks for a sweep"),
        (["plan", "--json", "heigth=1"], '"instead": "type height=1"'),
        (["plan", "--frobnicate"], "is no option"),
        (["model=flux", "plan"], "type python -m launcher plan"),
        (["plan", "heigth=1"], "type height=1"),
        (["machine=h100x8"], "a run takes place on this machine only"),
        (["-m", "machine=h100x8,here", "steps=0"], "a run takes place on this machine only"),
    ],
)
def test_bad_lines_are_answered_in_words(capfd, monkeypatch, tmp_path, words, said):
    from launcher.cli.main import main

    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    out, err = capfd.readouterr()
    assert said in out + err


def test_a_reader_that_has_enough_is_no_error():
    line = f"{sys.executable} -m launcher plan --json | true; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", line], env=hermetic(), cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode in (0, 141)
    assert ended.stderr == ""
