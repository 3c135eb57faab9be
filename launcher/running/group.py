"""A group of ranks: started by `accelerate launch`, spoken to over a socket, ended as one.

The group outlives the job that started it, so that the next job finds the weights loaded. The first rank to fail ends
the whole group: what a rank holds after a failed collective is worth nothing.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil

from launcher.machines import visible_devices
from launcher.problems import RunFailed
from launcher.records.run_dir import RunDir
from launcher.running import failures
from launcher.running.failures import RankFailure
from launcher.wire import channel
from launcher.wire.channel import Channel, Message, ProtocolError

TICK = 0.1  # seconds between looks at the processes while the sockets are silent
GRACE = 1.0  # seconds after the first failure in which the other ranks may tell of an earlier cause
END_TIMEOUT = 3.0  # seconds that ranks have to leave by themselves

OnEvent = Callable[[int, Message], None]


@dataclass(frozen=True)
class GroupKey:
    """What the ranks of a group have in common; a job with an equal key can use the group."""

    processes: int
    device: str
    devices: tuple[int, ...]
    threads: int
    timeout: float
    start_timeout: float
    pipeline: str
    path: str
    revision: str | None
    dtype: str
    offload: str
    transport: str


class RankGroup:
    """Ranks that serve jobs until `close`.

    Args:
        key: how many ranks, where, and which weights they hold.
        run_dir: the run that starts them; the starting process logs there.

    Raises:
        RunFailed: the ranks did not come up; the message names the rank and the cause.
    """

    def __init__(self, key: GroupKey, run_dir: RunDir) -> None:
        self.key = key
        self._ranks: dict[int, Channel] = {}
        self._processes: dict[int, psutil.Process] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._selector = selectors.DefaultSelector()
        self._start_log = run_dir.log()
        self._folder = tempfile.mkdtemp(prefix="launcher-")  # mode 0700
        try:
            self._start(run_dir)
        except BaseException:
            self.close(now=True)
            raise
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)  # every rank is connected: nothing of it is needed

    @property
    def alive(self) -> bool:
        """False once a rank has failed, which ends the group; in the middle of a job or, later, of a pause."""
        return bool(self._ranks) and self._process is not None and self._process.poll() is None

    def run(self, job: Message, run_dir: RunDir, on_event: OnEvent) -> list[Message]:
        """Have every rank do one job and return their `done` messages in rank order.

        Args:
            job: what `worker.jobs.do` takes.
            on_event: called with (rank, message) for everything that a rank tells meanwhile.

        Raises:
            RunFailed: a rank failed; the group is gone then.
        """
        try:
            return self._run(job, run_dir, on_event)
        except BaseException:  # an interrupt too: ranks in the middle of a job are of no use
            self.close(now=True)
            raise

    def _run(self, job: Message, run_dir: RunDir, on_event: OnEvent) -> list[Message]:
        done: dict[int, Message] = {}
        for rank, peer in self._ranks.items():
            with contextlib.suppress(OSError):  # a rank that is gone is seen by the end of its stream
                peer.send({"kind": "job", "log": str(run_dir.log(rank).absolute()), **job})
        watch = Watch(job["stall_timeout"], self.key.processes)
        for rank, message in self._messages(run_dir, watch):
            if message["kind"] == "done":
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
                    peer.send({"kind": "stop"})
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

    def _start(self, run_dir: RunDir) -> None:
        path = os.path.join(self._folder, "ranks")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        secret = secrets.token_hex(16)
        with listener, run_dir.log().open("ab") as log:
            listener.bind(path)
            listener.listen(self.key.processes)
            self._process = subprocess.Popen(
                command(self.key.processes),
                env=environment(self.key) | {channel.SOCKET_VARIABLE: path, channel.SECRET_VARIABLE: secret},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C at the terminal is the launcher's to pass on
            )
            listener.settimeout(TICK)
            deadline = time.monotonic() + self.key.start_timeout
            while len(self._ranks) < self.key.processes:
                self._accept(listener, secret)
                if len(self._ranks) == self.key.processes:
                    break
                if (code := self._process.poll()) is not None:
                    cause = failures.last_words(self._start_log) or f"exit code {code}"
                    raise RunFailed(f"the ranks did not start: {cause} (log: {run_dir.log()})")
                if time.monotonic() > deadline:
                    have = f"{len(self._ranks)} of {self.key.processes} ranks"
                    limit = f"runtime.start_timeout={self.key.start_timeout:g} s"
                    raise RunFailed(f"only {have} started within {limit} (log: {run_dir.log()})")

    def _accept(self, listener: socket.socket, secret: str) -> None:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            return
        connection.settimeout(5)
        peer = Channel(connection)
        try:
            hello = next(iter(peer.receive()), {})  # a rank's is short and comes whole
            if hello.get("version") != channel.VERSION:
                raise ProtocolError(f"no hello of protocol version {channel.VERSION}")
            if not secrets.compare_digest(str(hello.get("secret")).encode(), secret.encode()):
                raise ProtocolError("without the secret")
            rank, pid = int(hello["rank"]), int(hello["pid"])
            if rank in self._ranks or not 0 <= rank < self.key.processes:
                raise ProtocolError(f"as rank {rank}, which is not waited for")
            self._processes[rank] = psutil.Process(pid)
        except (ProtocolError, KeyError, TypeError, ValueError, OSError, psutil.Error) as error:
            with self._start_log.open("a") as log:
                print(f"launcher: refused a connection: {type(error).__name__}: {error}", file=log)
            peer.close()
            return
        connection.settimeout(None)
        self._ranks[rank] = peer
        self._selector.register(connection, selectors.EVENT_READ, rank)

    def _messages(self, run_dir: RunDir, watch: Watch) -> Iterator[tuple[int, Message]]:
        """What the ranks say, until the reader stops; a failure of any of them is raised after GRACE."""
        assert self._process is not None
        failed: list[RankFailure] = []
        deadline = float("inf")
        while True:
            for key, _ in self._selector.select(TICK):
                rank: int = key.data
                peer = self._ranks[rank]
                try:
                    messages = peer.receive()
                except ProtocolError as error:
                    messages, peer.closed = [{"kind": "error", "cause": f"broke the protocol: {error}"}], True
                for message in messages:
                    watch.heard(rank, message)
                    if message["kind"] == "error":
                        failed.append(RankFailure(rank, str(message.get("cause")), told=True))
                    else:
                        yield rank, message
                if peer.closed:
                    self._selector.unregister(key.fileobj)
                    if rank not in {failure.rank for failure in failed}:
                        failed.append(RankFailure(rank, "", told=False))
            if not failed and (stalled := watch.stalled()):
                self.close(now=True)
                raise RunFailed(f"rank {stalled[0]}: {stalled[1]} (log: {run_dir.log(stalled[0])})")
            if not failed and self._process.poll() is not None and len(self._ranks) > 1:
                code = self._process.returncode
                self.close(now=True)
                how = failures.how_it_died(code, self._process.pid, run_dir.log(), run_dir.log())
                raise RunFailed(f"the process that starts the ranks: {how} (log: {run_dir.log()})")
            if failed and deadline == float("inf"):
                deadline = time.monotonic() + GRACE
            everyone = len({failure.rank for failure in failed}) == self.key.processes
            if failed and (everyone or time.monotonic() > deadline):
                raise self._failure(failed, run_dir)

    def _failure(self, failed: list[RankFailure], run_dir: RunDir) -> RunFailed:
        """End the group and say what ended it."""
        assert self._process is not None
        first = failures.root(failed)
        pid = self._processes[first.rank].pid
        if not first.told:
            self._gone(1.0)  # the starting process reports how its ranks ended
        code = self._process.poll() if self.key.processes == 1 else None
        self.close(now=True)
        cause = first.cause if first.told else failures.how_it_died(code, pid, self._start_log, run_dir.log(first.rank))
        return RunFailed(f"rank {first.rank}: {cause} (log: {run_dir.log(first.rank)})")

    def _gone(self, timeout: float) -> bool:
        """Wait for the starting process, which ends after its ranks."""
        if self._process is None:
            return True
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _descendants(self) -> list[psutil.Process]:
        """Ranks that were started and have not connected yet."""
        if self._process is None:
            return []
        try:
            return psutil.Process(self._process.pid).children(recursive=True)
        except psutil.Error:
            return []


class Watch:
    """When each rank was last heard, and when it last got on with its job. Monotonic: a clock that steps is no stall.

    Args:
        limit: seconds of either that are a stall. A rank that loads weights may take longer: it has to be alive only.
    """

    def __init__(self, limit: float, processes: int) -> None:
        self.limit = limit
        now = time.monotonic()
        self._alive = dict.fromkeys(range(processes), now)
        self._moved = dict.fromkeys(range(processes), now)
        self._kind = dict.fromkeys(range(processes), "")

    def heard(self, rank: int, message: Message) -> None:
        """A rank said something."""
        self._alive[rank] = time.monotonic()
        if message["kind"] != "alive":
            self._moved[rank], self._kind[rank] = self._alive[rank], message["kind"]

    def stalled(self) -> tuple[int, str] | None:
        """The first rank that stalled, and how."""
        now, limit = time.monotonic(), f"runtime.stall_timeout={self.limit:g} s"
        silent = min(self._alive, key=self._alive.__getitem__)
        if now - self._alive[silent] > self.limit:
            return silent, f"no sign of life within {limit} (stopped, or the machine is overloaded)"
        stuck = [rank for rank in self._moved if self._kind[rank] == "step" and now - self._moved[rank] > self.limit]
        return (stuck[0], f"alive, but no step was finished within {limit}") if stuck else None


def command(processes: int) -> list[str]:
    """How the ranks are started. Every flag that the user's own accelerate configuration could change is given."""
    if processes == 1:
        return [sys.executable, "-m", "launcher.worker"]
    flags = f"--multi_gpu --num_processes {processes} --num_machines 1 --machine_rank 0 --gpu_ids all"
    flags += " --mixed_precision no --dynamo_backend no --main_process_port 0"  # 0: a free port, each group its own
    flags += f" --log_dir {os.devnull} --module"  # else torchelastic leaves an empty folder in /tmp after each start
    return [sys.executable, "-m", "accelerate.commands.launch", *flags.split(), "launcher.worker"]


def environment(key: GroupKey) -> dict[str, str]:
    """The ranks' environment: the user's, without what would steer accelerate or torchelastic."""
    steering = ("ACCELERATE_", "TORCHELASTIC_", "LAUNCHER_")
    single = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GROUP_RANK")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(steering) and name not in single}
    kept["OMP_NUM_THREADS"] = str(key.threads)
    # Spinning threads starve each other as soon as anything else runs on the cores: denoising took 2 s with this and 10
    # to 39 s without it beside one busy program on 2 cores.
    kept.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    kept["PYTHONUNBUFFERED"] = "1"
    kept["TOKENIZERS_PARALLELISM"] = "false"
    if key.device == "cpu":
        kept["ACCELERATE_USE_CPU"] = "true"  # else --multi_gpu insists on GPUs
        kept["CUDA_VISIBLE_DEVICES"] = ""
    else:
        names = visible_devices()
        kept["CUDA_VISIBLE_DEVICES"] = ",".join(str(index) if names is None else names[index] for index in key.devices)
        kept.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # nvidia-smi's order, which the devices were chosen by
    return kept
