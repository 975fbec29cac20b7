"""The report: everything known about a bundle on one page, for people."""

from cloformer_deploy.report.html.commands import Asked
from cloformer_deploy.report.html.contents import Report, gathered
from cloformer_deploy.report.html.page import (
    DEFAULT_NAME,
    page,
    refuse_output,
    report_json,
    report_lines,
    write_report,
)

__all__ = [
    "DEFAULT_NAME",
    "Asked",
    "Report",
    "gathered",
    "page",
    "refuse_output",
    "report_json",
    "report_lines",
    "write_report",
]
