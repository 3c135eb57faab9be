"""Whatever a LoRA's file holds is worn with its own strength, or named: in every form that such files come in."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
import twins
from diffusers import DiffusionPipeline
from safetensors.torch import save_file
from shared import a_job

from launcher.families.weights import BUNDLED
from launcher.wire.jobs import LoraFile
from launcher.worker.absent import held
from launcher.worker.load import load_pipeline
from launcher.worker.lora import Loras
from launcher.worker.offloading import Offload

WIDTH = 144  # of the bundled transformer: 6 heads of 24
RANK = 2
TO_K = "transformer_blocks.0.attn.to_k"


@pytest.fixture(scope="module")
def flux():
    return DiffusionPipeline.from_pretrained(BUNDLED)


@pytest.fixture(scope="module")
def wan(tmp_path_factory):
    return DiffusionPipeline.from_pretrained(twins.build("wan_t2v_1_3b", tmp_path_factory.mktemp("wan")))


@pytest.fixture
def wear(tmp_path):
    """Have a pipeline wear a file of these tensors; it is undressed afterwards."""
    worn = []

    def put_on(pipe, state, metadata=None, config=None, scale=1.0) -> Loras:
        save_file({key: tensor.clone() for key, tensor in state.items()}, tmp_path / "x.safetensors", metadata)
        if config is not None:
            (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        worn.append(pipe)
        loras = Loras(pipe)
        loras.wear((LoraFile(str(tmp_path / "x.safetensors"), 1, scale, "x"),))
        return loras

    yield put_on
    for pipe in worn:
        pipe.unload_lora_weights()


def matrices(outputs: int = WIDTH, inputs: int = WIDTH, rank: int = RANK, seed: int = 0) -> tuple[torch.Tensor, ...]:
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(rank, inputs, generator=noise), torch.randn(outputs, rank, generator=noise)


def pair(stem: str, form: str = "lora_A lora_B", **size: int) -> dict[str, torch.Tensor]:
    down, up = form.split()
    one, other = matrices(**size)
    return {f"{stem}.{down}.weight": one, f"{stem}.{up}.weight": other}


def added(layer: torch.nn.Module) -> torch.Tensor:
    """What a layer's weights get from what it wears, (outputs, inputs)."""
    x = torch.eye(layer.base_layer.in_features)
    with torch.no_grad():
        return (layer(x) - layer.base_layer(x)).T


def assert_added(layer: torch.nn.Module, expected: torch.Tensor) -> None:
    torch.testing.assert_close(added(layer), expected, atol=1e-4, rtol=1e-4)


DOWN, UP = matrices()
DELTA = UP @ DOWN
ALPHA = torch.tensor(1.0)


@pytest.mark.parametrize("stem", [f"transformer.{TO_K}", TO_K, f"base_model.model.{TO_K}"])
@pytest.mark.parametrize(
    "form", ["lora_A lora_B", "lora_down lora_up", "lora.down lora.up", "lora_A.default lora_B.default"]
)
@pytest.mark.parametrize("alpha", [False, True])
def test_diffusers_own_names_in_every_spelling(flux, wear, stem, form, alpha):
    state = pair(stem, form) | ({f"{stem}.alpha": ALPHA} if alpha else {})
    peft = stem.startswith("base_model")
    wear(flux, state, config={"r": RANK, "lora_alpha": RANK} if peft else None, scale=3.0)
    assert_added(flux.transformer.get_submodule(TO_K), 3.0 * DELTA / (RANK if alpha else 1))


@pytest.mark.parametrize("prefix", ["diffusion_model.", "transformer._orig_mod.", "module."])
def test_names_that_other_programs_put_around_the_transformer(flux, wear, prefix):
    wear(flux, pair(prefix + TO_K))
    assert_added(flux.transformer.get_submodule(TO_K), DELTA)


def test_comfyuis_fused_layers(flux, wear):
    wear(flux, pair("diffusion_model.double_blocks.0.img_attn.qkv", outputs=3 * WIDTH))
    down, up = matrices(outputs=3 * WIDTH)
    assert_added(flux.transformer.get_submodule(TO_K), (up @ down)[WIDTH : 2 * WIDTH])


def test_numbers_of_eight_bits(flux, wear):
    state = {key: tensor.to(torch.float8_e4m3fn) for key, tensor in pair(f"transformer.{TO_K}").items()}
    wear(flux, state)
    down, up = (tensor.float() for tensor in state.values())
    assert_added(flux.transformer.get_submodule(TO_K), up @ down)


