"""`run`, the subcommand that may be left out: its options."""

import os

import pytest

from launcher.cli.main import main


@pytest.mark.parametrize("words", [["run", "steps=0"], ["steps=0"]])
def test_its_name_may_be_left_out(capsys, words):
    assert main(words) == 1
    assert "steps=0: must be at least 1" in capsys.readouterr().err


@pytest.mark.slow
def test_hydra_answers_questions_about_the_configuration(launch):
    out = launch("--cfg", "job", "prompt=a cat, (sitting)!").out
    assert "prompt: a cat, (sitting)!" in out
    assert "flux_tiny" in launch("--info", "defaults").out
    assert "bash" in launch("--hydra-help").out


@pytest.mark.slow
def test_tab_completion_is_hydras(launch):
    assert "complete" in launch("-sc", "install=bash").out


@pytest.mark.parametrize("option", ["--config-path=x", "--config-name", "-cn"])
def test_conf_is_not_replaced(capsys, option):
    assert main([option, "x"]) == 1
    assert "type --config-dir DIR" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--info", "--cfg=job"])
@pytest.mark.parametrize("setting", ["+hydra.callbacks.x._target_", "+hydra.hydra_logging.handlers.x.()"])
def test_a_question_runs_no_code_of_the_configuration(launch, tmp_path, option, setting):
    (tmp_path / "evil.py").write_text("open('ran', 'w')")
    ended = launch(option, f"{setting}=evil.Class", PYTHONPATH=f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    assert ended.code == 1
    assert not (tmp_path / "ran").exists()
    assert ended.err.startswith("launcher: ")
    assert "internal error" not in ended.err
