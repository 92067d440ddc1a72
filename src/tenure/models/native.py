"""Native threads, those of BLAS, OpenMP and onnxruntime: bounded, so that those of several calls do not fight."""

from __future__ import annotations

import logging
import os
import sys
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tenure.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

logger = logging.getLogger("tenure")

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
)
"""What native libraries read when they are loaded."""

_loading: ContextVar[int | None] = ContextVar("tenure_native_threads", default=None)


def cores() -> int:
    """Give how many processors this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environment(threads: int | None) -> dict[str, str]:
    """Give what bounds native threads in a process whose libraries are still to be loaded."""
    return {} if threads is None else dict.fromkeys(VARIABLES, str(threads))


def onnx_options() -> Any:  # noqa: ANN401 (a package without types)
    """
    Give `SessionOptions` of onnxruntime, with as many threads as the model that is being loaded may use.

    ``InferenceSession(content, onnx_options())``, in a model's `load`. Its threads do not spin while they wait, as that
    would take a processor from all others.

    Raises:
        MissingExtra: onnxruntime is not installed.
    """
    if find_spec("onnxruntime") is None:
        msg = "onnx_options() needs onnxruntime, which is not installed"
        raise MissingExtra(msg, hint="pip install onnxruntime")
    options = import_module("onnxruntime").SessionOptions()
    threads = _loading.get()
    if threads is not None:
        options.intra_op_num_threads = options.inter_op_num_threads = threads
    for kind in ("intra", "inter"):
        options.add_session_config_entry(f"session.{kind}_op.allow_spinning", "0")
    return options


class NativeThreads:
    """
    A bound on the native threads that each call of a model uses.

    Some libraries have one bound for the whole process, which is put back at the end.

    Args:
        name: What the log calls the model.
        threads: How many a call may use; nothing leaves all as it is.
        workers: How many calls run at once.
    """

    def __init__(self, name: str, threads: int | None, workers: int) -> None:
        self._name = name
        self._threads = threads
        self._workers = workers
        self._here = threading.local()
        self._before: list[Any] = []

    @contextmanager
    def loading(self) -> Generator[None]:
        """Bound what a model loads with, and let `onnx_options` know; in the thread that loads it."""
        token = _loading.set(self._threads)
        try:
            self._apply()
            yield
        finally:
            _loading.reset(token)

    def bounded(self, function: Callable[[list[Any]], Any]) -> Callable[[list[Any]], Any]:
        """Give a function that computes within the bound, in whatever thread, also by what was loaded meanwhile."""
        if self._threads is None or not _controllable():
            return function

        def within(items: list[Any]) -> Any:  # noqa: ANN401 (any results)
            if not getattr(self._here, "is_bounded", False):  # OpenMP has a bound for each thread that calls it
                self._apply()
                self._here.is_bounded = True
            return function(items)

        return within

    def put_back(self) -> None:
        """Undo what holds for the whole process."""
        while self._before:
            self._before.pop().restore_original_limits()
        _let_others()

    def warn(self) -> None:
        """Warn where calls would fight for the processors; once a model is loaded."""
        threads, available = self._threads, cores()
        if threads is None:
            if self._workers > 1:
                logger.warning(
                    "`%s` computes %d batches at once, and native libraries may use all %d processors for each: "
                    "say `native_threads=1`",
                    self._name,
                    self._workers,
                    available,
                    extra={"tenure_event": "native-threads", "tenure_resource": self._name},
                )
        elif self._workers * threads > available:
            logger.warning(
                "`%s` uses %d threads, workers=%d times native_threads=%d, and there are %d processors: "
                "they take turns, and each is slower",
                self._name,
                self._workers * threads,
                self._workers,
                threads,
                available,
                extra={"tenure_event": "native-threads", "tenure_resource": self._name},
            )
        elif "numpy" in sys.modules and not _controllable() and not any(name in os.environ for name in VARIABLES):
            logger.warning(
                "the native threads of `%s` cannot be bounded: `pip install 'tenure[models]'`, or set "
                "OMP_NUM_THREADS=%d and OPENBLAS_NUM_THREADS=%d where the server is started",
                self._name,
                threads,
                threads,
                extra={"tenure_event": "native-threads", "tenure_resource": self._name},
            )

    def _apply(self) -> None:
        if self._threads is not None and _controllable():
            limits = import_module("threadpoolctl").threadpool_limits
            self._before.append(limits(self._threads))
            _let_others()


def _let_others() -> None:
    """Let other threads bound OpenBLAS as well: the first that does so keeps that right for as long as it lives."""
    if _controllable():
        openblas = getattr(import_module("threadpoolctl"), "OpenBLASController", None)
        getattr(openblas, "clear_controlling_thread", lambda: None)()


def _controllable() -> bool:
    return find_spec("threadpoolctl") is not None
