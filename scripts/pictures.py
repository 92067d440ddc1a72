# noqa: INP001 (a program)
"""Draw the pictures of the guide to the command line: what it prints in a terminal, and the graph that it draws."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

PROJECT = Path(__file__).parents[1]
IMAGES = PROJECT / "docs" / "images"
ROSTER = PROJECT / "examples" / "roster"
WIDTH = 100
COMMANDS = {"graph": ["graph"], "start": ["start"]}
FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""By which Rich has a font fetched from a server; a picture needs nothing from elsewhere."""
FONT = "ui-monospace, 'SF Mono', Menlo, 'DejaVu Sans Mono', monospace"


def printed(words: list[str], **variables: str) -> str:
    """Give what a command prints in the example's folder."""
    command = [str(Path(sys.executable).with_name("tenure")), *words]
    environment = {**os.environ, **variables, "COLUMNS": str(WIDTH)}
    done = subprocess.run(  # noqa: S603 (our own command)
        command, cwd=ROSTER, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
    )
    return done.stdout


def pictured(words: list[str]) -> str:
    """Give a picture of a terminal in which a command has run."""
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi(printed(words, FORCE_COLOR="1")), soft_wrap=False)
    name = f"tenure {' '.join(words)}"
    picture = FONT_FACE.sub("", console.export_svg(title=name, unique_id="-".join(["cli", *words])))
    return re.sub(r"font-family: (?:Fira Code, monospace|arial);", f"font-family: {FONT};", picture)


def main() -> None:
    """Write each picture anew."""
    for name, words in COMMANDS.items():
        (IMAGES / f"cli-{name}.svg").write_text(pictured(words))
    (IMAGES / "cli-graph-format.svg").write_text(printed(["graph", "--format", "svg"]))


if __name__ == "__main__":
    main()
