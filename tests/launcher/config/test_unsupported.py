"""Hydra's settings that do nothing here are refused, and the ones of conf/ are none of them."""

import pytest

from launcher.config.compose import Composer
from launcher.config.unsupported import unsupported

COMPOSER = Composer()


def test_what_conf_asks_is_supported():
    assert list(unsupported(COMPOSER.compose([]), sweep=False)) == []
    assert list(unsupported(COMPOSER.compose(["seed=1,2"], sweep=True), sweep=True)) == []


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("+hydra.callbacks.x._target_=os.system", "hydra.callbacks.x: a run here calls no Hydra callbacks"),
        ("hydra/job_logging=default", "hydra/job_logging=default: logs go to the run directory"),
        ("hydra.job_logging.root.level=DEBUG", "hydra.job_logging: logs go"),
        ("+hydra.job_logging.handlers.x.class=os.system", "hydra.job_logging: logs go"),
        ("hydra/hydra_logging=default", "hydra/hydra_logging=default: logs go"),
        ("hydra.verbose=true", "hydra.verbose=True: logs go"),
        ("hydra.job.chdir=true", "hydra.job.chdir=true: a run writes to its own folder only"),
        ("hydra.output_subdir=../../x", "must be a plain name"),
        ("hydra.output_subdir=logs/x", "must be a plain name"),
        ("hydra.mode=MULTIRUN", "type -m for a sweep"),
    ],
)
def test_what_does_nothing_is_refused(word, said):
    (problem,) = unsupported(COMPOSER.compose([word]), sweep=False)
    assert said in str(problem)


def test_a_single_run_is_no_sweep():
    (problem,) = unsupported(COMPOSER.compose(["hydra.mode=RUN"], sweep=True), sweep=True)
    assert "hydra.mode=RUN" in str(problem)
