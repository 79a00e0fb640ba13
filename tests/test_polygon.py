"""Convex polygons: cut by lines, and drawn from evenly."""

from __future__ import annotations

import numpy as np
import pytest

from harness.joules import polygon

SQUARE = np.array([(0.0, 0.0), (2.0, 0.0), (2.0, 2.0), (0.0, 2.0)])


def test_a_cut_leaves_the_part_below_the_line():
    """The line x + y = 2 halves a square of side 2."""
    left = polygon.cut(SQUARE, np.array([(1.0, 1.0)]), np.array([2.0]))
    _, area = polygon.draw(left, np.random.default_rng(1), 10)
    assert area == pytest.approx(2.0)
    assert np.all(left.sum(axis=1) <= 2.0 + 1e-9)


def test_a_line_outside_cuts_nothing_and_one_beyond_leaves_nothing():
    line = np.array([(1.0, 0.0)])
    assert len(polygon.cut(SQUARE, line, np.array([3.0]))) == 4
    assert len(polygon.cut(SQUARE, line, np.array([-1.0]))) == 0


def test_points_are_drawn_evenly():
    drawn, area = polygon.draw(SQUARE, np.random.default_rng(1), 4000)
    assert area == pytest.approx(4.0)
    assert drawn.mean(axis=0) == pytest.approx([1.0, 1.0], abs=0.05)
    assert np.all((drawn >= 0) & (drawn <= 2))
