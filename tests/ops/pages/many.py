"""An app of 150 resources in twelve files, which are not there: code says where it is from."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from tenure import lifespan
from tenure.ops import ops_router

AREAS = ("orders", "billing", "search", "users", "mail", "stock", "reports", "auth", "media", "events", "admin")
PARTS = {  # what each area has, and what it needs
    "service": ("app", ["repository", "cache", "client", "index"]),
    "repository": ("app", ["session"]),
    "session": ("app", ["core_pool"]),
    "cache": ("app", ["core_valkey"]),
    "limits": ("app", ["cache"]),
    "lock": ("app", ["core_valkey"]),
    "queue": ("app", ["core_broker"]),
    "worker": ("app", ["queue", "repository"]),
    "client": ("app", ["core_http"]),
    "model": ("app", []),
    "index": ("app", ["model"]),
    "metrics": ("app", []),
    "mailer": ("app", ["client"]),
}
CORE = {
    "core_settings": [],
    "core_database": ["core_settings"],
    "core_pool": ["core_database"],
    "core_valkey": ["core_settings"],
    "core_broker": ["core_settings"],
    "core_http": ["core_settings"],
    "core_clock": [],
}


def declare(known: dict[str, Any], area: str, name: str, scope: str, needs: list[str]) -> None:
    """Declare one, as if it stood in the file of its area."""
    parameters = ", ".join(f"{need}: Annotated[str, Depends({need})]" for need in needs)
    code = f'@scoped("{scope}")\nasync def {name}({parameters}) -> str:\n    """Be {name}."""\n    return "{name}"\n'
    exec(compile("\n" * len(known) + code, f"shop/{area}.py", "exec", dont_inherit=True), known)  # noqa: S102


known: dict[str, Any] = {"__name__": "shop"}
exec("from typing import Annotated\nfrom fastapi import Depends\nfrom tenure import scoped", known)  # noqa: S102
for name, needs in CORE.items():
    declare(known, "core", name, "app", needs)
for area in AREAS:
    for part in ("model", "session", "cache", "limits", "lock", "queue", "client", "metrics", "mailer", "repository"):
        scope, needs = PARTS[part]
        declare(known, area, f"{area}_{part}", scope, [n if n.startswith("core_") else f"{area}_{n}" for n in needs])
    for part in ("index", "worker", "service"):
        scope, needs = PARTS[part]
        declare(known, area, f"{area}_{part}", scope, [n if n.startswith("core_") else f"{area}_{n}" for n in needs])

COUNT = len(CORE) + len(AREAS) * len(PARTS)

app = FastAPI(
    title="many", lifespan=lifespan(also=[known[name] for name in known if name.endswith(tuple(PARTS)) or name in CORE])
)
app.include_router(ops_router())
