"""What to type instead of words that name no setting, or that Hydra can't read."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from launcher.config.text import UnaskedError, fields, is_text, quoted
from launcher.problems import Problem, choices, nearest

MAX_OPTIONS = 12  # that a refusal lists
MAX_WORDS = 1 << 15  # characters of all words; Hydra reads as many in a second, those beyond ASCII in two
SEARCHPATH = Problem("hydra.searchpath", "does not add a folder here", "type --config-dir DIR")
SIGNS = "()[]{},:=\\\"'"  # what Hydra's grammar reads for itself
# Names that users of diffusers, accelerate and others know for what has another one here.
ELSEWHERE = {
    "num_inference_steps": "steps",
    "num_steps": "steps",
    "inference_steps": "steps",
    "sampling_steps": "steps",
    "guidance_scale": "guidance",
    "cfg": "guidance",
    "cfg_scale": "guidance",
    "embedded_guidance_scale": "guidance",
    "true_cfg_scale": "model.true_cfg",
    "num_images_per_prompt": "images",
    "num_images": "images",
    "batch_size": "images",
    "num_frames": "frames",
    "frame_rate": "fps",
    "max_sequence_length": "model.text_tokens",
    "torch_dtype": "runtime.dtype",
    "precision": "runtime.dtype",
    "mixed_precision": "runtime.dtype",
    "num_processes": "runtime.processes",
    "nproc_per_node": "runtime.processes",
    "num_gpus": "runtime.processes",
    "gpus": "runtime.processes",
    "n_gpu": "runtime.processes",
    "n_gpus": "runtime.processes",
    "nproc": "runtime.processes",
    "ngpus": "runtime.processes",
    "world_size": "runtime.processes",
    "gpu_ids": "runtime.devices",
    "attention_backend": "attention.kernel",
    "lora_path": "lora.path",
    "lora_scale": "lora.scale",
    "lora_weights": "lora.path",
    "loras": "lora.path",
    "lora_strength": "lora.scale",
    "model_path": "model.path",
    "model_id": "model.path",
    "pretrained_model_name_or_path": "model.path",
    "output_dir": "output.dir",
    "outdir": "output.dir",
    "save_path": "output.dir",
    "neg_prompt": "negative_prompt",
    "random_seed": "seed",
    "init_image": "image",
    "input_image": "image",
    "image_path": "image",
    "mask_path": "mask_image",
    "end_image": "last_image",
    "denoising_strength": "strength",
    "denoise": "strength",
}
# What other programs ask for and this one does not, with the reason.
NOT_NEEDED = {
    "rotate_method": ("cp.schedule says how a ring moves keys and values", "type cp.schedule=gather or leave it out"),
    "main_process_port": ("each group of ranks takes a free port by itself", "leave it out"),
    "main_process_ip": ("ranks run on this machine only", "leave it out"),
    "rdzv_endpoint": ("ranks run on this machine only", "leave it out"),
    "scheduler": ("pictures are drawn with the scheduler of the model's own folder", "leave it out"),
    "sampler": ("pictures are drawn with the scheduler of the model's own folder", "leave it out"),
    "resolution": ("unknown setting; a size is two of them", "type height=1024 width=1024"),
    "size": ("unknown setting; a size is two of them", "type height=1024 width=1024"),
    "compile": ("pictures are drawn without torch.compile", "leave it out"),
    "torch_compile": ("pictures are drawn without torch.compile", "leave it out"),
    "quantization": ("weights are used as they are, in runtime.dtype", "leave it out"),
    "quantize": ("weights are used as they are, in runtime.dtype", "leave it out"),
    "cache": ("every step is computed: there is no cache of steps", "leave it out"),
    "teacache": ("every step is computed: there is no cache of steps", "leave it out"),
}
EXAMPLES = {
    "model.transformers": "[transformer]",
    "model.sizes": "[1024x1024]",
    "model.cp_plan": "null",
    "height": "1000",
    "width": "1000",
    "guidance": "3.5",
    "runtime.devices": "[0,1]",
    "model.packages": "[ftfy]",
}


def unknown(override: Override, word: str, groups: dict[str, list[str]]) -> Iterator[Problem]:
    """What is wrong with the key of a word, or with the option that it chooses."""
    key = override.key_or_group
    if key.split(".")[0].split("/")[0] in ("hydra", "local"):
        return
    if override.is_delete():
        yield Problem(word, "every setting is needed and can't be removed", f"type {key}=VALUE instead")
        return
    if key in groups:
        several = override.is_sweep_override()
        for option in override.sweep_string_iterator() if several else [str(override.value())]:
            if key == "model" and "/" in option:
                rule = "a folder or a repository, and model= takes the name of a model"
                instead = f"type {shlex.quote(f'model.path={option}')} beside its model=NAME, or --help for the names"
                yield Problem(f"{key}={option}", rule, instead)
            elif option not in groups[key] and option not in ("null", "None"):
                best = (nearest(option, groups[key], 1) or groups[key])[0]
                yield Problem(f"{key}={option}", unknown_option(option, groups[key]), f"type {key}={best}")
        return
    legal = [*fields(), *groups]
    if key in legal:
        return
    last, value = key.split(".")[-1], word.partition("=")[2]
    if last in NOT_NEEDED:
        yield Problem(word, *NOT_NEEDED[last])
        return
    near = dict.fromkeys(_named(key, legal), value)
    for name in near:
        known = name == ELSEWHERE.get(last) or name.endswith(f".{last}")
        if name in fields() and known and kind(name) == "a list" and not value.startswith("["):
            near[name] = f"[{value}]"
    near = {name: item for name, item in near.items() if name in groups or _takes(name, item)}
    instead = choices(shlex.quote(f"{name}={item}") for name, item in near.items())
    yield Problem(word, "unknown setting", f"type {instead}" if near else "type --help for the list")


def unknown_option(option: str, options: list[str]) -> str:
    """That an option is none, and which there are; of many the nearest ones."""
    if len(options) <= MAX_OPTIONS:
        return f"unknown option; choose from {', '.join(options)}"
    near = nearest(option, options, 5) or options[:5]
    return f"unknown option; choose from {', '.join(near)} ... ({len(options)} in all: type --help)"


def _takes(name: str, value: str) -> bool:
    """Whether a setting is of a kind that can have this value."""
    taken = {
        "a whole number": r"-?[\d_]+",
        "a number": r"[-+\d.eE]+",
        "true or false": r"(?i:true|false|yes|no|on|off)",
    }
    taken |= {"a list": r"\[.*\]", "a mapping": r"\{.*\}"}
    several = value.split(",") if "," in value and value[0] not in "[{" else [value]
    pattern = taken.get(kind(name))
    return pattern is None or all(re.fullmatch(pattern, one.strip()) for one in several)


def _named(key: str, legal: list[str]) -> list[str]:
    """The settings that `key` may mean, by their whole names: what is known elsewhere, a last part, what is alike."""
    last = key.split(".")[-1]
    if last in ELSEWHERE:
        return [ELSEWHERE[last]]
    if tail := [name for name in legal if name.split(".")[-1] == last]:
        return tail  # as in `ring_degree=2`, which is what people type first
    if near := nearest(key, legal):
        return near
    parts = nearest(last, {name.split(".")[-1] for name in legal}, 1)
    return [name for name in legal if name.split(".")[-1] in parts]


def unreadable(word: str, error: HydraException) -> Problem:
    """A word that Hydra can't parse."""
    key, _, value = word.partition("=")
    if key != key.strip() and key.strip() in fields():
        typed = shlex.quote(f"{key.strip()}={value.strip()}")
        return Problem(word, "there are spaces around the =", f"type {typed}")
    reason = str(error).splitlines()[0] if str(error) else "unreadable"
    if isinstance(error, UnaskedError):
        return Problem(word, reason, "shorten it")
    if not value.startswith(("'", '"')) and (signs := [sign for sign in SIGNS if sign in value]):
        reason = f"{' '.join(signs)} must be quoted"
    instead = "type --help for the settings"
    if key in fields():
        instead = f"type {shlex.quote(f'{key}={example(key)}')}"
    elif key.startswith("hydra."):
        instead = f"quote it: {shlex.quote(f'{key}={quoted(value)}')}"
    return Problem(word, f"Hydra can't read it: {reason}", instead)


