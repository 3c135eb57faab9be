"""Loading a pipeline so that every weight comes from its files."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from launcher.holding import on_first_rank
from launcher.quantizing import NF4
from launcher.wire.jobs import Load
from launcher.worker import processors, quantizing
from launcher.worker.absent import absent
from launcher.worker.heap import give_back_what_is_freed
from launcher.worker.offloading import Offload


def load_pipeline(load: Load, folder: str, elsewhere: Offload | None = None) -> Any:
    """Load a pipeline, on the CPU, from the folder that `fetch` returned.

    diffusers and transformers make up what a file lacks, the one with no data and the other with random numbers, and
    mention it in a warning: a renamed tensor in a text encoder would draw another picture than was asked for.

    Args:
        elsewhere: leave out the weights of what rank 0 alone runs; a part that is run here after all is read then, to
            where this puts it.

    Raises:
        ValueError: a part can't be loaded, or its files lack weights or have some of other sizes; the message names it.
    """
    pipeline, dtype = getattr(diffusers, load.pipeline), getattr(torch, load.dtype)
    lacking: dict[str, list[str]] = {}
    parts: dict[str, Any] = {}
    for name, entry in pipeline.load_config(folder).items():
        if (kind := _class(entry)) is None:
            continue
        other = next((each for each in load.replaced if each.part == name), None)
        with _told(name) if other is None else _told_of(f"{other.setting}={Path(other.path).name}", name):
            if other is None and elsewhere is not None and on_first_rank(name) and issubclass(kind, torch.nn.Module):
                part = _absent(kind, folder, name, dtype, load, elsewhere)
            elif other is None:
                part, lacking[name] = _part(kind, folder, name, dtype, load)
            else:
                part, lacking[name] = _other(kind, other.path, folder, name, dtype)
        if isinstance(part, kind):  # an AutoTokenizer gives another class, which diffusers would refuse
            parts[name] = part
    pipe = pipeline.from_pretrained(folder, torch_dtype=dtype, variant=load.variant, use_safetensors=True, **parts)
    for name, weights in lacking.items():
        _complete(name, weights)
    return pipe


def _complete(name: str, lacking: list[str]) -> None:
    if lacking:
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        raise ValueError(f"the files of {name} lack its weights {', '.join(lacking[:3])}{more}")


def _absent(kind: Any, folder: str, name: str, dtype: torch.dtype, load: Load, places: Offload) -> Any:
    """A part whose weights are read if it is run."""

    def fill() -> Any:
        with _told(name):
            part, lacking = _part(kind, folder, name, dtype, load)
        _complete(name, lacking)
        return part

    variant, place = _variant(folder, name, load), Path(folder, name)
    return absent(kind, place, dtype, variant, fill, places.home, places.settle(name))


def _part(kind: Any, folder: str, name: str, dtype: torch.dtype, load: Load) -> tuple[Any, list[str]]:
    """One part of a pipeline, loaded as diffusers does, and the names of weights that its files lack."""
    if not issubclass(kind, torch.nn.Module):
        return processors.load(kind, str(Path(folder, name))), []
    source: dict[str, Any] = {"variant": _variant(folder, name, load), "use_safetensors": True}  # never a pickle
    if issubclass(kind, transformers.PreTrainedModel):
        source |= {"dtype": dtype, "ignore_mismatched_sizes": True}  # they are named below; its error points to a log
    else:
        source["torch_dtype"] = dtype
    if name in load.quantized and load.quantization != NF4:
        source["quantization_config"] = quantizing.configuration(load.quantization)
    if name in load.quantized:
        give_back_what_is_freed()
    part, found = kind.from_pretrained(str(Path(folder, name)), output_loading_info=True, **source)
    for key, stored, wanted in found["mismatched_keys"]:
        shapes = f"{tuple(stored)} in its file, and its config.json asks for {tuple(wanted)}"
        raise ValueError(f"does not fit its configuration: {key} is {shapes}")
    known = {re.sub(r"\d+", "*", weight) for weight in part.state_dict()}
    # A file may hold more, a decoder that only an encoder is wanted of. More layers of the same kind are no such thing.
    if left := sorted(key for key in found["unexpected_keys"] if re.sub(r"\d+", "*", key) in known):
        raise ValueError(f"does not fit its configuration: its files hold {left[0]}, and config.json has fewer layers")
    lacking = {weight for weight, value in part.named_parameters() if value.is_meta}
    if name in load.quantized and not lacking:
        if load.quantization == NF4:
            quantizing.pack(part)
        quantizing.let_go(part)
    return part, sorted(lacking | set(found["missing_keys"]))


def _other(kind: Any, path: str, folder: str, name: str, dtype: torch.dtype) -> tuple[Any, list[str]]:
    """A part that is given in place of the pipeline's own, all of its file used, and the weights that it lacks."""
    if Path(path).is_dir():
        part, found = kind.from_pretrained(path, output_loading_info=True, use_safetensors=True, torch_dtype=dtype)
        left, lacking = list(found["unexpected_keys"]), list(found["missing_keys"])
    else:
        try:
            packed: dict[str, Any] = {}  # its weights stay quantised, and each layer unpacks its own when it computes
            if path.endswith(".gguf"):
                packed["quantization_config"] = diffusers.GGUFQuantizationConfig(compute_dtype=dtype)
            with _warnings() as told:
                part = kind.from_single_file(path, config=folder, subfolder=name, torch_dtype=dtype, **packed)
        except NotImplementedError as error:  # torch moves no weights that have no data
            raise ValueError(f"it lacks weights that a {kind.__name__} has") from error
        left, lacking = [line for line in told if "were not used" in line], []
    if left:
        raise ValueError(f"it holds weights that a {kind.__name__} has no place for: {' '.join(left[0].split())[:200]}")
    return part, sorted(lacking)


