"""flux_tiny's shape: every part of a FluxPipeline, small, with untrained weights from a fixed seed."""

import copy
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from launcher.flux_tiny import vocabulary

FOLDER = Path(__file__).parent / "pipeline"
EMBEDDING = 64
# Latents are the mean colour of 8 x 8 pixels, in [-1, 1], shifted and scaled to mean 0 and deviation 1.
SHIFT, SCALING = 0.03, 1.45
HEADS = 6  # 2, 3 and 6 ranks divide them, 4 and 5 don't
FILLERS = """
a an the of in on over against with and to for by at is are that this background ground pattern patterns wallpaper
seamless print fabric texture tile tiles design picture image drawing painting paper wall nice beautiful simple bright
pale pretty abstract modern retro style very please make draw show some many few color colour colored coloured cat dog
house flower tree photo sky sea
"""


def known_words() -> list[str]:
    """Every word that gets a token of its own, sorted."""
    phrases = [p for names in vocabulary.PATTERNS.values() for p in names]
    phrases += [
        w for table in (vocabulary.COLOUR_WORDS, vocabulary.SCALE_WORDS) for names in table.values() for w in names
    ]
    return sorted({word for phrase in phrases for word in phrase.split()} | set(FILLERS.split()))


def clip_tokenizer() -> CLIPTokenizer:
    """Byte-pair tokens, merged until each known word is one; other words fall apart into pieces and bytes.

    Merges are counted here and not by tokenizers' trainer, whose order among equals changes from call to call: token
    numbers must be the same when the weights are loaded.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [[*word[:-1], word[-1] + "</w>"] for word in known_words()]
    merges: list[tuple[str, str]] = []
    while pairs := Counter(pair for word in pieces for pair in pairwise(word)):
        merges.append(max(pairs, key=lambda pair: (pairs[pair], pair)))
        for word in pieces:
            for i in range(len(word) - 1, 0, -1):
                if (*word[i - 1 : i + 1],) == merges[-1]:
                    word[i - 1 : i + 1] = ["".join(merges[-1])]
    # Every byte, inside a word and at its end, and what the merges make: nothing in a prompt is unknown.
    tokens = dict.fromkeys(alphabet + [f"{a}</w>" for a in alphabet] + [a + b for a, b in merges])
    vocab = {t: i for i, t in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)


def t5_tokenizer() -> T5Tokenizer:
    """Unigram tokens: known words in lower, title and upper case (it keeps no normaliser), and characters."""
    forms = dict.fromkeys(f for w in known_words() for f in (w, w.capitalize(), w.upper()))
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -8.0)]
    vocab += [(f"▁{form}", -4.0) for form in forms]
    vocab += [(chr(code), -10.0) for code in range(33, 127)]
    return T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=512)


def clip_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=EMBEDDING,
            intermediate_size=2 * EMBEDDING,
            projection_dim=EMBEDDING,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=77,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,  # where the pooled embedding is read
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def t5_encoder(tokenizer: T5Tokenizer) -> T5EncoderModel:
    encoder = T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=EMBEDDING,
            d_kv=16,
            d_ff=2 * EMBEDDING,
            num_layers=2,
            num_heads=4,
            relative_attention_num_buckets=16,
            relative_attention_max_distance=16,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    )
    # Told apart by distance from the start: with the usual small biases it takes long to see the order of two colours.
    encoder.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight.data.normal_(0, 1.5)
    return encoder


def transformer() -> FluxTransformer2DModel:
    """Of a head's 24 numbers 16 carry content alone; each spatial axis turns two at 1 and two at 1/100 rad a token."""
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=12,
        num_layers=1,
        num_single_layers=3,
        attention_head_dim=24,
        num_attention_heads=HEADS,
        joint_attention_dim=EMBEDDING,
        pooled_projection_dim=EMBEDDING,
        guidance_embeds=False,
        axes_dims_rope=(16, 4, 4),
    )


def autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=3,
        norm_num_groups=4,
        mid_block_add_attention=False,
        sample_size=512,
        scaling_factor=SCALING,
        shift_factor=SHIFT,
    )


def to_latents(means: torch.Tensor) -> torch.Tensor:
    """8-pixel mean colours (n, 3, rows, columns) in [-1, 1] -> latents that the transformer works on."""
    return (means - SHIFT) * SCALING


def pipeline(seed: int = 0) -> FluxPipeline:
    """The whole pipeline in float32, untrained. Equal seeds give equal weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clip_words, t5_words = clip_tokenizer(), t5_tokenizer()
        return FluxPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=1.5, max_shift=2.0),
            vae=autoencoder(),
            text_encoder=clip_encoder(clip_words),
            tokenizer=clip_words,
            text_encoder_2=t5_encoder(t5_words),
            tokenizer_2=t5_words,
            transformer=transformer(),
        )


def save(pipe: FluxPipeline, folder: Path = FOLDER) -> int:
    """Write the folder that `FluxPipeline.from_pretrained` reads; returns its size in bytes.

    Transformer and autoencoder go to disk in float16. The text encoders stay in float32: transformers loads weights in
    the type they have on disk, diffusers in float32 unless told otherwise, and the two must meet.
    """
    half = FluxPipeline(
        scheduler=pipe.scheduler,
        vae=copy.deepcopy(pipe.vae).half(),  # a copy, since .half() casts in place
        text_encoder=pipe.text_encoder.float(),
        tokenizer=pipe.tokenizer,
        text_encoder_2=pipe.text_encoder_2.float(),
        tokenizer_2=pipe.tokenizer_2,
        transformer=copy.deepcopy(pipe.transformer).half(),
    )
    half.save_pretrained(folder)
    for part in ("transformer", "vae"):  # diffusers notes where a model was loaded from: a folder of this machine
        config = folder / part / "config.json"
        kept = {key: value for key, value in json.loads(config.read_text()).items() if key != "_name_or_path"}
        config.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")
    files = [f for f in folder.rglob("*") if f.is_file()]
    for file in files:
        file.chmod(0o644)  # safetensors are written for their owner alone, and a package is read by others
    return sum(f.stat().st_size for f in files)
