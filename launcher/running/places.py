"""The places for groups of ranks that a session has, and jobs run in them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from launcher.config import hydra_seam
from launcher.config.schema import LaunchConfig
from launcher.problems import RunFailed
from launcher.records.run_dir import RunDir
from launcher.request.request import Request
from launcher.running import deal
from launcher.running.hold import held
from launcher.running.progress import Progress
from launcher.running.screen import Screen
from launcher.running.slot import Slot
from launcher.running.sweep import recorded
from launcher.running.sweep_folder import shown
from launcher.wording import shorten

if TYPE_CHECKING:
    from launcher.running.cluster import Cluster
    from launcher.running.job import Made


class Places:
    """A place for each group of ranks, which is kept while the next job fits it.

    Args:
        screen: where jobs tell how they get on.
        options: of the command line, before the settings in the line that asks for the same again.
    """

    def __init__(self, screen: Screen, options: Sequence[str]) -> None:
        self._screen, self._options = screen, options
        self.slots = [Slot()]
        self._cluster: Cluster | None = None

    def make(self, groups: int) -> None:
        """Have a place for the ranks of each group; ranks of another arrangement end."""
        if len(self.slots) != groups:
            self.close()
            self.slots = [Slot(number, groups) for number in range(groups)]

    def run(
        self,
        composed: DictConfig,
        request: Request,
        words: list[str],
        folder: Path,
        slots: list[Slot] | None = None,
        brief: bool = False,
        only_check: bool = False,
        progress: Progress | None = None,
        claimed: bool = False,
    ) -> Made:
        """Make a job's pictures in a folder, which is claimed before anything is written there.

        Args:
            claimed: whoever handed the run to Slurm has claimed it.
            slots: for the ranks of the groups that make them; all of them if it is left out.
            progress: of a sweep's job, where several are made at once.
        """
        # With what a refused request should not wait for: Pillow, psutil.
        from launcher.running.job import Crew, execute

        slots = slots or self.slots
        slots[0].cluster = self._joined(request.config)
        run_dir, shared = RunDir(shown(folder)), None
        try:
            with held(folder, f"hydra.run.dir={run_dir.path}"), contextlib.ExitStack() as stack:
                if not claimed:
                    stack.enter_context(run_dir.claimed())
                hydra_seam.save(composed, folder)
                environment = {str(key): str(value) for key, value in composed.hydra.job.env_set.items()}
                if not brief:
                    self._screen.header(request, run_dir.path)
                if len(slots) > 1:
                    shared = deal.Shared(self._screen.board(steps_of(request)))
                    stack.callback(shared.close)
                crews = []
                for group, slot in enumerate(slots):
                    slot.fit(environment)
                    if shared is not None:
                        own = len(request.share(group, len(slots))) * request.denoising_steps
                        progress = shared.job(group, "", own)
                    progress = progress or self._screen.progress(steps_of(request), brief)
                    crews.append(Crew(deal.placed(request, group) if shared else request, slot.ranks, progress))
                stopped = None if shared is None else shared.stopped
                made = execute(crews, run_dir, recorded(words), only_check, self._options, stopped)
        except OSError as error:
            raise RunFailed(f"the run's folder can't be written: {shorten(str(error), 200)}") from error
        if not brief:
            self._screen.summary(made)
        return made

    def close(self, failed: str = "") -> None:
        """End the ranks, and the agents of other machines; `failed` is what they are told of the reason."""
        for slot in self.slots:
            slot.close()
        if self._cluster is not None:
            self._cluster.close(1 if failed else 0, failed)
            self._cluster = None

    def _joined(self, config: LaunchConfig) -> Cluster | None:
        """The machines whose ranks work together, once all of them are there; None for this one alone."""
        if config.cluster.name == "none" or self._cluster is not None:
            return self._cluster
        from launcher.running.joined import joined

        self._cluster = joined(config.cluster, self._screen.note)
        return self._cluster


def steps_of(request: Request) -> int:
    """Denoising steps of all calls of a job."""
    return request.denoising_steps * len(request.calls)
