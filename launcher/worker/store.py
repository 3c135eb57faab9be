"""torch's store, in which ranks find each other, kept by the launcher: for ranks on several machines."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch.distributed as dist

from launcher.worker.questions import Questions


class LauncherStore(dist.Store):  # type: ignore[misc,name-defined]  # not in torch's stubs
    """A store whose operations are questions to the launcher, over a connection that is proved.

    Args:
        timeout: seconds that a key is waited for.
    """

    def __init__(self, questions: Questions, timeout: float) -> None:
        super().__init__()
        self._questions, self._timeout = questions, timeout

    def set(self, key: str, value: str | bytes) -> None:
        self._questions.ask("set", [key], (value.encode() if isinstance(value, str) else bytes(value)).hex())

    def get(self, key: str) -> bytes:
        return self._questions.ask("get", [key], timeout=self._timeout)

    def add(self, key: str, amount: int) -> int:
        return int(self._questions.ask("add", [key], str(amount)))

    def check(self, keys: list[str]) -> bool:
        return bool(self._questions.ask("check", keys))

    def wait(self, keys: list[str], timeout: timedelta | None = None) -> None:
        self._questions.ask("get", keys, timeout=self._timeout if timeout is None else timeout.total_seconds())

    def delete_key(self, key: str) -> bool:
        return bool(self._questions.ask("delete", [key]))

    deleteKey = delete_key  # noqa: N815 - as torch calls it from C++

    def set_timeout(self, timeout: timedelta) -> None:
        self._timeout = timeout.total_seconds()

    def clone(self) -> Any:
        return self
