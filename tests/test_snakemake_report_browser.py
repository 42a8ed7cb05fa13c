"""Snakemake's own report in headless Chromium: every entry opens, with its caption and rule, on a desk and a phone."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from conftest import copy_project
from evomix.figures import catalogue
from evomix.figures.draw import draw
from figures_study import FRAMEWORKS, finished_study
from test_report_browser import CHROMIUM, chromium, console
from workflow_runs import pretend_finished, snakemake

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]
THEIRS = (
    "cdn.tailwindcss.com should not be used",
    '"<div class="document">',
    "The input spec uses Vega-Lite v3",
    "WARN Log scale domain includes zero",
)
"""What Snakemake and the libraries in its page say on the console of any report; nothing else may be said."""
HARNESS = """<!doctype html><meta charset="utf-8"><body style="margin:0"><iframe id="frame" src="report.html"
width="WIDTH" height="900" style="border:0"></iframe><pre id="result"></pre><script>
addEventListener("load", async () => {
  const wait = (time) => new Promise((resolve) => setTimeout(resolve, time));
  const view = frame.contentWindow, page = frame.contentDocument, found = { smallest: 99, entries: {}, menu: {} };
  await wait(2000); // Snakemake draws its page by script
  const menu = () => page.querySelector("#app > div > nav"), content = () => menu().nextElementSibling;
  const look = () => {
    const shown = [...page.querySelectorAll("#app *")].filter((item) => item.getClientRects().length &&
      [...item.childNodes].some((node) => node.nodeType === 3 && node.data.trim()) && !item.closest("svg"));
    found.smallest = Math.min(found.smallest, ...shown.map((item) => parseFloat(view.getComputedStyle(item).fontSize)));
    const [a, b] = [menu(), content()].map((item) => item.getBoundingClientRect());
    found.overlap ||= a.right > b.left + 1 && b.right > a.left + 1 && a.bottom > b.top + 1 && b.bottom > a.top + 1;
    found.narrowest = Math.min(found.narrowest ?? 9999, b.width);
    found.overflow = Math.max(found.overflow ?? 0, page.documentElement.scrollWidth - page.documentElement.clientWidth);
  };
  const click = async (item) => { item.click(); await wait(60); look(); };
  const named = (text) => [...menu().querySelectorAll("li a")].find((item) => item.textContent.trim() === text);
  const home = () => click(menu().querySelector("ol a"));
  const buttons = (row) => menu().querySelectorAll("tbody tr")[row].querySelectorAll("a[type=button]");
  look();
  for (const name of ["Workflow", "Statistics", "About"]) { await home(); await click(named(name)); await wait(300);
    found.menu[name] = content().querySelectorAll("canvas, svg, pre").length + menu().querySelectorAll("li").length; }
  for (const category of Object.keys(view.categories)) {
    await home(); await click(named(category));
    const rows = menu().querySelectorAll("tbody tr").length;
    for (let row = 0; row < rows; row++) {
      const entry = {}, name = menu().querySelectorAll("tbody tr")[row].cells[0].textContent;
      await click(buttons(row)[0]);
      const image = content().querySelector("img");
      await image.decode();
      const box = image.getBoundingClientRect();
      entry.shown = [image.naturalWidth, box.width, box.left, box.right];
      await click(buttons(row)[1]);
      entry.caption = menu().querySelector(".prose").textContent.trim();
      await click([...menu().querySelectorAll("a[type=button]")].at(-1));
      entry.rule = menu().textContent;
      found.entries[`${category}/${name}`] = entry;
      await home(); await click(named(category));
    }
  }
  document.getElementById("result").textContent = JSON.stringify(found);
});
</script></body>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose study is recorded as finished, with a real drawing for every figure, and its report."""
    project = copy_project(tmp_path_factory.mktemp("snakemake_report") / "evomix")
    pretend_finished(project)
    study = finished_study(tmp_path_factory.getbasetemp())
    draw("per_seed", study, project / "drawn", FRAMEWORKS[0])
    for figure in sorted((project / "results/test/figures").glob("*/*.svg")):
        figure.write_bytes((project / "drawn.svg").read_bytes())
    snakemake(project, "all", "--profile", "profiles/local", "--report", "report.html")
    return project


@pytest.mark.parametrize("width", [390, 1280])
def test_every_entry_opens_with_picture_caption_and_rule_on_a_readable_page(folder: Path, width: int) -> None:
    (folder / f"{width}.html").write_text(HARNESS.replace("WIDTH", str(width)), encoding="utf-8")
    result = chromium(folder, "--virtual-time-budget=90000", "--dump-dom", (folder / f"{width}.html").as_uri())
    assert not [line for line in console(result) if not any(known in line for known in THEIRS)]
    match = re.search(r'<pre id="result">(.+?)</pre>', result.stdout, re.DOTALL)
    assert match, "the harness did not finish"
    found: dict[str, Any] = json.loads(html.unescape(match[1]))
    wanted = {
        f"{view}/{entry.name}": entry.caption
        for entry in catalogue.CATALOGUE
        for view in (FRAMEWORKS if entry.per_framework else [catalogue.STUDY])
    }
    captions = {name: entry["caption"].replace("\u2019", "'") for name, entry in found["entries"].items()}
    assert {name: captions.get(name) for name in wanted} == wanted
    for entry in found["entries"].values():
        natural, shown, left, right = entry["shown"]
        assert natural > 0
        assert shown > 200
        assert 0 <= left < right <= width
        assert "draw-figure" in entry["rule"]
    assert all(count >= 1 for count in found["menu"].values())
    assert not found["overlap"], "the menu covers the content"
    assert found["narrowest"] >= min(width, 600) - 20  # of which a scroll bar takes 15
    assert found["overflow"] <= 0, "the page itself scrolls sideways"
    assert found["smallest"] >= 12


def test_report_of_a_study_is_small(folder: Path) -> None:
    assert (folder / "report.html").stat().st_size < 20e6
