"""The parts of a diffusers pipeline, by its model_index.json, and what each needs on the disk beside weights."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from launcher.families import tokenizers
from launcher.installed import version
from launcher.problems import Problem
from launcher.reading import MAX_JSON, UnreadableError, opened, read_json_object, read_text

PAIRS = ("vocab.json", "merges.txt")
# A tokenizer is in one of these sets of files; the first one that is there counts, as in transformers.
VOCABULARIES = (
    ("tokenizer.json",),
    ("spiece.model",),
    ("tokenizer.model",),
    ("sentencepiece.bpe.model",),
    PAIRS,
    ("vocab.txt",),
    ("tekken.json",),
)
NO_VOCABULARY = ("ByT5Tokenizer",)  # its words are bytes
SENTENCEPIECE = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
BESIDE = ("special_tokens_map.json", "added_tokens.json")  # which a tokenizer reads where they are
# What a configuration says of itself; one without it is empty, and its library fills in defaults without a word.
TELLS = {"diffusers": "_class_name", "transformers": "model_type"}
VERSION = re.compile(r"^__version__ = [\"']([^\"']+)", re.MULTILINE)
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True)
class Part:
    """One entry of model_index.json: a folder of its own, read by a class of a library."""

    name: str
    library: str
    kind: str

    @property
    def role(self) -> str:
        """What it is: tokenizer, processor (that and a feature extractor), extractor, scheduler, guider or model."""
        if self.kind.endswith(("Tokenizer", "TokenizerFast")):
            return "tokenizer"
        if self.kind.endswith("Scheduler"):
            return "scheduler"
        if self.kind.endswith("Guidance"):
            return "guider"  # how a pipeline guides, with settings and no weights
        if re.search(r"(FeatureExtractor|ImageProcessor|VideoProcessor)(Fast|Pil)?$", self.kind):
            return "extractor"
        return "processor" if self.kind.endswith("Processor") else "model"


def read_index(folder: Path) -> tuple[str, list[Part]]:
    """The pipeline's class and its parts, those that are left out aside.

    Raises:
        UnreadableError: model_index.json is missing or odd.
    """
    index = read_json_object(folder / "model_index.json")
    wanted = index.get("_class_name")
    if not isinstance(wanted, str):
        raise UnreadableError("names no pipeline class (_class_name)")
    parts = []
    for name, entry in index.items():
        numbers = isinstance(entry, list) and entry and all(isinstance(item, int | float) for item in entry)
        if name.startswith("_") or not isinstance(entry, list) or entry == [None, None] or numbers:
            continue  # a setting of the pipeline, or a part that is left out
        if not re.fullmatch(r"\w{1,64}", name):
            raise UnreadableError(f"has a part with the odd name {name[:60]!r}")
        if len(entry) != 2 or not all(isinstance(word, str) and word for word in entry):
            raise UnreadableError(f"must name a library and a class for '{name}', not {str(entry)[:60]}")
        parts.append(Part(name, *entry))
    return wanted, sorted(parts, key=lambda part: part.name)


@dataclass(frozen=True)
class Lack:
    """What a part lacks: `missing` could be fetched; what is not missing is broken."""

    what: str
    missing: bool


def lacks(part: Part, folder: Path) -> Iterator[Lack]:
    """What a part needs beside weights and does not have; each a sentence that starts with a name."""
    here = folder / part.name
    if part.role in ("tokenizer", "processor") and part.kind not in NO_VOCABULARY:
        yield from _vocabulary(part, here)
    needed = {
        "scheduler": "scheduler_config.json",
        "guider": "guider_config.json",
        "tokenizer": "tokenizer_config.json",
        "model": "config.json",
    }
    if part.role == "model" and part.library not in ("diffusers", "transformers"):
        return  # a package of its own reads it
    if part.role == "tokenizer":
        yield from (lack for name in BESIDE if (here / name).exists() for lack in _object(here / name))
    if part.role in needed:
        tells = TELLS.get(part.library) if part.role in ("scheduler", "model") else None
        yield from _object(here / needed[part.role], tells)
    elif not any((here / name).exists() for name in PREPROCESSORS):
        yield Lack(f"{part.name}/{PREPROCESSORS[0]} is missing", missing=True)
    else:
        yield from _object(next(here / name for name in PREPROCESSORS if (here / name).exists()))


def _object(path: Path, key: str | None = None) -> Iterator[Lack]:
    """A configuration file that must hold a JSON object, with this key."""
    name = f"{path.parent.name}/{path.name}"
    if not path.exists():
        yield Lack(f"{name} is missing", missing=True)
        return
    try:
        if key not in (None, *read_json_object(path)):
            yield Lack(f"{name} is no configuration: it has no {key}", missing=False)
    except UnreadableError as error:
        yield Lack(f"{name} {error}", missing=False)


def vocabulary(part: Path) -> tuple[str, ...]:
    """The files that a tokenizer's vocabulary is read from; empty where there are none."""
    for names in VOCABULARIES:
        if all((part / name).exists() for name in names):
            return names
    return ()


