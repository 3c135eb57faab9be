"""What the names in a LoRA's file tell, before a rank starts."""

import pytest

from launcher import lora_keys


def pair(stem: str, down: str = "lora_A", up: str = "lora_B") -> list[str]:
    return [f"{stem}.{down}.weight", f"{stem}.{up}.weight"]


@pytest.mark.parametrize(
    "keys",
    [
        pair("transformer.x"),
        pair("base_model.model.x"),
        pair("x", "lora_A.default", "lora_B.default"),
        [*pair("lora_unet_x", "lora_down", "lora_up"), "lora_unet_x.alpha"],
        pair("x", "lora.down", "lora.up"),
        pair("x", "lora_linear_layer.down", "lora_linear_layer.up"),
        ["x.processor.qkv_lora1.down.weight", "x.processor.qkv_lora1.up.weight"],
        [*pair("x"), "x.lora_magnitude_vector", "x.lora_B.bias"],
    ],
)
def test_every_spelling_of_a_lora(keys):
    assert lora_keys.flaw(keys) is None
    found, rest = lora_keys.stems(keys)
    assert [set(stem.keys) >= {"down", "up"} for stem in found.values()] == [True]
    assert rest == []


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ([], "holds no LoRA"),
        ([*pair("x"), "x.dora_scale"], "is a DoRA in kohya's form (x.dora_scale), and only plain LoRAs can be used"),
        (["x.lokr_w1", "x.lokr_w2", "x.alpha"], "is a LoKr (x.lokr_w1 and 1 more)"),
        (["x.lora_A.weight"], "has keys without the pair of matrices that they belong to: x.lora_A.weight"),
        ([*pair("x"), "y.alpha"], "belong to: y.alpha"),
        ([*pair("x"), "transformer.pos_embed"], "has keys that are no part of a LoRA: transformer.pos_embed"),
        ([*pair("x"), "a\nb" * 99], "no part of a LoRA: a\\nba\\nb"),
    ],
)
def test_what_cannot_be_worn_is_named(keys, told):
    flaw = lora_keys.flaw(keys)
    assert flaw is not None
    assert told in flaw
    assert len(flaw) < 350
