"""The page `/ops`: one document with all in it that it needs, and a policy by which a browser lets nothing else run."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files

from fastapi.responses import HTMLResponse

STYLE = "/* page.css */"
SCRIPT = "/* the parts, in their order */"
PARTS = (
    "dom",
    "told",
    "merged",
    "history",
    "shape",
    "order",
    "layout",
    "marks",
    "graph",
    "viewport",
    "outline",
    "details",
    "startup",
    "pools",
    "health",
    "models",
    "exports",
    "filters",
    "main",
)
"""The parts of the script, in ``browser/``. They are one module in the browser: what one declares, all know."""


def page() -> HTMLResponse:
    """
    Give the page, which asks ``workers.json`` below its own path for what it shows.

    Its policy lets it run its own script and style, known by their hashes, and ask its own server; all else is refused.
    """
    document, policy = _document()
    return HTMLResponse(
        document,
        headers={
            "Cache-Control": "no-store",
            "Content-Security-Policy": policy,
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        },
    )


@cache
def _document() -> tuple[str, str]:
    """Put the parts into one document, and give it with its policy; read once for each process."""
    folder = files("tenure.ops").joinpath("browser")
    read = {name: folder.joinpath(name).read_text(encoding="utf-8") for name in ("page.html", "page.css")}
    style = f"\n{read['page.css']}"
    script = "\n" + "\n".join(folder.joinpath(f"{part}.js").read_text(encoding="utf-8") for part in PARTS)
    policy = "; ".join(
        [
            "default-src 'none'",
            "connect-src 'self'",
            "img-src data:",
            f"style-src {_hash(style)}",
            f"script-src {_hash(script)}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'self'",
        ]
    )
    return read["page.html"].replace(STYLE, style).replace(SCRIPT, script), policy


def _hash(block: str) -> str:
    return f"'sha256-{b64encode(sha256(block.encode()).digest()).decode()}'"
