"""What a request needs from outside, read once into plain data: prompts, their tokens, a seed."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from launcher.config.paths import user_path
from launcher.config.schema import LaunchConfig
from launcher.families.call import negative_prompt
from launcher.families.checkpoint import Checkpoint, inspect
from launcher.families.tasks import given
from launcher.families.text import count_tokens
from launcher.problems import Problem
from launcher.reading import UnreadableError, parse_json, read_text
from launcher.request.pictures import Given, look

MAX_PROMPT_FILE = 1 << 20  # bytes; text encoders read some hundred words


@dataclass(frozen=True)
class Inputs:
    """Everything that resolving a request reads, so that resolving itself reads nothing.

    Args:
        prompts: what to draw; empty where they can't be read, for the reasons in `problems`.
        tokens: of each prompt, before any is cut off; None: not counted, see `count_tokens`.
        negative_tokens: of the negative prompt, likewise; None also where there is none.
        seed: the one that was typed, else drawn here, once.
        checkpoint: the model's files.
        pictures: to start from, those that can be read.
    """

    prompts: tuple[str, ...]
    tokens: tuple[int | None, ...]
    negative_tokens: int | None
    seed: int
    checkpoint: Checkpoint
    pictures: tuple[Given, ...] = ()
    problems: tuple[Problem, ...] = ()


def read(config: LaunchConfig) -> Inputs:
    """The inputs of a configuration. What can't be read becomes a problem."""
    prompts, problems = _prompts(config)
    pictures: list[Given] = []
    for setting in given(config):
        found, wrong = look(setting, getattr(config, setting), max(1, config.frames or 1))
        pictures += found
        problems += wrong
    negative = negative_prompt(config)
    counted = count_tokens(config.model, [*prompts, *([negative] if negative is not None else [])])
    return Inputs(
        prompts=prompts,
        tokens=tuple(counted[: len(prompts)]),
        negative_tokens=counted[-1] if negative is not None else None,
        seed=config.seed if config.seed is not None else drawn_seed(),
        checkpoint=inspect(config.model),
        pictures=tuple(pictures),
        problems=tuple(problems),
    )


def drawn_seed() -> int:
    """A seed by chance, 32 bits."""
    return secrets.randbelow(1 << 32)


def _prompts(config: LaunchConfig) -> tuple[tuple[str, ...], list[Problem]]:
    if config.prompt_file is None:
        return (config.prompt if config.prompt is not None else config.model.prompt,), []
    value = f"prompt_file={config.prompt_file}"
    if config.prompt is not None:
        return (), [Problem(value, "prompt is given too, and a run takes one of them", "leave one out")]
    try:
        path = user_path(config.prompt_file)
        text = read_text(path, MAX_PROMPT_FILE)
    except UnreadableError as error:
        instead = "give the path of a UTF-8 text file with a few hundred words, or of a .json list of prompts"
        if config.prompt_file == "-" or str(error).startswith("is a pipe"):
            instead = 'type prompt="$(cat)" to take it from standard input'
        return (), [Problem(value, str(error), instead)]
    except ValueError:  # no home can have this name
        return (), [Problem(value, "can't be read (no file can have this name)", "give the path of a text file")]
    if not text.strip():
        return (), [Problem(value, "holds no text", "write a prompt into it, or type prompt= for an empty one")]
    if path.suffix != ".json":
        return (text.removesuffix("\n").removesuffix("\r"),), []
    try:
        prompts = parse_json(text)
    except UnreadableError as error:
        return (), [Problem(value, str(error), 'write a list of strings: ["one", "two"]')]
    if not (isinstance(prompts, list) and prompts and all(isinstance(prompt, str) for prompt in prompts)):
        return (), [Problem(value, "must be a list of strings, at least one", 'write ["one", "two"]')]
    return tuple(prompts), []
