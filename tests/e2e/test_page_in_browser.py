"""The report's page in a real browser: by day and by night, on a desk and on a telephone."""

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import made_up
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from wav2bold.report.page import render

CHROMIUM = shutil.which("chromium")
SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
"""Kept after the tests: CI hands them out."""
WIDTHS = {"desk": 1280, "telephone": 375}
SIZES = """elements => elements.map(one => {
    const box = (one.closest(".wide") || one).getBoundingClientRect();  // a wide one scrolls within its own
    const name = one.getAttribute("alt") || one.textContent.trim().slice(0, 60);
    return [name, box.width, box.height, box.left, box.right];
})"""
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium here: install it (Debian: apt-get install chromium)"
)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a page that has every section a study can have."""
    findings = made_up.findings(subjects=1, trials=6)
    weights = np.array([0.2, 0.5, 0.3])
    weighed = {name: dataclasses.replace(one, layer_weights=weights) for name, one in findings.inside.items()}
    path = tmp_path_factory.mktemp("page") / "report.html"
    spoken = {
        name: {task: made_up.superb_score(task, right, seed) for seed, task in enumerate(("ks", "pr"))}
        for name, right in (("facebook/wav2vec2-base", 0.6), ("facebook/hubert-base-ls960", 0.7))
    }
    whole = dataclasses.replace(findings, inside=weighed, superb=spoken)
    path.write_text(render(whole), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM)
        yield started
        started.close()


class Watched:
    """The page as opened in a window, with all that it said and asked for."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(address)


@pytest.fixture(scope="module", params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=WIDTHS)
def opened(request: pytest.FixtureRequest, browser: Browser, address: str, scheme: str) -> Iterator[Watched]:
    window = {"width": WIDTHS[request.param], "height": 900}
    page = browser.new_page(viewport=window, color_scheme=scheme)
    watched = Watched(page, address)
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"report-{request.param}-{scheme}.png", full_page=True)
    yield watched
    page.close()


def test_every_figure_is_seen_within_the_window(opened: Watched) -> None:
    width = opened.page.viewport_size["width"]
    seen = opened.page.eval_on_selector_all("figure svg.chart, figure img", SIZES)
    assert len(seen) >= 12
    for what, across, high, left, right in seen:
        assert across >= 100, what
        assert high >= 40, what
        assert left >= 0, what
        assert right <= width + 0.5, what
    assert all(figure.is_visible() for figure in opened.page.query_selector_all("figure"))


def test_nothing_makes_the_page_wider_than_the_window(opened: Watched) -> None:
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_words_in_drawings_are_large_enough_to_read(opened: Watched) -> None:
    heights = opened.page.eval_on_selector_all(
        "svg.chart text", "texts => texts.map(one => one.getBoundingClientRect().height)"
    )
    assert min(heights) >= 8


def test_the_ground_is_that_of_the_scheme(opened: Watched, scheme: str) -> None:
    colour = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    red, *_ = (int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))
    assert (red > 128) == (scheme == "light")


def test_a_figures_numbers_unfold_by_keyboard_and_can_be_taken_away(
    browser: Browser, address: str, tmp_path: Path
) -> None:
    page = browser.new_page(viewport={"width": WIDTHS["telephone"], "height": 900})
    page.goto(address)
    folded = page.locator("details.numbers").first
    assert not folded.locator("table").is_visible()
    folded.locator("summary").focus()
    page.keyboard.press("Enter")
    assert folded.locator("table").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    with page.expect_download() as waiting:
        folded.locator("a").click()
    kept = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(kept)
    assert kept.name == "encoder.csv"
    assert kept.read_text().splitlines()[0] == "type,layer,parameters,refined"
    page.close()


def test_the_page_says_nothing_on_the_console_and_asks_nobody(opened: Watched, address: str) -> None:
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith("data:")] == [address]
