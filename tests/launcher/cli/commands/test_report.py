"""`python -m launcher report`: what it writes where, and what it refuses."""

import pytest

from launcher.cli.main import main


@pytest.mark.slow
def test_it_writes_beside_the_first_folder_or_where_it_is_told(sweep, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report", "sweep", "--baseline", "sweep/1"]) == 0
    assert capsys.readouterr().out == "6 runs: sweep/report.html and report.md\n"
    (tmp_path / "out").mkdir()
    assert main(["report", "sweep/0", "sweep/1", "--out", "out"]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.html", "report.md"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "report: takes one folder or more"),
        (["nowhere"], "nowhere: no such folder"),
        (["file"], "file: no such folder"),
        ([""], "is empty"),
        (["a\0b"], "holds a NUL character"),
        ([".", "--baseline", "."], "--baseline .: no run.json in it"),
        ([".", "--out", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_what_is_no_folder_of_runs_is_refused(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert main(["report", *words]) == 1
    out, err = capsys.readouterr()
    assert (out, said in err) == ("", True), err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_its_help_names_its_options(capsys):
    assert main(["report", "--help"]) == 0
    out = capsys.readouterr().out
    assert "python -m launcher report DIR" in out
    assert "--baseline RUN" in out
    assert "--out DIR" in out


def test_no_run_is_said_and_a_page_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report", "."]) == 0
    assert capsys.readouterr().out == "no run below .\n0 runs: report.html and report.md\n"
    assert (tmp_path / "report.html").stat().st_size > 0


def test_where_a_page_cannot_be_written_another_folder_is_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.html").mkdir()
    assert main(["report", "."]) == 1
    err = capsys.readouterr().err
    assert "can't be written (Is a directory)" in err
    assert "type --out DIR" in err
