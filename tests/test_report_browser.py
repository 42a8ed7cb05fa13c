"""The report in headless Chromium, on a phone and on a desk: it decodes, fits, sorts, searches and logs no error.

A harness page holds the report in a frame and writes what it measures into its own body, which Chromium dumps.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evomix.figures import catalogue
from evomix.figures.draw import draw
from evomix.report.build import build
from figures_study import FRAMEWORKS, write_study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]

HARNESS = """<!doctype html><meta charset="utf-8"><body><iframe id="frame" src="report.html" width="WIDTH" height="900"
style="border:0"></iframe><pre id="result"></pre><script>
const frame = document.getElementById("frame");
frame.addEventListener("load", async () => {
  const page = frame.contentDocument, view = frame.contentWindow, found = {};
  const images = [...page.images];
  await Promise.allSettled(images.map((image) => image.decode()));
  found.images = images.map((image) => image.naturalWidth);
  found.overflow = page.documentElement.scrollWidth - page.documentElement.clientWidth;
  const texts = [...page.querySelectorAll("main *")].filter((item) =>
    [...item.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
  found.smallest = Math.min(...texts.map((item) => parseFloat(view.getComputedStyle(item).fontSize)));
  found.broken = [...page.querySelectorAll('a[href^="#"]')].map((item) => item.hash.slice(1))
    .filter((id) => !page.getElementById(id));
  const relative = (colour) => {
    const linear = (x) => x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4;
    const [r, g, b] = colour.match(/[\\d.]+/g).map((x) => linear(x / 255));
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const paper = (item) => {
    for (; item; item = item.parentElement) {
      const colour = view.getComputedStyle(item).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
  };
  const contrast = () => Math.min(...texts.filter((item) => item.getClientRects().length).map((item) => {
    const pair = [relative(view.getComputedStyle(item).color), relative(paper(item))].sort((a, b) => b - a);
    return (pair[0] + .05) / (pair[1] + .05);
  }));
  const button = page.getElementById("theme");
  found.contrast = {};
  for (let turn = 0; turn < 3; turn++) { button.click(); found.contrast[button.textContent] = contrast(); }

  const table = page.querySelector("#tables table[data-sortable]");
  const column = () => [...table.tBodies[0].rows].map((row) => row.cells[2].dataset.key);
  const head = table.tHead.rows[0].cells[2];
  head.querySelector("button").click();
  found.rising = column(); found.sort = head.getAttribute("aria-sort");
  head.querySelector("button").click();
  found.falling = column();

  const search = page.getElementById("search");
  search.value = "matrix mixer causality"; search.dispatchEvent(new view.Event("input"));
  const visible = [...page.querySelectorAll("section.table tbody tr")].filter((row) => row.getClientRects().length);
  found.searched = visible.map((row) => row.textContent.includes("causality"));
  found.inside = [...new Set(visible.map((row) => row.closest("section.framework")?.id ?? ""))];
  found.said = page.getElementById("found").textContent;
  search.value = ""; search.dispatchEvent(new view.Event("input"));

  const focusable = [...page.querySelectorAll("a[href], button, input, summary, [tabindex='0']")];
  page.querySelectorAll("details").forEach((item) => { item.open = true; });
  const reached = (item) => { item.focus(); return page.activeElement === item; };
  found.unfocusable = focusable.filter((item) => item.getClientRects().length && !reached(item))
    .map((item) => item.outerHTML.slice(0, 80));
  found.links = [...page.querySelectorAll("a[data-image]")].every((item) => item.href.startsWith("data:image/svg+xml"));
  document.getElementById("result").textContent = JSON.stringify(found);
});
</script></body>"""


def chromium(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run headless Chromium without network features on a fresh profile."""
    assert CHROMIUM is not None
    quiet = ("--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", *quiet]
    command += ["--enable-logging=stderr", "--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=240, check=True)


def console(result: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in result.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the report of a whole artificial study, every figure of two frameworks drawn."""
    root = tmp_path_factory.mktemp("browser")
    write_study(root)
    for entry in catalogue.CATALOGUE:
        for framework in FRAMEWORKS[:2] if entry.per_framework else [None]:
            draw(entry.name, root, root / catalogue.stem(entry.name, framework), framework)
    build(root, root / "report.html")
    return root


@pytest.mark.parametrize("width", [390, 1280])
def test_report_works_in_a_browser(folder: Path, width: int) -> None:
    (folder / f"{width}.html").write_text(HARNESS.replace("WIDTH", str(width)), encoding="utf-8")
    result = chromium(folder, "--virtual-time-budget=20000", "--dump-dom", (folder / f"{width}.html").as_uri())
    assert not console(result)
    match = re.search(r'<pre id="result">(.+?)</pre>', result.stdout, re.DOTALL)
    assert match, "the harness did not finish"
    found: dict[str, Any] = json.loads(html.unescape(match[1]))
    each = sum(entry.per_framework for entry in catalogue.CATALOGUE)
    assert len(found["images"]) == 2 * each + len(catalogue.CATALOGUE) - each
    assert all(found["images"])
    assert found["overflow"] <= 0, "the page itself scrolls sideways"
    assert found["smallest"] >= 12
    assert not found["broken"]
    assert len(found["contrast"]) == 3
    assert min(found["contrast"].values()) >= 4.5, found["contrast"]
    assert found["sort"] == "ascending"
    assert [float(key) for key in found["rising"]] == sorted(map(float, found["falling"]))
    assert found["falling"] == found["rising"][::-1] != found["rising"]
    assert found["searched"]
    assert all(found["searched"])
    assert found["inside"] == ["matrix_mixer"]
    assert found["said"] == f"{len(found['searched'])} matching rows"
    assert not found["unfocusable"]
    assert found["links"]


@pytest.mark.parametrize(("theme", "dark"), [("light", False), ("dark", True)])
def test_screenshot_has_the_theme_and_no_console_message(folder: Path, theme: str, dark: bool) -> None:
    picture = folder / f"{theme}.png"
    url = f"{(folder / 'report.html').as_uri()}#{theme}"
    assert not console(chromium(folder, f"--screenshot={picture}", "--window-size=1280,2400", url))
    with Image.open(picture) as image:
        colours = image.convert("L").getcolors(1 << 24)
        assert colours is not None
        count, most = max(colours)
    assert (most < 60) if dark else (most > 240)
    assert count < 0.97 * 1280 * 2400


def test_report_prints_to_a_document(folder: Path) -> None:
    result = chromium(folder, f"--print-to-pdf={folder / 'report.pdf'}", (folder / "report.html").as_uri())
    assert not console(result)
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF")
