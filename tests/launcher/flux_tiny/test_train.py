"""The training's own command."""

import sys

import pytest

from launcher.flux_tiny import model, train


def test_it_exports_what_was_trained(tmp_path, monkeypatch, capsys):
    """The phases' files, from weights as they begin; the folder that it writes is a pipeline."""
    from diffusers import FluxPipeline
    from safetensors.torch import save_file

    pipe = model.pipeline(seed=0)
    work, folder = tmp_path / "work", tmp_path / "pipeline"
    work.mkdir()
    save_file(pipe.text_encoder.state_dict(), work / "clip.safetensors")
    t5 = {k: v for k, v in pipe.text_encoder_2.state_dict().items() if k != "encoder.embed_tokens.weight"}
    save_file(t5, work / "t5.safetensors")
    save_file({f"average/{k}": v for k, v in pipe.vae.state_dict().items()}, work / "autoencoder.safetensors")
    state = {f"average/{k}": v for k, v in pipe.transformer.state_dict().items()}
    save_file(state, work / "flow.safetensors")
    words = ["train", "--work", str(work), "--folder", str(folder), "--phase", "export", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", words)
    train.main()
    assert "MB" in capsys.readouterr().out
    FluxPipeline.from_pretrained(folder)


@pytest.mark.parametrize("words", [["--phase", "all"], ["--ranks", "two"], ["--steps", "5"]])
def test_its_command_says_what_is_wrong(words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train", *words])
    with pytest.raises(SystemExit) as ended:
        train.main()
    assert ended.value.code == 2
    assert words[1] in capsys.readouterr().err
