"""`python -m choline_data.service`: the server with the flags of `choline-data serve`, and tools for tokens and audit logs."""

from __future__ import annotations

import argparse
import sys

_FILES = {
    "--token-file": "file of tokens and their grants; see docs/serving.md",
    "--tls-cert": "certificate chain of the server, in PEM",
    "--tls-key": "key of the certificate, in PEM",
    "--client-ca": "require client certificates from this authority, in PEM",
    "--audit": "audit log: who opened which stream; -: standard error",
}


def main(argv: list[str] | None = None) -> int:
    """Parses the flags and serves. Returns the exit code."""
    options = vars(_parser().parse_args(argv))
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m choline_data.service",
        description="Serves the datasets of a home, as `choline-data serve` does. Also makes tokens and checks audit logs.",
    )
    parser.add_argument("--home", default="", help="home: a folder or an fsspec URL")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on, or unix:PATH")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0: any free port")
    parser.add_argument("--workers", type=int, default=1, help="number of server processes")
    for name, meaning in _FILES.items():
        parser.add_argument(name, default="", metavar="FILE", help=meaning)
    parser.add_argument("--insecure", action="store_true", help="allow other machines without TLS and tokens")
    parser.add_argument("--max-streams", type=int, default=1000, help="streams that a process serves at once")
    parser.add_argument("--memory", default="512MB", help="memory for cached blocks and messages")
    parser.add_argument("--metrics-port", type=int, help="serve Prometheus metrics")
    parser.add_argument("--http-port", type=int, help="also serve JSON Lines over HTTP")
    parser.add_argument("--reflection", action="store_true", help="enable gRPC reflection")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON")
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="limit of the server; see docs/serving.md; repeatable",
    )
    parser.add_argument(
        "--tokenizer",
        action="append",
        default=[],
        metavar="NAME=PATH",
        dest="tokenizers",
        help="tokenizer that readers may use; repeatable",
    )
    parser.add_argument(
        "--http-host",
        action="append",
        default=[],
        metavar="NAME",
        dest="http_hosts",
        help="host name that the HTTP port also answers to; repeatable",
    )
    parser.add_argument("--shared-port", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--check-audit", metavar="FILE", nargs="+", help="check an audit log; its files, oldest first")
    parser.add_argument("--audit-head", metavar="FILE", default="", help="copy of the log's head file")
    parser.add_argument("--new-token", action="store_true", help="print a new token and its sha256")
    return parser


def check_audit(paths: list[str], head: str = "") -> int:
    """Prints where an audit log was changed.

    Returns 0 if the log is as it was written, 2 if it can't be read, and 3 if it was changed or its head file is missing or
    damaged.
    """
    from choline_data.service.audit_check import check_log

    try:
        faults, notes = check_log(paths, head)
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
