"""`cloformer-deploy gate`."""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from cloformer_deploy.cli.options import (
    BaselineOption,
    CacheOption,
    ConfigOption,
    DataOption,
    JsonOption,
    LimitOption,
    NpuOption,
    WorkersOption,
    print_json,
    print_tables,
    progress,
    result_cache,
)
from cloformer_deploy.errors import CheckFailedError, RequestError
from cloformer_deploy.system.text import visible


def command(
    bundle: Annotated[Path, typer.Argument(help="Bundle: a folder written by export.", metavar="BUNDLE")],
    data: DataOption = None,
    limit: LimitOption = None,
    device: NpuOption = None,
    workers: WorkersOption = None,
    config: ConfigOption = None,
    baseline: BaselineOption = None,
    update_baseline: Annotated[
        bool, typer.Option("--update-baseline", help="Accept this build: write --baseline instead of comparing.")
    ] = False,
    baseline_bundle: Annotated[
        Path | None,
        typer.Option(
            help="Bundle of the last accepted build, needed to limit slowdown.", metavar="DIR", show_default="none"
        ),
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write a JUnit XML report.", metavar="FILE")] = None,
    summary: Annotated[Path | None, typer.Option(help="Write a Markdown summary.", metavar="FILE")] = None,
    cache: CacheOption = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Neither read nor write cached results.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fail (exit code 1) if an artifact is worse than its limits against PyTorch or the last accepted build."""
    from cloformer_deploy.bench import Protocol
    from cloformer_deploy.bundle import Bundle
    from cloformer_deploy.gate import (
        gate,
        latency_checks,
        open_baseline_bundle,
        read_baseline,
        read_config,
        write_baseline,
    )
    from cloformer_deploy.npu import npu_of
    from cloformer_deploy.report import ci
    from cloformer_deploy.report.gate import gate_json, gate_tables
    from cloformer_deploy.validation.workers import workers_of

    if update_baseline and baseline is None:
        raise RequestError("--update-baseline has no file to write", "give it with --baseline")
    limits = read_config(config)
    known = None if baseline is None or update_baseline else read_baseline(baseline)
    with progress() as steps, nullcontext() if no_cache else result_cache(cache, steps) as store:
        opened = Bundle.open(bundle)
        latency = latency_checks(opened, limits, open_baseline_bundle(baseline_bundle), Protocol(), steps)
        npu = npu_of(device) if device else None
        with workers_of(workers, steps) as hands:
            result = gate(opened, data, limit, limits, known, store, latency, steps, npu, hands)
    if junit is not None:
        ci.write_report(junit, ci.junit(result))
    if summary is not None:
        ci.write_report(summary, ci.markdown(result))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in ci.annotations(result):
            typer.echo(line, err=True)
    if as_json:
        print_json(gate_json(result))
    else:
        print_tables(*gate_tables(result))
    if result.failed:
        if update_baseline:
            typer.echo(f"{visible(str(baseline))} was not changed: a failed build is not accepted.", err=True)
        raise typer.Exit(CheckFailedError.exit_code)
    if update_baseline and baseline is not None and result.new_baseline is not None:
        write_baseline(baseline, result.new_baseline)
        typer.echo(f"{visible(str(baseline))} now holds this build: commit it.", err=True)
