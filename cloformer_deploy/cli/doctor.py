"""`cloformer-deploy doctor`."""

from cloformer_deploy.cli.options import JsonOption, print_json, print_tables


def command(as_json: JsonOption = False) -> None:
    """Show what this machine can do, what is missing, and the command that installs it."""
    from cloformer_deploy.doctor import survey
    from cloformer_deploy.report import survey_json, survey_tables

    found = survey()
    if as_json:
        print_json(survey_json(found))
    else:
        print_tables(*survey_tables(found))
