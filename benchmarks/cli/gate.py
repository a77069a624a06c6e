"""The commands of the gate: ``compare``, ``baseline`` and ``ab``."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option, Typer

from benchmarks.cli.console import (
    PRINTED,
    check_writable,
    clean_interrupt,
    console,
    errors,
    print_rows,
    say,
    styled,
    usage_errors,
    write,
)
from benchmarks.cli.options import File, Texts, split

COLOURS = {"better": "green", "appeared": "blue"}
AB_COLOURS = {"slower": "bold red", "faster": "green", "failed in new": "bold red"}
BASELINE = Path("results/baseline")
GITHUB = "Write NEW as customSmallerIsBetter of github-action-benchmark."
ALLOW = "Cases that may vanish, or be worse unjudged, by label or pattern; repeatable."
OPERATORS = "List the operators that moved, with their numbers of calls."
FACTOR = "Smallest ratio new over base that counts as slower."
ONLY = "FAMILY or FAMILY/OPERATION (gradient, log_prob, sample), a,b; repeatable; six in all."
PACKAGE = "Package of the repository whose flows are timed, instead of flows."
PLUGIN = "File of the repository whose flows are timed, with those of PACKAGE."
PACE = "Fail only if times changed without a new version or pace."


def compare(
    base: Annotated[Path, Argument(help="The results to compare with.")],
    new: Annotated[Path, Argument(help="The results to judge.")],
    factor: Annotated[float, Option(help="Largest ratio by which a time may grow.")] = 1.1,
    allow: Annotated[Texts, Option(help=ALLOW)] = None,
    markdown: Annotated[File, Option(help="Write Markdown; - prints it.")] = None,
    json: Annotated[File, Option(help="Write JSON; - prints it.")] = None,
    junit: Annotated[File, Option(help="Write JUnit's XML to a file.")] = None,
    github_benchmark: Annotated[File, Option(help=GITHUB)] = None,
    operators: Annotated[bool, Option("--operators", help=OPERATORS)] = False,
) -> None:
    """List what got worse, better, stayed, appeared or vanished from BASE to NEW.

    BASE and NEW are each a results folder, a record (records/*.json), a JSON file of
    pytest-benchmark, or a folder of such files, of which the newest counts. Exact counts must be
    equal. Qualities are judged by their standard errors (one that is worse, and has none, is a
    failure), and times by --factor and a rank test of their ratios to the reference workload; the
    tests of each class together have a level of 0.05. A case that vanished or failed is a failure.
    Device, precision and number of threads are ignored in matching cases if each result has one
    value of them throughout.

    Exit status: 0 passed, 1 failed, 2 not comparable, no number judged, or wrong usage.
    """
    with usage_errors():
        from benchmarks.gate import verdict as forms
        from benchmarks.gate.comparison import compare as judge

        check_writable(markdown, json, junit, github_benchmark)
        verdict = judge(base, new, factor=factor, allow=allow or ())
        files = {
            forms.as_markdown: markdown,
            forms.as_json: json,
            forms.as_junit: junit,
            forms.as_github_benchmark: github_benchmark,
        }
        for render, path in files.items():
            if path is not None:
                write(path, render(verdict))
    if PRINTED not in files.values():
        for line in verdict.headlines:
            say(line, "bold")
        comparisons = (*verdict.notable, *verdict.unresolved)
        styles = ["red" if c.fails else COLOURS.get(c.outcome, "") for c in comparisons]
        print_rows(forms.HEADERS, [c.row for c in comparisons], styles)
        for comparison in (c for c in comparisons if operators and c.operators):
            say(f"{comparison.case}: {comparison.operators}")
        for line in verdict.summary:
            say(line)
    raise Exit(verdict.status)


baseline = Typer(no_args_is_help=True, help="The figures that the gate compares with.")
Finished = Annotated[Path, Argument(help="A finished results folder of your suite.")]
Target = Annotated[Path, Option(help="Folder of the baseline.")]
COMMIT = "A commit; its parts of the baseline must be unchanged."


@baseline.command()
def update(folder: Finished = Path("results/ci"), target: Target = BASELINE) -> None:
    """Add the records of new versions in a results folder to the committed baseline.

    Refused if a case fails that was measured before, if figures changed and no version was raised,
    or if operators changed and neither version nor pace was raised. Exit status: 0, 2 if refused.
    """
    with usage_errors():
        from benchmarks.gate.baseline import renew

        count = renew(folder, target)
    console.print(f"{count} records were added to the baseline: review and commit {target}")


@baseline.command()
def check(
    target: Target = BASELINE, base: Annotated[str | None, Option(help=COMMIT)] = None
) -> None:
    """Check that each version in the baseline has one set of figures, and that no part was changed.

    Exit status: 0 sound, 1 not, 2 wrong usage.
    """
    with usage_errors():
        from benchmarks.core import store
        from benchmarks.core.naming import counted
        from benchmarks.gate.baseline import faults

        problems = list(faults(store.existing(target), base))
    for fault in problems:
        say(fault, "red")
    console.print("the baseline is sound" if not problems else counted(len(problems), "fault"))
    raise Exit(1 if problems else 0)


def ab(
    base: Annotated[str, Argument(help="A branch, tag or commit to compare against.")],
    new: Annotated[str, Argument(help="The revision to judge; '.' is the working tree.")] = ".",
    package: Annotated[str | None, Option(help=PACKAGE)] = None,
    plugin: Annotated[File, Option(help=PLUGIN)] = None,
    only: Annotated[Texts, Option(help=ONLY)] = None,
    seconds: Annotated[float, Option(min=5, max=60, help="Seconds of timing in total.")] = 40,
    factor: Annotated[float, Option(min=1, help=FACTOR)] = 1.05,
    json: Annotated[File, Option(help="Write verdicts and samples as JSON; - prints it.")] = None,
    markdown: Annotated[File, Option(help="Write the table as Markdown; - prints it.")] = None,
    require_pace: Annotated[bool, Option("--require-pace", help=PACE)] = False,
) -> None:
    """Time the flows of two git revisions against each other on this machine.

    Both take turns on one core, in this environment unless they declare different dependencies.
    With --package or --plugin the repository may be any: its flows and their imports from it are
    taken from each revision, and of each flow the gradient of its loss is timed. --only times other
    operations, as --only my_flow/log_prob,my_flow/sample; six in all. The library flows is the
    installed one. With --require-pace the status is 1 if a time changed and its flow declares no
    new version or pace, or if a flow failed.

    Exit status: 0 none slower, 1 some slower or failed, 2 wrong usage, too little time to judge,
    or nothing that runs on both sides.
    """
    with usage_errors(), clean_interrupt("nothing is kept"):
        from benchmarks.gate import ab as revisions

        check_writable(json, markdown)
        with errors.status("laying out both revisions") as status:
            results = revisions.compare(
                base,
                new,
                split(only),
                package=package,
                plugin=plugin,
                seconds=seconds,
                factor=factor,
                progress=lambda text: status.update(styled(text)),
            )
        if markdown is not None:
            write(markdown, results.markdown)
        if json is not None:
            write(json, results.json)
    if PRINTED not in (json, markdown):
        styles = [AB_COLOURS.get(row[-1], "") for row in results.rows]
        print_rows(revisions.HEADERS, results.rows, styles)
        console.print(results.caption, style="dim")
    for line in results.notes:
        say(line, on=errors)
    raise Exit(results.status(require_pace))
