"""A place for a group of ranks: the last group stays warm there until a job comes that it can't do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launcher.records.run_dir import RunDir
    from launcher.running.cluster import Cluster
    from launcher.running.group import RankGroup
from launcher.running.ranks import GroupKey


class Slot:
    """Ranks for one job at a time. A session has one place, or several whose groups work at once.

    Args:
        number, count: which of the places it is: ranks are dealt to NUMA nodes by it.
    """

    def __init__(self, number: int = 0, count: int = 1) -> None:
        self.number, self.count = number, count
        self.cluster: Cluster | None = None  # the machines that its ranks are on, if those are several
        self._ranks: RankGroup | None = None
        self._environment: dict[str, str] = {}  # that the ranks were started with, from hydra.job.env_set

    @property
    def key(self) -> GroupKey | None:
        """What the ranks here have in common; None where there are none."""
        return self._ranks.key if self._ranks is not None and self._ranks.alive else None

    def fit(self, environment: dict[str, str]) -> None:
        """Ranks keep the environment that they were started with: another one needs new ranks."""
        if environment != self._environment:
            self.close()
        self._environment = environment

    def ranks(self, key: GroupKey, run_dir: RunDir) -> RankGroup:
        """Ranks for a job: those of the last one if they fit, else new ones, after the old ones have ended."""
        if self._ranks is not None and (self._ranks.key != key or not self._ranks.alive):
            self.close()
        if self._ranks is None:
            from launcher.running.group import RankGroup

            self._ranks = RankGroup(key, run_dir, (self.number, self.count), self.cluster, self._environment)
        return self._ranks

    def close(self) -> None:
        """End the ranks."""
        if self._ranks is not None:
            self._ranks.close()
            self._ranks = None
