"""The report: its page as a browser shows it, and that nothing a prompt holds becomes markup."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from typing import Any

import pytest

from launcher.reporting import page
from launcher.running.hold import is_held

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


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
