"""How many groups share a machine, by what was typed, by room, and by the objective."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared import GPUS, LAPTOP

from launcher.config.compose import to_config
from launcher.estimates import groups as grouping
from launcher.estimates.plan import plan
from launcher.machines import Machine
from launcher.problems import Refused
from launcher.rules import problems


@pytest.fixture
def deal(composer):
    """The request of the first of the groups that make a run's pictures."""

    def dealt(*words, machine=GPUS):
        return grouping.dealt(to_config(composer.compose(list(words))), machine)

    return dealt


@pytest.mark.parametrize(
    ("words", "machine", "said"),
    [
        ("data=x", LAPTOP, "data=x: takes a whole number of groups from 1, or auto; type data=2 or data=auto"),
        ("data=0", LAPTOP, "data=0: takes a whole number"),
        ("data=1.5", LAPTOP, "data=1.5: takes a whole number"),
        ("data=3", LAPTOP, "data=3: 3 groups have 2 cores to share; type data=2 or less, or data=auto"),
        ("data=2", Machine(cores=1), "data=2: 2 groups have 1 core to share; leave it out"),
        ("data=5", GPUS, "data=5: 5 groups have 4 GPUs to share; type data=4 or less"),
        ("data=3 runtime.devices=[3,1]", GPUS, "data=3: 3 groups have 2 GPUs of runtime.devices to share; type data=2"),
        ("data=2", GPUS, "data=2: 2 groups have 1 picture to share; leave it out"),
        ("data=4 images=3", GPUS, "data=4: 4 groups have 3 pictures to share; type data=3 or less, or data=auto"),
        (
            "data=2 images=2 cp=ring_anything cp.ring_degree=3",
            GPUS,
            "data=2: 3 ranks can't be in one of 2 groups (data_degree 2 x ring_degree 3 x ulysses_degree 1 = 6 ranks): "
            "each rank needs its own GPU; available: 2; type a smaller number, or data=auto",
        ),
    ],
)
def test_groups_that_can_not_be(deal, words, machine, said):
    with pytest.raises(Refused) as refused:
        deal(*words.split(), machine=machine)
    assert said in str(refused.value.problems[0])


@pytest.mark.slow
def test_auto_fills_the_machine_and_has_no_more_groups_than_pictures(deal):
    two = ["model=flux", "cp=ring_anything", "cp.ring_degree=2", "data=auto"]
    assert [deal(*two, f"images={count}").groups for count in (1, 2, 8)] == [1, 2, 2]
    assert deal(*two, "images=8", "runtime.devices=[0,1,2]").groups == 1
    assert deal("cp=none", "data=auto", "images=8", machine=LAPTOP).groups == 2
    assert deal("cp=ring_anything", "cp.ring_degree=5", "data=auto", "images=8", machine=LAPTOP).groups == 1
    assert deal(*two).groups == deal(*two[:3], "images=8").groups == 1


@pytest.mark.slow
def test_an_objective_decides_how_many_ranks_a_picture_gets(deal):
    """Ranks of a picture exchange keys, so fewer make more pictures an hour, and take longer for one."""
    line = ["model=flux", "machine=h100x8"]
    fast, most = deal(*line, "images=64"), deal(*line, "images=64", "objective=throughput")
    assert (fast.groups, fast.mesh.ranks) == (1, 8)
    assert (most.groups, most.mesh.ranks, most.mode) == (8, 1, "none")
    assert most.why.startswith("8 groups of 1 rank by none would take the least time for 64 pictures")
    one, all_ = plan(fast), plan(most)
    assert one.picture_seconds < all_.picture_seconds
    assert one.pictures_an_hour < all_.pictures_an_hour == one.most_an_hour.pictures_an_hour
    assert one.pictures_an_hour == pytest.approx(3600 / one.picture_seconds)
    assert all_.pictures_an_hour == pytest.approx(8 * 3600 / all_.picture_seconds)
    assert deal(*line, "objective=throughput").groups == 1  # of one picture: all ranks for it
    few = deal(*line, "objective=throughput", "images=3")
    assert few.groups in (1, 3)
    two = deal(*line, "images=8", "objective=throughput", "cp=ring_anything", "cp.ring_degree=2")
    assert (two.groups, two.mesh.ranks) == (4, 2)
    assert deal(*line, "images=8", "objective=throughput", "data=2").groups == 2


@pytest.mark.slow
def test_throughput_takes_ways_that_memory_holds_where_there_are_any(deal):
    """FLUX at 4096 x 4096 with a small decoder: 41 GiB for one rank, 37 for each of four."""
    line = ["model=flux", "machine=rtx4090x4", "images=8", "objective=throughput", "height=4096", "width=4096"]
    line.append("runtime.weights=replicated")
    taken = [deal(*line, "model.vae_width=8", f"machine.memory_gib={gib}") for gib in (48, 37, 24)]
    assert [request.groups for request in taken] == [4, 1, 4]
    assert plan(taken[1]).most_an_hour.groups == 1


@given(cards=st.integers(1, 40), most=st.integers(1, 50))
def test_every_number_that_is_tried_leaves_each_group_a_device(cards, most):
    tried = grouping.counts(Machine(cores=cards), None, most)
    assert tried[0] == 1
    assert tried[-1] == min(cards, most)
    assert all(cards // groups >= 1 for groups in tried)


def test_an_objective_that_decides_nothing_is_refused(deal):
    (found,) = problems(deal("objective=throughput", "data=2", "images=2", "cp=none", machine=LAPTOP))
    assert str(found) == (
        "objective=throughput: data=2 and cp=none leave it nothing to decide; leave it out, or type data=auto"
    )
    assert not problems(deal("objective=throughput", "data=2", "images=2", machine=LAPTOP))
    assert not problems(deal("objective=throughput", "images=2", "cp=none", machine=LAPTOP))


def test_a_sweep_for_throughput_has_as_many_groups_as_take_the_least_time(deal, ask):
    jobs = [ask("model=flux", machine=GPUS)] * 8
    config = jobs[0].config
    assert grouping.for_sweep(jobs, config, GPUS) == 1  # cp=auto fills the machine for each
    config.objective = "throughput"
    assert grouping.for_sweep(jobs, config, GPUS) == 4
    assert grouping.for_sweep([], config, GPUS) == 1
