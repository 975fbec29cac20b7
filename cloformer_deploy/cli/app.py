"""The application: its commands, and the one place where an error becomes a message and an exit code."""

import contextlib
import errno
import io
import os
import signal
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from cloformer_deploy import __version__
from cloformer_deploy.cli import bench, blame, calibrate, doctor, export, gate, inspect, render, report, tune, validate
from cloformer_deploy.cli.options import complain, print_json
from cloformer_deploy.errors import EXIT_BUG, CloformerDeployError, RequestError
from cloformer_deploy.system.text import VISIBLE

EXIT_INTERRUPTED = 130
EXIT_CLOSED_PIPE = 141
_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)
_WRONG_PLACE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR)


class _Commands(TyperGroup):
    """Runs a command and turns what it raises into the documented exit codes."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        self.as_json = "--json" in args
        try:
            return super().parse_args(ctx, args)
        except TyperException as error:
            self._answer_usage(error)
            raise

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CloformerDeployError as error:
            raise self._ended(error) from None
        except TyperException as error:  # wrong usage, which typer shows on stderr
            self._answer_usage(error)
            raise
        except (typer.Exit, typer.Abort):
            raise
        except BrokenPipeError:  # the reader went away; Python must not try to flush the rest
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(EXIT_CLOSED_PIPE) from None
        except KeyboardInterrupt:
            typer.echo("Interrupted; the output is as it was, or whole.", err=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _DISK_IS_FULL:
                raise self._ended(RequestError(str(error), "make room, or choose another place")) from None
            if isinstance(error, OSError) and error.errno in _WRONG_PLACE:
                raise self._ended(RequestError(str(error), "check the path and its permissions")) from None
            traceback.print_exception(error)
            if self.as_json:
                _answer(EXIT_BUG, f"{type(error).__name__}: {error}", "report it with the lines on standard error")
            typer.echo("This is a bug in cloformer-deploy: please report it with the lines above.", err=True)
            raise typer.Exit(EXIT_BUG) from None

    def _ended(self, error: CloformerDeployError) -> typer.Exit:
        """Show an error in the form that was asked for, and give the exit with its code."""
        if self.as_json:
            _answer(error.exit_code, error.message, error.hint)
        complain(error)
        return typer.Exit(error.exit_code)

    def _answer_usage(self, error: TyperException) -> None:
        if self.as_json:
            _answer(RequestError.exit_code, error.format_message(), "see --help")


def _answer(code: int, message: str, hint: str) -> None:
    error = {"code": code, "message": message, "hint": hint}
    with contextlib.suppress(OSError):  # where stdout is what failed, stderr and the exit code still tell
        print_json({"schema_version": 1, "error": error})


app = typer.Typer(
    name="cloformer-deploy",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="CloFormer on phones and edge boards: export to ONNX, Core ML and TFLite, compared with PyTorch.",
)
app.command("export")(export.command)
app.command("calibrate")(calibrate.command)
app.command("validate")(validate.command)
app.command("bench")(bench.command)
app.command("tune")(tune.command)
app.command("gate")(gate.command)
app.command("blame")(blame.command)
app.command("inspect")(inspect.command)
app.command("report")(report.command)
app.command("render")(render.command)
app.command("doctor")(doctor.command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cloformer-deploy {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line. A termination cleans up as an interrupt does."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names that are not UTF-8, or letters that the terminal lacks
            stream.reconfigure(errors=VISIBLE)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # ONNX Runtime has telemetry on, and writes files for it, at its mere import: nobody asked us for that.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    app()
