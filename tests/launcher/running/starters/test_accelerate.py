"""How ranks are started, as far as that is known without starting one."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from shared import GPUS, LAPTOP, ROOT

from launcher.running.message import group_key
from launcher.running.starters import accelerate

FOLDER = Path("/nowhere/launcher-x")


@pytest.fixture
def started(ask, monkeypatch):
    """The environment that the ranks of a request would get, and their command."""

    def of(*words, machine=GPUS, **env):
        for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "OMP_WAIT_POLICY"):
            monkeypatch.delenv(name, raising=False)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        key = group_key(ask(*words, machine=machine))
        env = accelerate.environment(key.load.device, key.devices, key.threads, FOLDER)
        return env, accelerate.command(key.processes, FOLDER)

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


def test_ranks_of_several_machines_meet_at_the_first_one():
    words = accelerate.command(8, FOLDER, accelerate.Machines(2, 1, "10.0.0.1", 4000))
    line = " ".join(words)
    assert "--num_processes 8" in line
    assert "--num_machines 2 --machine_rank 1 --rdzv_backend static" in line  # c10d would exchange pickles
    assert "--same_network --main_process_ip 10.0.0.1 --main_process_port 4000" in line
    env = accelerate.environment("cpu", (), (1,), FOLDER, interface="eth7")
    assert {"GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"} <= set(env)
    assert not {"LAUNCHER_STORE", "PET_RDZV_ENDPOINT"} & set(env)


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
    steered = {
        "ACCELERATE_USE_CPU": "x",
        "TORCHELASTIC_RUN_ID": "x",
        "PET_NNODES": "2",
        "RANK": "7",
        "MASTER_PORT": "1",
    }
    steered["PATH"] = "kept"
    env, words = started("cp=ring_anything", "runtime.processes=3", **steered)
    assert not set(steered) - {"PATH"} & set(env)
    assert env["PATH"] == "kept"
    assert words[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    assert words[3:5] == ["--config_file", str(FOLDER / "accelerate.yaml")]  # else the user's is read
    assert words[-2:] == ["--module", "launcher.worker"]
    given = dict(itertools.pairwise(words))
    assert given["--num_processes"] == "3"
    assert given["--main_process_port"] == "0"  # a free one
    assert started("cp=none")[1] == [sys.executable, "-m", "launcher.worker"]


def test_ranks_of_one_machine_do_without_the_network_unless_the_user_says_otherwise(started):
    env, words = started("cp=ring_anything")
    assert "--rdzv_backend c10d --rdzv_conf store_type=file" in " ".join(words)
    assert {env["PET_RDZV_ENDPOINT"], env["LAUNCHER_STORE"]} == {str(FOLDER / "agent"), str(FOLDER / "store")}
    assert env["GLOO_SOCKET_IFNAME"] == env["NCCL_SOCKET_IFNAME"] == ("lo0" if sys.platform == "darwin" else "lo")
    assert started("cp=ring_anything", GLOO_SOCKET_IFNAME="eth9")[0]["GLOO_SOCKET_IFNAME"] == "eth9"


def test_what_is_prepared_is_a_configuration_of_accelerates(tmp_path):
    from accelerate.commands.config.config_args import load_config_from_file

    accelerate.prepare(tmp_path)
    assert load_config_from_file(str(tmp_path / "accelerate.yaml")).num_machines == 1


def test_ranks_do_not_import_from_the_current_folder(tmp_path):
    """This checkout's launcher is found all the same."""
    (tmp_path / "queue.py").write_text("raise SystemExit('a queue.py of the current folder')")
    (tmp_path / "launcher.py").write_text("raise SystemExit('a launcher.py of the current folder')")
    env = accelerate.environment("cpu", (), (1,), FOLDER)
    line = [*accelerate.command(1, FOLDER)[:-1], "launcher.worker.numa"]  # ends by itself
    ended = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    where = subprocess.run(
        [sys.executable, "-c", "import launcher; print(launcher.__file__)"],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(where.stdout.strip()) == ROOT / "launcher" / "__init__.py"


def test_what_a_library_warns_of_ends_no_rank(started):
    odd = {"PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "2"}
    assert not odd.keys() & started("cp=none", **odd)[0].keys()


def test_a_jobs_own_variables_are_its_ranks_alone(monkeypatch):
    """Two `Pool`s in two threads share one environment, which none of them may change."""
    monkeypatch.setenv("A", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    env = accelerate.environment("cuda", (0,), (1,), FOLDER, more={"A": "2", "CUDA_VISIBLE_DEVICES": "5"})
    assert (env["A"], env["CUDA_VISIBLE_DEVICES"], os.environ["A"]) == ("2", "5", "1")


def test_what_makes_the_same_numbers_each_time_is_asked_for_before_cuda_starts(ask):
    asked, usual = (group_key(ask("cp=ring_anything", word, machine=GPUS)) for word in ("deterministic=true", "seed=1"))
    assert asked != usual  # ranks that were started without it do not serve
    env = accelerate.environment("cuda", (0,), (1,), FOLDER, asked.load.deterministic)
    assert env["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert "CUBLAS_WORKSPACE_CONFIG" not in accelerate.environment("cuda", (0,), (1,), FOLDER, usual.load.deterministic)
