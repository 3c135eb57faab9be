"""A rank: connects to the launcher, then does the jobs it is given until it is told to stop.

It waits on its socket, never in a collective, and leaves when the socket closes: a launcher that is killed leaves no
ranks behind. Started by `accelerate launch`, or alone when one process is enough.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import faulthandler
import gc
import os
import queue
import re
import signal
import socket
import sys
import threading
import time
import traceback
from pathlib import Path

from launcher.records.run_dir import RunDir
from launcher.wire import channel, proof, protocol
from launcher.wire.channel import Channel
from launcher.wire.jobs import Job
from launcher.wire.messages import ProtocolError
from launcher.wire.protocol import Address, Alive, Error, Hello, Linked, Links, Stage, Told
from launcher.wording import shorten
from launcher.worker import links, numa
from launcher.worker.questions import Questions

LONGEST = 600  # characters of an error: its start and its end
Jobs = queue.Queue[Job | Links | None]  # None: no more are to come
OUT_OF_MEMORY = b"MemoryError: not enough is left to say where\n"  # made beforehand
# What C++ and Python say when the system makes no thread: its stack has no room, or a limit is met.
NO_THREAD = ("Resource temporarily unavailable", "can't start new thread")
NO_MEMORY = (  # of the dynamic loader, C++, torch on a CPU, and those that pass on the system's words or Python's
    "failed to map segment from shared object",
    "bad_alloc",
    "DefaultCPUAllocator: can't allocate memory",
    "Cannot allocate memory",
    "MemoryError: ",
)
NO_MEMORY_TOLD = (
    f"{protocol.OUT_OF_MAIN_MEMORY}, or of what a limit leaves of it (see ulimit -v and a container's limits)"
)
ECHO = re.compile(r"rank \d+ failed: ")  # another rank has, and tells of it itself
NO_THREAD_TOLD = (
    "no thread can be started: memory or a limit is used up (see ulimit -v and -u, and a container's limits)"
)


def main() -> int:
    """Serve until told to stop; the exit code is 0 then. A failure ends the process with 1."""
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher decides what a Ctrl-C means
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # and when to end before a time limit
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    gpus = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    threads = int(os.environ["OMP_NUM_THREADS"])
    group, groups = map(int, os.environ.get(channel.PLACE_VARIABLE, "0 1").split())
    local, here = int(os.environ.get("LOCAL_RANK", rank)), int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    of_all, gpu = (group * here + local, groups * here), gpus[local % len(gpus)] if gpus else None
    if (cores := numa.pin(*of_all, threads, gpu)) is not None:
        print(f"rank {rank} runs on cores {sorted(cores)}, which share a NUMA node")
    peer, door = _connected()
    address = None if door is None else door.address
    peer.send(Hello(protocol.VERSION, os.environ.pop(channel.SECRET_VARIABLE), rank, os.getpid(), address))
    jobs: Jobs = queue.Queue()
    busy, questions = threading.Event(), Questions(peer.send)
    threading.Thread(target=_listen, args=(peer, jobs, questions), daemon=True).start()
    threading.Thread(target=_beat, args=(peer, busy), daemon=True).start()
    try:
        if door is not None:
            _link(peer, jobs, door.address, range(rank - local, rank - local + here))
        serve(peer, jobs, busy, rank, world_size, None if door is None else questions)
    except Exception as error:
        try:
            with contextlib.suppress(OSError):  # no room for the log
                traceback.print_exc()
            with contextlib.suppress(OSError):  # the launcher is gone: there is nobody to tell
                peer.send(Error(describe(error)))
        except MemoryError:
            os.write(2, OUT_OF_MEMORY)
        finally:  # whatever else fails: Python's own end waits for threads that wait for the other ranks
            os._exit(1)
    return 0


def _connected() -> tuple[Channel, links.Door | None]:
    """A connection to the launcher; and of ranks on several machines where this one listens for the others' try."""
    if (address := os.environ.pop(channel.ADDRESS_VARIABLE, None)) is None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(os.environ.pop(channel.SOCKET_VARIABLE))
        return Channel(connection, protocol.FROM_LAUNCHER), None
    host, port = address.split()
    secret = os.environ.pop(proof.VARIABLE)
    connection = proof.connected((host, int(port)), secret, links.DEADLINE)
    return Channel(connection, protocol.FROM_LAUNCHER), links.Door()


def _link(peer: Channel, jobs: Jobs, mine: Address, here: range) -> None:
    """Try the links to the ranks of other machines, once the launcher has told where they are."""
    told = jobs.get()
    if isinstance(told, Links):
        links.reach(mine, [each for rank, each in enumerate(told.addresses) if rank not in here])
        peer.send(Linked())
    else:
        jobs.put(told)


