"""The user's YAML files: bounded in size and in what they grow to, before YAML and OmegaConf build it."""

from __future__ import annotations

from pathlib import Path

import yaml

from launcher.reading import UnreadableError, read_text

MAX_YAML = 256 << 10  # bytes; the largest file of conf/ has 3 KiB
MAX_NODES = 100_000  # that a file's aliases may grow to
# What PyYAML raises of `0x_` or `!!bool x`, and Hydra of `defaults: 3`, beside their own errors.
UNEXPECTED = (ValueError, TypeError, LookupError, AttributeError, AssertionError)


def check(path: Path, limit: int = MAX_YAML) -> str:
    """Look at a file before it is loaded; gives its text.

    Raises:
        UnreadableError: it is no regular file of a sensible size, or its aliases refer to themselves or grow too large.
    """
    text = read_text(path, limit)
    if "*" not in text:  # no alias
        return text
    open_: list[tuple[str | None, int]] = []  # anchor and nodes of each collection that is not closed yet
    sizes: dict[str, int] = {}
    total = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        size = 0
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in (anchor for anchor, _ in open_):
                raise UnreadableError(f"refers to itself (*{event.anchor})")
            size = sizes.get(str(event.anchor), 1)
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, 1))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_.pop()
            if anchor:
                sizes[anchor] = size
        if size and open_:
            open_[-1] = (open_[-1][0], open_[-1][1] + size)
        total = max(total, size, *(held for _, held in open_), 0)
        if total > MAX_NODES:
            raise UnreadableError(f"grows to more than {MAX_NODES} values by its aliases")
    return text
