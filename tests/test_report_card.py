"""The card of an evolved variant: declared, measured, ablated, failing; hostile text stays text; gaps are named."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from evomix.artifacts import read_json, write_json, write_text
from evomix.errors import UserError
from evomix.figures.tree import Results
from evomix.mechanisms import library
from evomix.report.anatomy import EQUATIONS, changed_parts, choices_side_by_side, dissect
from evomix.report.build import build
from evomix.report.card import make_card, write_card
from evomix.report.render import escape_markdown, fenced, inline_code
from figures_study import FRAMEWORKS, SEEDS, VALIDATION_SIZE, finished_study, write_run, write_sections

FRAMEWORK = FRAMEWORKS[2]  # its evolved variant is worse
HOSTILE = "``` <script>alert(1)</script> | [x](javascript:y) `"
MECHANISM = f'''"""File."""

# EVOLVE-BLOCK-START
def helper(x):
    return x


class Mechanism(MatrixMixer):
    """Decays {HOSTILE}."""

    declaration = Declaration(structure="dense", rank=4)

    def matrix(self, q, k):
        return helper(q @ k)  # {HOSTILE}

    def flops(self, tokens):
        return 1


# EVOLVE-BLOCK-END
def reference(mechanism, x, v):
    return v
'''
EDIT = {"diff": "", "lines": 1, "added": None, "reason": None}
TRAINED = {"status": "trained", "reason": None}
EFFECT = {"p": 0.01, "n": 4, "lost": 0, "holm_p": 0.02}


def write_ablation(root: Path) -> None:
    """Write an ablation of three edits: one that harms, one worth exactly nothing, one that could not stand alone."""
    zero = EFFECT | {"mean": 0.0, "low": 0.0, "high": 0.0}
    harm = EFFECT | {"mean": -0.02, "low": -0.03, "high": -0.01}
    edits = [
        EDIT | {"index": 1, "title": f"gate {HOSTILE}", "status": "trained", "reverted": TRAINED | {"effect": harm}},
        EDIT | {"index": 2, "title": "name", "status": "same_program", "reverted": TRAINED | {"effect": zero}},
        EDIT
        | {
            "index": 3,
            "title": "mask",
            "status": "refused",
            "reverted": {"effect": None, "status": "refused", "reason": "changes the past"},
        },
    ]
    write_json(root / f"ablation/{FRAMEWORK}.json", "ablation", {"edits": edits, "summary": "3 edits; 1 not measured"})


def edit_probes(root: Path) -> None:
    """Make evolved worse at one probe beyond chance, at another within it, and let it read longer rows worse."""
    record = read_json(root / f"probes/{FRAMEWORK}.json", "probes")
    for name, mean, p in (("mqar-4", -0.2, 0.01), ("parity@32", -0.3, 0.6)):
        record["tasks"][name]["difference"] |= {"mean": mean, "p_holm": p}
        record["tasks"][name]["sentence"] = f"{name}: evolved worse"
    for variant, loss in (("standard", 3.1), ("evolved", 3.4)):
        record["length"]["variants"][variant]["lengths"]["64"] |= {"mean": loss, "low": loss - 0.1, "high": loss + 0.1}
    del record["schema"], record["schema_version"]
    write_json(root / f"probes/{FRAMEWORK}.json", "probes", record)


@pytest.fixture
def study(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A finished study with ablation and probes whose evolved mechanism of one framework is hostile text."""
    root = tmp_path / "study"
    shutil.copytree(finished_study(tmp_path_factory.getbasetemp()), root)
    write_text(root / "mechanisms" / FRAMEWORK / "evolved.py", MECHANISM)
    write_ablation(root)
    edit_probes(root)
    return root


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def test_card_says_what_every_phase_measured(study: Path) -> None:
    write_card(study, FRAMEWORK, study / "card.md")
    text = (study / "card.md").read_text(encoding="utf-8")
    record = read_json(study / f"validation/{FRAMEWORK}.json", "validation")
    assert escape_markdown(record["verdict"]["word"].capitalize()) in text.split("##")[0]
    budget = record["provenance"]["tuning_budget"]
    assert f"policy joint, {budget['trials']} trials of {budget['steps']} steps each" in text.split("##")[0]
    what = section(text, "What it is")
    assert EQUATIONS[FRAMEWORK] in what
    assert "| structure | `default` | `'dense'` |" in what
    assert "- parts added: `matrix`, `helper`" in what
    assert "flops" not in what.split("- parts")[1]
    worth = section(text, "What its edits are worth")
    assert "taken back: −0.0200, 95 % CI" in worth
    assert "taken back: exactly 0" in worth
    assert "taken back: changes the past" in worth
    fails = section(text, "Where it fails")
    worse = [row for row in record["per_seed"] if row["difference"] < 0]
    assert f"on {len(worse)} of {len(SEEDS)} seeds" in fails
    assert "no better mean loss at 3 of 3 sizes" in fails.lower()
    assert "does harm: −0.0200" in fails
    assert "mqar-4: evolved worse" in fails.lower().replace("\\", "")
    assert "parity" not in fails
    assert "at 64 tokens, trained on 32, its loss is 3.4000 against 3.1000" in fails.lower()
    assert "1.080×" in section(text, "What it costs")
    assert "with trained weights" not in section(text, "Certificate")
    assert "Not done yet: its certificate with trained weights." in text


