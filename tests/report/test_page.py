"""The page, in a real browser without a network."""

import shutil
from contextlib import contextmanager

import pytest
from made import make_run

from lets_runner.report import command
from lets_runner.report.figures import DPI

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[test]'")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium")

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
NASTY = "<img src=x onerror=console.error(1)>"


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Two data sets, four methods, one of them with two settings, and a failed run with a nasty error."""
    path = tmp_path_factory.mktemp("page")
    for place, data in enumerate(("cifar10", "digits")):
        for number, method in enumerate(("erm", "sam", "lets_sam", "lets_paper_sam")):
            for seed in range(2):
                accuracy = 0.9 - 0.1 * place - 0.01 * number + 0.001 * seed
                make_run(
                    path / "runs", data=data, method=method, seed=seed, accuracy=accuracy, seconds=9.5 + 30 * number
                )
    make_run(path / "runs", method="sam", rho=0.1, accuracy=0.5)
    make_run(path / "runs", method="sam", seed=5, status="failed", error=NASTY)
    command.main([str(path / "runs"), "--out", str(path / "out")])
    return path / "out" / "index.html"


@pytest.fixture(scope="module")
def wide_report(tmp_path_factory):
    """Figures of one panel and of three, and a table of twelve columns."""
    path = tmp_path_factory.mktemp("wide")
    for noise in (0.0, 0.2, 0.4):
        make_run(path / "runs", method="lets_sam", noise=noise)
    command.main([str(path / "runs"), "--out", str(path / "out")])
    return path / "out" / "index.html"


@contextmanager
def opened(browser, report):
    """The page; at the end nothing may have been complained of, or fetched."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(report.as_uri())
    yield page
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [report.as_uri()]
    page.close()


@pytest.fixture
def page(browser, report):
    with opened(browser, report) as page:
        yield page


@pytest.fixture
def wide(browser, wide_report):
    with opened(browser, wide_report) as page:
        yield page


def cells(page, section, column):
    return page.locator(
        f"section[aria-labelledby={section}] tbody tr:visible td:nth-child({column}):visible"
    ).all_inner_texts()


def head(page, section, name):
    return page.locator(f"section[aria-labelledby={section}] th", has_text=name)


def test_holds_the_tables_and_the_figures(page):
    heads = page.locator("section[aria-labelledby=accuracy] th:visible").all_inner_texts()
    assert heads == [
        "data",
        "model",
        "label noise",
        "ERM",
        "SAM (ρ = 0.05)",
        "SAM (ρ = 0.1)",
        "LETS-SAM",
        "LETS-paper-SAM",
    ]
    assert cells(page, "accuracy", 4) == ["90.05 ± 0.07 (2)", "80.05 ± 0.07 (2)"]
    assert page.locator("section[aria-labelledby=accuracy] strong").all_inner_texts() == cells_of(
        cells(page, "accuracy", 4)
    )
    sizes = page.locator("figure img").evaluate_all("images => images.map(image => image.naturalWidth)")
    assert len(sizes) == 7  # curves, gap and radius of both, and the fixed radii of one
    assert min(sizes) > 500
    assert all(page.locator("figure img").evaluate_all("images => images.map(image => image.alt)"))


def cells_of(texts):
    return [text.split(" (")[0] for text in texts]


def test_what_runs_say_is_text(page):
    assert NASTY in page.locator("section[aria-labelledby=directories] li").inner_text()
    assert page.locator("section[aria-labelledby=directories] img").count() == 0


def test_a_head_sorts_both_ways_by_value(page):
    seconds = head(page, "cost", "seconds")
    assert seconds.get_attribute("aria-sort") is None
    seconds.locator("button").click()
    assert seconds.get_attribute("aria-sort") == "ascending"
    assert cells_of(cells(page, "cost", 8))[0] == "9.5"
    seconds.locator("button").click()
    assert seconds.get_attribute("aria-sort") == "descending"
    assert [float(text) for text in cells(page, "cost", 8)] == [99.5] * 2 + [69.5] * 2 + [39.5] * 2 + [12.5] + [9.5] * 2


def test_the_keyboard_sorts_too(page):
    button = head(page, "accuracy", "data").locator("button")
    button.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Space")
    assert cells(page, "accuracy", 1) == ["digits", "cifar10"]
    head(page, "accuracy", "ERM").locator("button").click()
    assert page.locator("section[aria-labelledby=accuracy] th[aria-sort]").all_inner_texts() == ["ERM"]
    assert cells(page, "accuracy", 1) == ["digits", "cifar10"]
    assert head(page, "accuracy", "data").get_attribute("aria-sort") is None


