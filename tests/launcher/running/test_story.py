"""What ranks of several groups tell, put together; no rank is started here."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from shared import a_record

from launcher.problems import RunFailed
from launcher.records.record import Check, File, read_record
from launcher.records.run_dir import RunDir
from launcher.running.progress import UNSEEN
from launcher.running.story import Story, summed_up
from launcher.wire.protocol import Checked, Done, Saved


@pytest.fixture
def story(ask, tmp_path: Path) -> Story:
    """Of three groups of two ranks."""
    run_dir = RunDir(tmp_path)
    run_dir.start(a_record())
    return Story(ask("cp=ring_anything", "cp.ring_degree=2", "images=30"), run_dir, 3)


def test_files_are_in_the_order_of_one_group_whoever_tells_first(story, tmp_path):
    def tell(group: int) -> None:
        for turn in range(10):
            number = turn * 3 + group
            story.hear(group, 0, Saved(turn, File(f"{number:04d}.png", "ab", 1, 16, 16, number, 0)), UNSEEN)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(tell, reversed(range(3))))
    story.run_dir.end("done")
    assert [file.seed for file in read_record(tmp_path / "run.json").files] == list(range(30))


def test_each_group_is_judged_when_its_ranks_have_checked(story):
    good = Check("step", "float32", 0.0, 1e-7, 1e-4, True)
    bad = Check("step", "float32", 0.1, 1e-2, 1e-4, False)
    for rank in range(2):
        story.hear(0, rank, Checked(good), UNSEEN)
    assert story.run_dir.record.check == good
    story.hear(1, 0, Checked(bad), UNSEEN)
    with pytest.raises(RunFailed, match="is off by"):
        story.hear(1, 1, Checked(good), UNSEEN)
    assert story.run_dir.record.check == bad


def said(*numbers: int, digest: str = "x", loads: int = 1, seconds: float = 1.0) -> Done:
    steps = tuple((float(number),) for number in numbers)
    return Done({"load": seconds}, 10 * loads, (digest,), loads, sent_bytes=7, step_seconds=steps)


def test_what_groups_say_at_the_end_is_by_picture_and_by_rank():
    told = summed_up([[said(0, 2, 4, loads=2), said()], [said(1, 3, seconds=3.0), said(loads=3)]])
    assert told["step_seconds"] == ((0.0,), (1.0,), (2.0,), (3.0,), (4.0,))
    assert told["peak_bytes"] == (20, 10, 10, 30)
    assert told["sent_bytes"] == (7, 7, 7, 7)
    assert (told["loads"], told["times"]) == (2, {"load": 3.0})
    with pytest.raises(RunFailed, match=r"ranks \[1\] ended with other latents than rank 0"):
        summed_up([[said()], [said(), said(digest="y")]])


def test_a_step_that_any_rank_has_skipped_is_told_of_its_picture():
    def skipped(*pictures: tuple[int, ...]) -> Done:
        return Done({}, 1, ("x",), 1, skipped_steps=pictures)

    told = summed_up([[skipped((3,), ()), skipped((2, 3), ())], [skipped((5,)), skipped(())]])
    assert told["skipped_steps"] == ((2, 3), (5,), ())
    assert summed_up([[skipped((), ())], [skipped(())]])["skipped_steps"] == ()
