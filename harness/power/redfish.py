"""Power of the whole chassis from its management controller (Redfish), at the AC side."""

from __future__ import annotations

import base64
import math
import os
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson

from harness.contracts import PowerSource
from harness.errors import PowerUnavailableError, cause
from harness.timeline import Channel, ReadStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Redfish:
    """
    Watts of each chassis, from `EnvironmentMetrics` or the older `Power`.

    What a management controller reports is a mean over a time it does not say,
    typically a second or more, and at the power supplies' input: fans, CPUs and
    losses included. It is a boundary of its own and never added to the GPUs'.

    Args:
        url: scheme and host, e.g. `https://bmc.example`.
        username: empty: no authentication.
        password_env: the environment variable that holds the password; the password
            itself has no place in a configuration that is stored with each run.
        chassis: ids to read; empty: all that report power.
        ca_file: a certificate authority besides the system's, for private ones.
        verify_tls: False accepts any certificate: for a laboratory, never for a fleet.
        period_s: how often to ask.
        timeout_s: how long one answer may take.
    """

    url: str
    username: str = ""
    password_env: str = "REDFISH_PASSWORD"  # noqa: S105  the variable's name
    chassis: tuple[str, ...] = ()
    ca_file: str | None = None
    verify_tls: bool = True
    period_s: float = 1.0
    timeout_s: float = 5.0

    def open(self) -> _Session:
        """
        Find the chassis that report power.

        Raises:
            PowerUnavailableError: no answer, no permission, or no power in it.
        """
        session = _Session(self)
        try:
            session.discover()
        except urllib.error.HTTPError as error:
            denied = error.code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
            raise PowerUnavailableError(
                f"{self.url} answers {error.code} {error.reason}",
                remedy=f"set username and ${self.password_env}" if denied else "check the URL",
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PowerUnavailableError(
                f"{self.url} cannot be read ({cause(error)})",
                remedy="check the URL; for a private certificate give ca_file",
            ) from error
        if not session.calls:
            raise PowerUnavailableError(
                f"no chassis of {self.url} reports its power",
                remedy="name one with `chassis`, or use another power source",
            )
        return session


class _Session:
    """What `Redfish.open` returns."""

    def __init__(self, options: Redfish) -> None:
        self._options = options
        self._paths: list[str] = []
        self.calls: list[tuple[Channel, ...]] = []
        self.period_s: float | None = options.period_s
        self._tls = ssl.create_default_context(cafile=options.ca_file)
        if not options.verify_tls:
            self._tls.check_hostname = False
            self._tls.verify_mode = ssl.CERT_NONE

    def discover(self) -> None:
        """Look which chassis there are and which of their resources hold watts."""
        members = self._get("/redfish/v1/Chassis")["Members"]
        for member in members:
            path = member["@odata.id"].rstrip("/")
            name = path.rpartition("/")[2]
            if self._options.chassis and name not in self._options.chassis:
                continue
            for resource in ("EnvironmentMetrics", "Power"):
                try:
                    watts = _watts(self._get(f"{path}/{resource}"))
                except (urllib.error.HTTPError, ValueError):
                    continue
                if watts is not None:
                    self._paths.append(f"{path}/{resource}")
                    self.calls.append((_channel(name, resource),))
                    break

    def _get(self, path: str) -> dict[str, Any]:
        request = urllib.request.Request(self._options.url.rstrip("/") + path)  # noqa: S310
        if self._options.username:
            password = os.environ.get(self._options.password_env, "")
            pair = f"{self._options.username}:{password}".encode()
            request.add_header("Authorization", f"Basic {base64.b64encode(pair).decode()}")
        timeout_s = self._options.timeout_s
        secure = request.type == "https"
        with urllib.request.urlopen(  # noqa: S310
            request, timeout=timeout_s, context=self._tls if secure else None
        ) as answer:
            body: dict[str, Any] = orjson.loads(answer.read())
        return body

    def read(self, call: int) -> Sequence[tuple[float, ReadStatus]]:
        try:
            watts = _watts(self._get(self._paths[call]))
        except urllib.error.HTTPError as error:
            denied = error.code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
            return [(math.nan, ReadStatus.NO_PERMISSION if denied else ReadStatus.OTHER)]
        except TimeoutError:
            return [(math.nan, ReadStatus.TIMEOUT)]
        except (OSError, ValueError, KeyError, TypeError):
            return [(math.nan, ReadStatus.UNREACHABLE)]
        if watts is None:
            return [(math.nan, ReadStatus.NOT_SUPPORTED)]
        return [(watts, ReadStatus.OK)]

    def watch(self, pids: Sequence[int]) -> None:
        del pids

    def facts(self) -> Mapping[str, Any]:
        return {"paths": self._paths, "verify_tls": self._options.verify_tls}

    def close(self) -> None:
        pass


def _watts(body: Mapping[str, Any]) -> float | None:
    """The watts of an EnvironmentMetrics or a Power resource; None if it has none."""
    reading = body.get("PowerWatts", {}).get("Reading")
    if reading is None:
        control = body.get("PowerControl") or [{}]
        reading = control[0].get("PowerConsumedWatts")
    return None if reading is None else float(reading)


def _channel(name: str, resource: str) -> Channel:
    return Channel(
        name=f"redfish:{name}",
        quantity="power",
        boundary="chassis",
        device=name,
        power_kind="measured",
        method=f"Redfish {resource} of chassis {name}",
        # How long the controller averages is its secret; it is not delayed by a known second.
        sense="instant",
    )


PLUGIN: type[PowerSource] = Redfish
