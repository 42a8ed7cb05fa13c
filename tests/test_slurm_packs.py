"""Faults inside a packed job on a real SLURM: what its members had finished is kept, only the broken one goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm_cluster import Cluster, missing_programs
from slurm_scene import OTHER, SHORT, Scene, before, contents, in_peace, tell

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing_programs()), reason=f"SLURM is not installed: {', '.join(missing_programs())}"),
]

VARIANT = Path("results/test/training/matrix_mixer/standard")
RUNS = tuple(VARIANT / size / f"seed_{seed}" for size in ("2k", "4k") for seed in (42, 43))
TARGETS = (OTHER, *(run / "summary.json" for run in RUNS))
STEPS = 2 * SHORT


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    finished = in_peace(tmp_path / "finished", STEPS, TARGETS)
    with Cluster(tmp_path / "cluster") as cluster:
        scene = Scene(cluster, before(finished, tmp_path, TARGETS), STEPS, TARGETS, "training_matrix_mixer")
        yield scene
        scene.stop()


def finished(scene: Scene) -> dict[Path, bytes]:
    """Return the members that have finished, with their measured times: a second training would have others."""
    runs = [run for run in RUNS if (scene.project / run / "finished/seal").exists()]
    return {run: (scene.project / run / "finished/timing.json.kept").read_bytes() for run in runs}


def under_way(scene: Scene) -> Path | None:
    """Return the member that trains at the moment and has written a checkpoint."""
    done = finished(scene)
    return next((run for run in RUNS if run not in done and scene.reached(run)), None)


def kill_member(scene: Scene, job: str, run: Path) -> None:
    """Kill the processes of one member alone."""
    for item in scene.processes(job):
        if str(run) in " ".join(item.cmdline()) and "train" in item.cmdline():
            item.kill()


def cancel_pack(scene: Scene, job: str, run: Path) -> None:
    """End the whole job while the member trains, as a limit of memory or time would."""
    scene.command("scancel", job)


def test_a_broken_member_costs_the_others_nothing(scene: Scene) -> None:
    scene.start("--workflow-profile", "profiles/packed")
    kept: dict[Path, bytes] = {}
    broken: list[Path] = []
    for fault, inject in (("one member killed", kill_member), ("the whole job cancelled", cancel_pack)):
        others = len(kept)
        scene.wait(
            lambda others=others: scene.running() and len(finished(scene)) > others and under_way(scene),
            "member under way",
        )
        job, run = scene.running(), under_way(scene)
        assert run is not None
        kept = finished(scene)
        inject(scene, job, run)
        broken.append(run)
        scene.wait(lambda job=job: scene.ended(job), "end of the pack")
        state = next(item["JobState"] for item in scene.jobs() if item["JobId"] == job)
        tell(f"pack: {fault}", f"{state} with {len(kept)} of {len(RUNS)} members finished")
    scene.finish()
    states = [job["JobState"] for job in scene.jobs()]
    lives = {str(run): scene.lives(run) for run in RUNS}
    assert {run: timing for run, timing in finished(scene).items() if run in kept} == kept
    assert contents(scene.project, RUNS) == contents(scene.project.parent / "finished/evomix", RUNS)
    assert len(states) == 3
    assert states[-1] == "COMPLETED"
    assert all(lives[str(run)] >= 2 for run in broken)
    assert sum(lives.values()) == len(RUNS) + 2
    assert [job["JobState"] for job in scene.jobs("training_coefficient_dynamics")] == ["COMPLETED"]
    tell("pack: both", f"same bytes; jobs: {', '.join(states)}; lives of the members: {sorted(lives.values())}")
