"""Ablations for tests: an artificial one in the real schema, and candidates made by random edits of a standard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evomix.ablation.effects import measure
from evomix.ablation.section import AblationSection
from evomix.ablation.split import split
from evomix.artifacts import read_json, write_json
from evomix.evolution.grammar.editor import Program
from evomix.evolution.grammar.edits import drawer
from evomix.evolution.proposers.grammar import Grammar
from evomix.evolution.scaffold import scaffold
from evomix.mechanisms import library
from evomix.settings import Framework, Tuning
from evomix.streams import numpy_stream

BUDGET = Tuning(size="tiny", trials=4, steps=2).budget

TITLES = {
    "adds initialise, self.step, self.log_rate; changes return in generators, logits in matrix": 0.006,
    "changes queries": -0.002,
    "adds by_level": 0.0,
    "changes estimator": None,
}
"""Title: effect in nats per token; None for an edit that the gate refuses to take back."""


DIFF = """@@ -14,3 +14,3 @@
     def keys(self, x_BTD):
-        return self.key(x_BTD)
+        return self.key(x_BTD)  # </script><script>alert('x')</script>
@@ -20 +20,2 @@
         return weight
+        pass"""


def write_ablation(root: Path, framework: str, size: str, seeds: tuple[int, ...], losses: dict[int, float]) -> None:
    """Write ablation/{framework}.json with the real statistics; `losses` are those of the evolved runs by seed."""
    folder, edits, runs = root / "ablation" / framework, [], []
    for index, (title, effect) in enumerate(TITLES.items(), 1):
        status, reason = ("refused", "not separable: it needs a penalty") if effect is None else ("separate", None)
        reverted = {"variant": f"without_{index}", "status": status, "reason": reason}
        edits.append({"index": index, "title": title, "diff": DIFF, "lines": 2, "reverted": reverted, "added": None})
        for seed in seeds if effect is not None else ():
            noise = numpy_stream(seed, framework, title).normal(0, 0.001) if effect else 0.0
            run = {"variant": f"without_{index}", "seed": seed, "status": "finished", "reason": None}
            runs.append(run | {"loss": losses[seed] + (effect or 0.0) + noise})
    pair = {"standard": "standard", "evolved": "evolved"}
    content = {"framework": framework, "pair": pair, "claims_differ": False, "edits": edits}
    write_json(folder / "edits.json", "edits", content)
    write_json(folder / "worker_0.json", "ablation_worker", {"worker": 0, "runs": runs})
    section = AblationSection(size=size, seeds=list(seeds), policy="joint", preset="test", budget=BUDGET)
    summaries = sorted((root / "training" / framework).glob(f"*/{size}/*/summary.json"))
    measure(folder / "edits.json", [folder / "worker_0.json"], summaries, section, folder.with_suffix(".json"))


def standard(framework: Framework) -> str:
    """Return the source of a framework's standard."""
    return library.standard(framework).read_text(encoding="utf-8")


def edited(framework: Framework, seed: int, edits: int) -> str:
    """Return a candidate: the standard after some random edits."""
    program, kinds = Program(scaffold(standard(framework), framework)), Grammar(framework)._edits
    stream = numpy_stream(seed, "edited", framework)
    for _ in range(edits):
        kinds[int(stream.integers(len(kinds)))].apply(program, drawer(stream))
    return scaffold(program.source(), framework)


MIXER: Framework = "matrix_mixer"
MANY = 99


def change(source: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


QUERY = "query = self.split_heads(self.query(x_BTD)) / math.sqrt(self.head_width)"
KEY = "key = self.split_heads(self.key(x_BTD))"
INERT = (KEY, f"{KEY}\n        unused = key.exp()")
LOUD = ("return torch.softmax(logits, -1)", "return 40.0 * torch.softmax(logits, -1)")
SHARP = (QUERY, f"{QUERY}\n        query = query * 1.5")


def split_files(folder: Path, reference: str, candidate: str, **options: Any) -> dict[str, Any]:
    for name, source in (("standard", reference), ("evolved", candidate)):
        (folder / f"{name}.py").write_text(source)
    rules = {"most": MANY, "add_alone": True, "gate": lambda path: {"accepted": True, "checks": []}} | options
    split(folder / "standard.py", folder / "evolved.py", MIXER, folder / "variants", folder / "edits.json", **rules)
    return read_json(folder / "edits.json", "edits")
