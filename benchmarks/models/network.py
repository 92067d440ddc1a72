"""What computes: the text's vector by the network, averaged over its tokens, and its product with 2,000 others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnxruntime import InferenceSession, SessionOptions
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.models.minilm import Hit

ROWS, WIDTH, TOP = 2_000, 384, 3


class Search:
    """
    Texts in, for each the nearest in falling order out; many are computed at once. May be called by several threads.

    Args:
        contents: The files, by name, as `contents` reads them.
    """

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        numbers = {token: number for number, token in enumerate(contents["vocabulary"].decode().split("\n")[:-1])}
        self._tokenizer = BertWordPieceTokenizer(numbers, lowercase=True)
        self._tokenizer.enable_truncation(256)
        self._tokenizer.enable_padding()
        options = SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        self._session = InferenceSession(contents["weights"], options, providers=["CPUExecutionProvider"])
        # What the vectors are of does not change what a search costs.
        rows = np.random.default_rng(7).standard_normal((ROWS, WIDTH), dtype=np.float32)
        self._rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def __call__(self, texts: list[str]) -> list[list[Hit]]:
        """Search for all of them."""
        encoded = self._tokenizer.encode_batch(texts)
        tokens = np.array([each.ids for each in encoded])
        mask = np.array([each.attention_mask for each in encoded])
        inputs = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
        hidden = self._session.run(["last_hidden_state"], inputs)[0]
        vectors = (hidden * mask[:, :, None]).sum(axis=1, dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return [_nearest(scores) for scores in vectors @ self._rows.T]


def _nearest(scores: np.ndarray) -> list[Hit]:
    best = np.argpartition(scores, -TOP)[-TOP:]
    ordered = best[np.argsort(-scores[best])]
    return [{"id": int(number), "score": round(float(scores[number]), 4)} for number in ordered]