def serve(
    peer: Channel, jobs: Jobs, busy: threading.Event, rank: int, world_size: int, questions: Questions | None = None
) -> None:
    """Do jobs as they come, until there are no more; `busy` is set meanwhile.

    Args:
        questions: by which ranks on several machines find each other.
    """
    worker = None
    while isinstance(job := jobs.get(), Job):
        busy.set()
        _log_to(RunDir(Path(job.folder), job.first_rank).log(rank))
        began = time.monotonic()
        if worker is None:
            peer.send(Stage("importing"))
            gc.disable()  # modules stay: to search a million objects again and again takes a quarter of an import
            import diffusers  # seconds, with torch

            from launcher.worker.jobs import Worker

            getattr(diffusers, job.load.pipeline)  # it imports a class when asked for it
            worker = Worker(peer.send, rank, world_size, questions)
            gc.freeze()
            gc.enable()
        imported = time.monotonic() - began
        done = worker.do(job)
        busy.clear()
        peer.send(dataclasses.replace(done, seconds={"import": round(imported, 3), **done.seconds}))


def describe(error: BaseException) -> str:
    """Say in one line what went wrong: the kind of error, and what it says up to the first line that is a sentence."""
    if isinstance(error, links.LinkError):
        return str(error)
    echo = ECHO.match(str(error)) is not None
    if not echo and re.search("CUDA.*(out of memory|ALLOC_FAILED)", str(error), re.DOTALL):  # torch's, cuBLAS', cuDNN's
        return _out_of_gpu_memory(str(error))
    if waited := re.search(r"Timed out waiting (\d+)ms for (recv|send)", str(error)):  # gloo's
        return f"timed out: nothing came from another rank in the {int(waited[1]) / 1000:g} s of runtime.timeout"
    if isinstance(error, RuntimeError) and str(error) in NO_THREAD:
        return NO_THREAD_TOLD
    if not echo and _no_memory(error):
        return NO_MEMORY_TOLD
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}" + (f": {Path(str(error.filename)).name}" if error.filename else "")
    said: list[str] = []
    for line in str(error).split("\n"):
        if line.strip():
            said.append(line.strip())
            if not said[-1].endswith(":"):  # torch's "Error(s) in loading state_dict for X:" has its reason below
                break
    if not said:
        return type(error).__name__
    told = f"{type(error).__name__}: {shorten(' '.join(said), LONGEST)}"
    if isinstance(error, SystemError) and "exception set" in str(error):  # C code that failed and did not say why
        return f"{told}: a library failed and did not say why, as when memory or a limit is used up (see ulimit -v)"
    if (
        said[-1].endswith(":") and error.__cause__ is not None
    ):  # diffusers' lazy imports, of a MemoryError without words
        return f"{told} {describe(error.__cause__)}"
    return told


def _no_memory(error: BaseException) -> bool:
    """Whether main memory ran out, or so did it for what torch was compiling, or a library importing."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    if any(words in str(error) for words in NO_MEMORY):
        return True
    inner = getattr(error, "inner_exception", None) or error.__cause__
    return isinstance(inner, BaseException) and _no_memory(inner)


def _out_of_gpu_memory(told: str) -> str:
    """What torch says of it, without its advice on allocators."""
    asked = re.search(r"Tried to allocate ([\d.]+ \w+)", told)
    free = re.search(r"of which ([\d.]+ \w+) is free", told)
    numbers = [f"{asked.group(1)} asked for"] if asked else []
    numbers += [f"{free.group(1)} free"] if free else []
    return protocol.OUT_OF_GPU_MEMORY + (f" ({', '.join(numbers)})" if numbers else "")


def _listen(peer: Channel, jobs: Jobs, questions: Questions) -> None:
    """Pass on what the launcher says; when it is gone, so is this rank, whatever it was doing."""
    while not peer.closed:
        try:
            for message in peer.receive():
                if isinstance(message, Told):
                    questions.told(message)
                else:
                    jobs.put(message if isinstance(message, Job | Links) else None)
        except (ProtocolError, OSError):
            break
    os._exit(1)


def _beat(peer: Channel, busy: threading.Event) -> None:
    """Tell that this process is alive, every second of a job. It does not tell that the job goes on: steps do."""
    while busy.wait():
        try:
            peer.send(Alive())
        except MemoryError:  # what computes may be stuck by the same want without saying so: gloo's threads are
            os.write(2, OUT_OF_MEMORY)
            os._exit(1)
        except OSError:
            return
        time.sleep(protocol.HEARTBEAT)


def _log_to(path: Path) -> None:
    """Send this process's output, C libraries' included, to the job's log."""
    sys.stdout.flush()
    sys.stderr.flush()
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # nothing is left to tidy up, and torch's own exit takes a while
