"""The report's page in a real browser: by day and by night, on a desk and on a telephone."""

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import made_up
import numpy as np
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, sync_playwright

from wav2bold.config import Search
from wav2bold.report.explored import EXPLORED
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
    findings = made_up.findings(subjects=1, trials=12)
    counted = (
        dataclasses.replace(one, trained_parameters=100 * (1 + one.number % 5)) for one in findings.trials
    )
    two_goals = findings.study.model_copy(update={"search": Search(sampler="nsgaii")})
    findings = dataclasses.replace(findings, trials=tuple(counted), study=two_goals)
    weights = np.array([0.2, 0.5, 0.3])
    weighed = {name: dataclasses.replace(one, layer_weights=weights) for name, one in findings.inside.items()}
    path = tmp_path_factory.mktemp("page") / "report.html"
    spoken = {
        name: {task: made_up.superb_score(task, right, seed) for seed, task in enumerate(("ks", "pr"))}
        for name, right in (("facebook/wav2vec2-base", 0.6), ("facebook/hubert-base-ls960", 0.7))
    }
    whole = dataclasses.replace(findings, inside=weighed, superb=spoken)
    path.write_text(render(whole, interactive=True), encoding="utf-8")
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
        page.on("console", self._told)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(address)

    def _told(self, message: ConsoleMessage) -> None:
        """Keep it, unless it is Chromium's on how fast drawings are read back, without a graphics card."""
        if not (message.type == "warning" and ("readback" in message.text or "GPU stall" in message.text)):
            self.said.append(message.text)


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
    assert not page.evaluate("'Plotly' in window")  # nothing ran yet
    for name in EXPLORED:
        unfold(page, name)
        explored_in(page, name).screenshot(path=SHOTS / f"explore-{name}-{request.param}-{scheme}.png")
    yield watched
    page.close()


def explored_in(page: Page, name: str) -> Locator:
    return page.locator(f'details.explore[data-figure="explore-{name}"]')


def unfold(page: Page, name: str) -> None:
    """Open a figure by the keyboard, and wait until it is drawn."""
    explored_in(page, name).locator("summary").focus()
    page.keyboard.press("Enter")
    explored_in(page, name).locator(".canvas[data-drawn]").wait_for(timeout=60_000)


@pytest.mark.parametrize("name", EXPLORED)
def test_what_is_explored_is_drawn_as_wide_as_there_is_room(opened: Watched, name: str, scheme: str) -> None:
    canvas = explored_in(opened.page, name).locator(".canvas")
    assert canvas.get_attribute("data-drawn") == scheme
    box = canvas.bounding_box()
    assert box is not None
    assert box["width"] >= 300
    assert box["height"] >= 180
    assert canvas.locator("svg.main-svg").first.is_visible()
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_what_is_explored_is_written_in_the_schemes_ink(opened: Watched) -> None:
    ink = opened.page.evaluate("getComputedStyle(document.body).color")
    written = explored_in(opened.page, "optimisation").locator(".xtick text").first
    assert written.evaluate("one => getComputedStyle(one).fill") == ink


def test_another_map_of_the_brain_is_painted_when_it_is_chosen(opened: Watched) -> None:
    brain = explored_in(opened.page, "brain")
    colours = "one => one.data.map(trace => trace.vertexcolor.join())"
    before = brain.locator(".canvas").evaluate(colours)
    brain.get_by_role("combobox", name="Map").select_option("sub-001, difference")
    after = brain.locator(".canvas").evaluate(colours)
    assert all(one != other for one, other in zip(before, after, strict=True))
    brain.get_by_role("combobox", name="Hemispheres").select_option("left")
    assert brain.locator(".canvas").evaluate("one => one.data.map(trace => trace.visible)") == [True, False]
    brain.get_by_role("combobox", name="Seen from").select_option("above")
    assert brain.locator(".canvas").evaluate("one => one.layout.scene.camera.eye.z") > 1


def test_colours_follow_when_night_falls(browser: Browser, address: str) -> None:
    page = browser.new_page(color_scheme="light")
    page.goto(address)
    unfold(page, "importances")
    page.emulate_media(color_scheme="dark")
    explored_in(page, "importances").locator('.canvas[data-drawn="dark"]').wait_for()
    page.close()


def test_without_a_script_there_is_nothing_to_unfold(browser: Browser, address: str) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto(address)
    assert page.locator("details.explore").count() == len(EXPLORED)
    assert not any(one.is_visible() for one in page.locator("details.explore").all())
    assert all(one.is_visible() for one in page.locator("figure svg.chart").all())
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
