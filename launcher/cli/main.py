"""From a command line to an exit code: 0 done, 1 refused or failed, 128 + n ended by signal n (130 is a Ctrl-C)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, flag_override

from launcher import __version__
from launcher import machines as machine
from launcher.cli import screen
from launcher.cli.arguments import ask_hydra, parse
from launcher.cli.help import page
from launcher.config.compose import Composer, to_config
from launcher.config.schema import LaunchConfig
from launcher.estimates.ways import resolve
from launcher.problems import Interrupted, LauncherError, Problem, Refused, RunFailed
from launcher.records.run_dir import RunDir, command_line
from launcher.request.request import Request
from launcher.rules.general import problems
from launcher.running.sweep import DONE, FAILED, REFUSED, Job, Sweep, recorded, resume

if TYPE_CHECKING:
    from launcher.running.group import GroupKey, RankGroup

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(argv: list[str] | None = None) -> int:
    """Run one command line and return its exit code. Nothing but words reaches the screen."""
    try:
        with _signals():
            return _main(sys.argv[1:] if argv is None else argv)
    except LauncherError as error:
        screen.complain(error)
        return 1
    except Interrupted as interrupt:
        with contextlib.suppress(OSError):  # the terminal may be what is gone
            print(f"launcher: interrupted by {signal.Signals(interrupt.signum).name}", file=sys.stderr)
        return 128 + interrupt.signum
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what Python itself flushes at its end
        return 128 + signal.SIGPIPE
    except Exception as error:
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
        print(f"launcher: a defect of this program: {type(error).__name__}: {error}", file=sys.stderr)
        print("          HYDRA_FULL_ERROR=1 before the line shows where; please report it", file=sys.stderr)
        return 1


def _main(argv: list[str]) -> int:
    if argv == ["--version"]:
        print(f"launcher {__version__}")
        return 0
    if argv[:1] == ["plan"]:
        return _plan(argv[1:])
    args = parse(argv)
    composer = Composer(args.config_dir)
    sweep = bool(args.multirun)
    if args.help:
        print(page(composer, args.overrides))
        return 0
    composer.check_words(args.overrides, sweep or args.cfg is not None)
    if args.cfg or args.info or args.hydra_help or args.shell_completion:
        return ask_hydra(argv)
    with Session(composer) as session:
        if sweep:
            return session.sweep(args.overrides)
        session.single(args.overrides)
        return 0


def _plan(argv: list[str]) -> int:
    """`plan ...`: what a run of the same words would do; 1 if it would be refused."""
    as_json = "--json" in argv
    args = parse([word for word in argv if word != "--json"])
    composer = Composer(args.config_dir)
    if args.help:
        print(page(composer, args.overrides))
        return 0
    for word, given in {"-m": args.multirun, "--cfg": args.cfg, "--info": args.info}.items():
        if given:
            raise Refused([Problem(word, "a plan is of one request", "leave it out")])
    try:
        composer.check_words(args.overrides, sweep=False)
        request = resolve(_single(composer.compose(args.overrides)), machine.here())
    except Refused as refused:  # too wrong to be planned
        if as_json:
            print(json.dumps({"legal": False, "problems": [vars(problem) for problem in refused.problems]}, indent=2))
            return 1
        raise
    from launcher.estimates import plan as plans  # with what a run's refusal should not wait for

    plan = plans.plan(request)
    if as_json:
        print(json.dumps(plan.asdict(), indent=2))
    else:
        print(plans.page(plan, request), flush=True)
        if plan.problems:
            screen.complain(Refused(plan.problems))
    return 0 if plan.legal else 1


def _single(composed: DictConfig) -> LaunchConfig:
    """The configuration of one run; what only a sweep takes is refused."""
    for word in ("resume", "fail_fast"):
        if composed[word]:
            raise Refused([Problem(f"{word}={composed[word]}", "is for sweeps", "type -m for one, or leave it out")])
    if composed.hydra.sweeper.params:
        names, chosen = ", ".join(composed.hydra.sweeper.params), composed.hydra.runtime.choices.get("experiment")
        value = f"experiment={chosen}" if chosen else "hydra.sweeper.params"
        raise Refused([Problem(value, f"asks for a sweep over {names}", "type -m for a sweep")])
    return to_config(composed)


class Session:
    """The jobs of one command line, and the ranks that stay warm between them."""

    def __init__(self, composer: Composer) -> None:
        self.composer = composer
        self.machine = machine.here()
        self._ranks: RankGroup | None = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the ranks."""
        if self._ranks is not None:
            self._ranks.close()
            self._ranks = None

    def single(self, words: list[str], quiet: bool = False) -> dict[str, Any]:
        """Run one job and return what `execute` does; whatever is wrong with it is raised."""
        composed = self.composer.compose(words)
        request = resolve(_single(composed), self.machine)
        if found := problems(request):  # before Hydra makes a run directory
            raise Refused(found, self.works_here(words))
        made: dict[str, Any] = {}

        def task(folder: Path) -> None:
            if not quiet:
                print(screen.header(request, folder), flush=True)
            made.update(self._execute(request, folder, words, brief=quiet))
            if not quiet:
                print(screen.summary(made), flush=True)

        self._in_folder(composed, task)
        return made

    def sweep(self, words: list[str]) -> int:
        """Run all legal jobs of a sweep; 1 if any job did not end in pictures."""
        master = self.composer.compose(words, sweep=True)
        sweep = Sweep([self._plan(master, job, number) for number, job in enumerate(self.composer.jobs(master, words))])
        folder = _shown(Path(master.resume or master.hydra.sweep.dir))
        if master.resume:
            resume(sweep, folder)
        else:
            _keep(master, folder)
        print(sweep.opening(folder), flush=True)
        stop = master.fail_fast and any(job.problems for job in sweep.jobs)
        for number, job in enumerate(sweep.jobs):
            if stop or job.status:  # refused, or kept from an earlier sweep
                continue
            try:
                self._run(job, folder)
            except Interrupted:
                with contextlib.suppress(OSError):  # the terminal may be gone
                    print(f"resume={folder} behind the same words runs what is missing", flush=True)
                raise
            print(sweep.line(number), flush=True)
            stop = master.fail_fast and job.status == FAILED
        print(f"\n{sweep.table()}", flush=True)
        if pictures := sweep.pictures():
            from launcher.records.contact import contact_sheet

            try:
                contact_sheet(pictures, folder / "contact.png")
                print(f"side by side: {folder / 'contact.png'}", flush=True)
            except OSError as error:
                raise RunFailed(
                    f"the table above holds, and the sheet of its pictures was not made: {error}"
                ) from error
        return 1 if sweep.failed else 0

    def _plan(self, master: DictConfig, words: list[str], number: int) -> Job:
        """One job of a sweep, resolved and checked."""
        job = Job(words)
        try:
            job.composed = self.composer.job(master, words, number)
            job.request = resolve(to_config(job.composed), self.machine)
            job.problems = problems(job.request)
        except Refused as refused:
            job.problems = refused.problems
        if job.problems:
            job.fail(REFUSED, "; ".join(str(problem) for problem in job.problems))
        return job

    def _run(self, job: Job, sweep_folder: Path) -> None:
        """Run one job of a sweep; a failure is noted in it."""
        composed, request = job.composed, job.request
        assert composed is not None
        assert request is not None
        with flag_override(composed, "readonly", False), flag_override(composed.hydra, "readonly", False):
            composed.hydra.sweep.dir = str(sweep_folder)

        def task(folder: Path) -> None:
            job.made = self._execute(request, folder, job.words, brief=True)

        try:
            self._in_folder(composed, task, sweep=True)
            job.status = DONE
        except LauncherError as error:
            job.fail(FAILED, str(error))

    def _in_folder(self, composed: DictConfig, task: Callable[[Path], None], sweep: bool = False) -> None:
        """Call `task` with the run directory that Hydra makes. Errors pass Hydra by, which would print them its way."""
        errors: list[Exception] = []

        def hydra_task(_: DictConfig) -> None:
            try:
                task(_shown(Path(HydraConfig.get().runtime.output_dir)))
            except BrokenPipeError as error:  # the screen's
                errors.append(error)
            except OSError as error:
                errors.append(RunFailed(f"the run's folder cannot be written: {error}"))
            except Exception as error:  # Hydra would keep it to itself
                errors.append(error)

        self.composer.run(composed, hydra_task, sweep)
        if errors:
            raise errors[0]

    def works_here(self, words: list[str]) -> str | None:
        """The same line for the bundled model, if that one is legal on this machine."""
        others = [word for word in words if not word.startswith("model")]
        if others == words:  # that was the bundled model
            return None
        words = ["model=flux_tiny", *others]
        with contextlib.suppress(Refused):
            if not problems(resolve(to_config(self.composer.compose(words)), self.machine)):
                return command_line(words)
        return None

    def _execute(self, request: Request, folder: Path, words: list[str], brief: bool = False) -> dict[str, Any]:
        # With what a refused request should not wait for: Pillow, tqdm, psutil.
        from launcher.cli.progress import Progress
        from launcher.running.job import execute

        steps = request.config.steps * len(request.prompts) * request.config.images
        return execute(request, folder, recorded(words), self.ranks, Progress(steps, brief))

    def ranks(self, key: GroupKey, run_dir: RunDir) -> RankGroup:
        """Ranks for a job: those of the last one if they fit, else new ones, after the old ones have ended."""
        if self._ranks is not None and (self._ranks.key != key or not self._ranks.alive):
            self.close()
        if self._ranks is None:
            from launcher.running.group import RankGroup

            self._ranks = RankGroup(key, run_dir)
        return self._ranks


def _keep(master: DictConfig, folder: Path) -> None:
    """Write the sweep's own configuration, as Hydra does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(master, folder / "multirun.yaml")
    except OSError as error:
        problem = Problem(
            f"hydra.sweep.dir={folder}", f"cannot be written ({error.strerror})", "type output.dir=FOLDER"
        )
        raise Refused([problem]) from error


def _shown(folder: Path) -> Path:
    """A folder as the user knows it: from here, if it is below."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Raise Interrupted in the main thread for each signal that asks the program to end."""

    def interrupt(signum: int, _frame: FrameType | None) -> None:
        for other in SIGNALS:  # one is enough: what follows is the tidying up, which a second Ctrl-C must not cut short
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(signum)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [signum for signum in SIGNALS if signal.getsignal(signum) != signal.SIG_IGN]  # nohup ignores SIGHUP for us
    before = {signum: signal.signal(signum, interrupt) for signum in heard}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
