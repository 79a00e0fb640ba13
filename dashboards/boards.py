# ruff: noqa: INP001 - a script's data, beside the boards made from it
"""All boards there are."""

from __future__ import annotations

from typing import Final

from board_fleet import FLEET
from board_node import NODE
from board_run import RUN

BOARDS: Final = (FLEET, NODE, RUN)
