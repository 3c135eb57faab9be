"""Are a model's weights here, whole, and safe to read? Answered from file headers, without torch."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from launcher.config.paths import user_path
from launcher.config.schema import ModelConfig
from launcher.families import safetensors
from launcher.problems import Problem

BUNDLED = Path(__file__).parent.parent / "flux_tiny" / "pipeline"
HERE = "or type model=flux_tiny"
FOLDER = f"give the folder of a diffusers pipeline, one with a model_index.json, {HERE}"


def location(model: ModelConfig) -> str:
    """What `from_pretrained` is given: the bundled folder, a local folder, or a hub repository's name."""
    with contextlib.suppress(ValueError):  # no home can have this name
        if model.path != "bundled" and not is_hub(model):
            return str(user_path(model.path))
        return str(BUNDLED) if model.path == "bundled" else model.path
    return model.path


def is_hub(model: ModelConfig) -> bool:
    """True for the form `owner/name` that is no folder here."""
    named = model.path.count("/") == 1 and not model.path.startswith((".", "/", "~"))
    return named and not Path(model.path).exists()


def folder(model: ModelConfig) -> Path | None:
    """Where the model's files are: a local folder, or what the hub's cache holds; None where they are not here."""
    if not is_hub(model):
        return Path(location(model))
    return _cached(model)


def _cached(model: ModelConfig) -> Path | None:
    # huggingface_hub's own rules for where things are; its constants import in milliseconds.
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE) / f"models--{model.path.replace('/', '--')}"
    revision = model.revision or "main"
    with contextlib.suppress(OSError, ValueError):  # ValueError: no file can have this name
        revision = (cache / "refs" / revision).read_text(encoding="utf-8").strip()
    snapshot = cache / "snapshots" / revision
    return snapshot if (snapshot / "model_index.json").is_file() else None


def revision_problems(model: ModelConfig) -> Iterator[Problem]:
    """A revision is a name within a hub repository, on any machine."""
    value, instead = f"model.revision={model.revision}", "leave it out: a repository's own default is taken"
    if model.revision is None:
        return
    if not is_hub(model):
        yield Problem(value, f"model.path={model.path} is no hub repository (owner/name)", instead)
    elif not re.fullmatch(r"[\w.+-][\w./+-]*", model.revision) or ".." in model.revision:
        yield Problem(value, "is no name of a branch, tag or commit", instead)


def weights_problems(model: ModelConfig) -> Iterator[Problem]:
    """Everything that would keep `from_pretrained` from loading this model here."""
    yield from _hub_problems(model) if is_hub(model) else _folder_problems(model)


def _hub_problems(model: ModelConfig) -> Iterator[Problem]:
    from huggingface_hub import constants

    if _cached(model) is not None:
        return
    value = f"model.path={model.path}"
    folder = f"type model.path=FOLDER for a local copy, {HERE}"
    if constants.HF_HUB_OFFLINE:
        yield Problem(value, "the weights are not in the cache and HF_HUB_OFFLINE is set", f"unset it, {folder}")
    elif model.gated and not (os.environ.get("HF_TOKEN") or Path(constants.HF_TOKEN_PATH).is_file()):
        rule = "the weights are not in the cache, and the hub gives them to those only who accepted the licence"
        yield Problem(value, rule, f"accept it at {model.licence} and type `hf auth login`, or {folder}")


def _folder_problems(model: ModelConfig) -> Iterator[Problem]:
    folder = Path(location(model))
    value = f"model.path={model.path}"
    if not folder.is_dir():
        yield Problem(value, "is neither a folder nor the name of a hub repository (owner/name)", FOLDER)
        return
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        components = {key: part for key, part in index.items() if isinstance(part, list) and part and part[0]}
        wanted = index.get("_class_name")
    except (OSError, ValueError, AttributeError) as error:
        yield Problem(value, f"is no diffusers pipeline: model_index.json cannot be read ({_words(error)})", FOLDER)
        return
    if wanted != model.pipeline:
        yield Problem(
            value, f"holds a {wanted}, and model={model.name} is a {model.pipeline}", "choose the fitting model="
        )
    second = {"transformer_2", "unconditional_transformer"} & set(components) - set(model.transformers)
    if second:
        rule = f"holds a second transformer, and model={model.name} shares the work of {model.transformers[0]} alone"
        both = ",".join([*model.transformers, *sorted(second)])
        yield Problem(value, rule, f"type 'model.transformers=[{both}]', {HERE}")
    for name in sorted(set(model.transformers) - set(components)):
        rule = f"has no '{name}', whose work the ranks of model={model.name} share"
        yield Problem(value, rule, "choose the fitting model=")
    yield from _fact_problems(model, folder)
    for name in sorted(components):
        part = folder / name
        if not part.is_dir():
            yield Problem(value, f"its part '{name}' is missing", "fetch the folder again")
            continue
        if any(kind in str(components[name][1]) for kind in ("Tokenizer", "Processor", "Scheduler")):
            continue  # these hold no weights
        files = sorted(part.glob("*.safetensors"))
        pickles = [file.name for file in part.iterdir() if file.suffix in (".bin", ".pt", ".ckpt", ".pth", ".pkl")]
        if not files:
            have = (
                f" (it has {', '.join(sorted(pickles))}, a pickle, which can run code and is not read)"
                if pickles
                else ""
            )
            yield Problem(
                value, f"'{name}' has no .safetensors file{have}", "fetch or convert the weights to safetensors"
            )
        for file in files:
            flaw = safetensors.flaw(file)
            if flaw:
                yield Problem(value, f"{name}/{file.name} {flaw}", "fetch this file again")


def _fact_problems(model: ModelConfig, folder: Path) -> Iterator[Problem]:
    """The facts that decide what is legal, against the transformer's own configuration."""
    try:
        own = json.loads((folder / "transformer" / "config.json").read_text(encoding="utf-8"))
        heads = own["num_attention_heads"] if "num_attention_heads" in own else own["n_heads"]
        found = {"heads": heads}
        if "attention_head_dim" in own:
            found["head_dim"] = own["attention_head_dim"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # whatever is wrong with it is told by the one who loads it
    for name, number in found.items():
        if getattr(model, name) != number:
            rule = f"the transformer in model.path has {number}, by its own configuration"
            yield Problem(f"model.{name}={getattr(model, name)}", rule, f"type model.{name}={number}")


def _words(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)) or type(error).__name__
