"""
Processes that the workers of one machine share: started by the first, kept for all, gone with the last.

Knows nothing of FastAPI or of resources. `Service` is the supervisor; `EmbeddedPostgres` and `EmbeddedValkey` are
servers on it.
"""

from tenure.host.postgres import EmbeddedPostgres
from tenure.host.supervisor import Service
from tenure.host.valkey import EmbeddedValkey

__all__ = ["EmbeddedPostgres", "EmbeddedValkey", "Service"]
