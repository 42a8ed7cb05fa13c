"""evomix: can an LLM, evolving code inside a formalism of sequence mixing, beat standard attention?

`snakemake --profile profiles/local all` runs the full protocol; `--configfile config/presets/demo.yaml` a miniature of it.
"""

from snakemake.utils import min_version

min_version("9.12")


configfile: "config/config.yaml"


report: "workflow/report/study.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/cluster.smk"
include: "workflow/rules/config.smk"
include: "workflow/rules/corpus.smk"
include: "workflow/rules/mechanisms.smk"
include: "workflow/rules/tuning.smk"
include: "workflow/rules/evolution.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/scaling.smk"
include: "workflow/rules/validation.smk"
include: "workflow/rules/aa.smk"
include: "workflow/rules/comparison.smk"
include: "workflow/rules/ablation.smk"
include: "workflow/rules/probes.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"


rule all:
    """The finished study: verdicts, comparison, figures and the report."""
    default_target: True
    input:
        "<results>/report.html",
        "<results>/tables",
        expand("<results>/cards/{framework}.md", framework=study.frameworks),
        expand("<results>/validation/{framework}.json", framework=study.frameworks),
        "<results>/comparison/frameworks.json",
        ablations(),
        expand("<results>/probes/{framework}.json", framework=study.frameworks),
