"""Draws the cost of a million tokens as a waterfall, with matplotlib if it is installed."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harness.errors import ConfigError

from .case import Case
from .split import PARTS

FORMATS: Final = (".png", ".svg", ".pdf")
COLOURS: Final = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#999999", "#CC79A7")
"""Okabe and Ito's palette, told apart by the colour-blind."""
TITLES: Final = {
    "it_energy_usd_per_mtok": "IT energy",
    "cooling_usd_per_mtok": "cooling",
    "electrical_loss_usd_per_mtok": "electrical loss",
    "facility_usd_per_mtok": "facility for the watts",
    "opex_usd_per_mtok": "opex",
    "server_usd_per_mtok": "server and the rest",
}
"""Part to what a reader calls it."""


def waterfall(cases: Sequence[Case], path: Path) -> None:
    """
    One panel a case, the parts stacked from left to right up to the total.

    Args:
        cases: with a total each; parts that are missing are left out.
        path: `.png`, `.svg` or `.pdf`.

    Raises:
        ConfigError: another suffix, or matplotlib is not installed.
    """
    if path.suffix not in FORMATS:
        raise ConfigError(
            f"{path} ends in {path.suffix!r}", remedy=f"end it in one of {', '.join(FORMATS)}"
        )
    try:
        drawing = importlib.import_module("matplotlib.figure")
        backend = importlib.import_module("matplotlib.backends.backend_agg")
    except ImportError as error:
        raise ConfigError(
            "a picture needs matplotlib, which is not installed",
            remedy='install the extra: pip install "joulemark[report]"',
        ) from error
    figure = drawing.Figure(figsize=(9, 3.2 * len(cases)), layout="constrained")
    backend.FigureCanvasAgg(figure)
    for index, case in enumerate(cases):
        axes = figure.add_subplot(len(cases), 1, index + 1)
        bottom = 0.0
        for part, colour in zip(PARTS, COLOURS, strict=True):
            height = getattr(case.result, part)
            if height is None:
                continue
            axes.bar(TITLES[part], height, bottom=bottom, color=colour)
            bottom += height
            axes.annotate(f"{height:.4f}", (TITLES[part], bottom), ha="center", va="bottom")
        if case.result.total_usd_per_mtok is not None:
            axes.bar("total", case.result.total_usd_per_mtok, color="#333333")
        axes.set_ylabel(f"{case.site.currency} per million {case.point.basis} tokens")
        axes.set_title(
            f"{case.point.label} at {case.site.name}; power {case.point.power_kind}", fontsize=9
        )
        axes.tick_params(axis="x", labelsize=8)
        axes.margins(y=0.15)
    try:
        figure.savefig(path)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written ({error.strerror})", remedy="name another file"
        ) from error
