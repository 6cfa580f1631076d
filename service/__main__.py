"""`python -m choline_data.service`: the server with its flags, as `choline-data serve` has them."""

from __future__ import annotations

import argparse
import sys


def main(argv: list[str] | None = None) -> int:
    """Parses the flags and serves; the exit code."""
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
    parser.add_argument("--check-audit", metavar="FILE", default="", help="say where an audit log was changed")
    parser.add_argument("--new-token", action="store_true", help="print a token and its sha256")
    options = vars(parser.parse_args(argv))
    if options.pop("new_token"):
        import hashlib
        import secrets

        token = secrets.token_urlsafe(32)
        print(f"token: {token}\nsha256: {hashlib.sha256(token.encode()).hexdigest()}")
        return 0
    if checked := options.pop("check_audit"):
        return check_audit(checked)
    options["limits"] = dict(item.partition("=")[::2] for item in options.pop("limit"))
    if options.pop("shared_port"):
        from choline_data.service.workers import run_worker

        return run_worker(**options)
    from choline_data.service.serve import run

    return run(options.pop("home") or None, **options)


def check_audit(path: str) -> int:
    """Prints the lines at which an audit log was changed; 3 where there is one."""
    from choline_data.service.audit import broken

    count = 0
    try:
        with open(path, "rb") as file:
            for number, what in broken(file):
                count += 1
                print(f"line {number} {what}")
    except OSError:
        print("The audit log can't be read. Check its path.", file=sys.stderr)
        return 2
    print(f"{count} places where the log is not as it was written" if count else "The log is as it was written.")
    return 3 if count else 0


if __name__ == "__main__":
    sys.exit(main())
