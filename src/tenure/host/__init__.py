"""
Processes that the workers of one machine share: started by the first, kept for all, gone with the last.

Knows nothing of FastAPI or of resources. `Service` is the supervisor, `EmbeddedPostgres` a PostgreSQL server on it.
"""

from tenure.host.postgres import EmbeddedPostgres
from tenure.host.supervisor import Service

__all__ = ["EmbeddedPostgres", "Service"]