def test_an_adapters_strength_is_in_its_configuration(flux, wear):
    state = pair(f"base_model.model.{TO_K}")
    with pytest.raises(ValueError, match=r"adapter_config.json with its strength is not beside it"):
        wear(flux, state)
    config = {"r": RANK, "lora_alpha": 1, "use_rslora": True, "alpha_pattern": {"attn.to_k": 8}}
    wear(flux, state, config=config)
    assert_added(flux.transformer.get_submodule(TO_K), DELTA * 8 / RANK**0.5)


@pytest.mark.parametrize("stem", [TO_K, f"transformer.{TO_K}", f"diffusion_model.{TO_K}"])
def test_a_configuration_beside_a_file_holds_without_pefts_prefix_too(flux, wear, stem):
    wear(flux, pair(stem), config={"r": RANK, "lora_alpha": 1})
    assert_added(flux.transformer.get_submodule(TO_K), DELTA / RANK)


def test_a_configuration_holds_for_layers_under_other_programs_names(flux, wear):
    stem = "diffusion_model.double_blocks.0.img_attn.qkv"
    wear(flux, pair(stem, outputs=3 * WIDTH), config={"r": RANK, "lora_alpha": 8})
    down, up = matrices(outputs=3 * WIDTH)
    assert_added(flux.transformer.get_submodule(TO_K), 4 * (up @ down)[WIDTH : 2 * WIDTH])


def test_a_header_with_parts_holds_for_names_without_them(flux, wear):
    metadata = {"lora_adapter_metadata": json.dumps({"transformer.r": RANK, "transformer.lora_alpha": 8})}
    wear(flux, pair(TO_K), metadata)
    assert_added(flux.transformer.get_submodule(TO_K), DELTA * 4)


def test_an_alpha_of_some_keys_goes_before_the_configuration(flux, wear):
    other = TO_K.replace("to_k", "to_q")
    wear(flux, pair(TO_K) | pair(other) | {f"{other}.alpha": ALPHA}, config={"r": RANK, "lora_alpha": 8})
    assert_added(flux.transformer.get_submodule(TO_K), DELTA * 4)
    assert_added(flux.transformer.get_submodule(other), DELTA / RANK)


def test_the_strength_that_diffusers_writes_into_a_file(flux, wear):
    metadata = {"lora_adapter_metadata": json.dumps({"transformer.r": RANK, "transformer.lora_alpha": 8})}
    wear(flux, pair(f"transformer.{TO_K}"), metadata)
    assert_added(flux.transformer.get_submodule(TO_K), DELTA * 4)


def kohya(stem: str = "lora_unet_double_blocks_0_img_attn_qkv", **size: int) -> dict[str, torch.Tensor]:
    return pair(stem, "lora_down lora_up", **{"outputs": 3 * WIDTH} | size) | {f"{stem}.alpha": ALPHA}


def test_kohyas_fused_layers_are_cut_with_their_scale(flux, wear):
    wear(flux, kohya())
    down, up = matrices(3 * WIDTH)
    for name, part in zip(("to_q", "to_k", "to_v"), (up @ down / RANK).chunk(3), strict=True):
        assert_added(flux.transformer.get_submodule(f"transformer_blocks.0.attn.{name}"), part)


def test_kohyas_split_layers_deal_their_rows_out(flux, wear):
    """`split_qkv`: the rank is a multiple of three, and each part has rows of its own, the rest of `up` being zero."""
    state = kohya(rank=6)
    stem = "lora_unet_double_blocks_0_img_attn_qkv"
    up = torch.block_diag(*(torch.randn(WIDTH, 2) for _ in range(3)))
    state[f"{stem}.lora_up.weight"] = up
    wear(flux, state)
    parts = (up @ state[f"{stem}.lora_down.weight"] / 6).chunk(3)
    for name, part in zip(("to_q", "to_k", "to_v"), parts, strict=True):
        assert_added(flux.transformer.get_submodule(f"transformer_blocks.0.attn.{name}"), part)


def test_kohyas_first_text_encoder(flux, wear):
    layer = flux.text_encoder.encoder.layers[0].self_attn.q_proj
    width = layer.in_features
    wear(flux, kohya() | kohya("lora_te1_text_model_encoder_layers_0_self_attn_q_proj", outputs=width, inputs=width))
    down, up = matrices(width, width)
    assert_added(flux.transformer.get_submodule(TO_K), (matrices(3 * WIDTH)[1] @ DOWN / RANK).chunk(3)[1])
    assert_added(flux.text_encoder.encoder.layers[0].self_attn.q_proj, up @ down / RANK)


