import io
import sys

from launcher.cli import progress
from launcher.cli.progress import Bar, Bars


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


def drive_two(bars: Bars) -> None:
    """Two groups: one denoises its second job while the other loads."""
    first, second = bars.job(0, "[1/3] seed=1", 2), bars.job(1, "[2/3] seed=2", 2)
    first.at("loading")
    for _ in range(2):
        first.step()
    first.close()
    again = bars.job(0, "[3/3] seed=3", 2)
    again.step()
    second.at("loading")
    second.tick()
    bars.close()


def test_lines_of_several_groups_tell_what_each_does(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(progress, "LINE_EVERY", -1.0)
    said: list[str] = []
    drive_two(Bars(6, lambda line, _: said.append(" ".join(line.split()))))
    assert said[0] == "step 0 of 6 group 1 loading; group 2 waiting"
    assert said[2].startswith("step 2 of 6 ")
    assert said[2].endswith(" s/step group 1 denoising 2 of 2; group 2 waiting")
    assert said[-1].startswith("step 3 of 6 ")
    assert said[-1].endswith("group 1 denoising 1 of 2; group 2 loading")
    said.clear()
    monkeypatch.setattr(progress, "LINE_EVERY", 5.0)
    drive_two(Bars(6, lambda line, _: said.append(line)))
    assert said == []


def test_bars_of_several_groups_on_one_terminal(monkeypatch):
    screen = Tty()
    monkeypatch.setattr(sys, "stderr", screen)
    drive_two(Bars(6, lambda *_: None))
    shown = screen.getvalue()
    assert "3/6" in shown  # all steps
    for row in ("group 1 loading", "group 1 denoising", "group 2 loading"):
        assert row in shown
    assert "1/2, [3/3] seed=3" in shown
    assert shown.count("\n") == shown.count("\x1b[A")  # the cursor is where it was: nothing is left on the screen


def test_a_terminal_that_is_gone_takes_the_bars_of_all_groups_along(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Gone())
    drive_two(Bars(6, lambda *_: None))
    monkeypatch.setattr(sys, "stderr", None)
    drive_two(Bars(6, lambda *_: None))
