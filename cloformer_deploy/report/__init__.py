"""The answers of the commands: tables for people, JSON for scripts, and an HTML report."""

from cloformer_deploy.report.answers import (
    bundle_json,
    calibration_json,
    export_json,
    inspection_json,
    survey_json,
    validation_json,
)
from cloformer_deploy.report.blame import blame_json, blame_tables
from cloformer_deploy.report.blame_plot import draw_blame
from cloformer_deploy.report.cross_check import cross_check_json, cross_check_tables
from cloformer_deploy.report.placement import placement_tables
from cloformer_deploy.report.tables import (
    bundle_tables,
    calibration_tables,
    export_tables,
    inspection_tables,
    survey_tables,
    validation_tables,
)

__all__ = [
    "blame_json",
    "blame_tables",
    "bundle_json",
    "bundle_tables",
    "calibration_json",
    "calibration_tables",
    "cross_check_json",
    "cross_check_tables",
    "draw_blame",
    "export_json",
    "export_tables",
    "inspection_json",
    "inspection_tables",
    "placement_tables",
    "survey_json",
    "survey_tables",
    "validation_json",
    "validation_tables",
]
