"""The Python interface, as far as no rank is started; runs are in tests/distributed/test_sweeps.py."""

import pytest

import launcher
from launcher.config.compose import Composer, to_config
from launcher.pool import _words


@pytest.mark.parametrize("prompt", ["1_1_1", "1.10", "null", "true", '"quoted"', "a, b", "${x}", "", "\\", "x" * 5000])
def test_text_is_text(prompt):
    assert to_config(Composer().compose(_words({"prompt": prompt}))).prompt == prompt


def test_values_of_every_kind():
    words = _words(
        {"prompt": 1.10, "height": 1000, "cp": "ring_anything", "seed": None, "fail_fast": True, "guidance": 0.5}
    )
    config = to_config(Composer().compose(words))
    assert (config.prompt, config.height, config.cp.mode, config.seed) == ("1.1", 1000, "ring_anything", None)
    assert config.fail_fast
    assert config.guidance == 0.5


def test_a_refusal_is_an_exception_with_its_problems(monkeypatch, tmp_path, capfd):
    monkeypatch.chdir(tmp_path)
    with launcher.Pool("runtime=cpu") as pool, pytest.raises(launcher.Refused) as refused:
        pool.run("cp=none", height=0)
    (problem,) = refused.value.problems
    assert problem.value == "height=0"
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_ones_own(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("defaults: [flux_tiny, _self_]\nname: mine\nheads: 5\n")
    found = launcher.plan("runtime=cpu", config_dir=tmp_path, model="mine", cp="ulysses")
    assert found.model == "mine"
    assert any("5 heads" in problem.rule for problem in found.problems)
    with pytest.raises(launcher.Refused, match="not a folder"):
        launcher.Pool(config_dir=tmp_path / "none")
