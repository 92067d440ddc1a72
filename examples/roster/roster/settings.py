"""What an operator may set, by environment variable or in a file named `.env`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from fastapi import Depends
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from tenure import scoped

ENV_FILE = Path(".env")


class Settings(BaseSettings):
    """
    The settings; each is read from ``ROSTER_<NAME>``.

    Attributes:
        dsn: Address of a PostgreSQL database; unset, roster runs a PostgreSQL of its own.
        data: The folder of roster's own PostgreSQL, kept between runs.
        pool_size: Most database connections that one worker opens.
        pool_timeout: Seconds that a request waits for a connection, or for one answer on it, before it is refused.
        seed: Whether a new database begins with 200 made-up users.
        writes_per_minute: Most users that one client adds, changes or removes in a minute, by all workers together.
    """

    # A value may hold a password: errors name the setting, and never what it was set to.
    model_config = SettingsConfigDict(
        env_prefix="ROSTER_", env_file=ENV_FILE, env_ignore_empty=True, extra="ignore", hide_input_in_errors=True
    )

    dsn: SecretStr | None = None
    data: Path = Path(".var/roster")
    pool_size: Annotated[int, Field(ge=5, le=100)] = 10
    pool_timeout: Annotated[float, Field(gt=0, le=60)] = 5
    seed: bool = True
    writes_per_minute: Annotated[int, Field(ge=1)] = 600


class BadSettings(Exception):
    """Raised at start when a setting is not what it must be; the message says which, and where it was set."""


def read_settings() -> Settings:
    """Read the settings; what is shared by workers takes them from here, for it may not hold what one worker has."""
    try:
        return Settings()
    except ValidationError as error:
        names = [f"ROSTER_{fault['loc'][0]}".upper() for fault in error.errors()]
        faults = [f"{origin(name)}: {fault['msg']}" for name, fault in zip(names, error.errors(), strict=True)]
        message = f"{'; '.join(faults)}; correct or remove it"
        raise BadSettings(message) from None


ReadSettings = Annotated[Settings, Depends(read_settings)]


@scoped("app")
def settings(read: ReadSettings) -> Settings:
    """Keep the settings for as long as the app runs."""
    return read


CurrentSettings = Annotated[Settings, Depends(settings)]


def origin(name: str) -> str:
    """Tell where the setting `name`, such as ``ROSTER_DSN``, was set."""
    if name in map(str.upper, os.environ):
        return f"the environment variable {name}"
    return f"{name} in the file {ENV_FILE.resolve()}"
