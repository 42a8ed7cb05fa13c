"""The A/A studies: the standard against byte-copies of itself, counted. Phase `aa`, writes aa.json.

Whatever these comparisons claim is false, so their share of claims is the false-positive rate of the whole protocol on
real trainings, tuning included; the calibration says the same of simulated ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evomix.artifacts import read_json, write_json
from evomix.provenance import provenance
from evomix.statistics.error_rates import Promise, rate

CLAIMS = ("better", "worse")
WORDS = (*CLAIMS, "equivalent", "inconclusive")


def _comparison(study: str, content: dict[str, Any]) -> dict[str, Any]:
    """Return what one comparison of an A/A study found."""
    primary, difference = content["primary"], content["difference"]
    return {
        "study": study,
        "framework": content["framework"],
        "variants": content["variants"],
        "verdict": content["verdict"],
        "identical": all(row["difference"] == 0 for row in content["per_seed"]),
        "p": primary["p"],
        "holm_p": primary["holm_p"],
        "seeds_only_p": content["seeds_only"]["p"],
        "mean": difference["mean"],
        "ci": difference["ci"],
        "margin": content["equivalence"]["margin"],
        "tuning_error": primary["tuning_error"],
    }


def _sentence(words: Counter[str], found: int) -> str:
    said = ", ".join(f"{words[word]} {word}" for word in WORDS if words[word])
    ends = "none claims a difference" if not found else f"{found} of them claim a difference that does not exist"
    return f"the standard against its own copy, {words.total()} comparisons: {said}; {ends}"


def summarise(validations: Sequence[Path], output: Path, **labels: Any) -> None:
    """Write `output` (schema "aa") from the validations of all A/A studies, `…/study_{number}/validation/{…}.json`.

    `false_claims` counts verdicts better or worse in the family of a study; `false_rejections` single tests before
    Holm; `seeds_only` the same by a paired t that knows nothing of the tuning. `labels` are those of `provenance`.
    """
    contents = [(path.parents[1].name, read_json(path, "validation")) for path in validations]
    rows = [_comparison(study, content) for study, content in contents]
    alpha = contents[0][1]["alpha"]
    words = Counter(row["verdict"]["word"] for row in rows)
    studies = list(dict.fromkeys(row["study"] for row in rows))
    claimed = {row["study"] for row in rows if row["verdict"]["word"] in CLAIMS}
    single = Promise(f"at most {alpha:g}", high=alpha)
    write_json(output, "aa", {
        "alpha": alpha,
        "comparisons": rows,
        "words": {word: words[word] for word in WORDS},
        "never_better": words["better"] == 0,
        "false_claims": rate("any claim of a study, after Holm", [study in claimed for study in studies], single),
        "false_rejections": rate("confirmatory p below α", [_below(row["p"], alpha) for row in rows], single),
        "seeds_only": rate("paired t, tuning ignored", [_below(row["seeds_only_p"], alpha) for row in rows], None),
        "sentence": _sentence(words, sum(words[word] for word in CLAIMS)),
        "protocol": contents[0][1]["protocol"]["digest"],
        "provenance": provenance("evomix.statistics.aa", **labels),
    })  # fmt: skip


def _below(p: float | None, alpha: float) -> bool:
    return p is not None and p < alpha
