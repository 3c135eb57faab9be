"""Every number has a least and a most."""

import json

import pytest
from refusals import REFUSALS

from launcher.rules import problems


@pytest.mark.parametrize(("line", "said", "machine"), REFUSALS["numbers"])
def test_it_is_refused(refuse, line, said, machine):
    refuse(line, said, machine)


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        (["a"] * 10_001, "holds 10001 prompts, and a run makes at most 10000 pictures; split it"),
        (["\ud800"], "not UTF-8 text; save it as UTF-8 text"),
    ],
)
def test_a_file_of_prompts_is_refused(ask, tmp_path, prompts, said):
    (tmp_path / "p.json").write_text(json.dumps(prompts))
    found = [str(problem) for problem in problems(ask(f"prompt_file={tmp_path / 'p.json'}"))]
    assert [text for text in found if said in text and "prompt_file=" in text], found
