"""The command line: one module a command; each parses, calls the library and renders what it returns."""

from cloformer_deploy.cli.app import main

__all__ = ["main"]
