"""Errors on the wire contain no secret, and each has its whole remedy."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from choline_data.service.status import redacted

SOURCE = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer s3cr3t",
        "bearer  s3cr3t",
        "https://user:s3cr3t@host/x",
        "https://host/x?X-Amz-Signature=s3cr3t&token=s3cr3t&sig=s3cr3t",
        "api_key=s3cr3t apikey: s3cr3t API_KEY=s3cr3t 'password': 's3cr3t' mypassword=s3cr3t",
        "accessToken=s3cr3t ACCESS_TOKEN=s3cr3t X-Auth-Token: s3cr3t AWSSecretKey=s3cr3t client-secret = s3cr3t",
        "token: TOKENs3cr3t",
        "hf_s3cr3ts3cr3t",
        "AKIAABCDEFGHIJKLMNOP:s3cr3t",
        "-----BEGIN PRIVATE KEY-----\ns3cr3t\n-----END PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_secret_does_not_go_over_the_wire(text: str) -> None:
    assert "s3cr3t" not in redacted(text)


def told() -> Iterator[tuple[str, str]]:
    """Every message and remedy of an error in the source; what is filled in is a word."""
    folders = ("adapters", "catalog", "client", "service", "src/choline_data")
    for path in (path for folder in folders for path in sorted((SOURCE / folder).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            if not (called.lower().endswith("error") or "remedy" in keywords):
                continue
            for part in (*node.args, *keywords.values()):
                for text in ast.walk(part):
                    if isinstance(text, ast.JoinedStr):
                        pieces = (v.value if isinstance(v, ast.Constant) else "word" for v in text.values)
                        yield str(path), "".join(map(str, pieces))
                    elif isinstance(text, ast.Constant) and isinstance(text.value, str):
                        yield str(path), text.value


def test_every_message_and_remedy_of_ours_goes_over_the_wire_whole() -> None:
    texts = list(told())
    assert len(texts) > 500
    assert [(path, text) for path, text in texts if redacted(text) != text] == []
