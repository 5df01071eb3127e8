"""The pages of runs, blends and all runs, and what a browser makes of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import submit
from pipeline.records.job import make_job
from pipeline.records.paths import Paths
from pipeline.tools import blend, runs
from tests.browser import CHROMIUM, Browser, browser
from tests.conftest import Failure, Stage
from tests.kinds import KINDS, draw_kind
from tests.runs import drawn_run

SET = ["--set", "epochs=4"]
#: What is wrong with the layout of a page, as a list of texts.
FAULTS = """
(() => {
  const faults = [], scrolls = (one) => one.closest(".scroll, pre, select");
  const whole = document.documentElement.scrollWidth;
  if (whole > innerWidth) faults.push(`the page is ${whole} px wide`);
  for (const one of document.querySelectorAll("body *")) {
    const box = one.getBoundingClientRect();
    if (!scrolls(one) && box.width && box.right > innerWidth + 0.5)
      faults.push(`${one.tagName} ${one.className} ends at ${box.right}`);
  }
  for (const svg of document.querySelectorAll("svg")) {
    const frame = svg.getBoundingClientRect(), texts = [...svg.querySelectorAll("text")];
    if (frame.width < 50 || frame.height < 50) faults.push(`${svg.ariaLabel} is ${frame.width} x ${frame.height}`);
    const boxes = texts.map((text) => [text, text.getBoundingClientRect()]);
    for (const [text, box] of boxes) {
      const beside = box.left < frame.left - 2 || box.right > frame.right + 2;
      if (beside || box.top < frame.top - 2 || box.bottom > frame.bottom + 2)
        faults.push(`'${text.textContent}' is outside of ${svg.ariaLabel}`);
    }
    const level = boxes.filter(([text]) => !/rotate\\(-?(?!0\\)|90)/.test(text.getAttribute("transform") ?? ""));
    level.forEach(([a, one], place) => level.slice(place + 1).forEach(([b, other]) => {
      const wide = Math.min(one.right, other.right) - Math.max(one.left, other.left);
      const high = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
      if (wide > 2 && high > 3) faults.push(`'${a.textContent}' is over '${b.textContent}' in ${svg.ariaLabel}`);
    }));
  }
  return faults;
})()
"""


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def test_the_page_of_a_run_and_of_a_blend(split: Paths, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    score = drawn_run(2.0, 0).score
    submit.run(make_job("shapes"))
    stage("tools.report", "--recipe", "tiny")
    page = split.run("tiny") / "report" / "index.html"
    assert "data/shapes/runs/tiny/report/index.html" in capsys.readouterr().out
    assert f"{score['cv_score']:.4f}" in text_of(page) and "Which images cost most?" in text_of(page)
    assert page.stat().st_size < 5e6 and list(page.parent.iterdir()) == [page]

    drawn_run(3.0, 1, "epochs=9")
    blend.run([make_job("shapes"), make_job("shapes", settings=["epochs=9"])], "both")
    stage("tools.report", "--blend", "both")
    assert "tiny~epochs=9" in text_of(split.blends / "both" / "report" / "index.html")


def test_the_page_of_some_folds_and_of_all_rows(split: Paths, stage: Stage) -> None:
    drawn_run(2.0, 0, folds="0")
    stage("tools.report", "--folds", "0")
    page = split.run("tiny") / "report~folds=0" / "index.html"
    assert "1 fold, PARTIAL" in text_of(page)
    for name in ("train", "predict", "ensemble"):
        stage(name, "--fold" if name == "train" else "--folds", "all", *SET)
    stage("tools.report", "--folds", "all", *SET)
    assert "Where is it wrong?" not in text_of(split.run("tiny~epochs=4") / "all" / "report" / "index.html")


def test_the_page_of_all_runs(split: Paths, stage: Stage, failure: Failure) -> None:
    assert "there is no run of shapes yet; make submit makes the first one" in failure("tools.report", "--all-runs")
    drawn_run(1.0, 0)
    drawn_run(9.0, 1, "epochs=9")
    submit.run(make_job("shapes"))
    runs.note_score(split, "tiny=0.8125")
    stage("tools.report")
    stage("tools.report", "--all-runs")
    page = text_of(split.home / "report" / "index.html")
    assert 'href="../runs/tiny/report/index.html"' in page and "0.8125" in page
    assert "a real gain" in page and "corrected for having been chosen" in page


def test_what_has_no_page(split: Paths, failure: Failure) -> None:
    assert "tiny of shapes is not combined yet; type: make ensemble COMPETITION=shapes" in failure("tools.report")
    assert "no blend" in failure("tools.report", "--blend", "none") or "not combined" in failure(
        "tools.report", "--blend", "none"
    )


@pytest.fixture(scope="module")
def opened() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    with browser() as page:
        yield page


def check(page: Path, opened: Browser) -> None:
    """Opens a page as a phone and as a screen do, on a light and a dark ground."""
    assert CHROMIUM
    for width, dark in ((1600, False), (390, True)):
        opened.faults.clear()
        opened.requests.clear()
        opened.open(page, width, dark=dark)
        assert opened.run(FAULTS) == [] and opened.faults == []
        assert opened.requests == [page.resolve().as_uri()]


@pytest.mark.xdist_group("browser")
def test_a_browser_draws_sorts_and_filters(split: Paths, stage: Stage, opened: Browser) -> None:
    for fold in ("0", "1", "2"):
        stage("train", "--fold", fold, "--threads", "1", *SET)
    for name in ("predict", "ensemble", "submit", "tools.report"):
        stage(name, *SET)
    page = split.run("tiny~epochs=4") / "report" / "index.html"
    check(page, opened)
    assert opened.run("[...document.images].every((one) => one.complete && one.naturalWidth > 0)")
    assert opened.run("document.querySelectorAll('svg').length") >= 5

    names = (
        "[...document.querySelectorAll('#mistakes table')[0].tBodies[0].rows].map((row) => row.cells[0].textContent)"
    )
    click = "document.querySelectorAll('#mistakes table')[0].tHead.rows[0].cells[0].firstChild.click()"
    opened.run(click)
    assert opened.run(names) == ["circle", "square"]
    opened.run(click)
    assert opened.run(names) == ["square", "circle"]
    there = "[...document.querySelectorAll('#costly-images .card:not([hidden])')]"
    shown = f"{there}.map((card) => JSON.parse(card.dataset.names)[0])"
    assert {*opened.run(shown)} == {"circle", "square"}
    choose = "(select, value) => { select.value = value; select.dispatchEvent(new Event('change')) }"
    opened.run(f"({choose})(document.querySelector('#costly-images .by-class'), 'square')")
    assert {*opened.run(shown)} == {"square"} and "of" in opened.run("document.querySelector('.shown').textContent")
    opened.run(f"({choose})(document.querySelector('#costly-images .by-order'), 'most confident first')")
    values = opened.run(f"{there}.map((card) => JSON.parse(card.dataset.sort)['most confident first'])")
    assert values == sorted(values, reverse=True)

    stage("tools.report", "--all-runs")
    check(split.home / "report" / "index.html", opened)


@pytest.mark.xdist_group("browser")
@pytest.mark.parametrize("kind", KINDS)
def test_a_browser_draws_every_kind_of_task(kind: str, root: Path, stage: Stage, opened: Browser) -> None:
    draw_kind(root / "data" / "shapes", kind)
    for name in ("prepare", "manifest", "folds"):
        stage(name)
    drawn_run(1.0, 0)
    stage("tools.report")
    check(Paths("shapes").run("tiny") / "report" / "index.html", opened)


@pytest.mark.xdist_group("browser")
def test_names_of_classes_and_files_are_text(split: Paths, stage: Stage, opened: Browser) -> None:
    """Also in charts; nothing of them runs, and nothing that they name is read."""
    names = {"circle": "<script>document.title = 1</script>", "square": "../../../\" onload='document.title = 2' x"}
    for path in sorted((split.raw / "train").glob("*.png")):
        kind, number = path.stem.split("_")
        path.rename(path.with_name(f"{number}<img src=x>&'\".png"))
        with (split.home / "labels.csv").open("a") as file:
            file.write(f'"{number}<img src=x>&\'""","{names[kind].replace(chr(34), chr(34) * 2)}"\n')
    text = (split.home / "labels.csv").read_text()
    (split.home / "labels.csv").write_text("id,label\n" + text)
    toml = re.sub(r"(?m)^pattern = '\^\(\?P<label>.*$", 'labels = "labels.csv"', split.toml.read_text(), count=1)
    split.toml.write_text(toml)
    for name in ("manifest", "folds"):
        stage(name, *(["--force"] if name == "folds" else []))
    drawn_run(1.0, 0)
    stage("tools.report")
    page = split.run("tiny") / "report" / "index.html"
    check(page, opened)
    assert opened.run("document.title") == "shapes: tiny" and opened.run("document.scripts.length") == 1
    assert names["circle"] in opened.run("document.querySelector('#mistakes').textContent")
