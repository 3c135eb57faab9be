"""What conf/model says of a model: its facts, its tasks, and the settings it looks good with.

`help` in a field's metadata is what `python -m launcher --help` prints.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

# omegaconf resolves these annotations at run time and knows Optional[int], not every spelling of int | None.
# ruff: noqa: UP045


def option(default: Any, help: str) -> Any:
    """A field of a configuration with its line on the help page."""
    return field(default=default, metadata={"help": help})


def fact(default: Any, help: str) -> Any:
    """A field that describes a model rather than a wish: given by its file in conf/model, seldom on a command line."""
    return field(default=default, metadata={"help": help, "fact": True})


@dataclass
class ArgumentNames:
    """What the pipeline's call names each setting; null: it takes no such argument."""

    height: Optional[str] = fact("height", "pixels")
    width: Optional[str] = fact("width", "pixels")
    frames: Optional[str] = fact("num_frames", "frames of a video")
    fps: Optional[str] = fact(None, "the frame rate, where it changes what is made and not only how fast it is shown")
    steps: Optional[str] = fact("num_inference_steps", "denoising steps")
    guidance: Optional[str] = fact("guidance_scale", "the guidance scale")
    guidance_schedule: Optional[str] = fact(None, "its own guidance schedule, which guidance= takes the place of")
    true_cfg: Optional[str] = fact("true_cfg_scale", "the scale of classifier-free guidance beside a distilled one")
    negative_prompt: Optional[str] = fact("negative_prompt", "what to avoid")
    text_tokens: Optional[str] = fact("max_sequence_length", "the most text tokens")
    area: Optional[str] = fact(None, "pixels of the whole picture, where it would be changed to so many")


@dataclass
class TaskConfig:
    """Something that a model does with what it is given, beside a prompt."""

    needs: list[str] = field(default_factory=list)  # image, mask_image, last_image, video
    pipeline: Optional[str] = None  # the class that does it with the same weights; null: the model's own
    strength: Optional[float] = None  # how much is drawn anew when nothing is said; null: it takes no such number
    most: int = 1  # pictures that image= may list
    beside: Optional[str] = None  # a picture has tokens beside what is drawn: own (in its own shape), same (as drawn)
    most_pixels: Optional[int] = None  # that it draws without changing the size; null: any
    frames: bool = True  # its call is told of the frames; false: it makes as many as the film has
    condition: Optional[str] = None  # the class that its call takes each of them in, with its place in time
    names: dict[str, str] = field(default_factory=dict)  # its call's arguments for them, where those have other names
    batch: bool = False  # each picture of a call starts from them as one alone does


