"""The report: verdicts first, self-contained, hostile text harmless, unfinished studies said to be so."""

from __future__ import annotations

import base64
import difflib
import hashlib
import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomix.artifacts import write_json, write_text
from evomix.errors import UserError
from evomix.figures import catalogue
from evomix.figures.draw import draw
from evomix.figures.tree import Results
from evomix.report.build import build
from evomix.report.diff import difference, from_unified, plain
from evomix.report.formats import interval, sentence, show
from evomix.report.write_table import TABLES, write
from evomix.settings import Validation
from evomix.statistics.registration import registration
from figures_study import (
    FRAMEWORKS,
    HOSTILE,
    SEEDS,
    STANDARD,
    VALIDATION_SIZE,
    finished_study,
    write_analysis,
    write_run,
    write_search,
    write_sections,
    write_trainings,
)

VOID = {"meta", "link", "input", "img", "br"}


class Page(HTMLParser):
    """What the tests ask of a page: tags in order, ids, links, text outside scripts; every tag must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.inside:
            self.inside[self.open[-1]].append(data)
        else:
            self.text.append(data)

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of which two figures of the first framework and one of the study are drawn."""
    root = finished_study(tmp_path_factory.getbasetemp())
    for name, framework in (("per_seed", FRAMEWORKS[0]), ("lineage", FRAMEWORKS[0]), ("comparison", None)):
        draw(name, root, root / catalogue.stem(name, framework), framework)
    return root


@pytest.fixture(scope="module")
def html(study: Path) -> str:
    build(study, study / "report.html")
    return (study / "report.html").read_text(encoding="utf-8")


def test_a_changed_protocol_and_a_departure_from_it_show_in_the_report(study: Path, tmp_path: Path) -> None:
    """What the analysis says of an edited PROTOCOL.md reaches the reader."""
    copy = shutil.copytree(study, tmp_path / "study")
    path = copy / f"validation/{FRAMEWORKS[0]}.json"
    content = json.loads(path.read_text())
    edited = tmp_path / "PROTOCOL.md"
    edited.write_text("Nothing was decided beforehand.\n")
    seeds = Validation(size="1M", seeds=[1, 2])
    for protocol, said in ((registration(seeds), False), (registration(seeds, edited), True)):
        path.write_text(json.dumps(content | {"protocol": protocol}))
        build(copy, copy / "report.html")
        text = " ".join(Page((copy / "report.html").read_text(encoding="utf-8")).text)
        assert ("The protocol has been changed since it was registered." in text) == said
        assert "departs from the registered protocol" in text
        assert "2 seeds, registered 10" in text


def test_verdict_of_every_framework_stands_before_any_figure(html: str, study: Path) -> None:
    start = html.index("<img")
    for framework in FRAMEWORKS:
        record = Results(study).json(f"validation/{framework}.json")
        assert record is not None
        found = html.find(sentence(record["verdict"]["sentence"]))
        assert 0 < found < start
        assert f'class="verdict {record["verdict"]["word"]}"' in html[:start]