def without_sign(words: list[str], groups: dict[str, list[str]]) -> Iterator[Problem]:
    """Words that are no key=value: the rest of a text that was not quoted, an option without its choice, or a typo."""
    text, rest = "", []
    for word in [*words, "="]:
        if "=" not in word and not word.startswith("~"):
            if text:
                rest.append(word)
            else:
                yield _without_sign(word, groups)
            continue
        if rest:
            whole = shlex.quote(" ".join([text, *rest]))
            yield Problem(" ".join(rest), "expected key=value; text with spaces must be quoted", f"type {whole}")
        text, rest = word if is_text(word.partition("=")[0].lstrip("+")) else "", []


def _without_sign(word: str, groups: dict[str, list[str]]) -> Problem:
    rule = "expected key=value"
    if word in ("help", "version"):
        return Problem(word, rule, f"type --{word}")
    if chosen := [group for group, options in groups.items() if word in options]:
        return Problem(word, rule, f"type {choices(f'{group}={word}' for group in chosen)}")
    near = nearest(word.lstrip("-"), ["height", "width", "model", "cp", "prompt", "seed", "steps"], 1)
    return Problem(word, rule, f"type {near[0]}=VALUE" if near else "type --help for the list")


def elsewhere(word: str, sweep: bool) -> Iterator[Problem]:
    """Folders of Hydra's that the other kind of run has."""
    key, _, value = word.lstrip("+").partition("=")
    if sweep and key == "hydra.run.dir":
        yield Problem(word, "is the folder of a single run", f"type {shlex.quote(f'hydra.sweep.dir={value}')}")
    if not sweep and key.startswith("hydra.sweep."):
        yield Problem(word, "works on sweeps only", "type -m for a sweep, or leave it out")


