"""How ranks are started, as far as that is known without starting one."""

import itertools
import sys

import pytest
from shared import GPUS, LAPTOP

from launcher.running.job import group_key
from launcher.running.starters import accelerate


@pytest.fixture
def started(ask, monkeypatch):
    """The environment that the ranks of a request would get, and their command."""

    def of(*words, machine=GPUS, **env):
        for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "OMP_WAIT_POLICY"):
            monkeypatch.delenv(name, raising=False)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        key = group_key(ask(*words, machine=machine))
        env = accelerate.environment(key.load.device, key.devices, key.threads)
        return env, accelerate.command(key.processes)

    return of


@pytest.mark.slow
@pytest.mark.parametrize(
    ("visible", "words", "passed_on"),
    [
        (None, ["cp=ring_anything"], "0,1,2,3"),
        (None, ["cp=ring_anything", "runtime.devices=[2,3]"], "2,3"),
        (None, ["cp=ring_anything", "runtime.devices=[3,1]"], "3,1"),
        ("5,4,7,6", ["cp=ring_anything"], "5,4,7,6"),
        ("5,4,7,6", ["cp=ring_anything", "runtime.devices=[2,3]"], "7,6"),
        ("5,4,7,6", ["cp=ring_anything", "runtime.processes=2"], "5,4"),
        ("GPU-aa, GPU-bb,,GPU-cc,GPU-dd", ["cp=ring_anything", "runtime.devices=[1,2]"], "GPU-bb,GPU-cc"),
        ("GPU-aa,GPU-bb,GPU-cc,GPU-dd", ["cp=none"], "GPU-aa"),
        ("GPU-aa,GPU-bb,GPU-cc,GPU-dd", ["cp=none", "runtime.devices=[3]"], "GPU-dd"),
        ("0,1,2,3", ["cp=ring_anything", "runtime=cpu"], ""),
    ],
)
def test_ranks_see_the_gpus_that_were_chosen_of_those_that_are_visible(started, visible, words, passed_on):
    env, _ = started(*words, **({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}))
    assert env["CUDA_VISIBLE_DEVICES"] == passed_on


def test_indices_mean_what_nvidia_smi_shows_unless_the_user_says_otherwise(started):
    assert started("cp=ring_anything")[0]["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert started("cp=ring_anything", CUDA_DEVICE_ORDER="FASTEST_FIRST")[0]["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("machine", "words", "threads"),
    [
        (LAPTOP, ["cp=none", "runtime=cpu"], "2"),
        (LAPTOP, ["cp=ring_anything", "runtime=cpu"], "1"),
        (GPUS, ["cp=ring_anything", "runtime=cpu", "runtime.processes=3"], "5"),
        (GPUS, ["cp=ring_anything", "runtime=cpu", "runtime.threads=2"], "2"),
        (GPUS, ["cp=ring_anything"], "4"),
    ],
)
def test_a_rank_computes_with_its_share_of_the_cores(started, machine, words, threads):
    env, _ = started(*words, machine=machine, OMP_NUM_THREADS="99")
    assert env["OMP_NUM_THREADS"] == threads
    assert env["OMP_WAIT_POLICY"] == "PASSIVE"
    assert started(*words, machine=machine, OMP_WAIT_POLICY="ACTIVE")[0]["OMP_WAIT_POLICY"] == "ACTIVE"


def test_ranks_are_started_by_accelerate_whatever_the_users_configuration_says(started):
    steered = {"ACCELERATE_USE_CPU": "x", "TORCHELASTIC_RUN_ID": "x", "RANK": "7", "MASTER_PORT": "1", "PATH": "kept"}
    env, words = started("cp=ring_anything", "runtime.processes=3", **steered)
    assert not set(steered) - {"PATH"} & set(env)
    assert env["PATH"] == "kept"
    assert words[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    assert words[-2:] == ["--module", "launcher.worker"]
    given = dict(itertools.pairwise(words))
    assert given["--num_processes"] == "3"
    assert given["--main_process_port"] == "0"  # a free one
    assert started("cp=none")[1] == [sys.executable, "-m", "launcher.worker"]
