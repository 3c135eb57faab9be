"""sweep.json is written whole, and read or passed over."""

import json
import os

import pytest

from launcher.records import sweep_log
from launcher.records.sweep_log import NAME, SweepJob, read_sweep, write_sweep

JOBS = [
    SweepJob(0, ("cp=ring", "prompt=a|b\n\u2028"), "done"),
    SweepJob(1, (), "refused", "24 heads do not divide"),
]


def test_what_a_sweep_wrote_is_read_again(tmp_path):
    assert read_sweep(tmp_path) == ()
    for jobs in (JOBS, [], JOBS[1:]):
        write_sweep(tmp_path, jobs)
        assert read_sweep(tmp_path) == tuple(jobs)
    assert os.listdir(tmp_path) == [NAME]


def test_others_can_read_it(tmp_path):
    write_sweep(tmp_path, JOBS[1:])
    assert json.loads((tmp_path / NAME).read_text()) == {
        "schema": 1,
        "jobs": [{"number": 1, "overrides": [], "status": "refused", "reason": "24 heads do not divide"}],
    }


def test_bytes_of_a_command_line_that_are_no_text_come_through(tmp_path):
    """Python has them as lone surrogates, which UTF-8 can't hold."""
    jobs = [SweepJob(0, (os.fsdecode(b"prompt_file=\xff.txt"),), "failed", os.fsdecode(b"\xff.txt: no such file"))]
    write_sweep(tmp_path, jobs)
    assert read_sweep(tmp_path) == tuple(jobs)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"schema": 1}',
        b'{"schema": 1, "jobs": 3}',
        b'{"schema": 1, "jobs": [{"number": "0", "overrides": [], "status": "done", "reason": ""}]}',
        b'{"schema": 1, "jobs": [{"number": 0, "overrides": "cp=ring", "status": "done", "reason": ""}]}',
    ],
)
def test_what_is_none_is_passed_over(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    assert read_sweep(tmp_path) == ()


def test_neither_a_pipe_nor_what_is_too_long_is_read(tmp_path, monkeypatch):
    write_sweep(tmp_path, JOBS)
    monkeypatch.setattr(sweep_log, "MAX_BYTES", (tmp_path / NAME).stat().st_size - 1)
    assert read_sweep(tmp_path) == ()
    (tmp_path / NAME).unlink()
    os.mkfifo(tmp_path / NAME)
    assert read_sweep(tmp_path) == ()


def test_an_older_one_stays_where_a_new_one_cannot_be_written(tmp_path, monkeypatch):
    write_sweep(tmp_path, JOBS)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(OSError, match="No space left"):
        write_sweep(tmp_path, [])
    assert read_sweep(tmp_path) == tuple(JOBS)
    assert os.listdir(tmp_path) == [NAME]