def test_hostile_text_is_no_markup_in_markdown_or_html(study: Path) -> None:
    write_card(study, FRAMEWORK, study / "card.md")
    text = (study / "card.md").read_text(encoding="utf-8")
    code = section(text, "Code, standard → evolved").strip().split("\n")
    assert code[0] == "````diff"
    assert code[-1] == "````"
    assert "````" not in "\n".join(code[1:-1])
    prose = text.split("## Code")[0]
    assert "<script" not in prose
    assert not re.search(r"(?<!\\)\]\(", prose)
    rows = [line for line in prose.split("\n") if line.startswith("| 1 |")]
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 4
    build(study, study / "report.html")
    page = (study / "report.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 3


def test_phases_not_done_are_named_and_nothing_is_guessed(tmp_path: Path) -> None:
    write_sections(tmp_path)
    assert make_card(Results(tmp_path), FRAMEWORK) is None
    with pytest.raises(UserError, match="no evolved mechanism of matrix mixer yet"):
        write_card(tmp_path, FRAMEWORK, tmp_path / "card.md")
    write_text(tmp_path / "mechanisms" / FRAMEWORK / "evolved.py", MECHANISM)
    write_card(tmp_path, FRAMEWORK, tmp_path / "card.md")
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    for phase in ("the paired validation", "the scaling law", "its tuning", "the ablation", "the probes"):
        assert phase in text.split("##")[0]
    assert "No ablation yet." in text
    assert "Not trained yet at the size" in text
    assert "None yet." in section(text, "Certificate")


def test_a_null_search_is_said_and_diverged_seeds_are_a_failure(study: Path) -> None:
    shutil.copy(study / f"mechanisms/{FRAMEWORK}/standard.py", study / f"mechanisms/{FRAMEWORK}/evolved.py")
    path = study / f"validation/{FRAMEWORK}.json"
    record = read_json(path, "validation")
    record["diverged"]["evolved"] = [SEEDS[0]]
    record["per_seed"][0] |= {"evolved": None, "difference": None}
    write_json(path, "validation", {key: record[key] for key in record if not key.startswith("schema")})
    write_run(study, FRAMEWORK, "evolved", VALIDATION_SIZE, SEEDS[0], diverged=True)
    card = make_card(Results(study), FRAMEWORK)
    assert card is not None
    assert card.same
    assert not card.difference
    assert f"Diverged on seed {SEEDS[0]}." in card.failures


def test_anatomy_of_the_gallery_and_of_text_that_is_no_mechanism() -> None:
    for framework in FRAMEWORKS:
        members = library.gallery(framework)
        softmax = dissect(members["softmax"].read_text(encoding="utf-8"))
        assert softmax.words
        assert softmax.choices
        assert "reference" not in softmax.parts
        assert "flops" not in softmax.parts
        for path in members.values():
            other = dissect(path.read_text(encoding="utf-8"))
            assert {name for name, _, _ in choices_side_by_side(softmax, other)} >= set(other.choices)
    for text in ("", "x = (", "\0", "class A: pass"):
        assert not dissect(text).choices
    old, new = dissect("class M:\n def a(s): return 1\n def b(s): return 2"), dissect("class M:\n def a(s): return 3")
    assert changed_parts(old, new) == {"changed": ["a"], "added": [], "left out": ["b"]}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_equation_is_the_contracts(framework: str) -> None:
    contract = Path(str(library.__file__)).parent / framework / "contract.py"
    stated = contract.read_text(encoding="utf-8").replace("{i−1", "{i-1")
    assert all(" ".join(part.split()) in " ".join(stated.split()) for part in EQUATIONS[framework].split(",   "))


def test_escapes() -> None:
    assert escape_markdown("a|b <i> *c*\nd") == r"a\|b &lt;i&gt; \*c\* d"
    assert inline_code("a`b") == "`` a`b ``"
    assert fenced("```x").startswith("````diff\n")
