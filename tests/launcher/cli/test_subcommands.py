"""A module in commands/ is a subcommand; nothing else has to be told."""

from launcher.cli import commands, subcommands
from launcher.cli.main import main


def test_those_that_are_there():
    assert {"check", "models", "plan", subcommands.DEFAULT} <= set(subcommands.names())
    for name in subcommands.names():
        assert subcommands.load(name).ABOUT


def test_one_more_file_is_one_more_subcommand(tmp_path, monkeypatch, capsys):
    (tmp_path / "greet.py").write_text(
        "ABOUT = 'say hello'\ndef main(words):\n    print('hello', *words)\n    return 3\n"
    )
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    assert main(["greet", "you"]) == 3
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("hello you\n")
    assert "  greet        say hello\n" in out
