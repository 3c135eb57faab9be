"""Files that are none, files that never end, files of the wrong kind: told in words, at once."""

import contextlib
import os
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.reading import UnreadableError, read_bytes, read_json, read_json_object, read_text


def said(path: Path, read=read_bytes) -> str:
    with pytest.raises(UnreadableError) as caught:
        read(path, 100)
    return str(caught.value)


def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert said(tmp_path / "pipe") == "is a pipe, not a regular file"


def test_a_regular_file_that_would_block_is_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "kmsg")  # /proc/kmsg calls itself a regular file, and is for root alone
    monkeypatch.setattr("launcher.reading._require_regular", lambda mode: None)
    writer = os.open(tmp_path / "kmsg", os.O_RDWR)
    assert said(tmp_path / "kmsg") == "has no end: it waits for what comes, like a pipe"
    os.close(writer)


def test_a_device_a_folder_and_a_socket_are_named(tmp_path):
    assert said(Path("/dev/zero")) == "is a device, not a regular file"
    assert said(tmp_path) == "is a folder, not a regular file"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        assert said(tmp_path / "s") == "is a socket, not a regular file"


def test_a_link_is_what_it_leads_to(tmp_path):
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "nowhere").symlink_to("missing")
    (tmp_path / "round").symlink_to("round")
    assert "is a device" in said(tmp_path / "zero")
    assert "No such file" in said(tmp_path / "nowhere")
    assert "symbolic links" in said(tmp_path / "round")


@pytest.mark.parametrize("name", ["a\0b", "a\ud800", "x" * 300])
def test_names_that_no_file_has(tmp_path, name):
    assert said(tmp_path / name).startswith("can't be read")


def test_too_long_is_told_before_it_is_read(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)  # no byte of it is on the disk
    assert said(tmp_path / "large") == f"is {1 << 40} bytes long; the limit is 100"
    assert "is 101 bytes long" in said(Path("/proc/self/environ")) or os.environ == {}  # whose size is told as 0


def test_what_is_readable_is_read(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"\xef\xbb\xbf" + '{"a": "猫"}'.encode())
    assert read_text(path, 100) == '{"a": "猫"}'
    assert read_json_object(path) == {"a": "猫"}


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=40) | st.text('[]{}:,"0123e.-', max_size=30).map(str.encode))
def test_whatever_is_in_a_file_it_is_read_or_told(tmp_path, content):
    path = tmp_path / "x"
    path.write_bytes(content)
    for read in (read_text, read_json, read_json_object):
        with contextlib.suppress(UnreadableError):
            read(path, 100)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 5000])
def test_json_that_is_too_deep_or_too_long_is_told(tmp_path, text):
    (tmp_path / "x").write_text(text)
    with pytest.raises(UnreadableError, match="is not valid JSON"):
        read_json(tmp_path / "x")
