"""`make check-cluster` on a real SLURM: one tiny job of every kind, and faults of a site named in words."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

import slurm_runs
from conftest import copy_project
from slurm_cluster import Cluster, missing_programs

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing_programs()), reason=f"SLURM is not installed: {', '.join(missing_programs())}"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("check") / "cluster") as running:
        yield running


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project whose profile asks for the state of jobs often."""
    project = copy_project(tmp_path / "evomix")
    change(project, {"slurm-init-seconds-before-status-checks": 2, "latency-wait": 5})
    return project


def change(project: Path, settings: dict[str, object]) -> None:
    path = project / "profiles/slurm/config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **settings}))


def check(cluster: Cluster, project: Path, preset: str = "test", **more: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "evomix", "check-cluster", "profiles/slurm", "--preset", preset],
        cwd=project,
        env=slurm_runs.environment(cluster, project, **more),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.returncode, done.stdout


def test_a_sound_site_runs_every_kind_of_job(cluster: Cluster, project: Path) -> None:
    status, said = check(cluster, project)
    assert status == 0, said
    for kind in ("light", "training", "candidate", "packed"):
        assert f"\n{kind}: " in f"\n{said}"
    assert said.count("node n") == 4
    names = [job["Comment"] for job in cluster.jobs() if job["JobState"] == "COMPLETED"]
    assert sum("probe_pack" in name for name in names) == 1, names  # two parts, one job


def test_unknown_partition_model_and_key_are_named_before_any_job(cluster: Cluster, project: Path) -> None:
    before = len(cluster.jobs())
    (project / "profiles/slurm/partitions.yaml").write_text("partitions: {fast: {max_gpu: 1}}")
    change(project, {"set-resources": {"train": {"gpu_model": "b900", "slurm_partition": "nowhere"}}})
    status, said = check(cluster, project, EVOMIX_API_KEY="sk-secret")
    assert status == 2
    assert (
        "partition fast (profiles/slurm/partitions.yaml) does not exist; this cluster has cpu, gpu, urgent, closed"
        in said
    )
    assert "partition nowhere (train) does not exist" in said
    assert "GPU model b900 (train) does not exist; this cluster has h200" in said
    assert "EVOMIX_API_KEY is set" in said
    assert "sk-secret" not in said
    assert len(cluster.jobs()) == before


def test_a_results_folder_that_is_no_folder_is_named(cluster: Cluster, project: Path) -> None:
    shutil.rmtree(project / "results", ignore_errors=True)
    (project / "results").write_text("in the way")
    status, said = check(cluster, project)
    assert status == 2
    assert "cannot write to results/test/cluster: " in said


def test_memory_that_no_node_has_is_named(cluster: Cluster, project: Path) -> None:
    limits = "{max_mem_mb: 900000, max_runtime: 1440}"
    (project / "profiles/slurm/partitions.yaml").write_text(f"partitions: {{cpu: {limits}}}")
    change(project, {"set-resources": {"probe_heavy": {"mem_mb": 800_000}}})
    status, said = check(cluster, project)
    assert status == 2
    assert "more memory was asked for than any node of the partition has" in said or "no node offers what" in said
    assert "training: a job with the resources of one full training brought nothing back" in said
    assert "light: a light job with the profile's default resources: node n" in said


def test_a_gpu_that_pytorch_does_not_see_is_named(cluster: Cluster, project: Path) -> None:
    """The test cluster hands out GPUs that are plain files: SLURM gives them, PyTorch finds none."""
    status, said = check(cluster, project, preset="paper")
    assert status == 2
    assert "training: PyTorch sees 0 of 1 GPUs on n" in said
    assert "install the CUDA build of PyTorch" in said


def test_no_sbatch_is_named(cluster: Cluster, project: Path) -> None:
    status, said = check(cluster, project, PATH=str(Path(sys.executable).parent))
    assert status == 2
    assert "sbatch, squeue, scontrol, sinfo, scancel not found: run this on a login node" in said


def test_an_account_that_may_not_use_the_partition_is_named(cluster: Cluster, project: Path) -> None:
    limits = "{max_mem_mb: 32000, max_runtime: 1440}"
    (project / "profiles/slurm/partitions.yaml").write_text(f"partitions: {{closed: {limits}}}")
    default = {"mem_mb": 2000, "runtime": 30, "longest": 1440, "slurm_account": "chemistry"}
    change(project, {"default-resources": default})
    status, said = check(cluster, project)
    assert status == 2
    assert "the account is missing or unknown: set slurm_account in default-resources" in said


@pytest.fixture
def hide(cluster: Cluster) -> Iterator[Callable[[Path], None]]:
    """Restart all node daemons with a folder of the login node hidden from them; afterwards as they were."""

    def restart(hidden: Path | None) -> None:
        for node in cluster.nodes:
            cluster.stop(node)
            cluster.start_node(node, hidden)
        cluster.wait_until_idle()

    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace can be made here: this needs root")
    yield restart
    restart(None)


def test_python_that_the_nodes_lack_is_named(cluster: Cluster, project: Path, hide: Callable[[Path], None]) -> None:
    hide(Path(sys.executable).parent)
    status, said = check(cluster, project)
    assert status == 2
    assert "Python of the login node is missing on the node" in said


def test_a_folder_that_the_nodes_do_not_share_is_named(
    cluster: Cluster, project: Path, hide: Callable[[Path], None]
) -> None:
    (project / "results").mkdir()
    hide(project / "results")
    status, said = check(cluster, project)
    assert status == 2
    assert "the results folder must lie on a file system that all nodes share" in said


def test_a_clone_that_the_nodes_do_not_share_is_named(
    cluster: Cluster, project: Path, hide: Callable[[Path], None]
) -> None:
    hide(project)
    status, said = check(cluster, project)
    assert status == 2
    assert "its node wrote no log: the clone must lie on a file system that all nodes share" in said
