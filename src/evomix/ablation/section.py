"""What the ablation reads of the config: the files config/edits.json and config/ablation.json."""

from __future__ import annotations

from evomix.settings import Seeds, Settings
from evomix.specs import PolicySection


class EditsSection(Settings):
    """How what evolved is split."""

    edits: int
    add_alone: bool


class AblationSection(PolicySection):
    """At which size and on which seeds edits are measured, and how results are labelled."""

    size: str
    seeds: Seeds
