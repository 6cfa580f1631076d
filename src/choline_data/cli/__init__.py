"""The command line. Each command imports its modules when it runs, so that `--help` is fast."""

from __future__ import annotations

import io
import signal
import sys
import warnings


def main() -> None:
    """Runs `choline-data`. Prints an error on one line. Exit codes: 1 error, 2 usage, 3 a choice is needed, 130
    interrupted.
    """
    from choline_data.cli.app import app
    from choline_data.cli.output import report_error
    from choline_data.errors import CholineDataError

    for stream in (sys.stdout, sys.stderr):  # if the terminal cannot show a character, its escape is shown
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.formatwarning = _on_one_line
    # Without this handler, the framework would exit with code 1 at an interrupt.
    signal.signal(signal.SIGINT, _interrupted)
    try:
        app()
    except CholineDataError as error:
        report_error(error, as_json="--json" in sys.argv)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The program that reads our output has closed the pipe, as `head` does.
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        # The error is about a file outside the home, such as the folder of an export. Errors about files of the home are already
        # CholineDataErrors.
        from choline_data.places.disk import refused

        report_error(refused(error), as_json="--json" in sys.argv)
        sys.exit(1)


def _on_one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Formats a warning for the command line. A warning of another package keeps its place in the code."""
    if category.__module__.startswith("choline_data."):
        return f"warning: {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


def _interrupted(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second signal must not interrupt the cleanup after the first
    sys.stderr.write("Interrupted. Nothing half-done was published.\n")
    sys.exit(130)
