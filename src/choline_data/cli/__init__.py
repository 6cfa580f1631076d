"""The command line. Each command imports what it needs when it runs, so that `--help` answers at once."""

from __future__ import annotations

import sys


def main() -> None:
    """The entry point of `choline-data`: errors on one line, exit code 1 (2 usage, 3 needs a choice, 130 interrupted)."""
    from choline_data.cli.app import app
    from choline_data.cli.output import report_error
    from choline_data.errors import CholineDataError

    try:
        app(standalone_mode=False)
    except CholineDataError as error:
        report_error(error, as_json="--json" in sys.argv)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted. Nothing half-done was published.\n")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away, as `head` does.
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        import click

        if isinstance(error, click.exceptions.Exit):
            sys.exit(error.exit_code)
        if isinstance(error, click.exceptions.Abort):
            sys.exit(130)
        if isinstance(error, click.ClickException):
            error.show()
            sys.exit(error.exit_code)
        raise
