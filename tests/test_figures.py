"""Figures: drawn from declared inputs alone, readable, the same bytes twice, and honest about what is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from evomix.artifacts import read_json, read_table, write_json, write_text
from evomix.config import Config, load_config
from evomix.errors import UserError
from evomix.figures import catalogue, style
from evomix.figures.draw import draw
from evomix.figures.lineage import layout
from evomix.figures.search import ancestry
from evomix.figures.tree import Results
from evomix.sections import sections
from figures_study import FRAMEWORKS, SEEDS, VALIDATION_SIZE, final_loss, finished_study, write_run, write_sections

ROOT = Path(__file__).parent.parent
FRAMEWORK = FRAMEWORKS[0]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_study(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def config() -> Config:
    """The config that matches the artificial study."""
    size = {"width": 16, "layers": 4, "heads": 2, "parameters": 13_000}
    return load_config(
        {
            "preset": "test",
            "frameworks": list(FRAMEWORKS),
            "corpus": {"source": "grammar", "vocabulary": 300, "sequence_length": 32},
            "sizes": dict.fromkeys(("tiny", "small", "medium"), size),
            "training": {"steps": 400, "evaluate_every": 40},
            "tuning": {"size": "small", "trials": 8, "steps": 100},
            "evolution": {"arms": ["guided", "random"], "iterations": 20, "sizes": ["tiny", "small", "medium"]},
            "scaling": {"sizes": ["tiny", "small", "medium"], "seeds": list(SEEDS)},
            "validation": {"size": VALIDATION_SIZE, "seeds": list(SEEDS)},
            "gallery": {"size": "small", "steps": 100},
            "probes": {
                "steps": 9,
                "warmup_steps": 1,
                "evaluate_every": 3,
                "tasks": [{"task": "parity", "lengths": [8]}],
            },
        }
    )


def view(name: str) -> str | None:
    return FRAMEWORK if catalogue.find(name).per_framework else None


def outside(figure: Figure) -> list[str]:
    """Return the texts of a figure that are cut off at its border or smaller than 6 points."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    width, height = canvas.get_width_height()
    found = []
    unseen = {
        label
        for axes in figure.findobj(Axes)
        for axis, (low, high) in ((axes.xaxis, sorted(axes.get_xlim())), (axes.yaxis, sorted(axes.get_ylim())))
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        if not low <= tick.get_loc() <= high
        for label in (tick.label1, tick.label2)
    }
    for text in figure.findobj(Text):
        box = text.get_window_extent()
        if text in unseen or not text.get_visible() or not text.get_text().strip() or box.width == 0:
            continue
        inside = box.x0 >= -2 and box.y0 >= -2 and box.x1 <= width + 2 and box.y1 <= height + 2
        if not inside or text.get_fontsize() < 6:
            found.append(text.get_text())
    return found