@dataclass
class ModelConfig:
    """A model's facts, and the settings it looks good with."""

    name: str = fact("", "the model's name")
    pipeline: str = fact("", "the diffusers pipeline class")
    task: str = fact("text-to-image", "text-to-image, text-to-video, image-to-video, image-edit or inpaint")
    path: str = option("", "a hub repository, a local folder, 'bundled', or with base a single .safetensors file")
    base: Optional[str] = option(
        None, "where model.path is a single file: the repository or folder of what it does not hold, text encoders ..."
    )
    revision: Optional[str] = option(None, "branch, tag or commit of the hub repository")
    variant: Optional[str] = option(None, "weight files to use: fp16 for model.fp16.safetensors; default: plain")
    transformer: Optional[str] = option(
        None,
        "in place of model.path's: a .safetensors file, in any format that diffusers reads, a .gguf file or a folder; "
        "here or on the hub: owner/name[@REVISION][/FOLDER or /FILE]",
    )
    vae: Optional[str] = option(None, "another VAE than model.path's, likewise")
    gated: bool = fact(False, "the hub asks for an accepted licence and a token")
    licence: str = fact("", "where the licence is read and accepted")
    needs_gpu: bool = fact(False, "too large for a CPU, unless runtime.device=cpu insists")
    tasks: dict[str, Optional[TaskConfig]] = field(
        default_factory=dict,
        metadata={"help": "what it does with pictures, by what it needs; text alone follows from task", "fact": True},
    )
    reference_sizes: Optional[list[str]] = fact(
        None, "image= is looked at beside what is drawn, in that of these sizes, HEIGHTxWIDTH, with the nearest aspect"
    )
    reference_area: Optional[int] = fact(None, "the same in so many pixels, with sides that 32 divides")
    reference_most: Optional[int] = fact(None, "the same in its own size, or scaled down to so many pixels")
    heads: int = fact(0, "attention heads")
    head_dim: int = fact(0, "channels of a head")
    layers: int = fact(0, "attention layers")
    single_layers: Optional[int] = fact(
        None,
        "how many of them have an MLP beside the attention, which runs while keys travel as the query's projection of "
        "every layer does; null: nothing does",
    )
    vae_scale: int = fact(8, "pixels of a latent, each way")
    patch: int = fact(2, "latents of a token, each way")
    latent_channels: int = fact(16, "channels of a latent")
    frames_per_latent: Optional[int] = fact(None, "frames of each latent after the first; null: it makes pictures")
    sound: bool = fact(False, "its films have sound")
    max_positions: Optional[int] = fact(None, "tokens each way, and latents in time, that positions are known for")
    text: str = fact(
        "padded",
        "padded (to text_tokens) and prompt (as long as it is) are split, whole is not, and joined is split as one "
        "sequence with what is drawn",
    )
    text_extra: int = fact(0, "text tokens beside text_tokens: of other text encoders")
    counted: bool = fact(True, "the tokens of all that is split are known before the start")
    tokenizer: str = fact("tokenizer", "the folder of the tokenizer for the text that the transformer gets")
    text_template: str = fact("{}", "text=prompt: what is around the prompt where the text encoder reads it")
    text_dropped: int = fact(0, "text=prompt: tokens at the template's start that the transformer does not get")
    text_tokens: int = option(512, "text tokens, or at most so many where the prompt's own length counts")
    max_text_tokens: Optional[int] = fact(None, "the most that its call takes")
    batch: Optional[str] = fact(
        None,
        "what batch= draws in one call, each picture as it is alone: same (pictures of one prompt), any (prompts), or "
        "masked (any, which has an attention mask where they are not equally long); null: not known",
    )
    mask: bool = fact(False, "always gives attention a mask")
    cross_attention: bool = fact(False, "the text is attended to by itself, not in one sequence with what is drawn")
    guidance_embeds: bool = fact(False, "takes a distilled guidance scale")
    guidance_cfg: bool = fact(False, "guidance is classifier-free: above 1 it uses negative_prompt, at twice the work")
    guidance_steps: Optional[int] = fact(
        None, "denoising steps of a guidance schedule of its own, which it follows without guidance=; null: it has none"
    )
    guidance_branches: Optional[str] = fact(
        None,
        "how the pipeline has its transformer compute the two branches of guidance, for cp.cfg_degree=2 to divide: "
        "calls (one after the other) or batch (both in one call); null: in another way",
    )
    caches: list[str] = field(
        default_factory=list, metadata={"help": "the caches of steps (cache=) that it was tested with", "fact": True}
    )
    compiles: list[str] = field(
        default_factory=list, metadata={"help": "the ways to compile it (compile=) that were tested", "fact": True}
    )
    mag_ratios: list[float] = field(
        default_factory=list, metadata={"help": "what cache=mag goes by: see cache.ratios", "fact": True}
    )
    transformers: list[str] = field(
        default_factory=lambda: ["transformer"],
        metadata={"help": "the pipeline's parts whose work the ranks share", "fact": True},
    )
    transformer_params: Optional[int] = fact(None, "parameters of the transformer; null: as its files say")
    text_params: Optional[int] = fact(None, "parameters of all text encoders")
    vae_params: Optional[int] = fact(None, "parameters of the VAE")
    vae_width: int = fact(256, "channels that the VAE's decoder holds of each pixel in its last stage")
    vae_patch: int = fact(1, "pixels, each way, that are one there")
    vae_tensors: float = fact(3.0, "tensors of so many channels that it holds at once")
    vae_frames: Optional[int] = fact(None, "frames that it decodes at once; null: all")
    vae_mask: bool = fact(False, "its attention has a mask among all latents that it decodes at once")
    true_cfg: float = option(
        1.0, "classifier-free guidance scale; above 1 it uses negative_prompt and doubles the work"
    )
    prompt: str = fact("", "the prompt when none is given")
    sizes: Optional[list[str]] = fact(None, "the only sizes that it makes, HEIGHTxWIDTH; null: any")
    height: int = fact(1024, "default height, pixels")
    width: int = fact(1024, "default width, pixels")
    frames: Optional[int] = fact(None, "default frames of a video")
    fps: Optional[int] = fact(None, "default frames a second of a video")
    steps: int = fact(28, "default denoising steps")
    guidance: Optional[float] = fact(None, "default guidance scale")
    arguments: ArgumentNames = field(default_factory=ArgumentNames)
    packages: list[str] = field(
        default_factory=list, metadata={"help": "Python packages that it can't do without", "fact": True}
    )
    cp_plan: Optional[dict[str, Any]] = fact(
        None, "which inputs are split and which outputs gathered, by module path; null: the class's own plan"
    )