def test_what_a_text_encoder_wears_is_left_to_the_rank_that_has_it(flux, wear):
    load = dataclasses.replace(a_job().load, path=str(BUNDLED))
    pipe = load_pipeline(load, str(BUNDLED), Offload("none", torch.device("cpu")))
    width = pipe.text_encoder.encoder.layers[0].self_attn.q_proj.in_features
    text = kohya("lora_te1_text_model_encoder_layers_0_self_attn_q_proj", outputs=width, inputs=width)
    loras = wear(pipe, kohya() | text)
    assert hasattr(pipe.transformer.transformer_blocks[0].attn.to_q, "base_layer")
    assert held(pipe)["text_encoder"] == 0
    loras.wear(())
    alone = wear(pipe, text)  # nothing of it is for this rank
    assert not hasattr(pipe.transformer.transformer_blocks[0].attn.to_q, "base_layer")
    alone.wear(())
    wrong = kohya("lora_te1_text_model_encoder_layers_0_self_attn_q_proj", outputs=width, inputs=width + 1)
    with pytest.raises(ValueError, match="does not fit"):  # on every rank
        wear(pipe, wrong)


def test_a_dora_as_peft_writes_it(flux, wear):
    magnitude = torch.rand(WIDTH) + 0.5
    wear(flux, pair(f"transformer.{TO_K}") | {f"transformer.{TO_K}.lora_magnitude_vector": magnitude})
    layer = flux.transformer.get_submodule(TO_K)
    whole = layer.base_layer.weight.detach() + DELTA
    assert_added(layer, whole / whole.norm(dim=1, keepdim=True) * magnitude[:, None] - layer.base_layer.weight.detach())


REFUSED = [
    (kohya() | {"lora_unet_double_blocks_0_img_attn_qkv.dora_scale": torch.ones(3 * WIDTH, 1)}, "DoRA in kohya's form"),
    (kohya() | kohya("lora_te2_encoder_block_0_layer_0_SelfAttention_q", outputs=32, inputs=32), "lora_te2_encoder"),
    (pair(f"transformer.{TO_K}") | pair("transformer.single_transformer_blocks.9.attn.to_q"), "blocks.9.attn.to_q"),
    (pair(f"transformer.{TO_K}", inputs=WIDTH + 1), f"size mismatch .*{WIDTH + 1}.*{WIDTH}"),
    ({f"transformer.{TO_K}.lokr_w1": DOWN, f"transformer.{TO_K}.lokr_w2": UP}, "a LoKr"),
    ({f"transformer.{TO_K}.hada_w1_a": DOWN}, "a LoHa"),
    ({f"transformer.{TO_K}.diff": DOWN, **pair(f"transformer.{TO_K}")}, "whole differences"),
    ({f"transformer.{TO_K}.lora_A.weight": DOWN}, "without the pair of matrices"),
    (pair(f"transformer.{TO_K}") | {"transformer.pos_embed": DOWN}, "no part of a LoRA: transformer.pos_embed"),
    (pair(f"transformer.{TO_K}") | {f"transformer.{TO_K}.lora_B.weight": UP * float("nan")}, f"not finite: .*{TO_K}"),
    (pair("no.layer.of_any_model"), "x.safetensors"),
    (pair("base_model.model.no.layer", "lora_down lora_up") | {"base_model.model.no.layer.alpha": ALPHA}, "no.layer"),
]


@pytest.mark.parametrize(("state", "told"), REFUSED)
def test_what_cannot_be_worn_whole_is_refused_by_name(flux, wear, state, told):
    with pytest.raises(ValueError, match=told) as refused:
        wear(flux, state)
    assert str(refused.value).count("\n") == 0
    assert "x.safetensors" in str(refused.value)


def musubi(blocks: int) -> dict[str, torch.Tensor]:
    state = {}
    for block, (attention, letter) in (
        (b, x) for b in range(blocks) for a in ("self", "cross") for x in [(a, c) for c in "qkvo"]
    ):
        state |= kohya(f"lora_unet_blocks_{block}_{attention}_attn_{letter}", outputs=72, inputs=72)
    for block in range(blocks):
        state |= kohya(f"lora_unet_blocks_{block}_ffn_0", outputs=64, inputs=72)
        state |= kohya(f"lora_unet_blocks_{block}_ffn_2", outputs=72, inputs=64)
    return state


def test_musubis_form_for_wan(wan, wear):
    wear(wan, musubi(2))
    down, up = matrices(72, 72)
    assert_added(wan.transformer.blocks[1].attn2.to_out[0], up @ down / RANK)