@pytest.mark.parametrize("name", catalogue.names())
def test_figure_from_its_declared_inputs_alone(
    name: str, study: Path, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A figure needs nothing that the workflow does not know of, and no text in it is cut off or tiny."""
    only = tmp_path / "only"
    for path in catalogue.inputs(name, config, view(name)):
        (only / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(study / path, only / path)
    cut: list[str] = []
    save = style.save

    def checked(figure: Figure, output: Path, data: pd.DataFrame) -> None:
        cut.extend(outside(figure))
        save(figure, output, data)

    monkeypatch.setattr(style, "save", checked)
    draw(name, only, tmp_path / "figure", view(name))
    assert not cut
    svg = (tmp_path / "figure.svg").read_text(encoding="utf-8")
    ElementTree.fromstring(svg)
    assert "axes_1" in svg, "drew a notice instead of data"
    assert "dc:date" not in svg
    assert str(tmp_path) not in svg
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "figure.png").stat().st_size < 400_000
    assert len(pd.read_csv(tmp_path / "figure.csv")) > 0


@pytest.mark.parametrize("name", ["per_seed"])
def test_same_results_give_same_bytes(name: str, study: Path, tmp_path: Path) -> None:
    for stem in ("a", "b"):
        draw(name, study, tmp_path / stem, view(name))
    for suffix in catalogue.SUFFIXES:
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


@pytest.mark.parametrize("name", catalogue.names())
def test_missing_phase_is_said_and_not_drawn_as_empty_axes(name: str, tmp_path: Path) -> None:
    write_sections(tmp_path)
    draw(name, tmp_path, tmp_path / "figure", view(name))
    svg = (tmp_path / "figure.svg").read_text(encoding="utf-8")
    assert "axes_1" not in svg
    assert "text_1" in svg


def test_gains_are_standard_minus_evolved_and_diverged_seeds_read_null(study: Path, tmp_path: Path) -> None:
    shutil.copytree(study, tmp_path / "study")
    write_run(tmp_path / "study", FRAMEWORK, "evolved", VALIDATION_SIZE, SEEDS[1], diverged=True)
    (tmp_path / "study" / "validation" / f"{FRAMEWORK}.json").unlink()
    draw("per_seed", tmp_path / "study", tmp_path / "figure", FRAMEWORK)
    shown = pd.read_csv(tmp_path / "figure.csv").set_index("seed")
    loss = [final_loss(FRAMEWORK, variant, VALIDATION_SIZE, SEEDS[0]) for variant in ("standard", "evolved")]
    assert shown.loc[SEEDS[0], "gain"] == pytest.approx(loss[0] - loss[1], abs=1e-8)
    assert pd.isna(shown.loc[SEEDS[1], "gain"])
    assert shown.loc[SEEDS[1], "status"] == "evolved diverged"
    draw("box_plot", tmp_path / "study", tmp_path / "box", FRAMEWORK)


def test_judged_losses_win_over_reported_ones(study: Path, tmp_path: Path) -> None:
    """Where the validation distrusts a run, the figures do too."""
    shutil.copytree(study / "config", tmp_path / "config")
    record = read_json(study / "validation" / f"{FRAMEWORK}.json", "validation")
    record["per_seed"][0] |= {"evolved": None, "difference": None, "evolved_status": "untrusted"}
    del record["schema"], record["schema_version"]
    write_json(tmp_path / "validation" / f"{FRAMEWORK}.json", "validation", record)
    pairs = Results(tmp_path).pairs(FRAMEWORK).set_index("seed")
    assert pd.isna(pairs.loc[SEEDS[0], "gain"])
    assert pairs.loc[SEEDS[0], "status"] == "evolved untrusted"
    assert Results(tmp_path).gain_interval(FRAMEWORK)[1:] == tuple(record["difference"]["ci"])


def test_runs_of_another_config_are_not_shown(study: Path, tmp_path: Path) -> None:
    shutil.copytree(study, tmp_path / "study")
    for variant in ("standard", "evolved"):
        write_run(tmp_path / "study", FRAMEWORK, variant, VALIDATION_SIZE, 99)
    found = Results(tmp_path / "study")
    assert set(found.pairs(FRAMEWORK)["seed"]) == set(SEEDS)
    assert set(found.scaling_runs(FRAMEWORK)["seed"]) == set(SEEDS)


def test_lineage_gives_every_leaf_its_own_lane_at_two_hundred_candidates(study: Path) -> None:
    history = read_table(study / "evolution" / FRAMEWORK / "guided" / "history.parquet")
    names = [f"c{number}" for number in range(200)]
    frame = pd.DataFrame(
        {"id": names, "parent": ["seed", *(names[number // 3] for number in range(199))], "iteration": range(200)}
    )
    tree = layout(frame)
    leaves = tree[~tree["id"].isin(set(tree["parent"]))]
    assert leaves["lane"].is_unique
    assert set(tree["lane"].diff().dropna()) != {0}
    depth = tree.set_index("id")["depth"]
    assert all(depth[row.id] == depth[row.parent] + 1 for row in tree.itertuples() if row.parent in depth)
    assert ancestry(tree, "c150")[-1] == "c0"
    assert len(layout(history)) == len(history)


def test_catalogue_is_light_and_its_captions_are_the_reports() -> None:
    code = "import sys, evomix.figures.catalogue; print(sorted({'matplotlib', 'pandas', 'numpy'} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
    assert (ROOT / "workflow/report/figure.rst").read_text(encoding="utf-8") == catalogue.captions()
    for entry in catalogue.CATALOGUE:
        assert entry.caption.endswith(".")
        assert (ROOT / f"src/evomix/figures/{entry.name}.py").is_file()


def test_colours_stand_out_on_white() -> None:
    """Every series colour has at least 2.2 : 1 contrast with the paper (WCAG), standard and evolved at least 3 : 1."""

    def contrast(colour: str) -> float:
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in to_rgb(colour)]
        return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)

    for palette in (style.VARIANT_COLOUR, style.ARM_COLOUR, style.FRAMEWORK_COLOUR):
        assert all(contrast(colour) >= 2.2 for colour in palette.values())
    assert all(contrast(colour) >= 3 for colour in style.VARIANT_COLOUR.values())


@pytest.mark.parametrize(
    ("name", "framework", "says"),
    [
        ("per_sed", FRAMEWORK, "there is no figure 'per_sed'; choose one of per_seed"),
        ("per_seed", None, "say which with --framework"),
        ("comparison", FRAMEWORK, "leave out --framework"),
    ],
)
def test_mistakes_cost_one_sentence(name: str, framework: str | None, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says):
        draw(name, tmp_path, tmp_path / "figure", framework)


def test_damaged_artifact_is_named(study: Path, tmp_path: Path) -> None:
    shutil.copytree(study / "training", tmp_path / "training")
    write_sections(tmp_path)
    broken = tmp_path / "training" / FRAMEWORK / "standard" / VALIDATION_SIZE / "seed_42" / "summary.json"
    broken.write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"summary.json is not valid JSON"):
        draw("per_seed", tmp_path, tmp_path / "figure", FRAMEWORK)


def test_a_pair_of_the_config_is_read_named_and_stands_in_its_roles(config: Config, tmp_path: Path) -> None:
    """From the sections that the workflow writes: a member in place of the standard, whose own runs are not shown."""
    validation = config.validation.model_copy(update={"reference": {FRAMEWORK: "ssd"}})
    for name, text in sections(config.model_copy(update={"validation": validation})).items():
        write_text(tmp_path / "config" / f"{name}.json", text)
    for variant in ("standard", "ssd", "evolved"):
        for seed in SEEDS:
            write_run(tmp_path, FRAMEWORK, variant, VALIDATION_SIZE, seed)
    results = Results(tmp_path)
    assert results.frameworks() == list(FRAMEWORKS)
    pairs = results.pairs(FRAMEWORK).set_index("seed")
    assert pairs["standard"].to_dict() == {s: final_loss(FRAMEWORK, "ssd", VALIDATION_SIZE, s) for s in SEEDS}
    assert len(results.curves(FRAMEWORK)["seed"].unique()) == len(SEEDS)
    assert set(results.curves(FRAMEWORK)["variant"]) == {"standard", "evolved"}
    assert results.pair(FRAMEWORKS[1]) == {"standard": "standard", "evolved": "evolved"}
