"""The option that says below which folder runs are looked for, the same for every verb."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

ARTIFACT_DIR: Final = click.option(
    "--artifact-dir",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where run ids are looked for.",
)