def _vocabulary(part: Part, here: Path) -> Iterator[Lack]:
    """A tokenizer without its vocabulary makes the same tokens of every prompt, and no library says so."""
    names = vocabulary(here)
    if not names:
        yield Lack(f"{part.name} has no vocabulary (tokenizer.json, say)", missing=True)
    flaws = [f"{name} {flaw}" for name in names if (flaw := _vocabulary_flaw(here / name)) is not None]
    if names == PAIRS and not flaws and (flaw := tokenizers.pairs_flaw(here / PAIRS[0], here / PAIRS[1])):
        flaws = [flaw]
    yield from (Lack(f"{part.name}/{flaw}", missing=False) for flaw in flaws)


def _vocabulary_flaw(path: Path) -> str | None:
    """What is wrong with one file of a vocabulary, as the end of a sentence."""
    try:
        with opened(path) as (_, size):
            pass
        if not 0 < size <= tokenizers.MAX_BYTES:
            return f"is {size} bytes long"
        return "has no vocabulary" if _words(path) < 2 else None
    except UnreadableError as error:
        return str(error)


def _words(path: Path) -> float:
    """Words of a vocabulary, as far as its file tells without the library that reads it."""
    if path.name == "tokenizer.json" or (path.name in SENTENCEPIECE and installed("sentencepiece")):
        return tokenizers.size(path)
    if path.name == "vocab.txt":
        words = set(read_text(path, tokenizers.MAX_BYTES).splitlines())
        return len(words) if "[UNK]" in words else 0  # WordPiece has it for what is unknown
    if path.suffix == ".json":
        found = read_json_object(path, tokenizers.MAX_BYTES)
        return len(found if path.name == "vocab.json" else found.get("vocab") or ())
    return math.inf  # merges.txt, which is looked at together with its vocab.json


def unknown(part: Part) -> str | None:
    """Why this part's class can't be read here, as the end of a sentence; None where it can, or where nobody knows."""
    if part.library != "diffusers" or not (names := _diffusers()) or f'"{part.kind}"' in names:
        return None
    return f"is a {part.kind}, which diffusers {version('diffusers')} doesn't have"


def stray(part: Part) -> bool:
    """Whether nothing here can read this part's library: it is neither installed nor a pipeline's own module."""
    if part.library in TELLS or installed(part.library):
        return False
    found = importlib.util.find_spec("diffusers")
    own = Path(found.origin).parent / "pipelines" / part.library if found and found.origin else None
    if own is not None and (own.is_dir() or own.with_suffix(".py").is_file()):
        return False
    try:
        return importlib.util.find_spec(part.library.partition(".")[0]) is None
    except ValueError:  # no name of a module
        return True


@functools.cache
def _diffusers() -> str:
    """The text of diffusers' table of classes, for importing it takes seconds."""
    found = importlib.util.find_spec("diffusers")
    return Path(found.origin).read_text(encoding="utf-8") if found and found.origin else ""


def packages(part: Part, folder: Path) -> Iterator[str]:
    """Packages that reading this part needs and that are not installed."""
    if part.role in ("tokenizer", "processor") and set(vocabulary(folder / part.name)) & set(SENTENCEPIECE):
        yield from (package for package in ("sentencepiece", "protobuf") if not installed(package))


def installed(package: str) -> bool:
    """Whether a package of this name, as pip knows it, is installed. Nothing of it is imported."""
    return version(package) is not None


@functools.cache
def shadowed() -> tuple[Problem, ...]:
    """Libraries that Python finds before the installed ones, in another version: by PYTHONPATH, say.

    A record would name the installed version, and another one may fail in a rank over a name that it lacks.
    """
    found = []
    for name in ("diffusers", "transformers", "accelerate"):
        spec = PathFinder.find_spec(name)
        if spec is None or spec.origin is None or (known := version(name)) is None:
            continue
        with contextlib.suppress(UnreadableError):
            own = VERSION.search(read_text(Path(spec.origin), MAX_JSON))
            if own is not None and own[1] != known:
                rule = f"comes from {Path(spec.origin).parent}, before the {known} that is installed"
                found.append(Problem(f"{name} {own[1]}", rule, "take that folder out of PYTHONPATH, or install it"))
    return tuple(found)