@contextlib.contextmanager
def _warnings() -> Iterator[list[str]]:
    """What diffusers' single-file loader warns of while the block runs: it drops weights with no other word."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("diffusers.loaders.single_file_model")
    logger.addHandler(handler)
    try:
        yield told
    finally:
        logger.removeHandler(handler)


@contextlib.contextmanager
def _told_of(value: str, part: str) -> Iterator[None]:
    """Have an error of a part that was given name its setting."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # converters raise KeyError, IndexError ... at what they don't expect
        told = " ".join(str(error).split())[:300]
        if not isinstance(error, ValueError):
            told = f"its weights are not those of such a part ({type(error).__name__}: {told})"
        raise ValueError(f"{value} can't take the place of the pipeline's own {part}: {told}") from error


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """Have an error of a library name the part of the pipeline that it came from, which most don't."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:  # it names its file
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        kind = "" if type(error) in (ValueError, OSError, RuntimeError) and lines else f"{type(error).__name__}: "
        told = " ".join(lines[:2]).replace("Cannot load  because ", "")  # diffusers leaves a name out
        raise ValueError(f"the part '{name}' of model.path can't be loaded, fetch it again: {kind}{told}") from error


def _variant(folder: str, part: str, load: Load) -> str | None:
    """The variant of a part's weights: the pipeline's, where the part has it, as diffusers itself decides."""
    names = os.listdir(Path(folder, part)) if load.variant is not None else []
    return load.variant if any(f".{load.variant}." in name for name in names) else None


def _class(entry: Any) -> Any:
    """The class of an entry of model_index.json, [library, class]; None where the pipeline itself has to find it."""
    if not isinstance(entry, list | tuple) or len(entry) != 2 or entry[0] not in ("diffusers", "transformers"):
        return None
    kind = getattr({"diffusers": diffusers, "transformers": transformers}[entry[0]], entry[1], None)
    return kind if isinstance(kind, type) and hasattr(kind, "from_pretrained") else None
