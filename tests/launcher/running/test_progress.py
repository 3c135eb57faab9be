"""Progress that nobody watches takes whatever a job tells."""

from launcher.running.progress import UNSEEN, Progress, Unseen


def test_it_has_all_of_it_and_shows_nothing(capfd):
    told = {name for name in vars(Progress) if not name.startswith("_")}
    assert told == {"at", "tick", "step", "close"} <= set(vars(Unseen))
    progress: Progress = UNSEEN
    progress.at("loading")
    progress.step()
    progress.tick()
    progress.close()
    assert capfd.readouterr() == ("", "")
