import io
import sys

from launcher.cli import progress
from launcher.cli.progress import Bar


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


class Gone(Tty):
    def write(self, _: str) -> int:
        raise OSError(28, "No space left on device")


def drive(bar: Bar) -> None:
    bar.at("starting")
    bar.at("starting")
    bar.tick()
    for _ in range(3):
        bar.step()
    bar.close()


def test_lines_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(progress, "LINE_EVERY", -1.0)
    said: list[str] = []
    drive(Bar(3, False, lambda line, _: said.append(line.strip())))
    assert said[:2] == ["starting ...", "denoising ..."]
    assert said[-1].startswith("step 3 of 3  ")
    said.clear()
    monkeypatch.setattr(progress, "LINE_EVERY", 5.0)
    drive(Bar(3, True, lambda line, _: said.append(line)))
    assert said == []


def test_a_bar_on_a_terminal(monkeypatch):
    screen = Tty()
    monkeypatch.setattr(sys, "stderr", screen)
    bar = Bar(3, False, lambda *_: None)
    bar.at("starting")
    bar.step()
    bar.tick()
    bar.close()
    assert "starting" in screen.getvalue()
    assert "1/3" in screen.getvalue()


def test_a_terminal_that_is_full_or_closed_is_given_up(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Gone())
    drive(Bar(3, False, lambda *_: None))
    monkeypatch.setattr(sys, "stderr", None)
    drive(Bar(3, False, lambda *_: None))
