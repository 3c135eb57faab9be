"""model.path= without model=: the pipeline that is there decides, not the default model's facts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from shared import LAPTOP

from launcher import machines
from launcher.cli.main import main
from launcher.config.compose import Composer
from launcher.config.schema import LaunchConfig
from launcher.families.class_plans import facts
from launcher.families.weights import BUNDLED
from launcher.problems import Refused
from launcher.running.session import Session

LTX = {
    "transformer": {"kind": "LTXVideoTransformer3DModel", "num_attention_heads": 6, "attention_head_dim": 12},
    "vae": {"kind": "AutoencoderKLLTXVideo"},
}
ALLEGRO = {"transformer": {"kind": "AllegroTransformer3DModel", "num_attention_heads": 24}}
PIXART = {"transformer": {"kind": "PixArtTransformer2DModel", "num_attention_heads": 16, "sample_size": 64}}


def pipeline(folder: Path, kind: str, parts: dict[str, dict[str, Any]]) -> str:
    index: dict[str, Any] = {"_class_name": kind}
    for name, config in parts.items():
        index[name] = ["diffusers", config["kind"]]
        (folder / name).mkdir(parents=True)
        plain = {key: value for key, value in config.items() if key != "kind"}
        (folder / name / "config.json").write_text(json.dumps({"_class_name": config["kind"], **plain}))
    (folder / "model_index.json").write_text(json.dumps(index))
    return f"model.path={folder}"


@pytest.fixture
def session() -> Session:
    return Session(Composer())


def asked(session: Session, *words: str) -> LaunchConfig:
    return session.resolve(list(words))[1].config


@pytest.mark.slow
def test_a_family_whose_pipeline_it_is_gives_its_plan_and_the_files_their_facts(session, tmp_path):
    path = pipeline(tmp_path / "mine", "LTXPipeline", LTX)
    config = asked(session, path)
    assert (config.model.name, config.model.heads, config.model.head_dim) == ("ltx_video", 6, 12)
    assert config.model.cp_plan is not None
    assert (config.frames, config.height) == (161, 512)
    assert config.model.path == str(tmp_path / "mine")


def test_what_was_typed_stays(session, tmp_path):
    path = pipeline(tmp_path / "mine", "LTXPipeline", LTX)
    config = asked(session, path, "model.heads=5", "frames=9", "model.arguments.fps=null", "steps=3")
    assert (config.model.heads, config.frames, config.steps, config.model.arguments.fps) == (5, 9, 3, None)


def test_a_copy_of_the_default_model_is_the_default_model(session, tmp_path):
    path = shutil.copytree(BUNDLED, tmp_path / "copy")
    assert asked(session, f"model.path={path}").model.name == "flux_tiny"


@pytest.mark.parametrize("word", ["model=flux", "model=flux_tiny"])
def test_a_model_that_is_named_is_that_model(session, tmp_path, word):
    path = pipeline(tmp_path / "mine", "LTXPipeline", LTX)
    request = session.resolve([word, path])[1]
    assert request.config.model.name == word.partition("=")[2]
    assert "holds a LTXPipeline" in " ".join(map(str, request.inputs.checkpoint.problems))


def test_any_other_pipeline_is_read_from_its_files(session, tmp_path):
    path = pipeline(tmp_path / "Pix-Art", "PixArtSigmaPipeline", PIXART)
    config = asked(session, path, "guidance=2")
    assert (config.model.name, config.model.pipeline) == ("pix_art", "PixArtSigmaPipeline")
    assert (config.height, config.guidance, config.model.guidance_cfg) == (512, 2, True)
    assert config.model.cp_plan == facts("PixArtTransformer2DModel")["cp_plan"]
    config = asked(session, pipeline(tmp_path / "any", "AllegroPipeline", ALLEGRO))
    assert config.model.cp_plan is None


@pytest.mark.slow
def test_in_a_sweep_each_job_has_its_own(session, tmp_path, monkeypatch):
    one = pipeline(tmp_path / "one", "LTXPipeline", LTX).partition("=")[2]
    two = pipeline(tmp_path / "two", "PixArtSigmaPipeline", PIXART).partition("=")[2]
    monkeypatch.chdir(tmp_path)
    sweep = session.sweep([f"model.path={one},{two}", "runtime=cpu", "steps=0"])
    assert [job.request.config.model.name for job in sweep.jobs if job.request] == ["ltx_video", "two"]


def test_another_mode_says_what_to_write_and_prints_a_first_draft(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(machines, "here", lambda: LAPTOP)
    path = pipeline(tmp_path / "any", "AllegroPipeline", ALLEGRO)
    assert main([path, "cp=ring_anything", "runtime=cpu"]) == 1
    err = capsys.readouterr().err
    assert "the ranks need a plan of what they split, and there is none for AllegroTransformer3DModel" in err
    assert "type cp=none; or complete this draft, save it as FOLDER/model/NAME.yaml" in err
    assert "\ncp_plan:\n  split:\n    transformer_blocks.0:\n      hidden_states: {dim: 1}\n" in err


def test_a_repository_that_can_not_be_asked_is_told(session, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(Refused, match="HF_HUB_OFFLINE is set"):
        asked(session, "model.path=someone/some-pipeline")


@pytest.mark.slow
def test_a_pipeline_that_no_family_has_makes_a_picture(launch, tmp_path):
    """A UNet, which is no transformer at all."""
    import diffusers
    import torch
    from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED / "tokenizer")
    tokenizer.model_max_length = 77
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    sizes |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    diffusers.StableDiffusionPipeline(
        tokenizer=tokenizer,
        text_encoder=CLIPTextModel(CLIPTextConfig(vocab_size=len(tokenizer), **sizes)),
        unet=diffusers.UNet2DConditionModel(
            block_out_channels=(4, 8), layers_per_block=1, sample_size=16, cross_attention_dim=32, attention_head_dim=2,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), norm_num_groups=2,
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        ),
        vae=diffusers.AutoencoderKL(block_out_channels=(4, 4), down_block_types=("DownEncoderBlock2D",) * 2,
                                    up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=2),
        scheduler=diffusers.DDIMScheduler(), safety_checker=None, feature_extractor=None,
    ).save_pretrained(tmp_path / "sd")  # fmt: skip
    ended = launch(f"model.path={tmp_path / 'sd'}", "runtime=cpu", "steps=2", "height=50", "seed=1")
    assert ended.code == 0, ended.err
    (run,) = ended.runs
    record = json.loads((run / "run.json").read_text())
    assert (record["files"][0]["height"], record["files"][0]["width"]) == (50, 32)
    assert record["config"]["model"]["pipeline"] == "StableDiffusionPipeline"
