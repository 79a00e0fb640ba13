"""Reads single numbers out of a Prometheus text exposition."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from .errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Exposition:
    """
    The samples of one scrape.

    Args:
        text: the body of a `/metrics` response.

    Raises:
        EngineError: it is not in the Prometheus text format.
    """

    def __init__(self, text: str) -> None:
        self._values: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        try:
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    row = (sample.labels, float(sample.value))
                    self._values.setdefault(sample.name, []).append(row)
        except ValueError as error:
            raise EngineError(
                f"the engine's metrics are not a Prometheus exposition ({error})",
                remedy="check that the URL is the engine's own /metrics",
            ) from error

    def total_or_none(self, name: str, **labels: str) -> float | None:
        """
        Sum over all series of *name* whose labels match; None if there is none.

        Args:
            name: the sample's full name, with `_total` where it has one.
            labels: values that must match.
        """
        matching = [
            value
            for have, value in self._values.get(name, [])
            if all(have.get(key) == wanted for key, wanted in labels.items())
        ]
        return sum(matching) if matching else None

    def total(self, name: str, **labels: str) -> float:
        """
        The same, where a missing counter is an error.

        Raises:
            EngineError: no such series; the message names its nearest relatives.
        """
        value = self.total_or_none(name, **labels)
        if value is None:
            family = name.partition(":")[0]
            have = sorted(key for key in self._values if key.startswith(family))[:5]
            raise EngineError(
                f"the engine's metrics have no {name}"
                + (f" (they have {', '.join(have)}, …)" if have else ""),
                remedy="check the engine's version and that its metrics are switched on",
            )
        return value
