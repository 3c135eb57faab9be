"""Every reader of what others wrote, in one table, and what is well-formed for each: what its fuzz tests start from.

A reader takes bytes, however odd, and ends in one of the errors that it documents, or in none. test_readers.py feeds
it what hypothesis makes of the seeds; fuzz.py, what atheris finds by the lines that it reaches.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from omegaconf import DictConfig
from PIL import Image, PngImagePlugin
from shared import LAPTOP, a_job, a_recipe

from launcher import codec
from launcher.cli import listing, subcommands
from launcher.config.compose import Composer, to_config
from launcher.config.model_schema import ModelConfig
from launcher.config.schema import LaunchConfig
from launcher.estimates.ways import resolve
from launcher.families import checkpoint, draft, facts, gguf, lora, parts, safetensors, tokenizers, weights
from launcher.problems import LauncherError, Problem, Refused
from launcher.reading import UnreadableError, read_json, read_text
from launcher.records import foreign, runs
from launcher.records.compare import difference
from launcher.records.formats import FORMATS
from launcher.records.picture import read_recipe, save
from launcher.records.record import Recipe, read_record
from launcher.records.sweep_log import read_sweep
from launcher.reporting import page
from launcher.reporting.plots import plots
from launcher.reporting.rows import rows
from launcher.request import inputs
from launcher.rules import problems
from launcher.running import failures, folder, hold, replay, sweep_folder
from launcher.running.sweep import Job, Sweep, resume
from launcher.wire import protocol
from launcher.wire.channel import Channel
from launcher.wire.messages import Kinds, ProtocolError, pack
from tests.launcher import well_formed

LIMIT = 1 << 20  # bytes of a text


@dataclass(frozen=True)
class Reader:
    """One reader.

    Args:
        feed: has it read some bytes, in a folder of its own.
        errors: what it may raise.
        seeds: gives what is well-formed, or nearly.
    """

    feed: Callable[[Path, bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: Callable[[], list[bytes]]

    def read(self, here: Path, content: bytes) -> None:
        """Read it; only what is wrong with the reader is raised."""
        with contextlib.suppress(*self.errors):
            self.feed(here, content)


# What reads.


def _file(name: str, read: Callable[[Path], object]) -> Callable[[Path, bytes], object]:
    """Have a reader read a file of this name."""

    def feed(here: Path, content: bytes) -> object:
        path = here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return read(path)

    return feed


def _told(found: Iterable[Problem]) -> None:
    for problem in found:
        assert problem.instead, problem
        assert len(problem.rule) < 10_000


@functools.cache
def _composed() -> tuple[Composer, LaunchConfig]:
    composer = Composer()
    return composer, to_config(composer.compose([]))


def _model(**changes: Any) -> ModelConfig:
    model = copy.deepcopy(_composed()[1].model)
    for name, value in changes.items():
        setattr(model, name, value)
    return model


def _ask(composer: Composer, words: list[str], sweep: bool = False) -> None:
    composer.check_words(words, sweep)
    composed = composer.compose(words, sweep)
    if sweep:
        composer.jobs(composed, words)
    _told(problems(resolve(to_config(composed), LAPTOP)))


def _words(_: Path, content: bytes) -> None:
    words = [os.fsdecode(word) for word in content.split(b"\0")]
    _ask(_composed()[0], words[:20], sweep=len(words) % 2 == 0)


def _own_yaml(kind: str) -> Callable[[Path, bytes], object]:
    def read(path: Path) -> None:
        for sweep in (False, True):
            _ask(Composer(str(path.parents[1])), [f"{kind}=own_file"], sweep)

    return _file(f"own/{kind}/own_file.yaml", read)


@functools.cache
def _master() -> DictConfig:
    return _composed()[0].compose([], sweep=True)


def _multirun(path: Path) -> None:
    sweep_folder.check_earlier(_master(), path.parent, "resume=x")


def _resume(path: Path) -> None:
    here = path.parents[1]
    Image.new("RGB", (8, 8)).save(path.with_name("0000.png"))
    resume(Sweep([Job(["seed=1"], folder=path.parent)]), here)
    for earlier in here.glob("*.failed*"):
        shutil.rmtree(earlier)


def _checkpoint(path: Path) -> None:
    _told(checkpoint.inspect(_model(path=str(path.parent))).problems)


def _part(path: Path) -> None:
    here = path.parents[1]
    (here / "model_index.json").write_bytes((weights.BUNDLED / "model_index.json").read_bytes())
    _checkpoint(here / "model_index.json")
    _told(facts.fact_problems(_model(transformers=["transformer", "vae"]), here))


def _draft(path: Path) -> None:
    (path.parent / "transformer").mkdir(exist_ok=True)
    shutil.copy(path, path.parent / "transformer" / "config.json")
    draft.draft(path.parent)


def _tokenizer(path: Path) -> None:
    tokenizers.size(path)
    tokenizers.counter(path.parent)("a cat")


def _vocabulary(path: Path) -> None:
    (path.parent / "merges.txt").write_text("a b")
    list(parts.lacks(parts.Part("tokenizer", "transformers", "CLIPTokenizer"), path.parents[1]))


def _prompts(path: Path) -> None:
    config = copy.deepcopy(_composed()[1])
    config.prompt_file = str(path)
    request = resolve(config, LAPTOP)
    _told(problems(request))
    _told(inputs.read(config).problems)


def _messages(hears: Kinds) -> Callable[[Path, bytes], object]:
    def feed(_: Path, content: bytes) -> None:
        here, there = socket.socketpair()
        with here, there:
            there.settimeout(10)
            there.sendall(content[: 1 << 15])
            there.shutdown(socket.SHUT_WR)
            peer = Channel(here, hears)
            while not peer.closed:
                peer.receive()

    return feed


def _log(path: Path) -> None:
    for text in (failures.last_words(path), failures.how_it_died(-300, path), failures.how_it_died(None, path)):
        assert len(text) < 1000
    failures.exit_codes(path)


def _lock(path: Path) -> None:
    assert not hold.is_held(path.parent)
    with hold.held(path.parent, "hydra.run.dir=x"):
        assert hold.is_held(path.parent)


def _commands(path: Path) -> None:
    """What commands say of a run's folder, or of what was made there."""
    run = path.parent if path.name == "run.json" else path
    lines = [["reproduce", "--show", str(run)]]
    if path.name == "run.json":
        (path.parents[1] / "other").mkdir(exist_ok=True)
        other = path.parents[1] / "other" / "run.json"
        other.write_bytes(well_formed.records()[1])
        lines += [["runs", str(path.parents[1]), *more] for more in ([], ["--json", "--sort", "step"], ["--csv"])]
        lines += [["runs", "show", str(run)], ["runs", "diff", str(run), str(other.parent)]]
    for name, *words in lines:
        with contextlib.suppress(LauncherError), contextlib.redirect_stdout(io.StringIO()) as said:
            subcommands.load(name).main(words)
        assert "\x1b" not in said.getvalue()


