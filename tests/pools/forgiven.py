"""What becomes of transactions in which a statement has failed, and its error was caught."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import HTTPException

from tenure.pools.errors import TransactionFailed

if TYPE_CHECKING:
    from fastapi import FastAPI


def told_by(app: FastAPI) -> list[TransactionFailed]:
    """Have an app answer 500 where one cannot be committed, and give the list to which it adds each."""
    told: list[TransactionFailed] = []

    @app.exception_handler(TransactionFailed)
    async def keep(request: object, error: TransactionFailed) -> None:
        del request
        told.append(error)
        raise HTTPException(500)

    return told
