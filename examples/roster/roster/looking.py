"""What tells content: magika, on onnxruntime. Imported in the model's own process alone."""

from __future__ import annotations

from magika import Magika
from onnxruntime import InferenceSession  # type: ignore[import-untyped]

from roster.content import Content
from tenure.models import onnx_options


class Looking(Magika):
    """
    Magika with weights that are given, and with no more threads than its model may use.

    Its own way to load them reads the file once more, after its checksum was compared, and takes all processors. That
    it can be replaced is no promise of theirs: the package is pinned.

    Args:
        weights: Those of its standard model.
    """

    def __init__(self, weights: bytes) -> None:
        self._weights = weights
        super().__init__()

    def _init_onnx_session(self) -> InferenceSession:
        return InferenceSession(self._weights, onnx_options(), providers=["CPUExecutionProvider"])

    def __call__(self, file: bytes) -> Content:
        """Tell what a file holds. Of its bytes, the first and the last thousand are looked at."""
        kind = self.identify_bytes(file).output
        return Content(str(kind.label), kind.description)
