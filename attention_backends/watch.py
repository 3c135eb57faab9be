"""A watch for ranks that run apart without failing: one skips an attention, or never comes, and the others wait for it.

Nothing is sent while ranks go on. A thread of each rank sees when its rank has stood still for `patience` seconds: it
waits for one message, or it is outside the model and neither computes nor compiles. One that waits asks the others
through the group's store. Once all say that they stand still, and none waits for a message that another is sending,
they will wait for ever, and the connections are closed with the reason. A slow rank is never taken for one that stands
still.
"""

import atexit
import contextlib
import json
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from types import FrameType
from typing import Any, Protocol

PATIENCE = 15.0  # seconds
LOOKS = 3  # that must find the same, before ranks are told that they wait in vain
IDLE = 0.02  # of a core: less is a process that computes nothing
OUTSIDE = "outside the model"
COMPILES = "torch._dynamo.convert_frame"
SEND, RECEIVE = "send", "receive"


@dataclass(frozen=True)
class Message:
    """One under way. kind: SEND or RECEIVE. peer: the rank at its other end. tag: what both ends must name alike."""

    kind: str
    peer: int
    tag: int


@dataclass(frozen=True)
class Standing:
    """A rank that stands still, as it tells the others.

    Args:
        where: what it is in, in words. steps: messages that it has waited for, in its life.
        waits: the message that it waits for, None outside the model. under_way: all that it has posted.
        beat: how often it has told this.
    """

    where: str
    steps: int = 0
    waits: Message | None = None
    under_way: tuple[Message, ...] = ()
    beat: int = 0

    def encode(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, words: str) -> "Standing":
        told = json.loads(words)
        waits = Message(**told.pop("waits")) if told["waits"] else told.pop("waits")
        return cls(**{**told, "under_way": tuple(Message(**one) for one in told["under_way"])}, waits=waits)


def in_vain(everyone: Sequence[Standing | None]) -> str:
    """Why these ranks will wait for ever, "" while one of them (None) goes on or a message is under way.

    A message is under way if one rank waits for it and the rank at its other end has posted it.
    """
    standing = [one for one in everyone if one is not None]
    if len(standing) < len(everyone) or not any(one.waits for one in standing):
        return ""
    for rank, one in enumerate(standing):
        if one.waits is not None:
            other = Message(RECEIVE if one.waits.kind == SEND else SEND, rank, one.waits.tag)
            if other in standing[one.waits.peer].under_way:
                return ""
    places: dict[str, list[str]] = {}
    for rank, one in enumerate(standing):
        places.setdefault(one.where, []).append(str(rank))
    if len(places) == 1:
        return f"all ranks wait in {standing[0].where}, for messages that none sends: their inputs differ there."
    told = [f"{_ranks(ranks)} {'in ' * (where != OUTSIDE)}{where}" for where, ranks in places.items()]
    return f"the ranks run apart and wait for each other: {'; '.join(told)}. Every rank must run the model alike."


def _ranks(numbers: Sequence[str]) -> str:
    if len(numbers) == 1:
        return f"rank {numbers[0]} is"
    return f"ranks {', '.join(numbers[:-1])} and {numbers[-1]} are"


def _compiles() -> bool:
    """Whether torch.compile is at work here: it waits for compilers that are processes of their own."""
    for each in sys._current_frames().values():
        frame: FrameType | None = each
        while frame is not None:
            if frame.f_globals.get("__name__") == COMPILES:
                return True
            frame = frame.f_back
    return False


class Watched(Protocol):
    """What a watch needs of wire.Wire; its fields are written by the thread that runs the model."""

    patience: float
    inside: bool  # in a forward
    place: str
    steps: int
    waits: tuple[Message, float] | None  # the message that it waits for, and since when

    def rank(self) -> int: ...
    def size(self) -> int: ...
    def posted(self) -> tuple[Message, ...]: ...
    def tear(self, why: str, outside: Sequence[int]) -> None: ...


class Watch:
    """The thread that looks after one wire, from the first `enable` to the end of the process or of its store."""

    def __init__(self, wire: Watched, store: Any) -> None:
        self._wire, self._store = wire, store
        self._over = threading.Event()
        self._told, self._asked = False, ""
        self._idle, self._since, self._computed = False, time.monotonic(), time.process_time()
        self._beat = self._alike = 0
        self._seen: list[Standing] = []
        self._thread = threading.Thread(target=self._run, name="attention_backends.watch", daemon=True)
        self._thread.start()
        atexit.register(self._end)

    def _end(self) -> None:
        self._over.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        often = self._wire.patience / 10
        pause = often
        with contextlib.suppress(RuntimeError):  # the store has ended
            while not self._over.wait(pause):
                # Seldom where nobody waits: many watches that read the store keep the rank busy that serves it.
                pause = often if self._look() or self._wire.inside else min(2 * pause, self._wire.patience)

    def _look(self) -> bool:
        """Whether this rank waits, or was asked."""
        mine = self._standing()
        if mine is None:
            if self._told:  # what it told does not hold any more
                self._store.set(f"stands {self._wire.rank()}", "")
            self._told, self._seen, self._alike = False, [], 0
            return False
        if mine.waits is not None:
            self._store.set("asked", f"{self._wire.rank()} {mine.beat}")
        elif (asked := self._read("asked")) == self._asked:
            return False  # nobody waits, or not any more
        else:
            self._asked = asked
        self._store.set(f"stands {self._wire.rank()}", mine.encode())
        self._told = True
        if mine.waits is not None:
            self._judge(mine)
        return True

    def _judge(self, mine: Standing) -> None:
        everyone = [mine if rank == self._wire.rank() else self._of(rank) for rank in range(self._wire.size())]
        why, now = in_vain(everyone), [one for one in everyone if one is not None]
        if not why or [replace(one, beat=0) for one in now] != [replace(one, beat=0) for one in self._seen]:
            self._seen, self._alike = now if why else [], 1
        elif all(one.beat > before.beat for one, before in zip(now, self._seen, strict=True)):
            self._seen, self._alike = now, self._alike + 1
            if self._alike >= LOOKS:
                self._wire.tear(why, [rank for rank, one in enumerate(now) if one.where == OUTSIDE])

    def _standing(self) -> Standing | None:
        """This rank's, None while it goes on."""
        now, idle, waits = time.monotonic(), self._computes_nothing(), self._wire.waits
        self._beat += 1
        if waits is not None:
            message, since = waits
            if now - since < self._wire.patience:
                return None
            return Standing(self._wire.place, self._wire.steps, message, self._wire.posted(), self._beat)
        return Standing(OUTSIDE, self._wire.steps, beat=self._beat) if idle else None

    def _computes_nothing(self) -> bool:
        """Whether this process is outside the model and idle, by the last full `patience` and what came since."""
        now, computed = time.monotonic(), time.process_time()
        goes_on = self._wire.inside or computed - self._computed > IDLE * self._wire.patience or _compiles()
        if goes_on or now - self._since >= self._wire.patience:
            self._idle, self._since, self._computed = not goes_on, now, computed
        return self._idle

    def _of(self, rank: int) -> Standing | None:
        words = self._read(f"stands {rank}")
        return Standing.decode(words) if words else None

    def _read(self, key: str) -> str:
        return str(self._store.get(key).decode()) if self._store.check([key]) else ""
