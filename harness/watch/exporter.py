"""Looks at the page of a running `joulemark export`."""

from __future__ import annotations

import base64
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Final, Self

from prometheus_client.parser import text_string_to_metric_families

from harness.errors import ConfigError, EngineError, cause

from .reading import Reading, Row

_TIMEOUT_S: Final = 5.0
_UUID_SHOWN: Final = 16
"""Of a UUID: enough to tell the GPUs of a node apart."""
_MODEL: Final = ("model_name", "engine", "instance_id")

Samples = Mapping[str, list[tuple[Mapping[str, str], float]]]


class Exporter:
    """
    A daemon's `/metrics`.

    Args:
        url: of the daemon; `/metrics` is added where there is no path, and
            `user:password@` becomes a header.

    Raises:
        ConfigError: it is no http URL.
    """

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(f"{url!r} is no http URL", remedy="name e.g. http://node:9778")
        place = parts.netloc.rpartition("@")[2]
        path = parts.path if parts.path.strip("/") else "/metrics"
        self.title = urllib.parse.urlunsplit((parts.scheme, place, path, parts.query, ""))
        self._headers = {"Accept": "text/plain"}
        if parts.username is not None:
            login = f"{urllib.parse.unquote(parts.username)}:"
            login += urllib.parse.unquote(parts.password or "")
            word = base64.b64encode(login.encode()).decode()
            self._headers["Authorization"] = f"Basic {word}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def read(self) -> Reading:
        """
        Scrape it once.

        Raises:
            EngineError: it does not answer.
            ConfigError: the page is not that of `joulemark export`.
        """
        request = urllib.request.Request(self.title, headers=self._headers)  # noqa: S310 - http or https only
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                text = answer.read().decode()
        except (OSError, ValueError) as error:
            raise EngineError(
                f"{self.title} cannot be read ({cause(error)})",
                remedy="check that `joulemark export` runs there, and the port",
            ) from error
        return reading(text, where=self.title)


def reading(text: str, *, where: str) -> Reading:
    """
    What a page says.

    Args:
        text: in the Prometheus text format.
        where: its URL, for the message.

    Raises:
        ConfigError: it is not the page of `joulemark export`.
    """
    samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples.setdefault(sample.name, []).append((sample.labels, float(sample.value)))
        ((_, t_s),) = samples["joulemark_snapshot_timestamp_seconds"]
    except (ValueError, KeyError) as error:
        raise ConfigError(
            f"{where} is not the page of `joulemark export`",
            remedy="name the daemon's /metrics; an engine's own page has no joules",
        ) from error
    codes = sorted(
        labels["code"] for labels, value in samples.get("joulemark_findings", []) if value
    )
    return Reading(
        t_s=t_s,
        rows=(*_meters(samples), *_models(samples)),
        notes=tuple(f"finding: {code}" for code in codes),
    )


def _meters(samples: Samples) -> Iterator[Row]:
    for name, note in (
        ("joulemark_device_energy_joules_total", ""),
        ("joulemark_host_energy_joules_total", "beside, never to be added"),
    ):
        for labels, joules in samples.get(name, []):
            boundary = labels["boundary"].replace("_", " ")
            yield Row(
                name=f"{boundary} {labels['uuid'][:_UUID_SHOWN]}",
                kind=labels["power_kind"],
                joules=joules,
                note=note,
            )
    for kind, joules in _sums(samples, "joulemark_unattributed_energy_joules_total", ()).items():
        yield Row(name="of no model", kind=kind[-1], joules=joules, note="idle, or not attributed")


def _models(samples: Samples) -> Iterator[Row]:
    energies = _sums(samples, "joulemark_model_energy_joules_total", _MODEL)
    tokens = _sums(samples, "joulemark_generated_tokens_total", _MODEL)
    facts = {
        name: {
            tuple(labels[key] for key in _MODEL): value
            for labels, value in samples.get(f"joulemark_engine_{name}", [])
        }
        for name in ("up", "running_requests")
    }
    for key in sorted({*energies, *tokens}):
        *model, kind = key
        up, running = (facts[name].get(tuple(model)) for name in ("up", "running_requests"))
        note = "not answering" if up == 0 else "" if running is None else f"{running:.0f} running"
        yield Row(
            name=f"{model[0] or 'model not named'} ({model[1]} {model[2]})",
            kind=kind,
            joules=energies.get(key),
            tokens=tokens.get(key),
            note=note,
        )


def _sums(samples: Samples, name: str, by: tuple[str, ...]) -> dict[tuple[str, ...], float]:
    """Totals by the labels named and the kind of power, which is never summed over."""
    found: dict[tuple[str, ...], float] = {}
    for labels, value in samples.get(name, []):
        key = (*(labels[label] for label in by), labels["power_kind"])
        found[key] = found.get(key, 0.0) + value
    return found
