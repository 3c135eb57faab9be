"""A model's tokenizer without transformers: how many tokens a text has."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from launcher.reading import UnreadableError, opened, read_json_object, read_text

MAX_BYTES = 64 << 20  # the largest that is in use has 34 MB

ASKED_WORDS = 400  # of a vocabulary, evenly taken
WHOLE_WORDS = 0.75  # of these that merges make; some words are overtaken by others

SILENCE = threading.RLock()  # standard error belongs to the process: two threads would put back each other's silence

Count = Callable[[str], int]


def size(path: Path) -> int:
    """Words in the vocabulary of a tokenizer.json, or of a SentencePiece model.

    Raises:
        UnreadableError: it is none.
    """
    if path.suffix == ".model":
        return len(_pieces(path))
    found = _fast(path).get_vocab_size()
    assert isinstance(found, int)
    return found


def words(path: Path) -> int:
    """Words of a tokenizer.json, those aside that were added to its vocabulary.

    Raises:
        UnreadableError: it is none.
    """
    found = _fast(path).get_vocab_size(with_added_tokens=False)
    assert isinstance(found, int)
    return found


def algorithm(path: Path) -> str | None:
    """How a tokenizer.json cuts words: BPE, Unigram, WordPiece or WordLevel; None where it can't be read."""
    try:
        return type(_fast(path).model).__name__
    except UnreadableError:
        return None


def knows(path: Path, token: str) -> bool | None:
    """Whether a tokenizer.json has this token; None where it can't be read."""
    try:
        return _fast(path).token_to_id(token) is not None
    except UnreadableError:
        return None


def number(path: Path, token: str) -> int | None:
    """The number of a token in a tokenizer.json; None where it has none, or can't be read."""
    try:
        found = _fast(path).token_to_id(token)
    except UnreadableError:
        return None
    assert found is None or isinstance(found, int)
    return found


def pairs_flaw(vocabulary: Path, merges: Path) -> str | None:
    """What is wrong with a byte-pair vocabulary and the merges beside it, starting with a file's name, or None.

    Each merge joins two words to a third one, and all words but single letters and special ones are made so.
    """
    try:
        return _cached_pairs_flaw(*_identity(vocabulary), *_identity(merges))
    except UnreadableError as error:
        return f"{merges.name} {error}"


@functools.lru_cache(8)
def _cached_pairs_flaw(vocabulary: str, _c: int, _l: int, merges: str, _m: int, _n: int) -> str | None:
    words = read_json_object(Path(vocabulary), MAX_BYTES)
    if not all(type(number) is int for number in words.values()):
        return "vocab.json does not number its words"
    lines = [line.split() for line in read_text(Path(merges), MAX_BYTES).split("\n")]
    pairs = [line for line in lines if line and line[0] != "#version:"]
    if odd := next((" ".join(pair) for pair in pairs if len(pair) != 2), None):
        return f"merges.txt is no list of merges: {odd[:40]!r}"
    made = {"".join(pair) for pair in pairs}
    if len(strange := sorted(made - words.keys())) > len(made) / 100:
        return f"merges.txt makes {strange[0][:40]!r}, which vocab.json doesn't have"
    long = [word for word in words if len(word.removesuffix("</w>")) > 1 and not word.startswith("<")]
    missing = sum(word not in made for word in long)
    if missing > len(words) / 10:
        return f"merges.txt makes {len(long) - missing} of the {len(long)} longer words in vocab.json: truncated"
    return None


def merges_flaw(path: Path) -> str | None:
    """What is wrong with the merges in a tokenizer.json of byte pairs, as the end of a sentence; None where it is none.

    A word that merges make is cut into itself; without them it falls into letters, and no library says so.
    """
    try:
        return _cached_merges_flaw(*_identity(path))
    except UnreadableError:
        return None  # told by whoever looks at the parts


@functools.lru_cache(8)
def _cached_merges_flaw(path: str, _changed: int, _length: int) -> str | None:
    fast = _fast(Path(path))
    if type(fast.model).__name__ != "BPE":
        return None
    end = fast.model.end_of_word_suffix or ""
    vocabulary = [word for word in fast.get_vocab(with_added_tokens=False) if word.endswith(end)]
    long = sorted(word for word in vocabulary if len(word.removesuffix(end)) > 1 and not word.startswith("<"))
    asked = long[:: len(long) // ASKED_WORDS + 1]
    with _called("tokenizer"):
        whole = sum(len(fast.model.tokenize(word.removesuffix(end))) == 1 for word in asked)
    if whole < WHOLE_WORDS * len(asked):
        return f"makes {whole} of {len(asked)} words in its vocabulary: its merges are truncated"
    return None


def counter(folder: Path) -> Count:
    """What counts a text's tokens, special ones included, by the tokenizer in this folder.

    Raises:
        UnreadableError: there is none that can be read here; what is returned raises it where it can't count a text.
    """
    if (folder / "spiece.model").exists() and not (folder / "tokenizer.json").exists():
        pieces = _pieces(folder / "spiece.model")
        return _guarded(lambda text: len(pieces.encode(text)) + 1)  # T5's and UMT5's end of the sequence
    fast = _fast(folder / "tokenizer.json")
    return _guarded(lambda text: len(fast.encode(text).ids))


def _guarded(count: Count) -> Count:
    def guarded(text: str) -> int:
        with _called("tokenizer"):
            return count(text)

    return guarded


def _fast(path: Path) -> Any:
    return _cached_fast(*_identity(path))


def _pieces(path: Path) -> Any:
    return _cached_pieces(*_identity(path))


def _identity(path: Path) -> tuple[str, int, int]:
    """A file as it is now: one that has changed is another one."""
    with opened(path) as (_, length):
        if length > MAX_BYTES:
            raise UnreadableError(f"is {length} bytes long; the limit is {MAX_BYTES}")
    try:
        return str(path), path.stat().st_mtime_ns, length
    except OSError as error:
        raise UnreadableError(f"can't be read ({error.strerror})") from error


@functools.lru_cache(8)  # a sweep asks for the same ones in each job
def _cached_fast(path: str, _changed: int, _length: int) -> Any:
    from tokenizers import Tokenizer  # 10 ms

    with _called("tokenizer"):
        tokenizer = Tokenizer.from_file(path)
        tokenizer.no_truncation()
        tokenizer.no_padding()
    return tokenizer


@contextlib.contextmanager
def _called(kind: str) -> Iterator[None]:
    """Call a library of tokenizers, whatever it is given.

    What the authors of one in Rust did not expect ends in a panic, which is no Exception, and in a backtrace on
    standard error; the one in C++ logs there.

    Args:
        kind: what the library reads, for the error.

    Raises:
        UnreadableError: it fails.
    """
    try:
        with _silent():
            yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise UnreadableError(f"is not a {kind} ({' '.join(str(error).split())[:120]})") from error


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Have nothing reach standard error, from C libraries neither."""
    with SILENCE:
        before = os.dup(2)
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)


@functools.lru_cache(8)
def _cached_pieces(path: str, _changed: int, _length: int) -> Any:
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise UnreadableError("can't be read without the package sentencepiece") from error
    with _called("SentencePiece model"):
        return SentencePieceProcessor(model_file=path)
