"""`python -m choline_data.service`: the server with the flags of `choline-data serve`, and tools for tokens and audit logs."""

from __future__ import annotations

import argparse
import sys


def main(argv: list[str] | None = None) -> int:
    """Parses the flags and serves. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="choline-data serve")
    parser.add_argument("--home", default="")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    for name in ("--token-file", "--tls-cert", "--tls-key", "--client-ca", "--audit"):
        parser.add_argument(name, default="")
    parser.add_argument("--insecure", action="store_true")
    parser.add_argument("--max-streams", type=int, default=1000)
    parser.add_argument("--memory", default="512MB")
    parser.add_argument("--metrics-port", type=int)
    parser.add_argument("--http-port", type=int)
    parser.add_argument("--reflection", action="store_true")
    parser.add_argument("--json", action="store_true", dest="as_json")
    parser.add_argument("--limit", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--tokenizer", action="append", default=[], metavar="NAME=PATH", dest="tokenizers")
    parser.add_argument("--http-host", action="append", default=[], metavar="NAME", dest="http_hosts")
    parser.add_argument("--shared-port", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--check-audit", metavar="FILE", nargs="+", help="say where an audit log was changed; its files, oldest first"
    )
    parser.add_argument("--audit-head", metavar="FILE", default="", help="a copy of the log's head file")
    parser.add_argument("--new-token", action="store_true", help="print a token and its sha256")
    options = vars(parser.parse_args(argv))
    if options.pop("new_token"):
        import hashlib
        import secrets

        token = secrets.token_urlsafe(32)
        print(f"token: {token}\nsha256: {hashlib.sha256(token.encode()).hexdigest()}")
        return 0
    head = options.pop("audit_head")
    if files := options.pop("check_audit"):
        return check_audit(files, head)
    options["limits"] = dict(item.partition("=")[::2] for item in options.pop("limit"))
    if options.pop("shared_port"):
        from choline_data.service.workers import run_worker

        return run_worker(**options)
    from choline_data.service.serve import run

    return run(options.pop("home") or None, **options)


def check_audit(paths: list[str], head: str = "") -> int:
    """Prints where an audit log was changed.

    Returns 0 if the log is as it was written, 2 if it can't be read, and 3 if it was changed or its head file is missing or
    damaged.
    """
    from choline_data.service.audit_check import checked

    try:
        faults, notes = checked(paths, head)
    except OSError:
        print("The audit log can't be read. Check its path.", file=sys.stderr)
        return 2
    except ValueError:
        print("The log's head file is damaged. Give a copy of it with --audit-head.", file=sys.stderr)
        return 3
    for fault in faults:
        print(fault)
    for note in notes:
        print(f"note: {note}")
    if faults:
        print(f"The log is not as it was written: {len(faults)} {'place' if len(faults) == 1 else 'places'}.")
        return 3
    print("The log is as it was written.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
