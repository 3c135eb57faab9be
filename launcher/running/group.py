"""A group of ranks: started by `accelerate launch`, spoken to over a socket, ended as one.

The group outlives the job that started it, so that the next job finds the weights loaded. The first rank to fail ends
the whole group: what a rank holds after a failed collective is worth nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from launcher.problems import RunFailed
from launcher.records.run_dir import RunDir
from launcher.running import failures, started
from launcher.running.board import Board
from launcher.running.cluster import Cluster
from launcher.running.failures import RankFailure
from launcher.running.ranks import GroupKey, Ranks
from launcher.running.started import END_TIMEOUT
from launcher.running.watch import AwakeClock, Watch
from launcher.wire.jobs import Job
from launcher.wire.messages import Message, ProtocolError
from launcher.wire.protocol import Ask, Done, Error, Linked, Links

TICK = 0.1  # seconds between looks at the processes while the sockets are silent
GRACE = 1.0  # seconds after the first failure in which the other ranks may tell of an earlier cause
SEND_TIMEOUT = 30.0  # seconds that a rank has to take a job; one that was stopped takes none
LOST = 7.0  # seconds after which a machine that is gone is known to be: the system asks it for 6
LINK_TIMEOUT = 60.0  # seconds that ranks have to try their links, each for 20 s at most

OnEvent = Callable[[int, Message], None]


class RankGroup:
    """Ranks that serve jobs until `close`.

    Args:
        key: how many ranks, where, and which weights they hold.
        run_dir: the run that starts them; the starting process logs there.
        place: which of how many groups that work at once.
        cluster: the machines that the ranks are on, if those are several.
        environment: variables of the job's own, for the ranks on this machine.

    Raises:
        RunFailed: the ranks did not come up; the message names the rank and the cause.
    """

    def __init__(
        self,
        key: GroupKey,
        run_dir: RunDir,
        place: tuple[int, int] = (0, 1),
        cluster: Cluster | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.key, self._cluster, self._board = key, cluster, Board()
        self._ranks = Ranks(key, run_dir.log(), place, cluster, environment)
        try:
            self._ranks.start(run_dir)
            if cluster is not None:
                self._link(run_dir)
        except BaseException:
            self.close(now=True)
            raise

    @property
    def hosts(self) -> tuple[str, ...]:
        """The machines that the ranks are on, if those are several."""
        return () if self._cluster is None else self._cluster.hosts

    @property
    def alive(self) -> bool:
        """False once a rank has failed, which ends the group; during a job or between two."""
        return self._ranks.up and (self._cluster is None or not self._cluster.trouble())

    def run(self, job: Job, run_dir: RunDir, stall_timeout: float, on_event: OnEvent) -> list[Done]:
        """Have every rank do one job.

        Args:
            run_dir: the job's: ranks log there.
            stall_timeout: seconds without a sign of life, or a finished step, after which a rank has failed.
            on_event: called with (rank, message) for everything that a rank tells meanwhile.

        Returns:
            What each rank says at the end, in rank order.

        Raises:
            RunFailed: a rank failed; the group is gone then.
        """
        try:
            return self._run(job, run_dir, stall_timeout, on_event)
        except BaseException:  # an interrupt too: ranks in the middle of a job are of no use
            self.close(now=True)
            raise

    def _run(self, job: Job, run_dir: RunDir, stall_timeout: float, on_event: OnEvent) -> list[Done]:
        done: dict[int, Done] = {}
        self._ranks.folder.serves(run_dir.path)
        for peer in self._ranks.channels.values():
            try:
                peer.send(job)
            except ProtocolError as error:
                raise RunFailed(f"the job can't be sent to the ranks: {error}; ask for fewer pictures") from error
            except OSError:  # a rank that is gone is seen by the end of its stream, a stopped one by its silence
                pass
        clock = AwakeClock()
        for rank, message in self._messages(run_dir, Watch(stall_timeout, self.key.processes, clock), clock):
            if isinstance(message, Done):
                done[rank] = message
                if len(done) == self.key.processes:
                    break
            else:
                on_event(rank, message)
        return [done[rank] for rank in sorted(done)]

    def close(self, now: bool = False) -> None:
        """End the ranks and the process that started them; none of them is left when this returns."""
        self._ranks.end(now)

    def _link(self, run_dir: RunDir) -> None:
        """Have the ranks try their links to those on other machines."""
        addresses = tuple(self._ranks.addresses[rank] for rank in range(self.key.processes))
        for peer in self._ranks.channels.values():
            peer.send(Links(addresses))
        clock, linked = AwakeClock(), 0
        for _, message in self._messages(run_dir, Watch(LINK_TIMEOUT, self.key.processes, clock), clock):
            linked += isinstance(message, Linked)
            if linked == self.key.processes:
                break

    def _messages(self, run_dir: RunDir, watch: Watch, clock: AwakeClock) -> Iterator[tuple[int, Message]]:
        """What the ranks say, until the reader stops; a failure of any of them is raised after GRACE."""
        process = self._ranks.process
        assert process is not None
        failed: list[RankFailure] = []
        deadline = float("inf")
        judged = time.monotonic()
        while True:
            ready = self._ranks.selector.select(TICK)
            ended: list[int] = []
            for key, _ in ready:
                rank: int = key.data
                if rank < 0 and self._cluster is not None:  # an agent
                    if self._cluster.agents[-rank].receive() or not self._cluster.agents[-rank].lost:
                        continue
                    self._ranks.selector.unregister(key.fileobj)
                    continue
                peer = self._ranks.channels[rank]
                try:
                    messages = peer.receive()
                except ProtocolError as error:
                    messages, peer.closed = [Error(f"broke the protocol: {error}")], True
                for message in messages:
                    if isinstance(message, Ask):
                        self._answer(rank, message)
                        continue
                    watch.heard(rank, message)
                    if isinstance(message, Error):
                        failed.append(RankFailure(rank, message.cause, told=True))
                    else:
                        yield rank, message
                if peer.closed:
                    self._ranks.selector.unregister(key.fileobj)
                    ended.append(rank)
            first = len(ended) == 1 and self._ranks.connected == len(self._ranks.channels) - 1
            silent = set(ended) - {failure.rank for failure in failed}
            failed += [RankFailure(rank, "", told=False, first=first) for rank in ended if rank in silent]
            if ready and time.monotonic() - judged < GRACE:
                continue  # all that was said is heard before anybody is judged
            judged = time.monotonic()
            if not failed and (stalled := watch.stalled()):
                self.close(now=True)
                rank, how = stalled
                raise RunFailed(f"rank {run_dir.first_rank + rank}: {how} (log: {self._log(run_dir, rank)})")
            if not failed and process.poll() is not None and len(self._ranks.channels) > 1:
                how = failures.how_it_died(process.returncode, self._ranks.log)
                self.close(now=True)
                raise RunFailed(f"the process that starts the ranks: {how} (log: {self._ranks.log})")
            if not failed and self._cluster is not None and (trouble := self._cluster.trouble()):
                self.close(now=True)
                raise RunFailed(f"{trouble} (logs: {run_dir.logs})")
            if failed and deadline == float("inf"):
                deadline = clock() + GRACE
            everyone = len({failure.rank for failure in failed}) == self.key.processes
            if failed and (everyone or clock() > deadline):
                raise self._failure(failed, run_dir)

    def _failure(self, failed: list[RankFailure], run_dir: RunDir) -> RunFailed:
        """End the group and say what ended it."""
        process = self._ranks.process
        assert process is not None
        silent = {self._ranks.node(failure.rank) for failure in failed if not failure.told}
        if 0 in silent:
            started.gone(process, END_TIMEOUT)  # the starting process reports how its ranks ended
        if self._cluster is not None and silent - {0}:
            self._cluster.wait(LOST)
        alone = process.poll() if self.key.processes == 1 else None
        codes = {node: failures.exit_codes(self._ranks.log_of(node)) for node in range(self.key.nodes)}
        starter = process.poll() if self.key.processes > 1 and self.key.nodes == 1 and not codes[0] else None
        failed = [
            failure.ended(alone or codes[self._ranks.node(failure.rank)].get(self._ranks.pids[failure.rank]))
            for failure in failed
        ]
        lost = self._cluster.lost() if self._cluster is not None else ""
        self.close(now=True)
        if lost and failures.root(failed).suspicion:
            return RunFailed(f"{lost} (logs: {run_dir.logs})")
        first = failures.root(failed)
        if starter is not None and first.suspicion:  # it ended the ranks and reports none: something ended it
            how = failures.how_it_died(starter, self._ranks.log)
            return RunFailed(f"the process that starts the ranks: {how} (log: {self._ranks.log})")
        log = self._log(run_dir, first.rank)
        cause = first.cause if first.told else failures.how_it_died(first.code, log)
        return RunFailed(f"rank {run_dir.first_rank + first.rank}: {cause} (log: {log})")

    def _log(self, run_dir: RunDir, rank: int) -> Path:
        """Where a rank's last words are: in its own log, or in the group's if it died before it opened its own."""
        log = run_dir.log(rank)
        return log if log.exists() else self._ranks.log

    def _answer(self, rank: int, ask: Ask) -> None:
        """Answer what ranks ask to find each other."""
        for who, told in self._board.answers(rank, ask):
            with contextlib.suppress(OSError):  # one that is gone is seen by the end of its stream
                self._ranks.channels[who].send(told)
