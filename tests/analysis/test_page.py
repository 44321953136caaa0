"""report.html: what is in the file, and what a real Chromium makes of it."""

from __future__ import annotations

import html.parser
import json
import math
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.best import rank_trials
from analysis.page.watch import Watched, served
from analysis.report import write_report
from analysis.studies import load_studies

EVIL = "</script><script>alert(1)</script><b>&amp; \"quoted\" 'single' $x_$"
CHART = "#pareto-chart .scatterlayer .points path"


class Page(html.parser.HTMLParser):
    """Tags, what they refer to, and the text of each script and outside of them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.scripts, self.text = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href") and not value.startswith("#")]
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.scripts and self.cdata_elem == "script":
            self.scripts[-1] += data
        else:
            self.text += data


def write_trials(studies, number):
    generator = random.Random(0)
    trials = []
    for n in range(number):
        family, epochs = ("text", "image", "fusion")[n % 3], (20, 4, 4, 12)[n % 4]
        hidden = {"model.hidden": generator.randint(16, 512)} if family == "fusion" else {}
        row = {"state": "COMPLETE" if epochs == 20 else "PAUSED", "epochs": epochs, "best_epoch": epochs}
        row |= {"val_accuracy": generator.random(), "device_seconds": math.exp(5 * generator.random())}
        lr = 10 ** generator.uniform(-5, -2)
        trials.append(studies.trial(n, family=family, **row, **hidden, **{"optim.lr": lr}))
    reports = [row for trial in trials for row in studies.reports(trial)]
    failed = studies.trial(number, state="FAILED", error=EVIL, val_accuracy=None, best_epoch=None)
    return studies.write("demo", [*trials, failed], reports)


@pytest.mark.slow
def test_the_page_is_one_file_that_escapes_what_trials_say(studies):
    path = write_trials(studies, 12)
    text = write_report(path).html.read_text()
    page = Page(text)
    assert page.tags.count("script") == 3 and page.sources == ["data:,"]
    assert EVIL in page.text and "b>" not in page.tags
    data = json.loads(page.scripts[0])
    ranked = rank_trials(load_studies(path), "val_accuracy", "max")
    assert data["trials"]["label"] == ranked["trial"].to_list()
    assert data["trials"]["val_accuracy"][:12] == pytest.approx(ranked["val_accuracy"].to_list()[:12], rel=1e-5)
    assert data["errors"] == {"12": EVIL}
    assert data["rungs"] == [4, 12]
    survived = [n for n, f in zip(data["survival"]["trials"], data["survival"]["family"], strict=True) if f == "fusion"]
    assert survived == [4, 4, 2, 1]  # of 4 fusion trials with 4, 12, 20 and 4 epochs: at least 1, 4, 12 and 20
    spent = math.fsum(data["spending"]["device_hours"])
    assert spent == pytest.approx(ranked["device_seconds"].sum() / 3600, rel=1e-4)


@pytest.mark.slow
def test_a_page_of_500_trials_is_below_6_megabytes(studies):
    assert write_report(write_trials(studies, 500)).html.stat().st_size < 6_000_000


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium: the system's, or the one that `playwright install chromium` has fetched."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as running:
        system = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        if system is None and not Path(running.chromium.executable_path).exists():
            pytest.skip("no Chromium: apt-get install chromium, or playwright install chromium")
        chromium = running.chromium.launch(executable_path=system, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory, study_writer):
    return write_report(write_trials(study_writer(tmp_path_factory.mktemp("page")), 60))


@pytest.fixture
def opened(browser, report):
    """Opens the page in a window; whatever it complains of, asks for or pops up fails the test."""
    found = []

    def open_page(file=report.html, url="", **options):
        page = browser.new_page(**{"viewport": {"width": 1200, "height": 900}} | options)
        page.on("console", lambda message: found.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: found.append(str(error)))
        page.on("dialog", lambda dialog: (found.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: found.append(request.url) if not _is_own(request.url) else None)
        page.goto(url or file.as_uri())
        return page

    yield open_page
    assert not found


def _is_own(url):
    return url.startswith(("file:", "data:", "blob:", "http://127.0.0.1:"))


def rows(page, column):
    place = page.locator("#trial-table thead button").all_inner_texts().index(column) + 1
    return page.locator(f"#trial-table tbody td:nth-child({place})").all_inner_texts()


@pytest.mark.slow
def test_the_table_sorts_and_filters(opened, report):
    page = opened()
    assert rows(page, "trial")[:1] == [re.search(r"^# trial: (\S+)", report.best.read_text(), re.MULTILINE)[1]]
    page.locator("#trial-table").get_by_role("button", name="device_seconds", exact=True).click()
    seconds = [float(cell) for cell in rows(page, "device_seconds ▲")]
    assert len(seconds) == 61 and seconds == sorted(seconds)
    page.get_by_role("button", name="device_seconds ▲").click()
    assert [float(cell) for cell in rows(page, "device_seconds ▼")] == sorted(seconds, reverse=True)
    page.get_by_role("combobox", name="State").select_option("COMPLETE")
    page.get_by_role("searchbox", name="Find").fill("family=fusion device_seconds<50")
    shown = rows(page, "family")
    assert shown and set(shown) == {"fusion"} and set(rows(page, "state")) == {"COMPLETE"}
    assert all(float(cell) < 50 for cell in rows(page, "device_seconds ▼"))
    assert page.locator("#count").inner_text() == f"{len(shown)} of 61 trials"


@pytest.mark.slow
def test_a_click_on_a_point_selects_its_trial_everywhere(opened):
    page = opened()
    page.locator("#pareto-chart").scroll_into_view_if_needed()
    point = page.locator(CHART).nth(7)
    point.wait_for()
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    label = page.locator("#pareto-chart .hoverlayer .hovertext")
    label.wait_for()
    said = label.text_content()
    assert "optim.lr = " in said and "val_accuracy = " in said
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    name = re.match(r"t\d{4}", said)[0]
    assert page.locator("#chosen").inner_text().startswith(f"{name}: ")
    assert page.locator("#trial-table tr[aria-current]").get_by_role("button").inner_text() == name
    for chart in ("pareto", "curves", "slice"):
        page.locator(f"#{chart}-chart").scroll_into_view_if_needed()
        page.wait_for_function(f"document.getElementById('{chart}-chart').data?.some(t => t.name === 'chosen')")
    page.locator("#trial-table").get_by_role("button", name="t0060").click()
    assert EVIL in page.locator("#chosen").inner_text()


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_has_no_sideways_scroll_and_both_themes_can_be_read(opened, theme):
    page = opened(viewport={"width": 390, "height": 800}, color_scheme=theme)
    for chart in page.locator(".chart").all():
        chart.scroll_into_view_if_needed()
        page.wait_for_timeout(50)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    ink, back = (
        page.evaluate(f"getComputedStyle(document.body).{name}.match(/\\d+/g).map(Number)")
        for name in ("color", "backgroundColor")
    )
    assert contrast(ink, back) > 7
    assert (sum(back) < 150) == (theme == "dark")
    title = page.locator("#pareto-chart .xtitle")
    assert contrast(title.evaluate("node => getComputedStyle(node).fill.match(/\\d+/g).map(Number)"), back) > 7


def contrast(one, other):
    """WCAG 2.1: relative luminances, (lighter + 0.05) / (darker + 0.05)."""

    def luminance(colour):
        parts = [value / 255 for value in colour[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.slow
def test_the_contour_is_the_mean_by_inverse_square_distance(opened, report):
    page = opened()
    page.get_by_role("combobox", name="Trials of").select_option("fusion")
    page.locator("#contour-chart").scroll_into_view_if_needed()
    page.wait_for_function("document.getElementById('contour-chart').data?.length === 2")
    assert page.get_by_role("combobox", name="and", exact=True).input_value() == "model.hidden"
    field, points = page.evaluate("document.getElementById('contour-chart').data.map(({x, y, z}) => ({x, y, z}))")
    table = pd.read_csv(report.summary)
    own = table.loc[table["family"] == "fusion"]
    lr, hidden = (
        (of - of.min()) / (of.max() - of.min()) for of in (np.log(own["optim.lr"]), np.log(own["model.hidden"]))
    )
    assert sorted(points["x"]) == pytest.approx(sorted(lr), abs=1e-3) and len(lr) == 20
    for row, at in ((0, 0), (12, 7), (24, 24)):
        weights = 1 / ((lr - at / 24) ** 2 + (hidden - row / 24) ** 2 + 1e-4)
        expected = (weights * own["val_accuracy"]).sum() / weights.sum()
        assert field["z"][row][at] == pytest.approx(expected, abs=1e-3)


@pytest.mark.slow
def test_it_prints_black_on_white_within_the_paper(opened):
    page = opened(viewport={"width": 718, "height": 1000}, color_scheme="dark")  # A4 at 96 dpi without its margins
    pdf = page.pdf(format="A4", margin=dict.fromkeys(("left", "right", "top", "bottom"), "1cm"))
    assert pdf.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", pdf)) > 3
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.wait_for_function("[...document.querySelectorAll('.chart')].every((node) => node.data)")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible() and not page.locator("#find").is_visible()
    assert page.locator("#trial-table").is_visible()
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 718
    title = page.locator("#pareto-chart .xtitle")
    assert title.evaluate("node => getComputedStyle(node).fill") == "rgb(0, 0, 0)"


@pytest.mark.slow
def test_everything_that_can_be_used_has_a_name(opened):
    page = opened()
    nameless = page.evaluate(
        """[...document.querySelectorAll("input, select, button, [role=figure], [role=region], nav")].filter(
            (node) => !(node.labels?.length || node.getAttribute("aria-label") || node.textContent.trim())
        ).map((node) => node.outerHTML)"""
    )
    assert nameless == []
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("h1").count() == 1
    assert page.locator("table:not(:has(caption))").count() == 0
    targets = page.locator("nav a").evaluate_all("links => links.map(l => l.getAttribute('href').slice(1))")
    assert len(targets) > 7 and all(page.locator(f"section#{target}").count() == 1 for target in targets)


@pytest.mark.slow
def test_a_window_follows_the_study(opened, studies):
    watched = Watched(write_trials(studies, 8))
    watched.renew()
    with served(watched) as address:
        page = opened(url=address)
        page.locator("#pareto-chart .points path").first.wait_for()
        assert page.locator("#count").inner_text() == "9 of 9 trials"
        page.wait_for_event("response", lambda answer: answer.request.method == "HEAD", timeout=20_000)
        write_trials(studies, 9)
        assert watched.renew()
        page.locator("#count", has_text="10 of 10 trials").wait_for(timeout=30_000)
        page.close()


@pytest.mark.slow
def test_a_page_of_5000_trials_stays_usable(opened, studies):
    page = opened(write_report(write_trials(studies, 5000)).html)
    assert page.locator("#count").inner_text() == "5001 of 5001 trials, 200 shown"
    took = page.evaluate(
        """async () => {
            const began = performance.now();
            document.getElementById("find").value = "family=text epochs>=12";
            document.getElementById("find").dispatchEvent(new Event("input"));
            return performance.now() - began;
        }"""
    )
    assert took < 2000
    shown = page.locator("#count").inner_text()
    assert 500 < int(shown.split()[0]) < 5000
