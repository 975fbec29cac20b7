"""`cloformer-deploy report`."""

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
    print_json,
    print_tables,
    progress,
    result_cache,
)


def command(
    bundle: Annotated[Path, typer.Argument(help="Bundle: a folder written by export.", metavar="BUNDLE")],
    output: Annotated[
        Path | None, typer.Option(help="HTML file to write.", metavar="FILE.html", show_default="BUNDLE/report.html")
    ] = None,
    data: DataOption = None,
    limit: LimitOption = None,
    config: ConfigOption = None,
    baseline: BaselineOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write one HTML page: accuracy, latency, drift by class, operators, versions and the commands behind them."""
    from cloformer_deploy.bench import read_results
    from cloformer_deploy.bundle import Bundle
    from cloformer_deploy.gate import gate, read_baseline, read_config
    from cloformer_deploy.report.html import (
        DEFAULT_NAME,
        Asked,
        check_output,
        gathered,
        report_json,
        report_lines,
        write_report,
    )

    opened = Bundle.open(bundle)
    path = output or bundle / DEFAULT_NAME
    check_output(path)
    measured = read_results(opened)
    limits = read_config(config)
    known = None if baseline is None else read_baseline(baseline)
    with progress() as steps, result_cache(cache, steps) as store:
        result = gate(opened, data, limit, limits, known, store, {}, steps)
        asked = Asked(data, limit, config, baseline, cache, output)
        found = gathered(opened, result, measured, asked, steps)
        steps.step(f"Writing {path}")
        write_report(path, found)
    if as_json:
        print_json(report_json(path, found))
    else:
        print_tables(*report_lines(path, found))
