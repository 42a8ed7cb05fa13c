"""The language model's key never reaches a job on a real SLURM: found by looking into the jobs' own processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import slurm_runs
from evomix.settings import KEY_VARIABLE
from slurm_cluster import Cluster, missing_programs
from slurm_scene import RUN, SHORT, Scene, before, in_peace, options

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing_programs()), reason=f"SLURM is not installed: {', '.join(missing_programs())}"),
]
KEY = "sk-never-to-be-seen"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("keys")
    finished = in_peace(folder / "finished", SHORT)
    with Cluster(folder / "cluster") as cluster:
        scene = Scene(cluster, before(finished, folder), SHORT)
        yield scene
        scene.stop()


def candidate(job: list[psutil.Process]) -> bool:
    """Say whether the sandbox of the job runs: the innermost process, which executes the mechanism."""
    return any("confine.py" in " ".join(item.cmdline()) for item in job)


def holders(scene: Scene, job: str) -> tuple[list[str], list[str]]:
    """Return (all processes of a job, those whose environment or command line holds the key) once its sandbox runs."""
    seen: list[tuple[str, str]] = []

    def look() -> bool:
        seen.clear()
        try:
            processes = scene.processes(job)
            told = [(f"{item.pid} {' '.join(item.cmdline())}", Path(f"/proc/{item.pid}/environ")) for item in processes]
            seen.extend((name, path.read_bytes().decode(errors="replace") + name) for name, path in told)
            return candidate(processes)
        except (psutil.NoSuchProcess, FileNotFoundError):
            return False

    scene.wait(look, "sandboxed training")
    return [name for name, _ in seen], [name for name, text in seen if KEY in text]


def files_with_key(folder: Path) -> list[str]:
    """Return the files below `folder` that hold the key: scripts and environments that the controller keeps, logs."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [str(path.relative_to(folder)) for path in paths if KEY.encode() in path.read_bytes()]


def test_a_key_in_the_environment_stops_the_start(scene: Scene) -> None:
    changed = {KEY_VARIABLE: KEY}
    status, said = slurm_runs.run(scene.cluster, scene.project, *scene.targets, *options(SHORT), **changed)
    assert status != 0
    assert f"{KEY_VARIABLE} is set, and a cluster's jobs inherit the environment" in said
    assert KEY not in said
    assert scene.cluster.jobs() == []
    assert files_with_key(scene.cluster.folder) == []


def test_no_process_of_a_workflow_s_job_knows_the_key_of_the_file(scene: Scene, tmp_path: Path) -> None:
    """The user's home holds the key as the config says; every process of the job is asked."""
    place = tmp_path / ".config/evomix/api_key"
    place.parent.mkdir(parents=True)
    place.write_text(KEY)
    place.chmod(0o600)
    scene.cluster.environment["HOME"] = str(tmp_path)
    scene.start()
    scene.wait(lambda: scene.jobs() and scene.running(), "job")
    everyone, knowing = holders(scene, scene.running())
    assert len(everyone) >= 5  # SLURM's step, two Snakemakes, the rule's shell, the trusted process, the sandbox
    assert knowing == []
    scene.finish()
    assert files_with_key(scene.cluster.folder) == []
    assert files_with_key(scene.project / "results") == files_with_key(scene.project / ".snakemake") == []


def test_a_job_sent_by_hand_with_the_key_hides_it_from_candidates(scene: Scene, tmp_path: Path) -> None:
    """The control: SLURM does hand the environment on, and this search does find it; evomix drops it at once."""
    run = scene.project / RUN
    for path in (run / "finished").iterdir():
        path.unlink()
    for name in ("summary.json", "curve.parquet", "model.safetensors", "timing.json"):
        (run / name).unlink()
    scene.cluster.environment[KEY_VARIABLE] = KEY
    scene.cluster.environment["PATH"] = slurm_runs.environment(scene.cluster, scene.project)["PATH"]
    scene.cluster.environment["PYTHONPATH"] = str(scene.project / "src")
    train = f"cd {scene.project} && python -m evomix train {RUN / 'spec.json'}"
    scene.process = None
    scene.command("sbatch", "--comment", "rule_train_by_hand", "-o", str(tmp_path / "log"), "--wrap", train)
    everyone, knowing = holders(scene, scene.running() or scene.jobs()[-1]["JobId"])
    assert [name for name in knowing if "slurm_script" in name], "the control found nothing"
    assert not [name for name in knowing if "evomix" in name], knowing
    assert [name for name in everyone if "confine.py" in name]