def _recipe(here: Path, content: bytes) -> None:
    """A recipe that is whole JSON of the right kind, and odd within."""
    recipe = codec.loads(Recipe, content)
    save([Image.new("RGB", (8, 8))], here / "0000.png", recipe, FORMATS["png"])
    _commands(here / "0000.png")


def _listed(path: Path) -> None:
    """All that is told of runs, of a record that is only looked at."""
    here = path.parents[1]
    found = listing.ordered(runs.find(here, hold.is_held), "seconds")
    names = list(listing.COLUMNS)
    for form in (listing.as_table, listing.as_csv, listing.as_json):
        form(found, names)
    [list(map(test, found)) for test in listing.filters(["since=7d", "seed=1", "prompt=x", "steps=null"])]
    told = rows([here], hold.is_held)
    plots(told)
    page.facts([here], hold.is_held)
    page.shown(told)


def _replayed(path: Path) -> None:
    source = replay.original(path)
    line = replay.words(source.config, ["runtime=cpu"], _composed()[0])
    _ask(_composed()[0], [*line, *(replay.text("prompt", text) for text in source.prompts[:1])])


def _compared(path: Path) -> None:
    known = path.with_name("known.png")
    if not known.exists():
        save([Image.new("RGB", (8, 8), "red")], known, a_recipe(), FORMATS["png"])
    str(difference(path, known, 16))


def _lora(path: Path) -> None:
    lora.flaw(path, _model())


def _foreign(key: str) -> Callable[[Path, bytes], object]:
    def feed(here: Path, content: bytes) -> None:
        info = PngImagePlugin.PngInfo()
        info.add_itxt(key, content.decode("latin-1"))
        Image.new("RGB", (8, 8)).save(here / "foreign.png", pnginfo=info)
        foreign.read(here / "foreign.png")

    return feed


def _adapter(path: Path) -> None:
    path.with_name("adapter_model.safetensors").write_bytes(well_formed.safetensors(*well_formed.LORA[:2])()[0])
    _lora(path.with_name("adapter_model.safetensors"))


