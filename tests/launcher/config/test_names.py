"""Names from elsewhere lead to settings that exist, and hide none of them."""

from launcher.config.names import DTYPES, ELSEWHERE, NOT_NEEDED, SCHEDULERS
from launcher.config.text import fields
from launcher.rules.words import DTYPES as LEGAL
from launcher.schedulers import SOLVERS


def test_names_from_elsewhere_lead_to_settings():
    assert set(ELSEWHERE.values()) <= {*fields(), "scheduler"}  # which is a choice
    assert set(SCHEDULERS.values()) >= {f"scheduler={name}" for name in SOLVERS}
    known = {name.split(".")[-1] for name in fields()}
    assert {*ELSEWHERE, *NOT_NEEDED} & known == {"gpus"}  # machine.gpus is what a plan is for, not what runs
    assert set(DTYPES.values()) <= set(LEGAL)
