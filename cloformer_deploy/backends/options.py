"""Options of formats that have none of their own."""

from cloformer_deploy.system.schema import Strict


class NoOptions(Strict):
    """The options of a format without options."""
