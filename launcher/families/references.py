"""A part that a repository of the hub holds: what names it, where the hub's cache keeps it, what has to be fetched."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from launcher.families.weights import BASES, snapshot, variants, weight_files

BASE = BASES["diffusers"]
FILES = (".safetensors", ".gguf")
FORM = re.compile(
    r"(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w.+-]+))?"
    r"(?:/(?P<inside>[\w+ -][\w.+ -]*(?:/[\w+ -][\w.+ -]*)*))?"
)
TYPED = "owner/name, owner/name@REVISION, owner/name/FOLDER or owner/name/FILE"


@dataclass(frozen=True)
class Reference:
    """`owner/name@revision/inside`: a folder or a file in a repository of the hub; inside is "" for its top."""

    repository: str
    revision: str | None
    inside: str

    @property
    def is_file(self) -> bool:
        """A single file, and not the folder of a part."""
        return self.inside.endswith(FILES)

    @property
    def snapshot(self) -> Path:
        """Where the hub's cache keeps the repository's files, if it has them."""
        return snapshot(self.repository, self.revision)

    @property
    def path(self) -> Path:
        """Where the hub's cache keeps the part, if it has it."""
        return self.snapshot / self.inside

    @property
    def first(self) -> str:
        """The file that is there if the part is."""
        return self.inside if self.is_file else f"{self.inside}/config.json".lstrip("/")

    @property
    def patterns(self) -> tuple[str, ...]:
        """What is fetched of the repository: the plain weights of a folder, and never a pickle."""
        if self.is_file:
            return (self.inside,)
        names = ("config.json", f"{BASE}.safetensors", f"{BASE}.safetensors.index.json", f"{BASE}-*-of-*.safetensors")
        return tuple(f"{self.inside}/{name}".lstrip("/") for name in names)

    @property
    def whole(self) -> bool:
        """Whether the cache has all of it."""
        if self.is_file:
            return self.path.is_file()
        there = (self.path / "config.json").is_file() and "" in variants(self.path, BASE)
        return there and not weight_files(self.path, BASE, "").missing

    @property
    def pinned(self) -> str:
        """The same at the commit that the cache holds: a branch moves on."""
        commit = self.snapshot.name if self.path.exists() else self.revision
        at = "" if commit is None else f"@{commit}"
        return f"{self.repository}{at}" + (f"/{self.inside}" if self.inside else "")


def reference(text: str) -> Reference | None:
    """What a text names on the hub; None for what is here, or can't be on the hub."""
    found = FORM.fullmatch(text)
    if found is None or ".." in text or Path(text).exists() or found["repository"].endswith(FILES):
        return None
    return Reference(found["repository"], found["revision"], found["inside"] or "")
