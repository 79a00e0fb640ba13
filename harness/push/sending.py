"""Sends what a run found to a store of metrics: Prometheus remote write, or a Pushgateway."""

from __future__ import annotations

import http
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from exporters.openmetrics import registry_of
from harness.ask import ask
from harness.errors import ConfigError, PushError

from . import remote_write

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client.core import Metric

_TIMEOUT_S: Final = 30.0
_SAMPLES: Final = 5000
"""In one request, so that no receiver's limit on its size is met."""
_WORDS_LIMIT: Final = 300
_GROUP_JOB: Final = "joulemark"
_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")


def labelled(families: Iterable[Metric], labels: Mapping[str, str]) -> list[Metric]:
    """
    The families with *labels* added to every sample, families of one name joined.

    Raises:
        ConfigError: a label has no valid name, or the series have it already.
    """
    for name in labels:
        if not _LABEL.match(name) or name.startswith("__"):
            raise ConfigError(
                f"{name!r} is no name of a label", remedy="use letters, digits and underscores"
            )
    joined: dict[str, Metric] = {}
    for family in families:
        for sample in family.samples:
            if taken := sorted(labels.keys() & sample.labels.keys()):
                raise ConfigError(
                    f"{sample.name} has a label {taken[0]!r} of its own",
                    remedy="choose another name for --label",
                )
        samples = [one._replace(labels={**labels, **one.labels}) for one in family.samples]
        if family.name in joined:
            joined[family.name].samples += samples
        else:
            family.samples = samples
            joined[family.name] = family
    return list(joined.values())


def to_remote_write(
    families: Iterable[Metric], url: str, *, headers: Mapping[str, str], step_s: float
) -> tuple[int, int]:
    """
    Send samples with their dates.

    A series of more than one sample gets a mark of its end a step later, as
    Prometheus itself sets when a target goes away.

    Returns:
        How many series and samples were taken.

    Raises:
        PushError: not reached, or refused; the message has the server's words.
    """
    series = remote_write.grouped(families)
    for points in series.values():
        if len(points) > 1:
            points.append((points[-1][0] + round(step_s * 1e3), remote_write.STALE))
    total = sum(len(points) for points in series.values())
    taken = 0
    for body, count in remote_write.requests(series, samples=_SAMPLES):
        try:
            _send("POST", url, body, {**headers, **remote_write.HEADERS})
        except PushError as error:
            if not taken:
                raise
            raise PushError(
                f"{error.problem} (after {taken} of {total} samples were taken)",
                remedy=error.remedy,
            ) from error
        taken += count
    return len(series), taken


def to_pushgateway(
    families: Iterable[Metric], url: str, *, run_id: str, headers: Mapping[str, str]
) -> tuple[str, int]:
    """
    Replace the run's group on a Pushgateway.

    Args:
        families: without dates, which a Pushgateway refuses.
        url: of the gateway, without a path of its own.
        run_id: names the group, beside the job `joulemark`.
        headers: sent along.

    Returns:
        The group's URL, which a DELETE removes, and how many samples it has.

    Raises:
        PushError: not reached, or refused; the message has the server's words.
    """
    made = list(families)
    group = f"{url.rstrip('/')}/metrics/job/{_GROUP_JOB}/run_id/{quote(run_id, safe='')}"
    body = generate_latest(registry_of(made))
    _send("PUT", group, body, {**headers, "Content-Type": CONTENT_TYPE_PLAIN_0_0_4})
    return group, sum(len(family.samples) for family in made)


def _send(method: str, url: str, body: bytes, headers: Mapping[str, str]) -> None:
    status, answer = ask(method, url, headers=headers, timeout_s=_TIMEOUT_S, body=body)
    # A redirect is no success either: followed, a PUT would turn into a GET.
    if not 200 <= status < 300:  # noqa: PLR2004 - success
        said = " ".join(answer.decode(errors="replace").split())[:_WORDS_LIMIT] or "nothing more"
        raise PushError(f"{url} answers {status}: {said}", remedy=_remedy(status, said))


def _remedy(status: int, said: str) -> str:
    if re.search("out of order|out of bounds|duplicate sample|too old", said):
        return (
            "it was pushed before, or is older than the server still takes: import the file of "
            "--openmetrics, or let the server take old samples (out_of_order_time_window)"
        )
    if status == http.HTTPStatus.NOT_FOUND:
        return "check the path; Prometheus needs --web.enable-remote-write-receiver"
    if status in {401, 403}:
        return "give its `Authorization: …` line in a file with --headers"
    return "do what it says, then push again"
