"""A group of ranks: started by `accelerate launch`, spoken to over a socket, ended as one.

The group outlives the job that started it, so that the next job finds the weights loaded. The first rank to fail ends
the whole group: what a rank holds after a failed collective is worth nothing.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from launcher.problems import RunFailed
from launcher.records.run_dir import RunDir
from launcher.running import failures
from launcher.running.failures import RankFailure
from launcher.running.folder import GroupFolder
from launcher.running.starters import accelerate
from launcher.running.watch import AwakeClock, Watch
from launcher.wire import channel, protocol
from launcher.wire.channel import Channel
from launcher.wire.protocol import Done, Error, Hello, Job, Load, Message, ProtocolError, Stop

TICK = 0.1  # seconds between looks at the processes while the sockets are silent
GRACE = 1.0  # seconds after the first failure in which the other ranks may tell of an earlier cause
SEND_TIMEOUT = 30.0  # seconds that a rank has to take a job; one that was stopped takes none
END_TIMEOUT = 3.0  # seconds that ranks have to leave by themselves

OnEvent = Callable[[int, Message], None]


@dataclass(frozen=True)
class GroupKey:
    """What the ranks of a group have in common; a job with an equal key can use the group."""

    processes: int
    devices: tuple[int, ...]
    threads: tuple[int, ...]
    start_timeout: float
    load: Load


class RankGroup:
    """Ranks that serve jobs until `close`.

    Args:
        key: how many ranks, where, and which weights they hold.
        run_dir: the run that starts them; the starting process logs there.
        place: which of how many groups that work at once.

    Raises:
        RunFailed: the ranks did not come up; the message names the rank and the cause.
    """

    def __init__(self, key: GroupKey, run_dir: RunDir, place: tuple[int, int] = (0, 1)) -> None:
        self.key, self.place = key, place
        self._ranks: dict[int, Channel] = {}
        self._processes: dict[int, psutil.Process] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._selector = selectors.DefaultSelector()
        self._start_log = run_dir.log()
        self._folder = GroupFolder()
        try:
            self._start(run_dir)
        except BaseException:
            self.close(now=True)
            raise

    @property
    def alive(self) -> bool:
        """False once a rank has failed, which ends the group; during a job or between two."""
        return bool(self._ranks) and self._process is not None and self._process.poll() is None

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
        self._folder.serves(run_dir.path)
        for peer in self._ranks.values():
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
        if not now:
            for peer in self._ranks.values():
                try:
                    peer.send(Stop())
                except OSError:
                    now = True
            now = not self._gone(END_TIMEOUT) or now
        processes = [*self._processes.values(), *self._descendants()]
        for process in processes:
            with contextlib.suppress(psutil.Error):  # it was gone before
                process.kill()
        if self._process is not None:
            if self._process.poll() is None and now:
                self._process.terminate()
            try:
                self._process.wait(END_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        psutil.wait_procs(processes, timeout=END_TIMEOUT)
        for peer in self._ranks.values():
            peer.close()
        self._ranks.clear()
        self._selector.close()
        self._folder.remove()

    def _start(self, run_dir: RunDir) -> None:
        path = self._folder.socket
        accelerate.prepare(self._folder.path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        secret = secrets.token_hex(16)
        with listener, run_dir.log().open("ab") as log:
            listener.bind(path)
            listener.listen(self.key.processes)
            command = accelerate.command(self.key.processes, self._folder.path)
            environment = self._environment() | {channel.SOCKET_VARIABLE: path, channel.SECRET_VARIABLE: secret}
            environment[channel.PLACE_VARIABLE] = f"{self.place[0]} {self.place[1]}"
            try:
                self._process = subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # a Ctrl-C at the terminal is the launcher's to pass on
                )
            except OSError as error:  # of fork
                limits = "see ulimit -u and -v, and the limits of a container"
                raise RunFailed(f"the ranks can't be started: {error.strerror} ({limits})") from error
            listener.settimeout(TICK)
            clock = AwakeClock()
            while len(self._ranks) < self.key.processes:
                self._accept(listener, secret)
                if len(self._ranks) == self.key.processes:
                    break
                if (code := self._process.poll()) is not None:
                    cause = failures.last_words(self._start_log) or f"exit code {code}"
                    raise RunFailed(f"the ranks did not start: {cause} (log: {run_dir.log()})")
                if clock() > self.key.start_timeout:
                    have = f"{len(self._ranks)} of {self.key.processes} ranks"
                    limit = f"runtime.start_timeout={self.key.start_timeout:g} s"
                    raise RunFailed(f"only {have} started within {limit} (log: {run_dir.log()})")
        os.unlink(path)  # every rank is connected: nobody else is waited for

    def _accept(self, listener: socket.socket, secret: str) -> None:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            return
        connection.settimeout(5)
        peer = Channel(connection, protocol.FROM_RANK)
        try:
            hello = next(iter(peer.receive()), None)  # a rank's is short and comes whole
            if not isinstance(hello, Hello) or hello.version != protocol.VERSION:
                raise ProtocolError(f"not a hello of protocol version {protocol.VERSION}")
            if not secrets.compare_digest(hello.secret.encode(errors="replace"), secret.encode()):
                raise ProtocolError("without the secret")
            rank, pid = hello.rank, hello.pid
            if rank in self._ranks or not 0 <= rank < self.key.processes:
                raise ProtocolError(f"as rank {rank}, which is not expected")
            self._processes[rank] = psutil.Process(pid)
        except (ProtocolError, ValueError, OverflowError, OSError, psutil.Error) as error:  # a pid that is none
            with self._start_log.open("a", encoding="utf-8", errors="backslashreplace") as log:
                print(f"launcher: refused a connection: {type(error).__name__}: {error}", file=log)
            peer.close()
            return
        connection.settimeout(SEND_TIMEOUT)
        self._ranks[rank] = peer
        self._selector.register(connection, selectors.EVENT_READ, rank)

    def _messages(self, run_dir: RunDir, watch: Watch, clock: AwakeClock) -> Iterator[tuple[int, Message]]:
        """What the ranks say, until the reader stops; a failure of any of them is raised after GRACE."""
        assert self._process is not None
        failed: list[RankFailure] = []
        deadline = float("inf")
        judged = time.monotonic()
        while True:
            ready = self._selector.select(TICK)
            ended: list[int] = []
            for key, _ in ready:
                rank: int = key.data
                peer = self._ranks[rank]
                try:
                    messages = peer.receive()
                except ProtocolError as error:
                    messages, peer.closed = [Error(f"broke the protocol: {error}")], True
                for message in messages:
                    watch.heard(rank, message)
                    if isinstance(message, Error):
                        failed.append(RankFailure(rank, message.cause, told=True))
                    else:
                        yield rank, message
                if peer.closed:
                    self._selector.unregister(key.fileobj)
                    ended.append(rank)
            first = len(ended) == 1 and len(self._selector.get_map()) == len(self._ranks) - 1
            silent = set(ended) - {failure.rank for failure in failed}
            failed += [RankFailure(rank, "", told=False, first=first) for rank in ended if rank in silent]
            if ready and time.monotonic() - judged < GRACE:
                continue  # all that was said is heard before anybody is judged
            judged = time.monotonic()
            if not failed and (stalled := watch.stalled()):
                self.close(now=True)
                rank, how = stalled
                raise RunFailed(f"rank {run_dir.first_rank + rank}: {how} (log: {self._log(run_dir, rank)})")
            if not failed and self._process.poll() is not None and len(self._ranks) > 1:
                how = failures.how_it_died(self._process.returncode, self._start_log)
                self.close(now=True)
                raise RunFailed(f"the process that starts the ranks: {how} (log: {self._start_log})")
            if failed and deadline == float("inf"):
                deadline = clock() + GRACE
            everyone = len({failure.rank for failure in failed}) == self.key.processes
            if failed and (everyone or clock() > deadline):
                raise self._failure(failed, run_dir)

    def _failure(self, failed: list[RankFailure], run_dir: RunDir) -> RunFailed:
        """End the group and say what ended it."""
        assert self._process is not None
        if not all(failure.told for failure in failed):
            self._gone(END_TIMEOUT)  # the starting process reports how its ranks ended
        alone = self._process.poll() if self.key.processes == 1 else None
        codes = failures.exit_codes(self._start_log)
        starter = self._process.poll() if self.key.processes > 1 and not codes else None
        failed = [failure.ended(alone or codes.get(self._processes[failure.rank].pid)) for failure in failed]
        self.close(now=True)
        first = failures.root(failed)
        if starter is not None and first.suspicion:  # it ended the ranks and reports none: something ended it
            how = failures.how_it_died(starter, self._start_log)
            return RunFailed(f"the process that starts the ranks: {how} (log: {self._start_log})")
        log = self._log(run_dir, first.rank)
        cause = first.cause if first.told else failures.how_it_died(first.code, log)
        return RunFailed(f"rank {run_dir.first_rank + first.rank}: {cause} (log: {log})")

    def _log(self, run_dir: RunDir, rank: int) -> Path:
        """Where a rank's last words are: in its own log, or in the group's if it died before it opened its own."""
        log = run_dir.log(rank)
        return log if log.exists() else self._start_log

    def _gone(self, timeout: float) -> bool:
        """Wait for the starting process, which ends after its ranks."""
        if self._process is None:
            return True
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _environment(self) -> dict[str, str]:
        key = self.key
        return accelerate.environment(
            key.load.device, key.devices, key.threads, self._folder.path, key.load.deterministic
        )

    def _descendants(self) -> list[psutil.Process]:
        """Ranks that were started and have not connected yet."""
        if self._process is None:
            return []
        try:
            return psutil.Process(self._process.pid).children(recursive=True)
        except psutil.Error:
            return []
