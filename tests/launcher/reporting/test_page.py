"""The report: its rows, its page as a browser shows it, and that nothing a prompt holds becomes markup."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from shared import a_recipe, a_record

from launcher import codec
from launcher.cli.main import main
from launcher.records.files import sha256
from launcher.records.formats import FORMATS
from launcher.records.picture import save
from launcher.records.record import File
from launcher.records.sweep_log import SweepJob, write_sweep
from launcher.reporting import page
from launcher.reporting.plots import plots
from launcher.reporting.rows import Row, rows
from launcher.running.hold import is_held

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
EVIL = "<script>alert(1)</script>|\"'&`[x](javascript:y) ${7*7} {{7*7}}"


def put(
    folder: Path, number: int, mode: str, ranks: int = 2, step: float = 0.5, noise: int = 0, **changes: Any
) -> Path:
    """A job of a sweep, with a picture that is so far off."""
    place = folder / str(number)
    place.mkdir(parents=True)
    pixels = np.full((24, 32, 3), 100, np.uint8)
    pixels[3:6] += np.uint8(noise)
    save([Image.fromarray(pixels)], place / "0000.png", a_recipe(), FORMATS["png"])
    file = File("0000.png", sha256(place / "0000.png"), 1, 24, 32, 1, 0)
    ring = ranks if mode != "none" else 1
    config = {
        "model": {"name": "flux", "path": "owner/flux"},
        "cp": {"mode": mode, "ring_degree": ring, "ulysses_degree": 1},
        "runtime": {"processes": ring},
        "height": 24,
        "width": 32,
        "frames": None,
        "steps": 2,
    }
    told: dict[str, Any] = {
        "status": "done",
        "config": config,
        "overrides": (f"cp={mode}", f"cp.ring_degree={ring}", "prompt=x"),
        "command": f"python -m launcher cp={mode}",
        "files": (file,),
        "step_seconds": ((step, step),),
        "peak_bytes": (ring << 20, 1),
        "tokens_per_rank": ({"text": 8, "image": 4}, *({"text": 0, "image": 0},) * (ring - 1)),
        "times": {"load": 1.0, "encode": 0.1, "denoise": 2 * step, "decode": 0.2, "save": 0.1},
        "environment": {"system": "Linux"},
        "versions": {"torch": "2.13" if number else "2.14"},
        "started": f"2026-01-01T00:00:{number:02d}+00:00",
    }
    (place / "run.json").write_text(codec.dumps(a_record(**{**told, **changes})))
    return place


@pytest.fixture
def sweep(tmp_path) -> Path:
    folder = tmp_path / "sweep"
    put(folder, 0, "none", step=1.0)
    put(folder, 1, "ring", 2, step=0.6, noise=3)
    put(folder, 2, "ring", 4, step=0.4)
    put(folder, 3, "ulysses", 2, step=0.55, noise=9, prompts=(EVIL,), overrides=("cp=ulysses", f"prompt={EVIL}"))
    put(folder, 10, "ring", 3, status="failed", error="rank 1: it broke", files=(), step_seconds=())
    write_sweep(folder, [SweepJob(11, ("cp=ulysses", "cp.ring_degree=5"), "refused", "24 heads do not divide | by 5")])
    return folder


def test_rows_tell_what_sets_runs_apart_and_how_close_they_are(sweep):
    found = {row.label: row for row in rows([sweep], is_held)}
    alone = found["cp=none cp.ring_degree=1 prompt=x"]
    assert (alone.baseline, alone.speedup, alone.tokens, alone.backend) == ("", 1.0, 12, "none")
    two = found["cp=ring cp.ring_degree=2 prompt=x"]
    assert (two.baseline, two.ideal, two.backend, two.shape) == (alone.label, 2.0, "ring 2 x 1", "24 x 32")
    assert two.speedup == pytest.approx(1 / 0.6)
    assert two.rate == pytest.approx(1 / 0.6)
    assert two.apart is not None
    assert two.apart.largest == 3
    assert found["cp=ring cp.ring_degree=4 prompt=x"].apart.same == "bytes"
    failed = found["cp=ring cp.ring_degree=3 prompt=x"]
    assert (failed.status, failed.reason, failed.step, failed.picture) == ("failed", "rank 1: it broke", None, None)
    refused = found["cp=ulysses cp.ring_degree=5"]
    assert (refused.status, refused.mode, refused.reason) == ("refused", "ulysses", "24 heads do not divide | by 5")
    strange = next(row for row in found.values() if row.prompt == EVIL)
    assert strange.baseline == ""  # another prompt is another picture: it is compared with nothing else


def test_a_chosen_baseline_is_what_all_are_compared_with(sweep):
    found = rows([sweep], is_held, sweep / "1")
    assert [row.baseline for row in found if row.folder.endswith("/1")] == [""]
    assert {row.baseline for row in found if row.status == "done" and not row.folder.endswith("/1")} == {
        "cp=ring cp.ring_degree=2 prompt=x"
    }


def test_the_jobs_of_a_sweep_come_in_their_order(tmp_path):
    for number in (10, 2, 0):
        put(tmp_path, number, "ring", started="2026-01-01T00:00:00+00:00")
    assert [Path(row.folder).name for row in rows([tmp_path], is_held)] == ["0", "2", "10"]
    assert len({row.label for row in rows([tmp_path], is_held)}) == 3


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


@pytest.mark.slow
def test_the_page_needs_nothing_else_and_takes_no_text_for_markup(sweep):
    page.write([sweep], sweep, is_held)
    text = (sweep / "report.html").read_text()

    class Tags(HTMLParser):
        scripts, links, images, ids = 0, [], [], []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            told = dict(attrs)
            self.scripts += tag == "script"
            self.links += [told[name] for name in ("src", "href", "xlink:href", "action") if name in told]
            self.images += [told.get("alt")] if tag == "img" else []
            self.ids += [told["id"]] if "id" in told else []

    tags = Tags()
    tags.feed(text)
    assert tags.scripts == 1
    assert all(link.startswith(("data:", "#")) for link in tags.links)
    assert all(tags.images)
    assert len(tags.ids) == len(set(tags.ids))
    assert str(sweep.parent) not in text  # a report is there to be shared
    markdown = (sweep / "report.md").read_text()
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 6
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {14}
    assert "<script>" not in markdown


@pytest.mark.slow
def test_the_same_runs_make_the_same_page(sweep):
    page.write([sweep], sweep, is_held)
    first = (sweep / "report.html").read_bytes()
    page.write([sweep], sweep, is_held)
    assert (sweep / "report.html").read_bytes() == first


@pytest.mark.slow
def test_pictures_that_are_gone_or_broken_are_left_out(sweep):
    (sweep / "0" / "0000.png").unlink()
    (sweep / "1" / "0000.png").write_bytes(b"no picture")
    found = page.write([sweep], sweep, is_held)
    assert len(found) == 6
    assert "can&#39;t be compared" not in (sweep / "report.html").read_text()


@pytest.mark.slow
def test_the_command_and_what_it_refuses(sweep, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report", "sweep", "--baseline", "sweep/1"]) == 0
    assert capsys.readouterr().out == "6 runs: sweep/report.html and report.md\n"
    (tmp_path / "out").mkdir()
    assert main(["report", "sweep/0", "sweep/1", "--out", "out"]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.html", "report.md"}
    for words, said in (
        ([], "takes one folder or more"),
        (["nowhere"], "no such folder"),
        (["sweep", "--baseline", "sweep"], "no run.json in it"),
    ):
        assert main(["report", *words]) == 1
        assert said in capsys.readouterr().err


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed (apt install chromium)")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (800, "light"), (1440, "dark")])
def test_a_browser_shows_it_at_every_size(browser, sweep, width, scheme):
    page.write([sweep], sweep, is_held)
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True) as context:
        view = context.new_page()
        said: list[str] = []
        view.on("console", lambda message: said.append(message.text))
        view.on("pageerror", lambda error: said.append(str(error)))
        view.on("request", lambda request: request.url.startswith(("file:", "data:")) or said.append(request.url))
        view.goto((sweep / "report.html").as_uri())
        assert view.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page itself scrolls sideways"
        assert view.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        _sort(view)
        _filter(view)
        for summary in view.locator("summary").all():
            summary.click()
        assert said == []


def _sort(view: Any) -> None:
    column = view.get_by_role("button", name="s/iteration")
    order = "[...document.querySelectorAll('#runs-body tr td:nth-child(7)')].map(cell => cell.dataset.value)"
    column.click()
    assert view.evaluate(order) == ["0.4", "0.55", "0.6", "1.0", "", ""]
    column.press("Enter")  # by the keyboard; what has no value stays last
    assert view.evaluate(order) == ["1.0", "0.6", "0.55", "0.4", "", ""]
    assert view.locator("th[aria-sort=descending]").inner_text().startswith("s/iteration")
    for button in view.locator("th button").all():
        button.click()
        assert view.locator("#runs-body tr").count() == 6


def _filter(view: Any) -> None:
    rows_shown, figures = view.locator("#runs-body tr:visible"), view.locator("figure[data-row]:visible")
    before = figures.count()
    view.get_by_role("searchbox").fill("ring broke")
    assert rows_shown.count() == 1
    assert figures.count() == 0
    assert view.get_by_role("status").inner_text() == "1 of 6 rows"
    view.get_by_role("button", name="Show all").click()
    view.get_by_label("failed").uncheck()
    assert rows_shown.count() == 5
    view.get_by_role("button", name="Show all").click()
    assert rows_shown.count() == 6
    assert figures.count() == before
