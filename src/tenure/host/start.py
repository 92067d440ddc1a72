"""
The way into the keeper, run by its path: a keeper needs nothing of what its workers run on, and loads none of it.

`python -m tenure.host.keeper` would import `tenure` first, and with it FastAPI and Pydantic: more to load than all that
a keeper is.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec


class Package(ModuleType):
    """A package whose modules can be imported, and which is loaded itself once something in it is asked for."""

    def __init__(self, spec: ModuleSpec) -> None:
        super().__init__(spec.name)
        vars(self).update(
            __spec__=spec, __loader__=spec.loader, __path__=spec.submodule_search_locations, __file__=spec.origin
        )
        vars(self)["_modules"] = {}

    def __setattr__(self, name: str, value: object) -> None:
        """Keep an imported module apart, for the package may give its name to something else."""
        vars(self)["_modules"][name] = value

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (whatever the package has)
        """Load the package; what a service's own module takes from it is there then."""
        vars(self).update(vars(self).pop("_modules"))
        object.__setattr__(self, "__class__", ModuleType)
        spec = self.__spec__
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module(self)
        return getattr(self, name)


def main() -> None:
    """Put the package in its place, and run the keeper."""
    spec = find_spec("tenure")
    if spec is None:
        sys.exit("tenure cannot be imported")
    sys.modules["tenure"] = Package(spec)
    from tenure.host import keeper  # noqa: PLC0415 (what comes before is the point)

    keeper.main()


if __name__ == "__main__":
    main()
