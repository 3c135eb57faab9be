"""A report's plots, as SVG and in words."""

import os
import subprocess
import sys
from typing import Any
from xml.etree import ElementTree

import pytest
from shared import ROOT

from launcher.reporting.plots import plots
from launcher.reporting.rows import Row, rows
from launcher.running.hold import is_held


@pytest.mark.slow
def test_plots_are_of_what_has_two_points(sweep):
    found = {plot.title: plot for plot in plots(rows([sweep], is_held))}
    assert list(found) == ["Step time and ranks", "Peak memory and ranks", "Speed-up against ideal", "Where time goes"]
    assert "2 ranks 0.6, 4 ranks 0.4" in found["Step time and ranks"].told
    for plot in found.values():
        assert plot.svg.startswith("<svg")
        assert "currentColor" in plot.svg
        assert "#010203" not in plot.svg
    assert plots([]) == []
    assert plots([Row("a", "a", "done", step=1.0, ranks=1, tokens=1)]) == []


def row(mode: str, ranks: int, step: float, **changes: Any) -> Row:
    """A run that is done."""
    return Row(f"{mode} {ranks}", "a", "done", mode=mode, ranks=ranks, step=step, shape="8 x 8", **changes)


def told(title: str, *given: Row) -> str | None:
    """What a plot says in words; None if there is no such plot."""
    return {plot.title: plot.told for plot in plots(given)}.get(title)


def test_of_runs_that_share_their_ranks_the_best_is_shown():
    given = row("ring", 4, 0.3), row("ring", 2, 0.7), row("ring", 2, 0.5), row("ulysses", 2, 0.4)
    assert told("Step time and ranks", *given) == (
        "seconds a step, by ranks. ring: 2 ranks 0.5, 4 ranks 0.3; ulysses: 2 ranks 0.4"
    )


def test_what_did_not_end_or_has_no_number_is_no_point():
    assert plots([row("ring", 2, 0.5), Row("b", "b", "failed", mode="ring", ranks=4, step=0.3)]) == []
    assert plots([row("ring", 2, 0.5), Row("b", "b", "done", mode="ring", step=0.3)]) == []


def test_speed_up_is_told_for_what_has_more_ranks_than_its_baseline():
    shown = row("ring", 4, 0.25, speedup=3.2, ideal=4.0)
    hidden = row("none", 1, 0.8, speedup=1.0, ideal=1.0)
    assert told("Speed-up against ideal", hidden) is None
    said = told("Speed-up against ideal", shown, hidden)
    assert said == "How many times as fast as the baseline. ring 4: 3.20 of 4"


@pytest.mark.slow
def test_a_plot_is_xml_whose_labels_are_text(evil):
    (plot,) = plots([Row(evil, "a", "done", step=1.0, times={"load": 1.0, "save": 5.0})])
    assert plot.told.endswith(f"{evil}: load 1, encode 0, denoise 0, decode 0")
    tree = ElementTree.fromstring(plot.svg)
    assert not [each for each in tree.iter() if each.tag.rpartition("}")[2] in ("script", "metadata", "a")]
    assert evil[:34] + "..." in "".join(tree.itertext())
    assert (tree.get("role"), tree.get("aria-label")) == ("img", "Where time goes")


@pytest.mark.slow
def test_plots_of_one_page_share_no_id_and_are_the_same_each_time(sweep):
    shown = rows([sweep], is_held)
    found = plots(shown)
    ids = [each.get("id") for plot in found for each in ElementTree.fromstring(plot.svg).iter() if each.get("id")]
    assert len(ids) == len(set(ids)) > 20
    assert plots(shown) == found


@pytest.mark.slow
def test_a_backend_that_matplotlib_does_not_know_is_no_failure():
    told = "import os, launcher.reporting.plots, matplotlib; print(os.environ['MPLBACKEND'], matplotlib.get_backend())"
    env = os.environ | {"MPLBACKEND": "nosuch"}
    ended = subprocess.run([sys.executable, "-c", told], env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.stdout.split() == ["nosuch", "agg"], ended.stderr