def test_filters_hide_rows_columns_and_figures(page):
    page.select_option("#data", "digits")
    assert cells(page, "accuracy", 1) == ["digits"]
    assert set(cells(page, "cost", 1)) == {"digits"}
    assert page.locator("figure:visible").count() == 4
    page.select_option("#data", "")
    assert page.locator("figure:visible").count() == 7
    page.get_by_label("LETS-SAM", exact=True).uncheck()
    assert set(cells(page, "cost", 4)) == {"ERM", "SAM (ρ = 0.05)", "SAM (ρ = 0.1)", "LETS-paper-SAM"}
    assert not head(page, "accuracy", "LETS-SAM").is_visible()
    assert cells(page, "accuracy", 7) == []


def test_a_figure_opens_and_closes(page):
    dialog = page.locator("#enlarged")
    first = page.locator(".zoom").first
    for close in (lambda: page.locator("#close").click(), lambda: page.keyboard.press("Escape")):
        first.click()
        assert dialog.is_visible()
        shown = dialog.locator("img")
        assert shown.get_attribute("src") == first.locator("img").get_attribute("src")
        assert shown.bounding_box()["width"] > first.locator("img").bounding_box()["width"]
        close()
        assert not dialog.is_visible()


@pytest.mark.parametrize("size", [(1400, 900), (900, 1400), (390, 844)])
def test_an_enlarged_figure_fits_the_window_and_a_click_shows_it_whole(wide, size):
    page = wide
    width, height = size
    page.set_viewport_size({"width": width, "height": height})
    for button in page.locator(".zoom").all():
        button.click()
        image = page.locator("#enlarged img")
        box = image.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
        assert box["y"] >= 0 and box["y"] + box["height"] <= height
        assert image.evaluate("image => getComputedStyle(image).objectFit") == "contain"
        assert page.locator("#enlarged").evaluate("box => box.scrollWidth <= box.clientWidth")
        image.click()
        assert image.evaluate("image => image.width == image.naturalWidth")
        page.keyboard.press("Escape")


def test_wide_figures_take_the_whole_width(wide):
    page = wide
    page.set_viewport_size({"width": 1400, "height": 900})
    column = page.locator(".figures").bounding_box()["width"]
    ratios = []
    for figure in page.locator("figure").all():
        natural = figure.locator("img").evaluate("image => image.naturalWidth")
        ratios.append((natural > 1100, figure.bounding_box()["width"] > 0.99 * column))
    assert {wide for wide, _ in ratios} == {True, False}
    assert all(wide == whole for wide, whole in ratios)
    assert page.locator("figcaption:visible").count() == 0


def test_a_table_that_is_too_wide_says_so_on_the_side_where_there_is_more(page):
    page.set_viewport_size({"width": 390, "height": 844})
    box = page.locator("section[aria-labelledby=cost] .scroll")
    hint = "box => getComputedStyle(box, '::after').content"
    sync_api.expect(box).to_have_class("scroll after")
    assert "scrolls sideways" in box.evaluate(hint)
    box.evaluate("box => { box.scrollLeft = box.scrollWidth }")
    sync_api.expect(box).to_have_class("scroll before")
    assert "scrolls sideways" in box.evaluate(hint)
    first = box.locator("tbody tr").first.locator("td").first
    assert first.bounding_box()["x"] == pytest.approx(box.bounding_box()["x"], abs=1)  # stays in sight
    page.set_viewport_size({"width": 1800, "height": 844})
    sync_api.expect(box).to_have_class("scroll")
    assert box.evaluate(hint) == "none"


def test_a_phone_shows_figures_in_a_size_that_can_be_read(wide):
    """Letters are of 8 points, a ninth of an inch: 9 dots at least."""
    page = wide
    page.set_viewport_size({"width": 390, "height": 844})
    for figure in page.locator("figure").all():
        image = figure.locator("img")
        natural = image.evaluate("image => image.naturalWidth") / DPI  # inches
        assert image.bounding_box()["width"] / natural / 9 >= 9
        assert figure.locator("figcaption").is_visible()  # the figure's own title begins out of sight
        assert figure.bounding_box()["x"] + figure.bounding_box()["width"] <= 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it_within_its_width(page, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 375, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    box = page.locator(".scroll").first
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")
    paper, ink = page.locator("body").evaluate(
        "body => ['backgroundColor', 'color'].map(name => getComputedStyle(body)[name])"
    )
    assert contrast(paper, ink) > 7


def contrast(*colours):
    """Ratio of luminances (WCAG 2.1) of two colours written as rgb(r, g, b)."""
    luminances = []
    for colour in colours:
        channels = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        luminances.append(sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True)))
    return (max(luminances) + 0.05) / (min(luminances) + 0.05)