def test_page_is_self_contained_deterministic_and_small(html: str, study: Path, tmp_path: Path) -> None:
    assert not re.search(r"https?://|url\(|@import|<iframe|<object", html)
    assert str(study) not in html
    assert str(Path.cwd()) not in html
    assert len(html.encode()) < 10e6
    for tag in ("img", "a", "link"):
        for attributes in Page(html).every(tag):
            target = attributes.get("src") or attributes.get("href")
            assert target is None or target.startswith(("data:", "#"))
    build(study, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == html


def test_hostile_text_is_shown_and_cannot_run(html: str) -> None:
    page = Page(html)
    assert len(page.every("script")) == 1
    assert HOSTILE in page.words
    assert HOSTILE not in html
    policy = next(item["content"] for item in page.every("meta") if item.get("http-equiv")) or ""
    assert "default-src 'none'" in policy
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256("".join(page.inside[kind]).encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_every_edit_stands_with_its_worth_and_its_code(html: str) -> None:
    words = Page(html).words
    assert words.count("What its edits are worth") == len(FRAMEWORKS)
    assert words.count("3: adds by_level") == len(FRAMEWORKS), "the ablation is told more than once"
    assert "3: adds by_level taken back: exactly 0" in words
    assert re.search(r"2: changes queries taken back: −\.?0\.\d+, 95 % CI \[.+?\], Holm p [<.0-9 ]+, n = 4 ", words)
    assert "4: changes estimator taken back: not separable: it needs a penalty" in words
    assert "alert('x')" in words


def test_a_unified_difference_keeps_its_numbers() -> None:
    old, new = ["a", "b", "c", "d", "e", "f", "g"], ["a", "b", "B", "c", "d", "e", "g"]
    text = "\n".join(list(difflib.unified_diff(old, new, n=1, lineterm=""))[2:])
    lines = [(line.kind, line.old, line.new, str(line.code)) for line in from_unified(text)]
    assert ("added", None, 3, "B") in lines
    assert ("removed", 6, None, "f") in lines
    assert lines[-1] == ("same", 7, 7, "g")


def test_links_ids_headings_and_alternative_texts(html: str) -> None:
    page = Page(html)
    ids = [str(attributes["id"]) for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [str(item["href"]) for item in page.every("a") if str(item.get("href")).startswith("#")]
    assert targets
    assert {target[1:] for target in targets} <= set(ids)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert len(page.every("img")) == 3
    assert all(item.get("alt") and item.get("width") for item in page.every("img"))
    assert all(item.get("scope") == "col" for item in page.every("th"))


def test_unfinished_study_names_what_is_missing(tmp_path: Path) -> None:
    write_sections(tmp_path)
    write_trainings(tmp_path, FRAMEWORKS[0])
    build(tmp_path, tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.words.count("no verdict yet") >= 3
    assert "8 of 8 runs of the paired comparison have ended" in page.words
    assert "0 of 8 runs of the paired comparison have ended" in page.words
    assert "the evolved mechanism, the scaling law, the paired validation" in page.words
    assert not page.every("img")


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        ("tuning", "tuning"),
        ("scaling", "the scaling law"),
        ("validation", "the paired validation"),
        ("comparison", "the comparison across frameworks"),
        ("ablation", "the ablation"),
        ("probes", "the probes"),
        ("mechanisms", "the evolved mechanism"),
        ("evolution", "figures"),
        ("training", "figures"),
    ],
)
def test_a_phase_that_is_gone_is_named_and_breaks_nothing(gone: str, named: str, study: Path, tmp_path: Path) -> None:
    """Delete the artifacts of one phase, figures with them: the report and every table still stand."""
    shutil.copytree(study, tmp_path / "study", ignore=shutil.ignore_patterns(gone, "figures"))
    build(tmp_path / "study", tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert named in page.words
    assert not page.every("img")
    for name in TABLES:
        write(name, tmp_path / "study", tmp_path / "tables" / name)


def test_null_results_read_null_and_diverged_seeds_are_named(tmp_path: Path) -> None:
    write_sections(tmp_path)
    for framework in FRAMEWORKS:
        write_trainings(tmp_path, framework)
    write_run(tmp_path, FRAMEWORKS[0], "evolved", VALIDATION_SIZE, SEEDS[1], diverged=True)
    write_analysis(tmp_path)
    build(tmp_path, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.search(rf'<td data-key="{SEEDS[1]}" class="number">{SEEDS[1]}</td>.*?class="null number">null</td>', html)
    assert "nan" not in Page(html).words.lower().split()


def test_search_that_froze_nothing_is_said(study: Path, tmp_path: Path) -> None:
    shutil.copytree(study, tmp_path / "study", ignore=shutil.ignore_patterns("figures"))
    write_text(tmp_path / "study" / "mechanisms" / FRAMEWORKS[1] / "evolved.py", STANDARD)
    build(tmp_path / "study", tmp_path / "report.html")
    words = Page((tmp_path / "report.html").read_text(encoding="utf-8")).words
    assert "The frozen evolved file equals the standard" in words


@pytest.mark.parametrize("name", TABLES)
def test_every_table_is_csv_and_html(name: str, study: Path, tmp_path: Path) -> None:
    write(name, study, tmp_path / "table")
    rows = pd.read_csv(tmp_path / "table.csv")
    assert len(rows) > 0
    page = Page((tmp_path / "table.html").read_text(encoding="utf-8"))
    assert len(page.every("tr")) == len(rows) + 1


def test_cost_table_compares_with_the_standard_of_the_same_size(study: Path, tmp_path: Path) -> None:
    write("costs", study, tmp_path / "table")
    rows = pd.read_csv(tmp_path / "table.csv")
    assert (rows.loc[rows["variant"] == "standard", "ratio"] == 1).all()
    assert rows.loc[rows["variant"] == "evolved", "ratio"].to_numpy() == pytest.approx(1.08)
    assert rows["memory"].to_numpy() == pytest.approx(3e8 / 2**20)
    assert rows["milliseconds"].to_numpy() == pytest.approx(50)


def test_operations_say_what_torchs_counter_misses(study: Path, tmp_path: Path) -> None:
    write("operations", study, tmp_path / "table")
    rows = pd.read_csv(tmp_path / "table.csv")
    assert rows["share"].to_numpy() == pytest.approx(1 / 7)
    assert set(rows["blind"]) == {"cumsum 10.0%, softmax 4.3%"}


def test_cost_of_the_study_by_hand(tmp_path: Path) -> None:
    """Two runs of a stack share its 7200 s; a GPU hour is 0.84 kWh and $3, $0.31 per arm went to a language model."""
    write_sections(tmp_path, FRAMEWORKS[:1])
    for seed, runs, device in ((1, 2, "cuda"), (2, 2, "cuda"), (3, 1, "cpu")):
        timing = {"seconds": 7200.0, "runs": runs, "device": device}
        write_json(tmp_path / "training" / FRAMEWORKS[0] / f"seed_{seed}" / "timing.json", "timing", timing)
    write_search(tmp_path, FRAMEWORKS[0], "guided")
    write("study_costs", tmp_path, tmp_path / "table")
    rows = pd.read_csv(tmp_path / "table.csv").set_index("device")
    assert rows.loc["cuda", ["runs", "hours", "energy", "dollars"]].to_list() == pytest.approx([2, 2, 1.68, 6])
    assert rows.loc["cpu", ["runs", "hours", "energy", "dollars"]].to_list() == pytest.approx([1, 2, 0.0288, 0.1])
    assert rows.loc["endpoint", ["runs", "dollars"]].to_list() == pytest.approx([20, 0.31])
    assert rows["dollars"].iloc[-1] == pytest.approx(6.41)
    assert "700 W and $3 an hour per GPU" in (tmp_path / "table.html").read_text(encoding="utf-8")


LINES = st.lists(st.sampled_from(["a = 1", "b = 2", '"""x', 'y"""', "# <b>", "", "    return z"]), max_size=12)


@settings(max_examples=60, deadline=None)
@given(LINES, LINES)
def test_difference_holds_both_files_around_its_changes(old_lines: list[str], new_lines: list[str]) -> None:
    old, new = "\n".join(old_lines), "\n".join(new_lines)
    rows = difference(old, new)
    assert bool(rows) == (plain(old) != plain(new))
    for kinds, number, text in ((("same", "added"), "new", plain(new)), (("same", "removed"), "old", plain(old))):
        for row in rows:
            if row.kind in kinds:
                place = getattr(row, number)
                assert row.code.striptags() == " ".join(text.split("\n")[place - 1].split())


def test_difference_spells_out_invisible_and_direction_changing_characters() -> None:
    rows = difference("x = 1\n", "x = 1 # \u202e}\u200b\x1b[2J\r\n")
    assert "⟨U+202E⟩" in rows[-1].code
    assert "⟨U+200B⟩" in rows[-1].code
    assert "⟨U+001B⟩" in rows[-1].code


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (None, "loss", "null"),
        (float("nan"), "gain", "null"),
        (-0.00123, "gain", "−0.0012"),
        (1_187_000, "count", "1,187,000"),
        (0.04321, "p", ".0432"),
        (3e-9, "p", "< .0001"),
        (0.0123, "percent", "+1.23%"),
    ],
)
def test_numbers_as_readers_see_them(value: float | None, form: str, text: str) -> None:
    assert show(value, form) == text


def test_intervals_and_sentences() -> None:
    assert interval([-0.1, 0.2]) == "[−0.1000, +0.2000]"
    assert interval([None, 0.2]) == "null"
    assert sentence("evolved is worse: -0.1 nats, non-embedding") == "Evolved is worse: −0.1 nats, non-embedding."


def test_mistakes_cost_one_sentence(tmp_path: Path, study: Path) -> None:
    with pytest.raises(UserError, match="is not a folder; give the results folder"):
        build(tmp_path / "nowhere", tmp_path / "report.html")
    with pytest.raises(UserError, match="holds no study"):
        build(tmp_path, tmp_path / "report.html")
    with pytest.raises(UserError, match="there is no table 'cost'; choose one of verdicts"):
        write("cost", study, tmp_path / "table")
