"""
Models that an app, or all workers of a machine, load once and share.

`model` declares one, `Model` is what is injected, `ModelFile` a file that is checked before it is loaded. Knows nothing
of what computes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenure.lazy import names

if TYPE_CHECKING:
    from tenure.models.errors import (
        ModelBusy,
        ModelClosed,
        ModelError,
        ModelFailed,
        ModelLate,
        ModelLoadFailed,
        NotInvariant,
        WarmupFailed,
    )
    from tenure.models.files import Format, ModelFile
    from tenure.models.handle import Model, ModelStats
    from tenure.models.model import ModelResource, model
    from tenure.models.native import onnx_options

__all__ = [
    "Format",
    "Model",
    "ModelBusy",
    "ModelClosed",
    "ModelError",
    "ModelFailed",
    "ModelFile",
    "ModelLate",
    "ModelLoadFailed",
    "ModelResource",
    "ModelStats",
    "NotInvariant",
    "WarmupFailed",
    "model",
    "onnx_options",
]

_ERRORS = [
    "ModelBusy",
    "ModelClosed",
    "ModelError",
    "ModelFailed",
    "ModelLate",
    "ModelLoadFailed",
    "NotInvariant",
    "WarmupFailed",
]

__getattr__ = names(
    __name__,
    {
        **dict.fromkeys(_ERRORS, f"{__name__}.errors"),
        **dict.fromkeys(["Format", "ModelFile"], f"{__name__}.files"),
        **dict.fromkeys(["Model", "ModelStats"], f"{__name__}.handle"),
        **dict.fromkeys(["ModelResource", "model"], f"{__name__}.model"),
        "onnx_options": f"{__name__}.native",
    },
)
