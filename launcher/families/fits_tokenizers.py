"""A tokenizer against its class, its own files and the text encoder that reads what it cuts.

Libraries take whatever is in the files: other words, or none, make another picture and no error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from launcher.families import tokenizers
from launcher.families.parts import Part
from launcher.reading import UnreadableError, read_json_object

SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")
# Names of tokenizers that say nothing of what is in their file.
ANY = ("", "PreTrainedTokenizer", "TokenizersBackend", "AutoTokenizer", "PythonBackend")
# How a class cuts words, by the library tokenizers' own names.
ALGORITHMS = {"T5Tokenizer": "Unigram", "CLIPTokenizer": "BPE", "Qwen2Tokenizer": "BPE", "BertTokenizer": "WordPiece"}
# What these classes take from their configuration where it is stated, and fail or draw otherwise over a null.
NEEDED = {"T5Tokenizer": ("eos_token", "pad_token"), "CLIPTokenizer": ("bos_token", "eos_token", "pad_token")}
# Words that a class's text encoder names by their numbers. CLIP finds the end of a text by it; files of before 2023
# have 2 there, for which it looks for the largest number: https://github.com/huggingface/transformers/pull/24773
SHARED = {"T5Tokenizer": ("eos_token", "pad_token"), "CLIPTokenizer": ("eos_token",)}
ENDS_BY_SIZE = 2
FEWEST = 0.9  # of the words that a text encoder knows; published ones have 98% and more


def misfits(part: Part, configs: Mapping[str, Mapping[str, Any]], folder: Path) -> Iterator[str]:
    """What does not fit together, each a sentence that starts with a file.

    Args:
        configs: of all parts that have one, by their names; the tokenizer's own among them.
        folder: of the pipeline.
    """
    here, config, named = folder / part.name, configs[part.name], part.kind.removesuffix("Fast")
    vocabulary, file = here / "tokenizer.json", f"{part.name}/tokenizer_config.json"
    told = str(config.get("tokenizer_class") or "").removesuffix("Fast")
    if named not in ANY and told not in (*ANY, named):
        yield f"{file} is a {told[:60]}'s, and model_index.json says {part.kind}"
    kind = tokenizers.algorithm(vocabulary)
    if kind not in (None, ALGORITHMS.get(named, kind)):
        yield f"{part.name}/tokenizer.json is a {kind} tokenizer, and a {part.kind} is {ALGORITHMS[named]}"
    if flaw := tokenizers.merges_flaw(vocabulary):
        yield f"{part.name}/tokenizer.json {flaw}"
    for key in NEEDED.get(named, ()):
        if key in config and config[key] is None:
            yield f"{file} says {key}=null, and a {part.kind} needs one"
    for name, key, token in _absent(here):
        yield f"{part.name}/{name} says {key}={token[:40]!r}, which is no word of its tokenizer.json"
    name = f"text_encoder{part.name.removeprefix('tokenizer')}"
    encoder = configs.get(name, {})
    length, longest = config.get("model_max_length"), encoder.get("max_position_embeddings")
    if type(length) is int and length < 1:
        yield f"{file} says model_max_length={length}, and no text fits"
    if named == "CLIPTokenizer" and type(length) is type(longest) is int and length > longest:
        yield f"{file} says model_max_length={length}, and {name}/config.json max_position_embeddings={longest}"
    if encoder.get("model_type") == "clip_text_model" and named not in (*ANY, "CLIPTokenizer"):
        yield f"{name}/config.json is a CLIP's, and model_index.json says {part.kind} for its tokenizer"
    yield from _shared(part, config, encoder, name, vocabulary)


def _shared(
    part: Part, config: Mapping[str, Any], encoder: Mapping[str, Any], name: str, vocabulary: Path
) -> Iterator[str]:
    """What a tokenizer and its text encoder, of this name, both say of the words."""
    text = encoder.get("text_config")
    most = (text if isinstance(text, dict) and "vocab_size" in text else encoder).get("vocab_size")
    try:
        words, all_words = tokenizers.words(vocabulary), tokenizers.size(vocabulary)
    except UnreadableError:
        return  # told by whoever looks at the parts
    if type(most) is int and words > most:
        yield f"{part.name}/tokenizer.json has {words} words, and its text encoder knows {most}"
    elif type(most) is int and all_words < FEWEST * most:
        yield f"{part.name}/tokenizer.json has {all_words} words, and its text encoder knows {most}: truncated"
    for key in SHARED.get(part.kind.removesuffix("Fast"), ()):
        token, its = _content(config.get(key)), encoder.get(f"{key}_id")
        if not isinstance(token, str) or type(its) is not int or (its == ENDS_BY_SIZE and key == "eos_token"):
            continue
        if (number := tokenizers.number(vocabulary, token)) not in (None, its):
            told = f"{name}/config.json says {key}_id={its}, and {token[:40]!r} is number {number}"
            yield f"{told} of {part.name}/tokenizer.json"


def _absent(here: Path) -> Iterator[tuple[str, str, str]]:
    """Special tokens, each with its file, that a tokenizer doesn't know: its text encoder has never seen new ones."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        try:
            config = read_json_object(here / name)
        except UnreadableError:
            continue  # told by whoever looks at the parts
        added = config.get("added_tokens_decoder")
        known = {str(_content(token)) for token in added.values()} if isinstance(added, dict) else set()
        for key in SPECIAL:
            token = _content(config.get(key))
            if (
                isinstance(token, str)
                and token not in known
                and tokenizers.knows(here / "tokenizer.json", token) is False
            ):
                yield name, key, token


def _content(token: object) -> object:
    """A token's text, which some files wrap."""
    return token.get("content") if isinstance(token, dict) else token
