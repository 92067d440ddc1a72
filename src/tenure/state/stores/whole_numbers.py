"""The numbers that engines keep for `Cache.increment`: whole, and of 64 bits, whichever engine it is."""

from __future__ import annotations

from tenure.errors import StateFull, StateMismatch

SMALLEST, LARGEST = -(2**63), 2**63 - 1


def within_64_bits(number: int, key: str) -> int:
    """
    Give a number back.

    Raises:
        StateFull: It needs more than 64 bits.
    """
    if not SMALLEST <= number <= LARGEST:
        raise beyond_64_bits(key)
    return number


def beyond_64_bits(*keys: str) -> StateFull:
    """Give the refusal of what would leave 64 bits, under the key if it is known."""
    return StateFull("the number would be beyond 64 bits", path=keys, hint="begin a new one, under another key")


def no_number(*keys: str) -> StateMismatch:
    """Give the refusal to add to what is kept, under the key if it is known."""
    message = "what is kept there is not a whole number, and cannot be added to"
    return StateMismatch(message, path=keys, hint="use another key for the number, or delete this one")
