"""`tollgate token`: service tokens in the file that a running API reads."""

from __future__ import annotations

import time

import click
import orjson

from api.tokens import SCOPES, Token, TokenFile, parse_expiry, read
from schemas.settings import Settings


@click.group()
def token() -> None:
    """Issue, rotate, revoke and list service tokens."""


@token.command()
@click.option("--tenant", required=True, help="The tenant that whoever brings the token acts for.")
@click.option("--scopes", help=f"Some of {', '.join(SCOPES)}, with commas between.  [default: all]")
@click.option("--expires", help="A span from now (30d, 12h) or an RFC 3339 time.  [default: never]")
def issue(tenant: str, scopes: str | None, expires: str | None) -> None:
    """Print a new token, as the last line. It cannot be shown again."""
    now = time.time_ns() // 1_000
    named = [scope.strip() for scope in scopes.split(",")] if scopes is not None else []
    expires_at = parse_expiry(expires, now) if expires is not None else None
    issued, text = _file().issue(tenant, named, expires_at, now)
    click.echo(_line(issued), err=True)
    click.echo(text)


@token.command()
@click.argument("token_id", metavar="ID")
@click.option("--overlap", default="24h", show_default=True, help="How long the old token still holds.")
@click.option("--expires", help="When the new one ends: a span or an RFC 3339 time.  [default: never]")
def rotate(token_id: str, overlap: str, expires: str | None) -> None:
    """Print a new token of the same tenant and scopes, as the last line; the old one ends after the overlap."""
    now = time.time_ns() // 1_000
    old_expires_at = parse_expiry(overlap, now)
    expires_at = parse_expiry(expires, now) if expires is not None else None
    old, new, text = _file().rotate(token_id, old_expires_at, expires_at, now)
    click.echo(_line(old), err=True)
    click.echo(_line(new), err=True)
    click.echo(text)


@token.command()
@click.argument("token_id", metavar="ID")
def revoke(token_id: str) -> None:
    """Take a token away."""
    click.echo(f"revoked {_line(_file().revoke(token_id))}")


@token.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls(as_json: bool) -> None:
    """List tokens by id; none shows what a token is made of."""
    now = time.time_ns() // 1_000
    tokens = read(Settings.from_environment().tokens_file)
    if as_json:
        click.echo(orjson.dumps([_shown(listed, now) for listed in tokens]))
        return
    for listed in tokens:
        click.echo(_line(listed) + ("" if listed.holds_at(now) else "  EXPIRED"))


def _file() -> TokenFile:
    return TokenFile(Settings.from_environment().tokens_file)


def _shown(listed: Token, now: int) -> dict[str, object]:
    return {
        "id": listed.id,
        "tenant": listed.tenant,
        "scopes": listed.scopes,
        "created_at": listed.created_at,
        "expires_at": listed.expires_at,
        "expired": not listed.holds_at(now),
    }


def _line(listed: Token) -> str:
    ends = f"until {listed.expires_at}" if listed.expires_at is not None else "for ever"
    return f"{listed.id}  {listed.tenant}  since {listed.created_at} {ends}  {','.join(listed.scopes)}"
