"""The HTML report: everything known about a bundle, on one page."""

from cloformer_deploy.report.html.commands import Asked
from cloformer_deploy.report.html.contents import Report, gathered
from cloformer_deploy.report.html.page import (
    DEFAULT_NAME,
    check_output,
    page,
    report_json,
    report_lines,
    write_report,
)

__all__ = [
    "DEFAULT_NAME",
    "Asked",
    "Report",
    "check_output",
    "gathered",
    "page",
    "report_json",
    "report_lines",
    "write_report",
]
