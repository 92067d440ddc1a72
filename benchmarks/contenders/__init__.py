"""The contenders: how each library is told to do the work, as its own documentation says, at its best."""

from importlib import import_module

from benchmarks.contenders.contender import Contender, Entry

__all__ = ["BASELINE", "FASTAPI", "NATIVE", "TENURE", "Contender", "Entry", "contenders"]

BASELINE = "module globals"
FASTAPI = "FastAPI, async def"
TENURE = "tenure"

NATIVE = ("module_globals", "plain_fastapi", "with_tenure")
"""The modules that need nothing but the development environment."""

OTHERS = (
    "with_dishka",
    "with_wireup",
    "with_svcs",
    "with_that_depends",
    "with_modern_di",
    "with_dependency_injector",
    "with_aioinject",
)


def contenders(*, others: bool = True) -> list[Contender]:
    """
    Give the contenders in the order of the tables, the baseline first.

    Raises:
        ModuleNotFoundError: A library is not installed; `make bench` makes an environment that has them all.
    """
    modules = [import_module(f"{__name__}.{name}") for name in (*NATIVE, *(OTHERS if others else ()))]
    return [contender for module in modules for contender in module.CONTENDERS]
