"""What a text encoder that sees pictures is given by, without the package that only films need."""

from __future__ import annotations

from typing import Any

import transformers

FILMS = "video_processor"


def pictures_only(kind: Any) -> Any:
    """A processor's class without the part that reads films, which needs torchvision, and a file of its own with it.

    No pipeline here gives its text encoder a film. The part that reads pictures does with Pillow.
    """

    def attributes(_: Any) -> list[str]:
        return [each for each in kind.get_attributes() if each != FILMS]

    return type(kind.__name__, (kind,), {"get_attributes": classmethod(attributes), "__module__": kind.__module__})


def load(kind: Any, folder: str) -> Any:
    """A tokenizer, scheduler, processor or another part without weights, from its folder."""
    if issubclass(kind, transformers.ProcessorMixin) and FILMS in kind.get_attributes():
        kind = pictures_only(kind)
    return kind.from_pretrained(folder)
