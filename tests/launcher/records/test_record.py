"""run.json is read as strictly as it is written: it may come from anybody."""

import json
import os

import pytest
from shared import a_recipe, a_record

from launcher import codec
from launcher.records.record import File, at_commit, read_record

FILE = File("0000.png", "ab", 10, 8, 8, 5, 0)


def test_a_record_is_read_back(tmp_path):
    record = a_record(files=(FILE,), status="done", seconds=1.5, times={"load": 1.0}, peak_bytes=(1, 2), loads=1)
    (tmp_path / "run.json").write_text(codec.dumps(record, indent=2, ascii=False), encoding="utf-8")
    assert read_record(tmp_path / "run.json") == record


def test_a_record_of_schema_1_is_read(tmp_path):
    """A file had its prompt, and not the prompt's number."""
    data = codec.plain(a_record(schema=1, prompts=("a", "b"), files=(FILE, FILE)))
    data["files"][0]["prompt"], data["files"][1]["prompt"] = "b", "a"
    (tmp_path / "run.json").write_text(json.dumps(data))
    assert [file.prompt for file in read_record(tmp_path / "run.json").files] == [1, 0]


def test_a_record_of_schema_2_lacks_what_was_added_since(tmp_path):
    data = codec.plain(a_record(schema=2))
    assert not {"weights", "checkout", "kernel", "environment"} & data.keys()
    (tmp_path / "run.json").write_text(json.dumps(data))
    assert read_record(tmp_path / "run.json").weights is None


def test_a_record_of_a_newer_version_is_told(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(codec.plain(a_record(schema=99)) | {"new": 1}))
    with pytest.raises(ValueError, match="schema 99, which a newer version wrote"):
        read_record(tmp_path / "run.json")


@pytest.mark.parametrize(
    ("path", "folder", "revision"),
    [
        ("owner/name", "/cache/models--owner--name/snapshots/abc", "abc"),
        ("owner/name", "/cache/models--other--name/snapshots/abc", "main"),
        (".../abc", "/cache/models--owner--name/snapshots/abc", "main"),
        ("bundled", "/x/pipeline", "main"),
    ],
)
def test_a_commit_is_recorded_where_a_repository_was_named(path, folder, revision):
    config = {"model": {"path": path, "revision": "main"}, "seed": 1}
    assert at_commit(config, folder) == {"model": {"path": path, "revision": revision}, "seed": 1}
    assert config["model"]["revision"] == "main"


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "", ".", "..", "a/b", "a\0b"])
def test_a_file_is_a_plain_name_in_the_runs_folder(tmp_path, name):
    data = codec.plain(a_record(files=(FILE,)))
    data["files"][0]["file"] = name
    (tmp_path / "run.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"files\[0\]: .* is not a plain file name"):
        read_record(tmp_path / "run.json")


@pytest.mark.parametrize("files", [None, [], {}, 3, [[]], "x", [{"file": 3}]])
def test_a_record_with_other_files_is_no_record(tmp_path, files):
    data = codec.plain(a_record())
    data["files"] = files
    (tmp_path / "run.json").write_text(json.dumps(data))
    if files == []:
        assert read_record(tmp_path / "run.json").files == ()
        return
    with pytest.raises(ValueError, match="files"):
        read_record(tmp_path / "run.json")


@pytest.mark.parametrize("text", ["", "[" * 100_000, "{}", "null", '{"status": "done"}', "\0"])
def test_what_is_no_record_is_told(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"not JSON|unknown|missing|expected"):
        read_record(tmp_path / "run.json")


def test_a_pipe_is_no_record(tmp_path):
    os.mkfifo(tmp_path / "run.json")  # to read it would wait for a writer
    with pytest.raises(ValueError, match="a pipe, not a regular file"):
        read_record(tmp_path / "run.json")


def test_a_recipe_of_one_picture_asks_for_that_one_alone():
    recipe = a_recipe(config={"prompt": None, "prompt_file": ".../x.json", "images": 3, "seed": 1, "steps": 2})
    assert recipe.of("a dog", 7).config == {
        "prompt": "a dog", "prompt_file": None, "images": 1, "batch": 1, "seed": 7, "steps": 2
    }  # fmt: skip
