"""Finds engines that come and go: Prometheus file_sd files, and annotated Kubernetes pods."""

from __future__ import annotations

import json
import logging
import os
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import orjson

from harness.errors import ConfigError, JoulemarkError

from .scrape import Network, Target
from .settings import EngineConfig, KubernetesConfig

_LOG: Final = logging.getLogger(__name__)
_PREFIX: Final = "joulemark.io/"
_MAX_PODS_BYTES: Final = 32_000_000
_TIMEOUT_S: Final = 10.0


def from_file(text: str, *, where: str) -> list[EngineConfig]:
    """
    The engines in one file_sd document.

    Each target is `host:port`; the labels `__metrics_path__`, `__scheme__`, `kind`,
    `model_name`, `instance_id`, `devices` (joined by commas), `role` and `pid` say
    the rest.

    Raises:
        ConfigError: not JSON, or not of that form.
    """
    try:
        groups = json.loads(text)
        found = []
        for group in groups:
            labels = {str(key): str(value) for key, value in group.get("labels", {}).items()}
            found += [_from_labels(str(target), labels) for target in group["targets"]]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"{where} is not a file_sd document ({error!r})",
            remedy='write [{"targets": ["127.0.0.1:8000"], "labels": {}}]',
        ) from error
    return found


def _from_labels(place: str, labels: Mapping[str, str]) -> EngineConfig:
    scheme, path = labels.get("__scheme__", "http"), labels.get("__metrics_path__", "/metrics")
    role: Any = labels.get("role")
    if role not in {None, "prefill", "decode"}:
        raise ConfigError(f"role is {role!r}", remedy="choose prefill or decode")
    return EngineConfig(
        url=f"{scheme}://{place}{path}",
        kind=labels.get("kind", "auto"),
        instance_id=labels.get("instance_id"),
        model_name=labels.get("model_name"),
        devices=tuple(filter(None, labels.get("devices", "").split(","))),
        role=role,
        pid=int(labels["pid"]) if "pid" in labels else None,
    )


def from_pods(document: Mapping[str, Any]) -> list[EngineConfig]:
    """
    The engines among pods.

    A pod is taken if it runs and its annotation `joulemark.io/scrape` is "true";
    `joulemark.io/port`, `…/path`, `…/kind`, `…/model`, `…/devices` and `…/role`
    say the rest. Pods that say nonsense are left out with a warning: whoever may
    annotate a pod must not be able to stop the daemon.
    """
    found = []
    for pod in document.get("items", ()):
        meta, status = pod.get("metadata", {}), pod.get("status", {})
        notes = meta.get("annotations") or {}
        if notes.get(f"{_PREFIX}scrape") != "true" or status.get("phase") != "Running":
            continue
        try:
            port = int(notes.get(f"{_PREFIX}port", "8000"))
            host = str(status["podIP"])
            labels = {
                key: str(notes[_PREFIX + note])
                for key, note in (
                    ("__metrics_path__", "path"),
                    ("kind", "kind"),
                    ("model_name", "model"),
                    ("devices", "devices"),
                    ("role", "role"),
                )
                if _PREFIX + note in notes
            }
            labels["instance_id"] = f"{meta['namespace']}/{meta['name']}"
            bracketed = f"[{host}]" if ":" in host else host
            found.append(_from_labels(f"{bracketed}:{port}", labels))
        except (KeyError, ValueError, ConfigError) as error:
            _LOG.warning("pod %s is annotated in no usable way: %r", meta.get("name"), error)
    return found


class Files:
    """Reads file_sd files again when they have changed; a broken one keeps its last good state."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._known: dict[Path, tuple[int, list[EngineConfig]]] = {}

    def engines(self) -> list[EngineConfig]:
        """All engines of all files."""
        for path in self._paths:
            stamp, found = self._known.get(path, (0, []))
            try:
                changed_ns = path.stat().st_mtime_ns
                if changed_ns != stamp:
                    text = path.read_text(encoding="utf-8")
                    found = from_file(text, where=str(path))
            except (OSError, UnicodeDecodeError, JoulemarkError) as error:
                _LOG.warning("%s: %s", path, error)
                continue
            self._known[path] = (changed_ns, found)
        return [engine for _, found in self._known.values() for engine in found]


async def pods(config: KubernetesConfig, *, allow: Sequence[Network]) -> list[EngineConfig]:
    """
    The engines on this node as the Kubernetes API says, by one read-only list of pods.

    Args:
        config: where the API is and how to log in.
        allow: networks that the API server may be in.

    Raises:
        JoulemarkError: no node name, no token, or no answer.
    """
    node = config.node or os.environ.get("NODE_NAME")
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
    bracketed = f"[{host}]" if ":" in host else host
    api = config.api or f"https://{bracketed}:{os.environ.get('KUBERNETES_SERVICE_PORT', '443')}"
    if not node:
        raise ConfigError("the node's name is not known", remedy="set NODE_NAME from spec.nodeName")
    try:
        token = config.token_file.read_text(encoding="ascii").strip()
        context = None
        if api.startswith("https:"):
            context = ssl.create_default_context(cafile=str(config.ca_file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"no service account ({error})", remedy="mount the pod's service account token"
        ) from error
    selector = quote(f"spec.nodeName={node}")
    target = Target(
        f"{api}/api/v1/pods?fieldSelector={selector}",
        allow=allow,
        max_bytes=_MAX_PODS_BYTES,
        headers=[("Authorization", f"Bearer {token}")],
        tls=context,
    )
    try:
        return from_pods(orjson.loads(await target.fetch(timeout_s=_TIMEOUT_S)))
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{api} sends no JSON ({error})", remedy="check the API's URL") from error
    finally:
        target.close()
