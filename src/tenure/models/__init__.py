"""
Models that an app loads once and shares.

Knows nothing of FastAPI, nor of what runs a model. `ModelFile` is a file that is checked before it is loaded.
"""

from __future__ import annotations

from tenure.models.files import Format, ModelFile

__all__ = ["Format", "ModelFile"]
