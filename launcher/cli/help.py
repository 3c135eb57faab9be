"""The page of `python -m launcher --help`: the choices, the settings with units and defaults, four examples."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from launcher.cli import subcommands
from launcher.cli.parser import Parser
from launcher.config.compose import Composer, to_config
from launcher.config.schema import LaunchConfig
from launcher.config.text import fields
from launcher.problems import Refused

EXAMPLES = """\
  python -m launcher                                                   a picture with what this machine has
  python -m launcher cp=ring_anything height=1000 prompt='red dots on white'   two ranks or more share one picture
  python -m launcher -m cp=none,ring_anything seed=1,2                 every combination, one after another
  python -m launcher plan machine=h100x8 model=flux height=1000        what would happen there: nothing is started"""

QUOTING = """\
A prompt is taken as it stands: prompt='a cat, sitting (on a mat)'. In a sweep (-m) its commas separate several prompts;
'prompt="a cat, sitting"' is one. prompt_file=FILE takes any text as it is."""


def page(composer: Composer, words: list[str], command: str, parser: Parser) -> str:
    """The help for a subcommand with the chosen model and options: defaults are those that `words` lead to."""
    try:
        config = to_config(composer.compose(words))
    except Refused:
        config = to_config(composer.compose([]))
    parts = [
        "Makes pictures with diffusion pipelines, shared by several GPUs or CPU ranks with context parallelism.",
        f"python -m launcher {f'{command} ' * bool(command)}[option ...] [choice=option ...] [setting=value ...]",
        "Subcommands\n" + "\n".join(_choice(name, [subcommands.load(name).ABOUT]) for name in subcommands.names()),
        f"Examples\n{EXAMPLES}",
        "Choices\n" + "\n".join(_choice(name, options) for name, options in composer.groups.items()),
        f"Settings (default for model={config.model.name})\n" + "\n".join(_fields(config)),
        QUOTING,
        f"Options\n{parser.options()}",
    ]
    if config.model.path == "bundled":
        parts.insert(4, _vocabulary(config.model.name))
    return "\n\n".join(parts)


def _choice(name: str, options: Sequence[str]) -> str:
    return textwrap.fill(f"{name:<12} {', '.join(options)}", 110, initial_indent="  ", subsequent_indent=" " * 15)


def _fields(config: LaunchConfig) -> list[str]:
    lines = []
    facts = [name for name, field in fields().items() if field.metadata.get("fact")]
    for name, field in fields().items():
        if name in facts:
            continue
        value: Any = config
        for part in name.split("."):
            value = getattr(value, part)
        default = "null" if value is None else f"'{value}'" if isinstance(value, str) and " " in value else str(value)
        line = f"{f'{name}={default}':<30} {field.metadata['help']}"
        lines.append(textwrap.fill(line, 120, initial_indent="  ", subsequent_indent=" " * 33))
    about = "facts of a model, for a file of your own in conf/model: " + ", ".join(facts)
    return [*lines, textwrap.fill(about, 110, initial_indent="  ", subsequent_indent="    ")]


def _vocabulary(name: str) -> str:
    """What the bundled model can draw; other words are ignored."""
    from launcher.flux_tiny.vocabulary import COLOURS, EXAMPLES, PATTERNS, SCALES

    table = {"patterns": list(PATTERNS), "colours": list(COLOURS), "sizes": list(SCALES), "for example": EXAMPLES}
    return f"{name} draws wallpaper\n" + "\n".join(_choice(key, words) for key, words in table.items())
