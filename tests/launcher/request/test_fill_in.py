"""What is left out follows from the rest."""

import pytest
from shared import GPUS, LAPTOP

from launcher.gpus import Gpu
from launcher.machines import Machine

TWO_NODES = ["cp=unified", "machine=rtx4090_2nodes_10gbit"]


@pytest.mark.parametrize(
    ("words", "machine", "expected"),
    [
        (["cp=auto"], LAPTOP, ("none", 1, 1, 1, "cpu")),
        (["cp=auto", "model=flux"], GPUS, ("ring", 4, 1, 4, "cuda")),
        (["cp=auto", "model=flux", "cp.ring_degree=2"], GPUS, ("ring", 2, 1, 2, "cuda")),  # for their host's sake
        (["cp=auto", "model=flux", "cp.ring_degree=2", "height=2048"], GPUS, ("unified", 2, 2, 4, "cuda")),
        (["cp=auto", "runtime.processes=3"], LAPTOP, ("ring_anything", 3, 1, 3, "cpu")),
        (["cp=auto", "runtime.devices=[1]"], GPUS, ("none", 1, 1, 1, "cuda")),
        (["cp=none"], GPUS, ("none", 1, 1, 1, "cuda")),
        (["cp=ring_anything"], LAPTOP, ("ring_anything", 2, 1, 2, "cpu")),
        (["cp=ring_anything"], GPUS, ("ring_anything", 4, 1, 4, "cuda")),
        (["cp=ring_anything", "cp.ring_degree=3"], GPUS, ("ring_anything", 3, 1, 3, "cuda")),
        (["cp=ulysses", "runtime.processes=3"], LAPTOP, ("ulysses", 1, 3, 3, "cpu")),
        (["cp=unified"], LAPTOP, ("unified", 2, 2, 4, "cpu")),
        (["cp=unified", "cp.ulysses_degree=3"], LAPTOP, ("unified", 1, 3, 3, "cpu")),
        (["cp=unified", "cp.ring_degree=2", "cp.ulysses_degree=3"], LAPTOP, ("unified", 2, 3, 6, "cpu")),
        (["cp=unified", "runtime.device=cpu"], GPUS, ("unified", 2, 2, 4, "cpu")),
        (["cp=ring", "runtime.devices=[1,3]"], GPUS, ("ring", 2, 1, 2, "cuda")),
        # More ranks than there are anywhere: a rule says so, once nothing has counted up to their number.
        (["cp=unified", f"runtime.processes={10**18}"], LAPTOP, ("unified", 10**18, 1, 10**18, "cpu")),
        ([*TWO_NODES, f"runtime.processes={10**18}"], GPUS, ("unified", 10**18, 1, 10**18, "cuda")),
    ],
)
def test_degrees_follow_from_what_is_given_and_the_machine(ask, words, machine, expected):
    request = ask(*words, machine=machine)
    assert (request.mode, request.mesh.ring, request.mesh.ulysses, request.mesh.ranks, request.device) == expected


def test_chosen_gpus_are_used_in_their_order(ask):
    assert ask("cp=ring", "runtime.devices=[3,1]", machine=GPUS).devices == (3, 1)
    assert ask("cp=ring", "cp.ring_degree=2", machine=GPUS).devices == (0, 1)
    assert ask("cp=ring", "runtime=cpu", machine=GPUS).devices == ()


def test_dtype_and_threads_follow_from_the_device(ask):
    request = ask("cp=ring_anything", "runtime.processes=2", machine=Machine(cores=6))
    assert (request.dtype, request.threads) == ("float32", (3, 3))
    assert ask("cp=ring_anything", "runtime.processes=5").threads == (1,) * 5
    assert ask("cp=none", machine=Machine(4, (Gpu(0, "A100", 40000),))).dtype == "bfloat16"
