import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from shared import a_record

from launcher.problems import Refused
from launcher.records.record import SCHEMA, File, read_record
from launcher.records.run_dir import RunDir, command_line, portable, portable_override, versions


def test_the_record_always_says_how_the_run_stands(tmp_path):
    run = RunDir(tmp_path / "run")
    run.start(a_record(seed=7))
    assert read_record(tmp_path / "run" / "run.json").status == "running"
    run.end("failed", error="rank 1: it broke")
    record = read_record(tmp_path / "run" / "run.json")
    assert record == run.record
    assert (record.status, record.seed, record.error, record.schema) == ("failed", 7, "rank 1: it broke", SCHEMA)
    assert record.seconds is not None
    assert record.seconds >= 0


def test_a_record_of_thousands_of_files_is_written_as_often_as_there_is_time(tmp_path):
    """A sweep of 20,000 pictures would write 50 GB otherwise; nothing is missing at the end."""
    run = RunDir(tmp_path)
    run.start(a_record())
    written = set()
    for number in range(300):
        files = tuple(File(f"{each:04d}.png", "ab", 10, 8, 8, each, 0) for each in range(number + 1))
        run.note(files=files)
        written.add((tmp_path / "run.json").stat().st_mtime_ns)
    assert len(written) < 30
    run.end("done")
    assert len(read_record(tmp_path / "run.json").files) == 300


def test_a_folder_that_holds_a_run_is_never_used_again(tmp_path):
    with RunDir(tmp_path).claimed():
        RunDir(tmp_path).start(a_record())
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(Refused, match="holds a run already"), RunDir(tmp_path).claimed():
        pass
    assert (tmp_path / "run.json").read_bytes() == before


def test_a_folder_that_holds_pictures_of_ones_own_is_not_used(tmp_path):
    (tmp_path / "0000.png").write_text("mine")
    with pytest.raises(Refused, match=r"holds 0000\.png already"), RunDir(tmp_path).claimed():
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["0000.png"]


def test_a_run_that_does_not_start_gives_its_folder_back(tmp_path):
    with pytest.raises(KeyError), RunDir(tmp_path / "run").claimed():
        raise KeyError
    assert list((tmp_path / "run").iterdir()) == []


def test_a_folder_that_several_claim_at_once_serves_one(tmp_path):
    together = threading.Barrier(8)

    def claim(_) -> bool:
        together.wait()
        try:
            with RunDir(tmp_path).claimed():
                together.wait()  # all have tried
                RunDir(tmp_path).start(a_record())
        except Refused:
            together.wait()
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(claim, range(8))) == 1
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "running"


def test_what_a_killed_rank_left_half_written_is_removed(tmp_path):
    run = RunDir(tmp_path)
    run.start(a_record())
    (tmp_path / ".0000.png.123.tmp").write_bytes(b"half")
    (tmp_path / "0001.png").write_bytes(b"whole")
    run.end("interrupted")
    assert {path.name for path in tmp_path.iterdir()} == {"0001.png", "logs", "run.json"}


def test_no_absolute_path_reaches_a_record():
    config = {"model": {"path": "/home/someone/models/flux"}, "prompt": "/imagine", "output": {"dir": "~/pictures"}}
    kept = portable(config)
    assert kept == {"model": {"path": ".../flux"}, "prompt": "/imagine", "output": {"dir": ".../pictures"}}
    line = command_line(["model.path=/home/someone/flux", "prompt=a cat", "prompt_file=~/x.txt"])
    assert line == "python -m launcher model.path=.../flux 'prompt=a cat' prompt_file=.../x.txt"
    assert command_line(["seed=1"], ["--config-dir", "my conf"]) == "python -m launcher --config-dir 'my conf' seed=1"
    assert command_line(["seed=1"], ["--config-dir", "/home/someone/conf"]) == (
        "python -m launcher --config-dir .../conf seed=1"
    )


def test_versions_name_what_made_the_picture():
    found = versions()
    assert found["diffusers"].startswith("0.42")
    assert set(found) >= {"launcher", "python", "torch", "accelerate"}


def test_a_disk_without_room_for_a_second_file_still_gets_the_last_word(tmp_path, monkeypatch):
    run = RunDir(tmp_path)
    run.start(a_record(config={str(number): [number] for number in range(50)}))

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("launcher.records.run_dir.whole", full)
    before = run.path_of_record.stat().st_size
    run.end("failed", error="rank 0: No space left on device")
    assert read_record(run.path_of_record).status == "failed"
    assert run.path_of_record.stat().st_size <= before


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("prompt_file=/tmp/my secret dir/p.txt", "prompt_file=.../p.txt"),
        ('prompt_file="/tmp/my secret dir/p.txt"', 'prompt_file=".../p.txt"'),
        ("model.path='/home/bob/model'", "model.path='.../model'"),
        ("+prompt_file=~bob/p.txt", "+prompt_file=.../p.txt"),
        ("++lora.path=../../home/bob/p", "++lora.path=.../p"),
        ("lora=[{path: /home/bob/a b, scale: 1},{path:c.x}]", "lora=[{path: .../a b, scale: 1},{path:c.x}]"),
        ("+lora.stack=[{path: '/home/bob/a'}]", "+lora.stack=[{path: '.../a'}]"),
        ("lora.path=[/home/bob/a,b]", "lora.path=[.../a,b]"),
        ("image=['/home/bob/a b.png', '/home/bob/c,d.png',e.png]", "image=['.../a b.png','.../c,d.png',e.png]"),
        ('lora.path=["/home/bob/it\'s a",/home/bob/b]', 'lora.path=[".../it\'s a",.../b]'),
        ("output.dir=a/../../secret/x", "output.dir=.../x"),
        ("output.dir=mine/x", "output.dir=mine/x"),
        ("prompt_file=${oc.env:HOME}/secret/p.txt", "prompt_file=.../p.txt"),
        ("prompt_file=${model.name}.txt", "prompt_file=${model.name}.txt"),
        ("prompt=/a/b", "prompt=/a/b"),
        ("prompt_file=", "prompt_file="),
        ('prompt_file="', 'prompt_file="'),
    ],
)
def test_a_record_keeps_no_folder_of_this_machine(word, kept):
    assert portable_override(word) == kept
    assert portable({"lora": {"path": "../../home/bob/p"}}) == {"lora": {"path": ".../p"}}
    assert portable({"lora": {"stack": [{"path": "/home/bob/p"}]}}) == {"lora": {"stack": [{"path": ".../p"}]}}