def carriage_return(word: str) -> Problem:
    """A word from a script with Windows line ends, which the shell passes on."""
    rule = "ends in a carriage return, as in a script with Windows line ends"
    convert = "convert the script: sed -i 's/\\r$//' FILE"
    return Problem(word, rule, f"type {shlex.quote(word.rstrip(chr(13)))}, or {convert}")


def too_long(words: list[str]) -> Iterator[Problem]:
    """More text than Hydra reads in a moment, which is told before it tries."""
    if sum(map(len, words)) <= MAX_WORDS:
        return
    longest = max(words, key=len)
    key = longest.partition("=")[0][:40]
    rule = f"has {len(longest)} characters; a command line has {MAX_WORDS} at most"
    text = key.lstrip("+") == "prompt"
    yield Problem(f"{key}=...", rule, "put it into a file and type prompt_file=FILE" if text else "shorten it")


def several(override: Override, word: str) -> Problem:
    """Several values where one is needed."""
    key, _, value = word.partition("=")
    instead = "type -m for a sweep"
    if is_text(override.key_or_group):
        instead += f", or quote it: {shlex.quote(f'{key}={quoted(value)}')}"
    return Problem(word, "a single run takes one value", instead)


def kind(key: str) -> str:
    """What a setting takes, in words."""
    annotation = str(fields()[key].type).removeprefix("Optional[").removesuffix("]")
    kinds = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
    return kinds.get(annotation, "a list" if annotation.startswith("list") else "a mapping")


def example(key: str) -> str:
    """A value that a setting takes."""
    defaults = {"a list": "[]", "a mapping": "{}", "true or false": "true", "text": "TEXT"}
    return EXAMPLES.get(key) or defaults.get(kind(key), "2")
