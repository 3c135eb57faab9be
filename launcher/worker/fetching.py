"""What is not on this machine comes from the hub: by one rank of the machine, while the others wait for the cache."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from filelock import FileLock
from huggingface_hub import constants, snapshot_download

from launcher.records.hashes import of_setting
from launcher.wire.jobs import Load, PartFile

TOLD_EVERY = 5.0  # seconds
LOCKS = ".locks"  # huggingface_hub's folder for them, within its cache


def fetch(load: Load, say: Callable[[str], None] = lambda _: None) -> tuple[str, tuple[PartFile, ...]]:
    """Return the folder with a pipeline's files and the places of parts that are given, all of them here by then.

    The first rank that comes fetches; the others find the cache filled, and ask the hub for no more than what is new.

    Args:
        say: is told, by the rank that fetches, how far it is.
    """
    folder, parts = load.path, []
    if not Path(folder).is_dir():
        import diffusers  # seconds, with torch, that a part alone does not need

        with _alone(folder, say):
            pipeline = getattr(diffusers, load.pipeline)
            folder = str(pipeline.download(folder, revision=load.revision, variant=load.variant, use_safetensors=True))
    for part in load.replaced:
        place = part.path
        if part.repository:
            with _alone(part.repository, say):
                patterns = list(part.patterns)
                found = snapshot_download(part.repository, revision=part.revision, allow_patterns=patterns)
            place = str(Path(found, part.path))
        parts.append(dataclasses.replace(part, path=place))
    return folder, tuple(parts)


def hashes(load: Load, parts: Sequence[PartFile]) -> dict[str, str]:
    """The SHA-256 of each file that was fetched for a part, under its setting as a record has it."""
    found: dict[str, str] = {}
    for before, part in zip(load.replaced, parts, strict=True):
        if before.repository:
            place = Path(part.path)
            found |= of_setting(part.setting, sorted(place.glob("*.safetensors")) if place.is_dir() else [place])
    return found


@contextlib.contextmanager
def _alone(repository: str, say: Callable[[str], None]) -> Iterator[None]:
    """Let one process after the other in, each of which tells how much it has added to the cache."""
    name = f"models--{repository.replace('/', '--')}"
    cache = Path(constants.HF_HUB_CACHE)
    (cache / LOCKS).mkdir(parents=True, exist_ok=True)
    with FileLock(cache / LOCKS / f"{name}.launcher"):
        done, before = threading.Event(), _bytes(cache / name)

        def tell() -> None:
            while not done.wait(TOLD_EVERY):
                if (more := _bytes(cache / name) - before) > 0:
                    say(f"fetching, {more / 1e9:.1f} GB" if more >= 1e9 else f"fetching, {more / 1e6:.0f} MB")

        thread = threading.Thread(target=tell, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _bytes(repository: Path) -> int:
    """What the cache holds of a repository, with what is on its way."""
    sizes = []
    for path in (repository / "blobs").glob("*"):
        with contextlib.suppress(OSError):  # it has got its final name
            sizes.append(path.stat().st_size)
    return sum(sizes)
