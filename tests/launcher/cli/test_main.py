"""The command line as a whole, where no rank is started."""

import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from shared import ROOT, hermetic

REFUSED = ["model=flux", "cp=ring_anything", "height=1000"]


@pytest.mark.slow
def test_the_mission_line_on_a_laptop_says_what_is_missing_and_what_works(launch):
    ended = launch(*REFUSED)
    assert ended.code == 1
    assert ended.out == ""
    assert "no CUDA GPU" in ended.err
    assert "accept it at https://huggingface.co/black-forest-labs/FLUX.1-dev and type `hf auth login`" in ended.err
    assert "  python -m launcher model=flux_tiny cp=ring_anything height=1000\n" in ended.err
    assert not ended.folder.exists()


# Hydra with what it is made of; tokenizers for a checkpoint that is here, the hub's names for one that is not.
COMPOSING = {"hydra", "omegaconf", "yaml", "_yaml", "antlr4", "attr", "packaging", "importlib_resources"}
COMPOSING |= {"launcher", "attention_backends"}
WORDS = ("launcher.rules", "launcher.estimates", "launcher.request", "launcher.families", "launcher.running")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "more", "without"),
    [
        (["--version"], set(), ("hydra",)),
        (["heigth=1"], set(), WORDS),
        (["plan", "machine=h100x9"], set(), WORDS),
        (["height=-3"], {"tokenizers"}, ("launcher.records.record", "launcher.running.session")),
        (["cp=ulysses", "cp.ulysses_degree=4"], {"tokenizers"}, ("launcher.records.record",)),
        (REFUSED, {"tokenizers", "huggingface_hub"}, ("launcher.records.record",)),
        (["plan", "machine=h100x8", "model=flux"], {"huggingface_hub"}, ("launcher.running.session", "tokenizers")),
    ],
)
def test_what_a_plan_and_a_refusal_import(words, more, without):
    code = f"""
    import sys
    before = set(sys.modules)
    from launcher.cli.main import main
    main({words!r})
    print(*sorted(name for name in set(sys.modules) - before if getattr(sys.modules[name], "__file__", None)))
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=hermetic(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    modules = result.stdout.splitlines()[-1].split()
    packages = {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names)
    assert packages <= COMPOSING | more
    assert not [name for name in modules if name.startswith(without)]


@pytest.mark.slow
def test_help_is_a_page_worth_reading(launch):
    out = launch("--help").out
    for part in (
        "ring_anything",
        "flux_schnell",
        "height=512",
        "pixels",
        "Examples",
        "-m, --multirun",
        "dots",
        "turquoise",
    ):
        assert part in out
    assert out.count("python -m launcher") >= 4
    flux = launch("model=flux", "-h").out
    assert "height=1024" in flux
    assert "turquoise" not in flux
    assert max(map(len, out.splitlines())) <= 125


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mutlirun"], "type --multirun"),
        (["--frobnicate"], "type --help"),
        (["--cfg"], "--help"),
        (["--cfg", "nonsense"], "--help"),
        (["--config-path", "x"], "--config-dir"),
        (["--config-dir", "nowhere"], "not a folder"),
        (["experiment=odd_sizes"], "type -m to run it"),
        (["height=1,2"], "type -m"),
        (["model=flux", "model=flux_tiny", "steps=0"], "steps=0"),
        (["hydra.run.dir=${nothing}"], "nothing"),
        (["hydra.nothing=1"], "nothing"),
        (["-m", "height=abc,def"], "must be a whole number"),
        (["prompt_file=\0"], "prompt_file"),
        (["output.dir=a\0b"], "output.dir"),
    ],
)
def test_bad_lines_are_answered_in_words(capfd, monkeypatch, tmp_path, words, said):
    from launcher.cli.main import main

    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    out, err = capfd.readouterr()
    assert said in out + err
    assert "Traceback" not in out + err


@pytest.mark.slow
def test_cfg_prints_the_configuration_and_makes_nothing(launch):
    ended = launch("--cfg", "job", "--resolve", "model=flux", "height=1000")
    assert ended.code == 0
    assert "height: 1000" in ended.out
    assert "width: 1024" in ended.out
    assert not ended.folder.exists()


@pytest.mark.slow
def test_options_may_stand_between_settings(launch):
    ended = launch("model=flux", "-m", "height=1000,1008")
    assert ended.code == 1
    assert ended.out.count("no CUDA GPU") >= 2
    assert "2 jobs: height (1000, 1008)" in ended.out


@pytest.mark.slow
def test_version(launch):
    assert launch("--version").out.startswith("launcher 0.")


@pytest.mark.slow
def test_the_console_script_is_the_same_program():
    script = shutil.which("launcher", path=str(Path(sys.executable).parent))
    assert script
    assert subprocess.run([script, "--version"], capture_output=True, text=True, check=True).stdout.startswith(
        "launcher"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["logs", ".hydra"])
def test_a_folder_that_cannot_be_written_is_told(launch, tmp_path, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("a file where a folder should be")
    ended = launch("cp=none", "hydra.run.dir=run")
    assert ended.code == 1
    assert "the run's folder can't be written" in ended.err
    assert "Traceback" not in ended.err


SIGNALLED = """
import os, signal, sys, time
from launcher.cli import main as cli, subcommands

signals = [getattr(signal, word) for word in sys.argv[1:]]
for signum in signals:
    signal.signal(signum, signal.SIG_DFL)  # a shell has what it starts in the background ignore some

def ended(name):
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    for signum in signals:
        os.kill(os.getpid(), signum)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)  # now all of them come at the same moment
        time.sleep(30)
    finally:
        print("tidied up")

subcommands.load = ended
sys.exit(cli.main([]))
"""
SWALLOWED = """
import os, signal, sys, time
from launcher.cli import main as cli, subcommands

class Dying:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)  # what is raised here is dropped by Python
        print("not reached")

def ended(name):
    dying = Dying()
    del dying
    try:
        time.sleep(30)
    finally:
        print("tidied up")

subcommands.load = ended
sys.exit(cli.main([]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "names", [["SIGQUIT"], ["SIGINT", "SIGTERM"], ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"], ["SIGHUP", "SIGINT"]]
)
def test_signals_even_at_the_same_moment_end_it_in_words(names):
    ended = subprocess.run(
        [sys.executable, "-c", SIGNALLED, *names], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    first = min(signal.Signals[name] for name in names)  # Python handles them by their numbers
    assert ended.returncode == 128 + first
    assert ended.stderr == f"launcher: interrupted by {first.name}\n"
    assert ended.stdout == "tidied up\n"


@pytest.mark.slow
def test_a_signal_in_a_moment_in_which_python_drops_what_is_raised_ends_it_too():
    ended = subprocess.run(
        [sys.executable, "-c", SWALLOWED], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (130, "launcher: interrupted by SIGINT\n")
    assert ended.stdout == "tidied up\n"