def test_a_part_of_musubis_form_is_refused_in_words(wan, wear):
    state = {key: tensor for key, tensor in musubi(2).items() if "blocks_1_cross" not in key}
    with pytest.raises(ValueError, match=r"x.safetensors does not fit WanPipeline: KeyError 'blocks_1_cross_attn_q"):
        wear(wan, state)


def test_a_converter_that_forgets_a_scale_is_noticed(flux, wear, monkeypatch):
    convert = type(flux).lora_state_dict

    def forgets(state, **more):
        return convert({key: tensor for key, tensor in state.items() if "alpha" not in key}, **more)

    monkeypatch.setattr(type(flux), "lora_state_dict", staticmethod(forgets))
    with pytest.raises(ValueError, match=r"would be 2 times as strong as it says at lora_unet_double_blocks_0"):
        wear(flux, kohya())


@pytest.mark.parametrize(
    "config",
    [
        3,
        [],
        {"lora_alpha": "/etc/passwd"},
        {"lora_alpha": []},
        {"lora_alpha": 1, "alpha_pattern": 3},
        {"lora_alpha": 1e999},
    ],
)
def test_an_adapter_with_an_odd_configuration_is_named(flux, wear, config):
    for where in ({"config": config}, {"metadata": {"lora_adapter_metadata": json.dumps(config)}}):
        with pytest.raises(ValueError, match=r"^x\.safetensors"):
            wear(flux, pair(f"base_model.model.transformer.{TO_K}"), **where)


def test_an_adapter_with_a_configuration_that_never_ends_is_named(flux, wear):
    with pytest.raises(ValueError, match=r"^x\.safetensors: the configuration of its adapter is not valid JSON"):
        wear(flux, pair(f"transformer.{TO_K}"), metadata={"lora_adapter_metadata": "[" * 100_000})


def test_several_are_added_in_their_order_scaled_and_taken_off_one_by_one(flux, tmp_path):
    """Those that stay are not read again, and the layers below are as before once all are off."""
    seeds = {name: matrices(seed=number) for number, name in enumerate("abc")}
    for name, (down, up) in seeds.items():
        state = {f"transformer.{TO_K}.lora_A.weight": down, f"transformer.{TO_K}.lora_B.weight": up}
        if name == "b":
            layer = "text_encoder.encoder.layers.0.self_attn.q_proj"
            width = flux.text_encoder.encoder.layers[0].self_attn.q_proj.in_features
            state |= pair(layer, inputs=width, outputs=width)
        save_file(state, tmp_path / f"{name}.safetensors")
    before = flux.transformer.get_submodule(TO_K).weight.clone()
    loras = Loras(flux)

    def worn(**scales: float) -> None:
        files = {one: str(tmp_path / f"{one}.safetensors") for one in scales}
        loras.wear(tuple(LoraFile(files[one], 1, scale, one) for one, scale in scales.items()))
        expected = sum(scale * seeds[one][1] @ seeds[one][0] for one, scale in scales.items())
        assert_added(flux.transformer.get_submodule(TO_K), expected)

    try:
        worn(a=0.5, b=2.0)
        (tmp_path / "a.safetensors").unlink()
        worn(b=1.0, a=-1.0)
        worn(c=0.0, b=0.25)
        layer = flux.text_encoder.encoder.layers[0].self_attn.q_proj
        down, up = matrices(width, width)
        assert_added(layer, 0.25 * up @ down)
        with pytest.raises(FileNotFoundError):
            worn(a=1.0, c=1.0)
        loras.wear(())
        assert torch.equal(flux.transformer.get_submodule(TO_K).weight, before)
    finally:
        flux.unload_lora_weights()


def test_fused_ones_are_in_the_weights_and_no_layer_is_left_around_them(tmp_path):
    pipe = DiffusionPipeline.from_pretrained(BUNDLED)
    files = []
    for number in range(2):
        down, up = matrices(seed=number)
        state = {f"transformer.{TO_K}.lora_A.weight": down, f"transformer.{TO_K}.lora_B.weight": up}
        save_file(state, tmp_path / f"{number}.safetensors")
        files.append(LoraFile(str(tmp_path / f"{number}.safetensors"), 1, 0.5 + number, str(number)))
    before = pipe.transformer.get_submodule(TO_K).weight.detach().clone()
    Loras(pipe).fuse(tuple(files))
    layer = pipe.transformer.get_submodule(TO_K)
    assert type(layer) is torch.nn.Linear
    (one_down, one_up), (two_down, two_up) = matrices(seed=0), matrices(seed=1)
    expected = before + 0.5 * one_up @ one_down + 1.5 * two_up @ two_down
    torch.testing.assert_close(layer.weight.detach(), expected, atol=1e-5, rtol=1e-5)
