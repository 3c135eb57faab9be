"""Which machine this is, by what torchrun, Kubernetes or a script has set."""

from __future__ import annotations

import pytest

from launcher.nodes import SECRET, Node, from_environment
from launcher.problems import Refused

KEY = "s" * 32
PLAIN = {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500", SECRET: KEY}


@pytest.mark.parametrize(
    "given",
    [
        PLAIN,
        {f"PET_{name}": value for name, value in PLAIN.items() if name != SECRET} | {SECRET: KEY},
        {
            "GROUP_WORLD_SIZE": "2",
            "GROUP_RANK": "1",
            "RANK": "1",
            "LOCAL_RANK": "0",
            "MASTER_ADDR": "10.0.0.1",
            "MASTER_PORT": "29500",
            SECRET: KEY,
        },
        PLAIN | {"PET_NNODES": "2", "PET_NODE_RANK": "1"},
    ],
)
def test_each_habit_is_understood(given):
    assert from_environment(None, given) == Node(1, 2, "10.0.0.1", 29500, KEY)
    assert from_environment(29511, given).port == 29511


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"NODE_RANK": ""}, "cluster=env: needs NODE_RANK or PET_NODE_RANK or GROUP_RANK or SLURM_NODEID, which is"),
        ({"MASTER_ADDR": ""}, "set it on every machine: MASTER_ADDR=HOST MASTER_PORT=29500 NNODES=2 NODE_RANK=0"),
        ({"NODE_RANK": "2"}, "NODE_RANK=2: must be a whole number from 0 to 1; set NODE_RANK anew"),
        ({"NNODES": "1:4"}, "NNODES=1:4: must be a whole number from 1 to 256"),
        ({"MASTER_PORT": "0"}, "MASTER_PORT=0: must be a whole number from 1 to 65535"),
        ({"GROUP_RANK": "0"}, "cluster=env: NODE_RANK=1 and GROUP_RANK=0 contradict each other; unset the wrong one"),
        ({"LOCAL_RANK": "3"}, "LOCAL_RANK=3: one launcher a machine starts all of its ranks, and this is another one"),
        ({SECRET: ""}, f"{SECRET}: is not set; make one, export {SECRET}=$(openssl rand -hex 32)"),
        ({SECRET: "short"}, f"{SECRET}: has 5 characters, and at least 32 are needed"),
    ],
)
def test_what_is_missing_or_wrong_is_told_with_what_to_set(changed, told):
    with pytest.raises(Refused) as refused:
        from_environment(None, PLAIN | changed)
    assert told in str(refused.value)


def test_all_is_told_at_once():
    with pytest.raises(Refused) as refused:
        from_environment(None, {})
    assert len(refused.value.problems) == 5


def test_the_secret_is_not_shown():
    assert KEY not in repr(from_environment(None, PLAIN))
