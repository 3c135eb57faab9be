"""What the launcher and the agents of other machines say to each other, where ranks are on several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from launcher.wire.messages import Kinds, Message


@dataclass(frozen=True)
class Join(Message):
    """The first words of an agent: which node it is, and what the launcher compares with its own.

    Args:
        clock: seconds since 1970. devices: names of GPUs, or how many cores.
    """

    kind: ClassVar[str] = "join"
    version: int
    node: int
    count: int
    host: str
    clock: float
    versions: dict[str, str]
    devices: tuple[str, ...]


@dataclass(frozen=True)
class Look(Message):
    """What does the agent see of a run's folder, in which `token` stands, and of a model's?"""

    kind: ClassVar[str] = "look"
    path: str
    token: str
    model: str


@dataclass(frozen=True)
class Seen(Message):
    """Whether it sees the run's folder, and each file of the model's, by name: its size, or its SHA-256 if small."""

    kind: ClassVar[str] = "seen"
    shared: bool
    files: dict[str, str]


@dataclass(frozen=True)
class Start(Message):
    """The agent starts its ranks.

    Args:
        token: of the group. processes: of all machines. port: on which torch's elastic agents meet, at the first node.
        log: the file for what the starting process says.
    """

    kind: ClassVar[str] = "start"
    token: str
    processes: int
    port: int
    device: str
    devices: tuple[int, ...]
    threads: tuple[int, ...]
    deterministic: bool
    log: str


@dataclass(frozen=True)
class Ended(Message):
    """An agent's ranks have ended, as they were told to (empty `cause`), or not; or it ends itself (`stopped`)."""

    kind: ClassVar[str] = "ended"
    cause: str
    stopped: bool = False


@dataclass(frozen=True)
class End(Message):
    """The agent ends its ranks: at once, or when they have had a moment to leave by themselves."""

    kind: ClassVar[str] = "end"
    now: bool


@dataclass(frozen=True)
class Leave(Message):
    """No more groups: the agent ends, with this exit code, and says these words if there are any."""

    kind: ClassVar[str] = "leave"
    code: int
    words: str


FROM_AGENT: Kinds = (Join, Seen, Ended)
TO_AGENT: Kinds = (Look, Start, End, Leave)
