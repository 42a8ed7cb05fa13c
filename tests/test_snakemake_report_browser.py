"""Snakemake's own report in headless Chromium: categories, captions, every figure decodes, no error on the console."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

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
HARNESS = """<!doctype html><meta charset="utf-8"><body><iframe id="frame" src="report.html" width="WIDTH" height="900">
</iframe><div id="pictures">IMAGES</div><pre id="result"></pre><script>
addEventListener("load", async () => {
  const images = [...document.querySelectorAll("#pictures img")], found = {};
  await Promise.allSettled(images.map((image) => image.decode()));
  found.images = images.map((image) => image.naturalWidth);
  await new Promise((resolve) => setTimeout(resolve, 4000)); // Snakemake draws its page by script
  const view = frame.contentWindow, page = frame.contentDocument;
  const shown = [...page.querySelectorAll("body *")].filter((item) => item.getClientRects().length &&
    [...item.childNodes].some((node) => node.nodeType === 3 && node.data.trim()) && !item.closest("svg, script"));
  found.text = page.body.innerText;
  found.smallest = Math.min(...shown.map((item) => parseFloat(view.getComputedStyle(item).fontSize)));
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
    snakemake(project, "all", "--report", "report.html")
    return project


def test_every_figure_stands_in_its_category_with_its_caption(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert len(text.encode()) < 20e6
    for entry in catalogue.CATALOGUE:
        for view in FRAMEWORKS if entry.per_framework else [catalogue.STUDY]:
            place = text.index(f'"results/test/figures/{view}/{entry.name}.svg": {{')
            assert entry.caption in html.unescape(text[place : place + 1_000]).replace("\\u2019", "'")
    for view in (*FRAMEWORKS, catalogue.STUDY):
        assert f'"{view}"' in text


@pytest.mark.parametrize("width", [390, 1280])
def test_snakemakes_report_works_in_a_browser(folder: Path, width: int) -> None:
    uris = re.findall(r'"data_uri": "(data:image/svg[^"]+)"', (folder / "report.html").read_text(encoding="utf-8"))
    pictures = "".join(f'<img src="{uri}">' for uri in uris)
    harness = HARNESS.replace("WIDTH", str(width)).replace("IMAGES", pictures)
    (folder / f"{width}.html").write_text(harness, encoding="utf-8")
    result = chromium(folder, "--virtual-time-budget=20000", "--dump-dom", (folder / f"{width}.html").as_uri())
    # Snakemake brings Tailwind with it, which recommends a build step; nothing else may be said.
    assert not [line for line in console(result) if "cdn.tailwindcss.com should not be used" not in line]
    match = re.search(r'<pre id="result">(.+?)</pre>', result.stdout, re.DOTALL)
    assert match, "the harness did not finish"
    found = json.loads(html.unescape(match[1]))
    assert len(found["images"]) >= len(FRAMEWORKS) * sum(entry.per_framework for entry in catalogue.CATALOGUE)
    assert all(found["images"])
    for view in (*FRAMEWORKS, catalogue.STUDY):
        assert view in found["text"]
    assert found["smallest"] >= 12
