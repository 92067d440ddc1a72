"""Addresses that a password makes say something else: what a driver tells of one may hold a part of the password."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from tenure.errors import DeclarationError

POSTGRES = "write it like `postgresql://user:password@host:5432/database`"
ENCODED = "percent-encode `#`, `/`, `?`, `@` and `:` in a password, as `%23`, `%2F`, `%3F`, `%40` and `%3A`"


def unreadable(what: str, like: str) -> DeclarationError:
    """Give the error for an address, of which it repeats nothing: what that is, and how one is written."""
    return DeclarationError(f"{what} cannot be read", hint=f"{like}; {ENCODED}")


def refuse_misread(address: str, what: str, like: str) -> None:
    """
    Refuse an address that would be read otherwise than it was meant.

    Args:
        address: What was given.
        what: What it is called in the error, which repeats nothing of it.
        like: How one is written.

    Raises:
        DeclarationError: It would.
    """
    if is_misread(address):
        raise unreadable(what, like)


def is_misread(address: str) -> bool:
    """
    Tell whether an address is read otherwise than it was meant, or not at all, by who takes it apart as Python does.

    A `#`, `/` or `?` ends the part of an address that has the password: what is left of that is taken for a port, and
    the `@` comes later. asyncpg, alone, takes the first `@` for the end of the password.
    """
    try:
        parts = urlsplit(address)
        for host in parts.netloc.rpartition("@")[2].split(","):
            _ = urlsplit(f"//{host}").port
        is_asyncpgs = parts.scheme in {"postgresql", "postgres"}
        if is_asyncpgs and parts.query:
            parse_qs(parts.query, strict_parsing=True)
    except ValueError:
        return True
    host = parts.netloc.partition("@")[2] if is_asyncpgs else ""
    path = parts.path if parts.scheme != "unix" else ""  # of a file, which may be called anything
    return "@" in parts.fragment or has_stray(f"{host}{path}?{parts.query}")


def has_stray(rest: str) -> bool:
    """Tell whether there is an `@` in what follows that of an address, but for the values of its options."""
    path, _, query = rest.partition("?")
    return "@" in path or any("@" in option and "=" not in option for option in query.split("&"))


def postgres_at(dsn: str) -> str:
    """
    Say where a PostgreSQL server is that an engine is to use, without its password.

    Raises:
        DeclarationError: That is no address of one.
    """
    refuse_misread(dsn, "the address of the engine of shared state", POSTGRES)
    parts = urlsplit(dsn)
    if parts.scheme not in {"postgresql", "postgres"}:
        msg = "the address of the engine of shared state is not one of a PostgreSQL server"
        raise DeclarationError(msg, hint=f"{POSTGRES}, without a driver's name")
    host = parts.netloc.rpartition("@")[2] or parse_qs(parts.query).get("host", ["localhost"])[0]
    return f"{host}{parts.path}"
