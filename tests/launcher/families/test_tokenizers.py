"""Tokens are counted as transformers counts them, for the kinds of files that checkpoints come with."""

import io
import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from launcher.config.model_schema import ModelConfig
from launcher.estimates.notes import notes
from launcher.families.text import count_tokens
from launcher.families.tokenizers import counter, pairs_flaw, size
from launcher.families.weights import BUNDLED
from launcher.reading import UnreadableError

TEXTS = ["", "a cat", "two dogs, one cat", "猫 🐈", "  x  ", "a\nb"]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A folder with a tokenizer as T5 and LTX publish it: spiece.model alone, no tokenizer.json."""
    import sentencepiece

    folder, model = tmp_path_factory.mktemp("t5"), io.BytesIO()
    lines = [f"two dogs and one cat number {number} sat on the mat" for number in range(300)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=60, hard_vocab_limit=False,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    (folder / "spiece.model").write_bytes(model.getvalue())
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 512}')
    return folder


def test_a_sentencepiece_file_is_counted_as_transformers_does(pieces):
    from transformers import T5Tokenizer

    theirs = T5Tokenizer.from_pretrained(pieces)
    count = counter(pieces)
    assert [count(text) for text in TEXTS] == [len(theirs(text).input_ids) for text in TEXTS]


def test_a_tokenizer_json_is_counted_as_transformers_does():
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(BUNDLED / "tokenizer_2")
    count = counter(BUNDLED / "tokenizer_2")
    assert [count(text) for text in TEXTS] == [len(theirs(text).input_ids) for text in TEXTS]
    assert size(BUNDLED / "tokenizer_2" / "tokenizer.json") == len(theirs)


def test_a_prompt_that_such_a_tokenizer_cuts_off_is_noted(ask, pieces, tmp_path):
    (tmp_path / "tokenizer").symlink_to(pieces)
    model = ModelConfig(name="mine", path=str(tmp_path), text_tokens=16)
    long = "two dogs and one cat " * 10
    (count,) = count_tokens(model, [long])
    assert count == counter(pieces)(long) > 16
    assert count_tokens(model, ["a cat"]) == [None]  # too short to be cut off


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b"\0\xff"])
def test_what_is_no_tokenizer_is_told(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(UnreadableError):
        counter(tmp_path)
    (tmp_path / "tokenizer.json").rename(tmp_path / "spiece.model")
    with pytest.raises(UnreadableError):
        counter(tmp_path)("a cat")


def test_a_tokenizer_that_its_library_panics_over_is_told_in_words_alone(tmp_path, capfd):
    """A panic of Rust is no Exception, and prints its own words and a backtrace."""
    content = json.loads((BUNDLED / "tokenizer" / "tokenizer.json").read_text())
    content["model"]["continuing_subword_prefix"] = "x" * 300
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UnreadableError, match="is not a tokenizer"):
        size(tmp_path / "tokenizer.json")
    assert capfd.readouterr() == ("", "")


def test_the_bundled_model_has_no_notes(ask):
    assert notes(ask("prompt=a cat")) == []


LETTERS = "abcdefgh"
MERGES = [("a", "b"), ("ab", "c</w>"), ("d", "e"), ("de", "f"), ("g", "h</w>")]
WORDS = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), *map("".join, MERGES), "<|endoftext|>"]
VOCABULARY = json.dumps({word: number for number, word in enumerate(WORDS)})
LINES = "#version: 0.2\n" + "\n".join(map(" ".join, MERGES)) + "\n"


@pytest.mark.parametrize(
    ("vocabulary", "merges", "told"),
    [
        (VOCABULARY, LINES, None),
        (VOCABULARY, LINES.replace("\n", "\r\n"), None),
        (VOCABULARY, "#version: 0.2\n", "merges.txt makes 0 of the 5 longer words in vocab.json: truncated"),
        (VOCABULARY, LINES[:27], "merges.txt makes 2 of the 5 longer words in vocab.json: truncated"),
        (VOCABULARY, "<!DOCTYPE html>", "merges.txt makes '<!DOCTYPEhtml>', which vocab.json doesn't have"),
        (VOCABULARY, "version https://git-lfs.github.com/spec/v1\n", "which vocab.json doesn't have"),
        (VOCABULARY, "\udcff", "merges.txt is not UTF-8 text"),
        (json.dumps(WORDS[:10]), LINES, "is not a JSON object"),
        (json.dumps(dict.fromkeys(WORDS, "x")), LINES, "vocab.json does not number its words"),
        (json.dumps({"a": 0, "b": 1}), LINES, "merges.txt makes 'ab', which vocab.json doesn't have"),
    ],
)
def test_a_vocabulary_and_its_merges_make_each_other(tmp_path, vocabulary, merges, told):
    (tmp_path / "vocab.json").write_text(vocabulary)
    (tmp_path / "merges.txt").write_bytes(merges.encode(errors="surrogateescape"))
    found = pairs_flaw(tmp_path / "vocab.json", tmp_path / "merges.txt")
    assert found is None if told is None else told in (found or "")


def test_two_threads_that_count_leave_standard_error_as_it_was(tmp_path, capfd):
    """Each silences it for a moment, and it belongs to the process."""
    count = counter(BUNDLED / "tokenizer")
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(count, TEXTS * 50))
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"
