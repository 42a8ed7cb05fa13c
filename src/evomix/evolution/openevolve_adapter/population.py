"""OpenEvolve's program database as a function of its inputs (this package alone touches OpenEvolve).

OpenEvolve's own loop is not used: it runs candidates in the process that holds the key and is not reproducible. Here
each of its parts is called as a pure function: ids are uuid5, time stamps are iteration numbers, sets iterate in sorted
order (their order would follow PYTHONHASHSEED), and its global `random` is seeded for one call and then restored.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from openevolve.config import DatabaseConfig
from openevolve.database import Program, ProgramDatabase

from evomix.artifacts import canonical_json
from evomix.errors import UserError
from evomix.evolution.identity import complexity, program_id
from evomix.settings import Proposing

DIMENSIONS = ["complexity", "cost"]
"""MAP-Elites axes, both given as metrics: syntax-tree nodes, and training FLOPs relative to the standard."""


@dataclass(frozen=True)
class Individual:
    """A program of the population, as the rest of the search sees it."""

    id: str
    source: str
    candidate: str
    score: float
    island: int
    changes: str
    report: str
    generation: int
    original: str


class _SortedSet(set[str]):
    """A set that iterates in sorted order."""

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(super().__iter__()))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generator that OpenEvolve draws from, and restore it afterwards."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def _view(program: Program) -> Individual:
    report = json.loads(program.artifacts_json or "{}")
    return Individual(
        id=program.id,
        source=program.code,
        candidate=program.metadata["candidate"],
        score=float(program.metrics["combined_score"]),
        island=int(program.metadata["island"]),
        changes=program.changes_description,
        report=str(report.get("evaluation", "")),
        generation=int(program.generation),
        original=program.metadata["original"],
    )


class Population:
    """OpenEvolve's program database (islands, MAP-Elites cells, archive), made a function of its inputs."""

    def __init__(self, proposing: Proposing, folder: Path | None = None) -> None:
        """Make an empty population, or load the one saved in `folder`; UserError when that is damaged or missing."""
        with seeded(0):
            self._database = ProgramDatabase(
                DatabaseConfig(
                    population_size=proposing.population,
                    archive_size=proposing.archive,
                    num_islands=proposing.islands,
                    elite_selection_ratio=proposing.elite_ratio,
                    feature_dimensions=list(DIMENSIONS),
                    migration_interval=proposing.migration_interval,
                    random_seed=None,
                    log_prompts=False,
                    cleanup_old_artifacts=False,
                )
            )
            if folder is not None:
                self._load(folder)
        database = self._database
        database.programs = dict(sorted(database.programs.items()))
        database.islands = [_SortedSet(island) for island in database.islands]
        database.archive = _SortedSet(database.archive)

    def _load(self, folder: Path) -> None:
        metadata = folder / "metadata.json"
        try:
            expected = {name for island in json.loads(metadata.read_text())["islands"] for name in island}
            self._database.load(str(folder))
            for program in self._database.programs.values():
                _view(program)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else error
            raise UserError(f"{folder} is not a saved population ({reason}); delete it and run again") from None
        lost = sorted(expected - set(self._database.programs))
        if lost:
            raise UserError(f"{folder} lacks program {lost[0]} that it names; delete it and run again")

    @property
    def islands(self) -> int:
        """Number of islands."""
        return len(self._database.islands)

    @property
    def programs(self) -> list[Individual]:
        """All programs, in the order of their ids."""
        return [_view(program) for _, program in sorted(self._database.programs.items())]

    def add(
        self,
        source: str,
        *,
        name: str,
        candidate: str,
        island: int,
        iteration: int,
        score: float,
        cost: float,
        report: str,
        changes: str,
        parent: str | None = None,
        generation: int = 0,
        migrant_of: str | None = None,
    ) -> bool:
        """Add a program under id `name`; False when its cell holds a better one and it was not kept."""
        database = self._database
        program = Program(
            id=name,
            code=source,
            changes_description=changes,
            parent_id=parent,
            generation=generation,
            timestamp=float(iteration),
            metrics={"combined_score": float(score), "complexity": complexity(source), "cost": float(cost)},
            complexity=complexity(source),
            metadata={"candidate": candidate, "original": migrant_of or name, "migrant": migrant_of is not None},
            prompts={},
            artifacts_json=json.dumps({"evaluation": report}),
        )
        database.add(program, iteration=iteration, target_island=island)
        return name in database.programs

    def end_wave(self, iteration: int) -> list[str]:
        """Count a generation on every island; when due, copy each island's best to the next. Return the copies' ids."""
        database = self._database
        for island in range(self.islands):
            database.increment_island_generation(island)
        if self.islands < 2 or not database.should_migrate():
            return []
        tops = [database.get_top_programs(1, island_idx=island) for island in range(self.islands)]
        copies = []
        for island, top in enumerate(tops):
            target = (island + 1) % self.islands
            present = {database.programs[name].metadata["candidate"] for name in database.islands[target]}
            if not top or top[0].metadata["candidate"] in present:
                continue
            program, view = top[0], _view(top[0])
            name = program_id("migrant", view.id, target, iteration)
            kept = self.add(
                view.source,
                name=name,
                candidate=view.candidate,
                island=target,
                iteration=iteration,
                score=view.score,
                cost=program.metrics["cost"],
                report=view.report,
                changes=view.changes,
                parent=view.id,
                generation=view.generation,
                migrant_of=view.original,
            )
            copies += [name] if kept else []
        database.last_migration_generation = max(database.island_generations)
        return copies

    def sample(self, island: int, seed: int, inspirations: int) -> tuple[Individual, list[Individual]]:
        """Return OpenEvolve's choice of a parent and of inspirations from an island, as a function of `seed`.

        An island emptied by the population limit passes the question to the next one.
        """
        database = self._database
        order = [(island + step) % self.islands for step in range(self.islands)]
        chosen = next((number for number in order if database.islands[number]), None)
        if chosen is None:
            raise UserError("the population is empty; seed the search again")
        with seeded(seed):
            parent, others = database.sample_from_island(chosen, num_inspirations=inspirations)
        return _view(parent), [_view(other) for other in others]

    def top(self, number: int, island: int) -> list[Individual]:
        """Return the best programs of an island."""
        return [_view(program) for program in self._database.get_top_programs(number, island_idx=island)]

    def save(self, folder: Path, iteration: int) -> None:
        """Write the population as an OpenEvolve checkpoint folder, in place of what stands there."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            self._database.save(str(fresh), iteration=iteration)
            for path in sorted(fresh.rglob("*.json")):
                path.write_text(canonical_json(json.loads(path.read_text())), encoding="utf-8")
            fresh.chmod(0o755)
            if folder.exists():
                shutil.rmtree(folder)
            fresh.rename(folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
