from pathlib import Path

from launcher.cli.terminal import Terminal
from launcher.running.progress import Progress, Unseen
from launcher.running.screen import Screen, Silent
from launcher.running.sweep import Sweep


def names(protocol: type) -> set[str]:
    return {name for name in vars(protocol) if not name.startswith("_")}


def test_both_screens_have_all_of_it():
    assert names(Screen) <= names(Terminal)
    assert names(Screen) <= names(Silent)
    assert names(Progress) <= names(Unseen)


def test_silence(capfd):
    screen: Screen = Silent()
    progress = screen.progress(3, brief=False)
    progress.at("starting")
    progress.step()
    progress.tick()
    progress.close()
    screen.opening(Sweep([]), Path("x"), [])
    screen.table(Sweep([]), {})
    assert capfd.readouterr() == ("", "")