READERS = {
    "JSON": Reader(_file("x.json", read_json), (UnreadableError,), well_formed.dumped({"a": [1, {"b": None}]})),
    "text": Reader(
        _file("x", lambda path: read_text(path, LIMIT)), (UnreadableError,), well_formed.yaml("\ufeffa cat\n")
    ),
    "command line": Reader(
        _words,
        (Refused,),
        well_formed.yaml("height=64\0prompt=a cat, sitting\0cp=ring_anything", "seed=1,2\0-x", "seed=range(1,3)"),
    ),
    "model/x.yaml": Reader(_own_yaml("model"), (Refused,), well_formed.yaml(well_formed.MODEL, well_formed.BOMB)),
    "experiment/x.yaml": Reader(
        _own_yaml("experiment"), (Refused,), well_formed.yaml(well_formed.EXPERIMENT, well_formed.BOMB)
    ),
    "multirun.yaml": Reader(
        _file("multirun.yaml", _multirun), (Refused,), well_formed.yaml(well_formed.MULTIRUN, well_formed.BOMB)
    ),
    "run.json": Reader(_file("run.json", read_record), (ValueError,), well_formed.records),
    "run.json of a sweep": Reader(_file("sweep/0/run.json", _resume), (Refused,), well_formed.records),
    "run.json in a listing and a report": Reader(_file("listed/0/run.json", _listed), (), well_formed.records),
    "run.json to reproduce": Reader(_file("again/run.json", _replayed), (Refused,), well_formed.configured),
    "sweep.json": Reader(
        _file("sweep.json", lambda path: read_sweep(path.parent)),
        (),
        well_formed.dumped(
            {"schema": 1, "jobs": [{"number": 0, "overrides": ["seed=1"], "status": "refused", "reason": "no"}]}
        ),
    ),
    "PNG to compare": Reader(_file("x.png", _compared), (), well_formed.pictures(".png")),
    "JPEG to compare": Reader(_file("x.jpg", _compared), (), well_formed.pictures(".jpg")),
    "prompts.txt": Reader(_file("p.txt", _prompts), (), well_formed.yaml("a cat\n")),
    "prompts.json": Reader(_file("p.json", _prompts), (), well_formed.dumped(["a cat", "a dog"])),
    "model_index.json": Reader(
        _file("model/model_index.json", _checkpoint), (), well_formed.bundled("model_index.json")
    ),
    "config.json of a transformer": Reader(
        _file("m/transformer/config.json", _part), (), well_formed.bundled("transformer/config.json", "vae/config.json")
    ),
    "config.json of a VAE": Reader(_file("m/vae/config.json", _part), (), well_formed.bundled("vae/config.json")),
    "a pipeline to draft from": Reader(
        _file("draft/model_index.json", _draft),
        (Refused,),
        well_formed.dumped(
            {"_class_name": "FluxTransformer2DModel", "num_attention_heads": 2, "dim": 8, "patch_size": [1, 2]}
        ),
    ),
    "x.gguf": Reader(_file("x.gguf", gguf.read_header), (UnreadableError,), well_formed.gguf),
    "x.safetensors": Reader(
        _file("x.safetensors", safetensors.read_header), (UnreadableError,), well_formed.safetensors("a", "b")
    ),
    "keys of a LoRA": Reader(
        _file("x.safetensors", _lora), (UnreadableError,), well_formed.safetensors(*well_formed.LORA)
    ),
    "adapter_config.json": Reader(
        _file("a/adapter_config.json", _adapter),
        (),
        well_formed.dumped(
            {"peft_type": "LORA", "lora_alpha": 4, "r": 2, "alpha_pattern": {"a+": 8}, "use_rslora": False}
        ),
    ),
    "index of weights": Reader(
        _file("model.safetensors.index.json", lambda path: weights.weight_files(path.parent, "model", "")),
        (),
        well_formed.dumped({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}),
    ),
    "tokenizer.json": Reader(
        _file("t/tokenizer.json", _tokenizer), (UnreadableError,), well_formed.bundled("tokenizer/tokenizer.json")
    ),
    "spiece.model": Reader(_file("s/spiece.model", _tokenizer), (UnreadableError,), well_formed.pieces),
    "vocab.json": Reader(_file("v/tokenizer/vocab.json", _vocabulary), (), well_formed.dumped({"a": 0, "b": 1})),
    "PNG": Reader(_file("x.png", read_recipe), (ValueError,), well_formed.pictures(".png")),
    "WebP": Reader(_file("x.webp", read_recipe), (ValueError,), well_formed.pictures(".webp")),
    "JPEG": Reader(_file("x.jpg", read_recipe), (ValueError,), well_formed.pictures(".jpg")),
    "MP4": Reader(_file("x.mp4", read_recipe), (ValueError,), well_formed.pictures(".mp4")),
    "a recipe that is made again": Reader(_recipe, (ValueError,), well_formed.recipes),
    "run.json of a listing": Reader(_file("runs/run/run.json", _commands), (), well_formed.records),
    "what A1111 wrote": Reader(_foreign("parameters"), (ValueError,), well_formed.yaml(well_formed.A1111)),
    "what ComfyUI wrote": Reader(_foreign("prompt"), (ValueError,), well_formed.dumped(well_formed.COMFYUI)),
    "what a rank says": Reader(
        _messages(protocol.FROM_RANK), (ProtocolError,), lambda: [pack(protocol.Step(0, 1)) + b"\n"]
    ),
    "what a launcher says": Reader(
        _messages(protocol.FROM_LAUNCHER), (ProtocolError,), lambda: [pack(a_job()) + b"\n"]
    ),
    "log": Reader(_file("rank0.log", _log), (), well_formed.yaml(well_formed.LOG)),
    "list of runs": Reader(
        _file(folder.RUNS, lambda path: list(folder._runs(path.parent))), (), well_formed.yaml('"/tmp"\n"x"\n')
    ),
    "lock": Reader(_file(f"locked/{hold.NAME}", _lock), (), well_formed.yaml("process 1 on here\n")),
}
