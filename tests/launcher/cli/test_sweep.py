from pathlib import Path

from shared import a_record

from launcher.cli.sweep import line, opening, table
from launcher.problems import Problem
from launcher.records.record import File
from launcher.running.job import Made
from launcher.running.sweep import DONE, FAILED, KEPT, REFUSED, Job, Sweep

FILE = File("0000.png", "ab", 1, 8, 8, 1, 0)


def made(ask) -> Sweep:
    jobs = [Job([f"cp=none,{number}", "steps=2"]) for number in range(4)]
    done, failed, refused, kept = jobs
    done.request = ask("steps=2")
    done.status = DONE
    done.made = Made(Path("x/0"), a_record(files=(FILE,), times={"denoise": 3.0}, peak_bytes=(2 << 20, 7 << 20)))
    failed.fail(FAILED, "rank 1:\n gone")
    refused.problems = [Problem("steps=0", "must be at least 1", "type steps=1")]
    refused.fail(REFUSED, str(refused.problems[0]))
    kept.fail(KEPT, "x/3/0000.png")
    return Sweep(jobs)


def test_the_first_lines(ask):
    assert opening(made(ask), Path("x"), ["n"]).splitlines() == [
        "sweep      4 jobs: cp (none,0, none,1, none,2, none,3)",
        "run        x",
        "note       n",
        "refused    [3/4] cp=none,2: steps=0: must be at least 1; type steps=1",
        "kept       [4/4] cp=none,3, already done",
    ]
    assert opening(Sweep([Job(["seed=1"])]), Path("x"), []).startswith("sweep      1 job\n")


def test_a_line_for_each_job(ask):
    sweep = made(ask)
    assert line(sweep, 0) == "[1/4] cp=none,0  done  1.5 s/step  7 MiB  x/0/0000.png"
    assert line(sweep, 1) == "[2/4] cp=none,1  failed  rank 1: gone"


def test_the_table(ask):
    lines = table(made(ask), {}).splitlines()
    assert lines[0].split() == ["job", "cp", "status", "s/step", "peak", "MiB", "picture", "or", "reason"]
    assert lines[2].split() == ["0", "none,0", "done", "1.5", "7", "x/0/0000.png"]
    assert lines[-1] == "1 done, 1 kept, 1 failed, 1 refused"
    assert table(Sweep([Job(["a=1"])]), {}).endswith("nothing was run")


def test_the_table_tells_how_near_pictures_are_to_the_baselines(ask):
    sweep = made(ask)
    sweep.jobs[0].folder = Path("x/0")
    lines = table(sweep, {Path("x/0").absolute(): "45.3"}).splitlines()
    assert lines[0].split()[-5:] == ["PSNR", "dB", "picture", "or", "reason"]
    assert lines[2].split()[-2:] == ["45.3", "x/0/0000.png"]
