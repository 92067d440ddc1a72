"""``python -m roster`` is the command `roster`."""

from __future__ import annotations

from roster.commands import main

if __name__ == "__main__":
    main()
