"""The command line: one subcommand per rule, named like it. Paths and identifiers only: specs and sections decide.

Phases are imported inside their commands: importing torch or pandas costs seconds that most jobs need not pay.
"""

from __future__ import annotations

import os
import sys

import typer

from evomix.commands import ablation, analysis, cluster, corpus, evolution, plan, probes, study, training
from evomix.errors import UserError
from evomix.settings import KEY_VARIABLE

app = typer.Typer(
    help="Evolve sequence mixers, train them at full length, and judge them with honest statistics.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for command in (
    corpus.collect_documents,
    corpus.train_tokenizer,
    corpus.encode_shard,
    corpus.summarise_corpus,
    evolution.gate,
    evolution.certify,
    training.design_trials,
    training.run_trials,
    training.choose_hyperparameters,
    evolution.write_search_spec,
    evolution.evaluate,
    evolution.seed_population,
    evolution.propose,
    evolution.tell,
    evolution.summarise_search,
    evolution.shortlist,
    evolution.rerank,
    evolution.select,
    training.write_run_spec,
    training.train,
    training.write_member_spec,
    training.tabulate_gallery,
    evolution.rescore,
    probes.write_probe_data,
    probes.run_probes,
    probes.read_lengths,
    probes.summarise_probes,
    analysis.fit_scaling_law,
    analysis.validate,
    analysis.summarise_aa,
    analysis.compare_frameworks,
    analysis.calibrate,
    ablation.split_edits,
    ablation.train_edits,
    ablation.measure_edits,
    analysis.measure_horizon,
    analysis.verdicts,
    analysis.materialise_mixing,
    analysis.draw_figure,
    analysis.write_tables,
    analysis.write_card,
    analysis.build_report,
    analysis.write_reference,
    plan.plan,
    study.why,
    study.archive,
    cluster.check_cluster,
):
    app.command()(command)
app.command(hidden=True)(training.train_worker)
app.command(hidden=True)(training.trace_worker)
app.command(hidden=True)(training.compile_worker)
app.command(hidden=True)(cluster.probe_node)


def _forget_key() -> None:
    """Start again without the language model's key, unless this command needs it, or says that it is there.

    A workflow hands its whole environment to every job. Removing a variable is not enough: other processes read the
    environment that a process was started with.
    """
    if KEY_VARIABLE in os.environ and sys.argv[1:2] not in (["propose"], ["check-cluster"]):
        rest = {name: value for name, value in os.environ.items() if name != KEY_VARIABLE}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], rest)


def main() -> None:
    """Run the command line; a UserError becomes one sentence on stderr and exit status 2."""
    _forget_key()
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
