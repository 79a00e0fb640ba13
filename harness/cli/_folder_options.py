"""The options that say where runs and baselines are looked for, the same for every verb."""

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

STORE: Final = click.option(
    "--store",
    "where",
    default="baselines",
    show_default=True,
    help="Folder or URL (s3://..., gs://..., whatever fsspec opens).",
)
