"""Which machine serves, and which is served."""

from __future__ import annotations

import pytest

from launcher.cli.elsewhere import served
from launcher.nodes import SECRET
from launcher.problems import Refused
from launcher.running import agent

MORE = ("TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE", "SLURM_JOB_ID", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS")
GIVEN = {"NNODES": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500", SECRET: "s" * 32}


@pytest.fixture
def environment(monkeypatch):
    def of(**given):
        for name in ("NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", SECRET, *MORE):
            monkeypatch.delenv(name, raising=False)
        for name, value in given.items():
            monkeypatch.setenv(name, value)

    return of


def test_all_but_the_first_machine_serve_it(composer, environment, monkeypatch):
    asked = []
    monkeypatch.setattr(agent, "serve", lambda node, timeout: asked.append((node.number, timeout)) or 5)
    environment(**GIVEN, NODE_RANK="1")
    assert served(composer, ["cluster=env", "cluster.join_timeout=7"]) == 5
    assert asked == [(1, 7.0)]
    assert served(composer, []) is None
    environment(**GIVEN, NODE_RANK="0")
    assert served(composer, ["cluster=env"]) is None
    environment()
    assert served(composer, ["cluster=env"]) is None
    environment(**GIVEN, NODE_RANK="9")
    with pytest.raises(Refused, match="NODE_RANK=9"):
        served(composer, ["cluster=env"])


def test_one_of_several_launchers_says_that_one_is_enough(composer, environment):
    torchrun = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "LOCAL_RANK": "0"}
    environment(**torchrun, RANK="0")
    told = "cluster=none: torchrun started 4 launchers, and one starts all ranks; type python -m launcher ... without"
    with pytest.raises(Refused, match=told):
        served(composer, [])
    environment(**torchrun, RANK="3")
    assert served(composer, []) == 0
    environment(**torchrun | {"WORLD_SIZE": "1"}, RANK="0")
    assert served(composer, []) is None
    step = {"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "2"}
    environment(**step, SLURM_PROCID="0")
    with pytest.raises(Refused, match="srun started 2 launchers, and one starts all ranks; type python -m launcher"):
        served(composer, [])
    environment(**step, SLURM_PROCID="1")
    assert served(composer, ["cluster=slurm"]) == 0
    environment(SLURM_JOB_ID="7")
    assert served(composer, []) is None
