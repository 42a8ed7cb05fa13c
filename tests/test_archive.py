"""Sharing: a packed study is a sound RO-Crate and, unpacked elsewhere, a clone in which nothing is redone."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from rocrate.rocrate import ROCrate

from conftest import copy_project
from evomix import archive
from evomix.errors import UserError
from workflow_runs import snakemake

TARGETS = ("results/test/config/corpus.json", "results/test/mechanisms/matrix_mixer/standard.py")
CORPUS = "results/test/corpus/stats.json"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of a study whose first two files are made; results of the paper and of a stranger lie beside."""
    project = copy_project(tmp_path_factory.mktemp("archive") / "evomix")
    snakemake(project, *TARGETS)
    (project / "results/stranger.json").write_text("{}")
    archive.pack(project, Path("results/test"), project / "study.zip")
    return project / "study.zip"


def test_the_crate_says_what_ran_and_what_came_of_it(packed: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(packed).extractall(tmp_path)
    crate = ROCrate(tmp_path)
    assert crate.mainEntity.id == "Snakefile"
    assert crate.mainEntity["programmingLanguage"]["name"] == "Snakemake"
    assert {item.id for item in crate.root_dataset["conformsTo"]} == set(archive.PROFILES)
    assert "https://w3id.org/ro/crate/1.1" in crate.metadata["conformsTo"]  # which those profiles extend
    (action,) = crate.get_by_type("CreateAction")
    assert action["instrument"] == crate.mainEntity
    assert set(TARGETS) <= {item.id for item in action["result"]}
    assert {"config/config.yaml", "PROTOCOL.md"} <= {item.id for item in action["object"]}
    assert action["startTime"] <= action["endTime"]
    assert action["actionStatus"].endswith("ActiveActionStatus")  # the report is not made yet
    assert "torch" in json.loads(action["description"])["packages"]
    assert not [name for name in zipfile.ZipFile(packed).namelist() if "stranger" in name or "__pycache__" in name]
    assert archive.check(packed) > 100


def test_unpacked_elsewhere_nothing_is_redone(packed: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(packed).extractall(tmp_path)  # which gives every file the time of its unpacking
    said = snakemake(tmp_path, *TARGETS, "-n").stdout
    assert "Nothing to be done" in said
    (tmp_path / "src/evomix/mechanisms/matrix_mixer/softmax.py").write_text("# another standard\n")
    assert "Nothing to be done" not in snakemake(tmp_path, *TARGETS, "-n").stdout


def test_a_changed_archive_is_noticed(packed: Path, tmp_path: Path) -> None:
    spoilt = tmp_path / "study.zip"
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(spoilt, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"changed" if name == TARGETS[0] else old.read(name))
    with pytest.raises(UserError, match=r"config/corpus\.json is not what the metadata says"):
        archive.check(spoilt)


def test_files_without_records_are_not_archived(tmp_path: Path) -> None:
    (tmp_path / "results/test").mkdir(parents=True)
    (tmp_path / "results/test/report.html").write_text("from somewhere")
    with pytest.raises(UserError, match="no recorded result under results/test; run the workflow first"):
        archive.pack(tmp_path, Path("results/test"), tmp_path / "study.zip")


@pytest.mark.slow
def test_a_second_clone_takes_tokenizer_and_shards_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("SNAKEMAKE_OUTPUT_CACHE", str(tmp_path / "cache"))
    first, second = (copy_project(tmp_path / name) for name in ("first", "second"))
    snakemake(first, CORPUS, "--cache")
    said = snakemake(second, CORPUS, "--cache").stdout
    assert " to cache." not in said
    for name in ("tokenizer.json", *(f"{shard}.bin" for shard in ("train", "search", "selection", "test"))):
        assert f"Symlinking output file results/test/corpus/{name} from cache" in said
        path = f"results/test/corpus/{name}"
        assert (first / path).read_bytes() == (second / path).read_bytes()
    shards = [(second / f"results/test/corpus/{shard}.bin").read_bytes() for shard in ("train", "search", "test")]
    assert len(set(shards)) == 3  # each shard its own: Snakemake's key leaves wildcards out
    third = copy_project(tmp_path / "third")
    said = snakemake(third, CORPUS, "--cache", "--config", 'corpus={"stories": 500}').stdout
    assert said.count(" to cache.") == 9  # other text: tokenizer, shards and manifests are all made anew


def test_every_wildcard_of_a_cached_rule_is_a_parameter(root: Path) -> None:
    for text in (root / "workflow/rules").glob("*.smk"):
        for rule in text.read_text().split("\nrule ")[1:]:
            if "    cache: True" in rule:
                parameters = rule.partition("    params:")[2]
                for name in {part.split("}")[0] for part in rule.partition("    log:")[0].split("{")[1:]}:
                    assert f"wildcards.{name}," in parameters, f"{rule.splitlines()[0]} is cached without {name}"
