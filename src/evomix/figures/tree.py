"""Reading a results folder for figures and the report: what is there is returned, what is missing is None.

A partial study is normal: nobody waits for the last seed before looking. Damaged files still raise UserError.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from evomix.artifacts import parse_json, read_table, read_text
from evomix.errors import UserError
from evomix.figures.catalogue import VARIANTS
from evomix.figures.intervals import mean_interval
from evomix.settings import Framework

FRAMEWORKS: tuple[str, ...] = get_args(Framework)
RUN_COLUMNS = ("framework", "variant", "size", "seed", "status", "loss", "bits_per_byte", "parameters")


@dataclass(frozen=True)
class Results:
    """The results folder of one study (`results` or `results/<preset>`)."""

    root: Path

    def json(self, relative: str) -> dict[str, Any] | None:
        """Return a JSON artifact, or None when it does not exist (yet); UserError when it is damaged."""
        path = self.root / relative
        if not path.exists():
            return None
        content = parse_json(path, read_text(path))
        if not isinstance(content, dict):
            raise UserError(f"{path} is not an evomix artifact; delete it and run the workflow again")
        return content

    def table(self, relative: str) -> pd.DataFrame | None:
        """Return a Parquet table, or None when it does not exist (yet)."""
        path = self.root / relative
        return read_table(path) if path.is_file() else None

    def text(self, relative: str) -> str | None:
        """Return a text file (undecodable bytes replaced), or None when it does not exist (yet)."""
        path = self.root / relative
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None

    def section(self, name: str) -> dict[str, Any]:
        """Return a section of the config as the workflow wrote it, empty when it has not."""
        return self.json(f"config/{name}.json") or {}

    def validation(self) -> dict[str, Any]:
        """Return the config's settings of the validation, empty before the workflow has written them."""
        return dict(self.section("validation").get("validation", {}))

    def pair(self, framework: str) -> dict[str, str]:
        """Return role (`standard`, the variant to beat, then `evolved`, the one judged) → variant that stands in it."""
        named = self.validation()
        keys = zip(VARIANTS, ("reference", "candidate"), strict=True)
        return {role: named.get(key, {}).get(framework, role) for role, key in keys}

    def tuned(self, framework: str) -> list[str]:
        """Return the variants whose own tuning the study uses: under policy `shared` the standard alone."""
        shared = self.section("policy").get("policy") == "shared"
        return ["standard"] if shared else list(self.pair(framework).values())

    def frameworks(self) -> list[str]:
        """Return the study's frameworks in the config's order; without a config, those that left any artifact."""
        named = self.section("validation").get("frameworks")
        if named:
            return list(named)
        phases = ("training", "evolution", "mechanisms", "tuning")
        return [name for name in FRAMEWORKS if any((self.root / phase / name).is_dir() for phase in phases)]

    def arms(self, framework: str) -> list[str]:
        """Return the search arms that left any artifact; the arm that yields `evolved` first."""
        folder = self.root / "evolution" / framework
        order = ["guided", "random", "best_of_n"]
        return [arm for arm in order if (folder / arm).is_dir()]

    def runs(self, framework: str) -> pd.DataFrame:
        """Return one row per finished or diverged training of the pair with columns RUN_COLUMNS; N is non-embedding.

        `variant` is the role (see `pair`), `loss` is in nats per token and NaN for a diverged run.
        """
        rows = []
        roles = {variant: role for role, variant in self.pair(framework).items()}
        for path in sorted((self.root / "training" / framework).glob("*/*/seed_*/summary.json")):
            content = self.json(path.relative_to(self.root).as_posix()) or {}
            if content.get("variant") not in roles:
                continue
            rows.append(
                {
                    "framework": framework,
                    "variant": roles[content["variant"]],
                    "size": content["size"],
                    "seed": int(content["seed"]),
                    "status": content["status"],
                    "loss": content.get("loss"),
                    "bits_per_byte": content.get("bits_per_byte"),
                    "parameters": (content.get("parameters") or {}).get("non_embedding"),
                }
            )
        frame = pd.DataFrame(rows, columns=list(RUN_COLUMNS))
        return frame.astype({"loss": float, "bits_per_byte": float, "parameters": float})

    def validation_runs(self, framework: str) -> pd.DataFrame:
        """Return the runs of the paired validation only: runs left over from another config are never shown."""
        section, runs = self.validation(), self.runs(framework)
        return runs[(runs["size"] == section.get("size")) & runs["seed"].isin(section.get("seeds", []))]

    def scaling_runs(self, framework: str) -> pd.DataFrame:
        """Return the runs of the scaling law only."""
        section, runs = self.section("scaling"), self.runs(framework)
        return runs[runs["size"].isin(section.get("sizes", [])) & runs["seed"].isin(section.get("seeds", []))]

    def pairs(self, framework: str) -> pd.DataFrame:
        """Return seed, standard, evolved (nats per token), gain, relative and status per validation seed.

        gain = standard − evolved, so that positive is better; relative = gain / standard. A run that diverged, or whose
        loss a trusted re-measurement did not confirm, has no loss, and `status` says so. The losses are those that the
        validation judged; before there is one, those that the trainings reported.
        """
        record = self.json(f"validation/{framework}.json")
        runs = self.validation_runs(framework)
        if record is not None:
            rows = pd.DataFrame(record["per_seed"])
            states = {variant: rows[f"{variant}_status"] for variant in VARIANTS}
            wide = rows[["seed", *VARIANTS]].astype(dict.fromkeys(VARIANTS, float))
        else:
            wide = runs.pivot(index="seed", columns="variant", values="loss").reindex(columns=list(VARIANTS))
            told = runs.pivot(index="seed", columns="variant", values="status").reindex(columns=list(VARIANTS))
            wide, told = wide.sort_index().reset_index(), told.sort_index().reset_index()
            states = {variant: told[variant].fillna("missing") for variant in VARIANTS}
        wide.columns.name = None
        faults = [
            ", ".join(f"{variant} {state}" for variant, state in zip(VARIANTS, row, strict=True) if state != "finished")
            for row in zip(*states.values(), strict=True)
        ]
        gain, relative = wide["standard"] - wide["evolved"], 1 - wide["evolved"] / wide["standard"]
        return wide.assign(gain=gain, relative=relative, status=faults)

    def gain_interval(self, framework: str) -> tuple[float, float, float]:
        """Return the mean paired gain with the interval that the validation claims (tuning noise included).

        Before the validation: Student's interval over the seeds so far. NaN where it cannot be computed.
        """
        record = self.json(f"validation/{framework}.json")
        if record is None:
            return mean_interval(self.pairs(framework)["gain"])
        found = record["difference"]["mean"], *record["difference"]["ci"]
        mean, low, high = (float("nan") if value is None else float(value) for value in found)
        return mean, low, high

    def curves(self, framework: str) -> pd.DataFrame:
        """Return the curves of all validation runs: variant, seed, step, train_loss, held_out_loss, learning_rate…"""
        frames, pair = [], self.pair(framework)
        for run in self.validation_runs(framework).itertuples():
            folder = f"training/{framework}/{pair[str(run.variant)]}/{run.size}/seed_{run.seed}"
            curve = self.table(f"{folder}/curve.parquet")
            if curve is not None:
                frames.append(curve.assign(variant=str(run.variant), seed=int(str(run.seed))))
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["variant", "seed", "step"])
