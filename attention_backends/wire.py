"""The connections of the ranks that share a sequence, and how a failure on one of them reaches all.

Ranks wait for each other's messages for as long as it takes, so a rank that fails must wake them: it leaves the cause
in the group's store and closes its connections. Whoever waits for it gets an error at once, closes its own, so that all
wake up, and raises with the cause. That costs nothing until a rank fails; the next forward opens new connections.
"""

import contextlib
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore  # type: ignore[attr-defined]  # not in its __all__

from attention_backends.exchange import ConnectionLostError
from attention_backends.transport import decide, has_nccl

Result = TypeVar("Result")

_LONGEST = 2000  # characters of a cause
_NOBODY = 0x7FFFFFFF  # the tag of a message that is never sent
_PROMPTLY = timedelta(milliseconds=1)


class RankFailedError(RuntimeError):
    """Another rank failed in this forward; the message says which, and why."""


class Wire:
    """gloo connections between the ranks of `parent`, of their own: a failure breaks these and not the caller's.

    It is given to exchange.post in place of a process group. CUDA tensors travel by the parent's NCCL unless `by_host`.
    """

    def __init__(self, parent: dist.ProcessGroup) -> None:
        self.parent = parent
        self.by_host = True
        self.place = 0  # in the forward, the same on all ranks: messages of different places never meet
        self._store: Any = PrefixStore("attention_backends", parent.get_group_store())
        self._said = self._opened = self._forward = 0  # counted alike by all ranks
        self._gloo: Any = None  # dist.ProcessGroupGloo, which torch does not type
        self._ended = ""  # why these ranks can't be connected any more

    def rank(self) -> int:
        return self.parent.rank()

    def size(self) -> int:
        return self.parent.size()

    def send(self, tensors: list[torch.Tensor], peer: int, tag: int, /) -> dist.Work:
        work: dist.Work = self._connected().send(tensors, peer, tag)
        return work

    def recv(self, tensors: list[torch.Tensor], peer: int, tag: int, /) -> dist.Work:
        work: dist.Work = self._connected().recv(tensors, peer, tag)
        return work

    def _connected(self) -> Any:
        if self._gloo is None:
            raise ConnectionLostError("the connections to the other ranks are closed since one of them failed")
        return self._gloo

    def way(self, asked: str, devices: Sequence[str]) -> str:
        """How CUDA tensors can travel between these devices of the ranks: see transport.decide, which raises."""
        return decide(asked, "cuda:nccl" in str(dist.get_backend_config(self.parent)), devices)

    def move_on(self) -> None:
        """Say that what follows is another exchange than what came before; every rank does so alike."""
        self.place = (self.place + 1) % 4096

    def agree(self, told: str) -> list[str]:
        """What every rank says, in rank order; they are connected then. All ranks come here, or to `refuse`.

        Raises:
            RankFailedError: a rank refused instead, or has ended.
        """
        self._check_alive()
        self._say(f"{'closed' if self._gloo is None else 'open'} {told}")
        answers = [self._store.get(f"said {self._said} {rank}").decode().split(" ", 1) for rank in range(self.size())]
        if self._said > 2:  # all have read what was said two times ago
            self._store.delete_key(f"said {self._said - 2} {self.rank()}")
        for rank, (kind, words) in enumerate(answers):
            if kind == "failed":
                raise RankFailedError(f"rank {rank} failed: {words}")
        if any(kind == "closed" for kind, _ in answers):
            self._close()
            self._connect()
        return [words for _, words in answers]

    def refuse(self, error: BaseException) -> None:
        """Answer the other ranks' `agree` with an error, without waiting for them."""
        self._say(f"failed {_words(error)}")

    def _say(self, words: str) -> None:
        self._said += 1
        self._store.set(f"said {self._said} {self.rank()}", words)

    def begin(self) -> None:
        """Begin a forward, which every rank does; after a failure it connects the ranks anew.

        Raises:
            RankFailedError: a failure of this rank, in the forward before and after its last exchange, is one that
                other ranks meet in this forward; then all leave it, and begin the next together. Or a rank has ended.
        """
        self._check_alive()
        self._forward += 1
        if self._gloo is None:
            store = self._here()
            met = max(int(store.get(f"met {rank}")) for rank in range(self.size()))
            if met >= self._forward:
                raise RankFailedError(f"{self._cause()}, in the forward before")
            self._connect()

    def _check_alive(self) -> None:
        if self._ended:
            raise RankFailedError(f"{self._ended} Start all ranks anew.")

    def _connect(self) -> None:
        self._opened += 1
        self.place = 0
        store = self._here()
        self._gloo = dist.ProcessGroupGloo(store, self.rank(), self.size(), self._store.timeout)
        # One that fails at once must not close what another is still about to connect.
        store.set(f"connected {self.rank()}", "")
        store.wait([f"connected {rank}" for rank in range(self.size())])

    def _here(self) -> Any:
        """What belongs to these connections in the store."""
        return PrefixStore(f"wire {self._opened}", self._store)

    def fail(self, error: BaseException) -> RankFailedError | None:
        """Wake all other ranks, telling them why. Returns what to raise in place of an error that is only an echo."""
        if self._gloo is None:
            return None
        echo = None
        with contextlib.suppress(RuntimeError):  # the store may have ended with its rank
            self._here().set(f"met {self.rank()}", str(self._forward))
        if isinstance(error, ConnectionLostError):
            cause = self._cause()
            if not cause:  # one that fails leaves a cause, so this one was killed
                cause = self._ended = f"the connection to another rank is lost, which has ended: {error}"
            echo = RankFailedError(cause)
        else:
            with contextlib.suppress(RuntimeError):
                self._here().set(f"failed {self.rank()}", _words(error))
        self._close()
        return echo

    def _cause(self) -> str:
        """What the first rank that failed by itself has left: it does so before it closes its connections."""
        store = self._here()
        with contextlib.suppress(RuntimeError):
            for rank in range(self.size()):
                if store.check([f"failed {rank}"]):
                    return f"rank {rank} failed: {store.get(f'failed {rank}').decode()}"
        return ""

    def _close(self) -> None:
        """Close all connections. gloo does so when a wait runs out of time, and has no other way."""
        gloo, self._gloo = self._gloo, None
        for peer in range(self.size()) if gloo is not None else ():
            if peer != self.rank():
                with contextlib.suppress(RuntimeError):
                    gloo.recv([torch.empty(1)], peer, _NOBODY).wait(_PROMPTLY)
        if gloo is not None and torch.cuda.is_available() and has_nccl(self):
            with contextlib.suppress(RuntimeError):
                self.parent.abort()  # what waits on a device would wait for ever


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:_LONGEST]


_WIRES: dict[dist.ProcessGroup, Wire] = {}


def wire_of(parent: dist.ProcessGroup) -> Wire:
    """The wire of a process group: one, for as long as the process lives, as all ranks must count the same."""
    if parent not in _WIRES:
        _WIRES[parent] = Wire(parent)
    return _WIRES[parent]


def guarded(wire: Wire, call: Callable[[], Result]) -> Result:
    """What `call` returns; an error of it reaches all ranks, and one that only echoes another rank's names that."""
    try:
        return call()
    except BaseException as error:
        echo = wire.fail(error)
        if echo is not None:
            raise echo from error
        raise
