"""`plan` on a command line: its page, its data, its exit codes; nothing heavy is imported for it."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from shared import GPUS, LAPTOP, ROOT, hermetic

from attention_backends.catalog import MODES
from launcher.cli.plan_page import page
from launcher.config.compose import to_config
from launcher.estimates import groups as grouping
from launcher.estimates.plan import plan


@pytest.mark.slow
@pytest.mark.parametrize("machine", [LAPTOP, GPUS])
def test_the_page_fits_a_terminal(ask, machine):
    for words in (["cp=auto"], ["cp=ulysses", "cp.ulysses_degree=5"], ["model=flux", "cp=unified"], ["height=-5"]):
        request = ask(*words, machine=machine)
        text = page(plan(request), request, "python -m launcher.worker")
        assert max(map(len, text.splitlines())) <= 120
        assert all(f"  {mode} " in text or f"* {mode} " in text for mode in MODES)


@pytest.mark.slow
def test_the_page_tells_one_picture_and_an_hour(ask, composer):
    request = ask("model=flux", "machine=h100x8")
    made = plan(request)
    assert made.picture_seconds == pytest.approx(28 * min(row.seconds for row in made.modes if row.seconds))
    text = " ".join(page(made, request, "").split())
    assert "picture about 2.87 s, all steps together" in text
    assert (
        "an hour about 1,250 pictures by 1 group of ranks; with objective=throughput 5,470: 8 groups of 1 rank" in text
    )
    data = json.loads(json.dumps(made.asdict()))
    assert (data["groups"], data["most_an_hour"]["groups"]) == (1, 8)
    assert data["pictures_an_hour"] * data["picture_seconds"] == pytest.approx(3600)
    config = to_config(composer.compose(["model=flux", "machine=h100x8", "objective=throughput", "images=8"]))
    most = grouping.dealt(config, LAPTOP)
    text = " ".join(page(plan(most), most, "").split())
    assert "an hour about 5,470 pictures by 8 groups of ranks weights" in text
    assert "8 groups at once, each of 1 rank on H100 80GB HBM3" in text
    film = ask("model=wan_t2v_1_3b", "machine=h100x8")
    assert "videos by 1 group" in page(plan(film), film, "")


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


@pytest.mark.slow
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
    assert "24 heads do not divide among 5 ranks" in refused.stderr
    assert "all modes" in refused.stdout


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plan", "-m", "height=1,2"], "plan takes one configuration"),
        (["plan", "resume=x"], "works on sweeps only"),
        (["plan", "experiment=odd_sizes"], "is a sweep over height"),
        (["plan", "--json", "heigth=1"], '"instead": "type height=1"'),
        (["plan", "--frobnicate"], "unknown option"),
        (["model=flux", "plan"], "type python -m launcher plan"),
        (["plan", "heigth=1"], "type height=1"),
        (["plan", "hydra.run.dir=/dev/null/x"], "hydra.run.dir=/dev/null/x: null is a file"),
        (["hydra.run.dir=/dev/null/x"], "hydra.run.dir=/dev/null/x: null is a file"),
        (["machine=h100x8"], "a run uses this machine; others can only be planned for"),
        (["-m", "machine=h100x8,here", "steps=0"], "a run uses this machine; others can only be planned for"),
    ],
)
def test_bad_lines_are_answered_in_words(capfd, monkeypatch, tmp_path, words, said):
    from launcher.cli.main import main

    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    out, err = capfd.readouterr()
    assert said in out + err


@pytest.mark.slow
def test_a_reader_that_has_enough_is_no_error():
    line = f"{sys.executable} -m launcher plan --json | true; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", line], env=hermetic(), cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode in (0, 141)
    assert ended.stderr == ""
