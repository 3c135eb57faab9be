"""Whether a folder is that of an earlier sweep, whose jobs lie where this one's would."""

import itertools

import pytest
from omegaconf import OmegaConf

from launcher.problems import Refused
from launcher.running.sweep_folder import MULTIRUN, check_earlier

BOMB = "a: &a {x: 1}\n" + "".join(f"{b}: &{b} {{<<: [{f'*{a}, ' * 9}]}}\n" for a, b in itertools.pairwise("abcdefghij"))
MASTER = OmegaConf.create({"hydra": {"sweep": {"subdir": "${hydra.job.num}"}}})


def check(folder, text):
    (folder / MULTIRUN).write_text(text)
    return check_earlier(MASTER, folder, "resume=x")


def test_the_same_names_are_found_again_and_the_seed(tmp_path):
    text = "hydra: {sweep: {subdir: '${hydra.job.num}'}}"
    assert check(tmp_path, text) is None
    assert check(tmp_path, f"seed: 7\n{text}") == 7
    assert check(tmp_path, f"seed: x\n{text}") is None


def test_other_names_are_refused_with_what_to_type(tmp_path):
    with pytest.raises(Refused) as refused:
        check(tmp_path, "hydra: {sweep: {subdir: 'j_${hydra.job.num}'}}")
    assert refused.value.problems[0].instead == "type 'hydra.sweep.subdir=j_${hydra.job.num}' as well"


@pytest.mark.parametrize("name", ["${now:%H-%M}_${hydra.job.num}", "j/${short_id:}"])
def test_names_that_differ_each_time_are_not_looked_for(tmp_path, name):
    """Every job would be made again, without a word."""
    master = OmegaConf.create({"hydra": {"sweep": {"subdir": name}}})
    (tmp_path / MULTIRUN).write_text(OmegaConf.to_yaml(master))
    with pytest.raises(Refused, match="another folder each time"):
        check_earlier(master, tmp_path, "resume=x")


@pytest.mark.parametrize(
    "text", ["", "[]", "hydra:", "hydra: 3", "{", "a: &a [*a]", "x", "!!python/object:x {}", "0x_", BOMB]
)
def test_what_is_no_sweeps_configuration_is_refused(tmp_path, text):
    with pytest.raises(Refused, match="can't be read as that of a sweep"):
        check(tmp_path, text)


def test_a_folder_without_one_is_no_sweeps(tmp_path):
    with pytest.raises(Refused, match="not the folder of an earlier sweep"):
        check_earlier(MASTER, tmp_path, "resume=x")
