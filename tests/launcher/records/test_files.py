"""Names are whole or absent, and reading never waits."""

import os
import socket

import pytest

from launcher.records.files import read_regular, remove_unfinished, whole


def test_a_file_is_whole_or_absent(tmp_path):
    path = tmp_path / "x.txt"
    with pytest.raises(RuntimeError), whole(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    path.write_text("old")
    with whole(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_what_is_unfinished_is_removed(tmp_path):
    for name in (".0000.png.12.tmp", "0000.png", ".hidden", "x.tmp"):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"0000.png", ".hidden", "x.tmp"}


def test_only_regular_files_are_read_and_only_so_much(tmp_path):
    file, fifo, listening = tmp_path / "file", tmp_path / "fifo", tmp_path / "socket"
    file.write_bytes(b"12345")
    assert read_regular(file, 5) == b"12345"
    with pytest.raises(ValueError, match="file is longer than 4 bytes"):
        read_regular(file, 4)
    os.mkfifo(fifo)  # to open it would wait for a writer
    with pytest.raises(ValueError, match="fifo is not a regular file"):
        read_regular(fifo, 5)
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path, 5)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(listening))
        with pytest.raises(OSError, match="No such device"):
            read_regular(listening, 5)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none", 5)
