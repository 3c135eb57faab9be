"""Readers of what others wrote, fuzzed by the lines that they reach; needs the package atheris (Linux and macOS).

    python -m tests.launcher.fuzz -max_total_time=600 -seed=1

The words are libFuzzer's. It ends at the first content that a reader neither reads nor tells about in words, that takes
it more than ten seconds, or 2 GiB: this is kept as a file, and `python -m tests.launcher.fuzz FILE` repeats it. Without
atheris test_readers.py does the same, and does not look which lines are reached.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from random import Random

try:
    import atheris
except ImportError:
    sys.exit("needs the package atheris: pip install atheris")

os.environ["HF_HUB_OFFLINE"] = "1"  # no name is asked for anywhere
with atheris.instrument_imports(include=["launcher"]):
    from tests.launcher.odd import mutated
    from tests.launcher.readers import READERS

NAMES = sorted(READERS)
HERE = Path(tempfile.mkdtemp(prefix="fuzz-"))


def feed(data: bytes) -> None:
    """The first byte says which reader; it gets the rest."""
    if data:
        READERS[NAMES[data[0] % len(NAMES)]].read(HERE, data[1:])


def mutate(data: bytes, most: int, seed: int) -> bytes:
    """Half of the changes are those of odd.py, the other half libFuzzer's."""
    changed = data[:1] + mutated(data[1:], Random(seed)) if seed % 2 and data else atheris.Mutate(data, len(data))
    return changed[:most]


def main() -> None:
    """Fuzz all readers, each from its seeds."""
    corpus, kept = HERE / "corpus", Path.cwd()
    corpus.mkdir()
    for number, name in enumerate(NAMES):
        for count, seed in enumerate(READERS[name].seeds()):
            (corpus / f"{number}-{count}").write_bytes(bytes([number]) + seed)
    given = [word for word in sys.argv[1:] if not word.startswith("-")]
    limits = ["-max_len=65536", "-timeout=10", "-rss_limit_mb=2048", f"-artifact_prefix={kept}/"]
    words = [*limits, *sys.argv[1:], *([] if given else [str(corpus)])]
    (HERE / "work").mkdir()
    files = [str(Path(word).resolve()) if word in given else word for word in words]
    os.chdir(HERE / "work")  # what a hostile configuration makes in the current folder
    atheris.Setup([sys.argv[0], *files], feed, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
