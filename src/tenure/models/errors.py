"""What is wrong with a model, or with a call of one; what passes by itself FastAPI answers 503 or 504."""

from __future__ import annotations

from tenure.errors import AlreadyClosed, TenureError
from tenure.refusals import Refusal


class ModelError(TenureError):
    """The base of what a model raises, beside what its own function does."""

    code = "model"


class ModelLoadFailed(ModelError):
    """Raised at start, or by a swap, when a model could not be loaded; the cause says why."""

    code = "model-load"


class WarmupFailed(ModelError):
    """Raised at start, or by a swap, when a model has failed at what it was warmed up with; the cause says why."""

    code = "model-warmup"


class NotInvariant(ModelError):
    """Raised at start, or by a swap, when an item has another result in a batch than alone."""

    code = "model-not-invariant"


class ModelFailed(ModelError):
    """Raised when a model's function gave another number of results than it got items, or raised what none may."""

    code = "model-failed"


class ModelBusy(ModelError, Refusal):
    """Raised when as many items wait for a model as may; this one was not computed. `Retry-After` says until when."""

    code = "model-busy"
    told = "the service is too busy at the moment"


class ModelLate(ModelError, Refusal):
    """Raised when a result was not there in time; an item that still waited is not computed."""

    code = "model-late"
    status = 504
    told = "the service did not answer in time"


class ModelClosed(AlreadyClosed, Refusal):
    """Raised when a model is called, swapped or still waited for after its app has begun to close it."""

    code = "model-closed"
    told = "the service is shutting down"
