"""Names are whole or absent."""

import pytest

from launcher.records.files import remove_unfinished, whole


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
