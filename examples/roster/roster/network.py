"""What computes embeddings: vocabulary and weights, on onnxruntime. Imported in the model's own process alone."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession  # type: ignore[import-untyped]
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer

from tenure.models import ModelFile, onnx_options

MAX_TOKENS = 256
"""What the model reads of a text, as it was published: about 200 English words."""
MAX_CHARACTERS = 16_384
"""What is cut into tokens at all: far more than fits, far less than would keep a thread busy."""

VOCABULARY = ModelFile(
    Path(__file__).with_name("data") / "vocab.txt",
    sha256="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    format="text",
)


class Network:
    """
    Gives the vector of each text. Blocks, and uses no thread but the one that it is called in.

    Texts of about the same length are computed together, so that a long one does not make all as slow as itself. What
    fills up a shorter one is masked: a vector depends on its text, and not on its company.

    Args:
        weights: An ONNX file of a network that takes the tokens of the vocabulary.

    Raises:
        ModelRefused: The vocabulary is not the one that was pinned.
    """

    def __init__(self, weights: bytes) -> None:
        self._tokenizer = _tokenizer(VOCABULARY.read())
        self._session = InferenceSession(weights, onnx_options(), providers=["CPUExecutionProvider"])

    def __call__(self, texts: list[str]) -> list[list[float]]:
        """Give 384 floats for each text, of length 1."""
        tokens = [self._tokenizer.encode(text[:MAX_CHARACTERS]).ids for text in texts]
        alike: defaultdict[int, list[int]] = defaultdict(list)
        for number, of_text in enumerate(tokens):
            alike[len(of_text).bit_length()].append(number)
        vectors: list[list[float]] = [[] for _ in texts]
        for numbers in alike.values():
            for number, vector in zip(numbers, self._vectors([tokens[each] for each in numbers]), strict=True):
                vectors[number] = vector
        return vectors

    def _vectors(self, tokens: list[list[int]]) -> list[list[float]]:
        """Average what the network says of each token of a text, and bring that to length 1."""
        longest = max(map(len, tokens))
        mask = np.array([[1] * len(of_text) + [0] * (longest - len(of_text)) for of_text in tokens])
        numbers = np.zeros_like(mask)
        numbers[mask == 1] = [token for of_text in tokens for token in of_text]
        inputs = {"input_ids": numbers, "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}
        hidden = np.asarray(self._session.run(["last_hidden_state"], inputs)[0], dtype=np.float64)
        means = [each[: len(of_text)].mean(axis=0) for each, of_text in zip(hidden, tokens, strict=True)]
        return [(mean / np.linalg.norm(mean)).tolist() for mean in means]


def _tokenizer(vocabulary: bytes) -> BertWordPieceTokenizer:
    numbers = {token: number for number, token in enumerate(vocabulary.decode().split("\n")[:-1])}
    tokenizer = BertWordPieceTokenizer(numbers, lowercase=True)
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer
