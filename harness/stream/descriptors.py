"""Makes room for as many sockets as a load needs, within what the system allows."""

from __future__ import annotations

import resource
from typing import Final

from harness.errors import ConfigError

_OTHERS: Final = 64
"""Files, pipes and the loop's own."""


def allow_sockets(count: int) -> None:
    """
    Raise this process's soft limit on open files so that *count* sockets fit.

    Raises:
        ConfigError: the hard limit is lower; only the system's owner can raise it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _OTHERS
    if resource.RLIM_INFINITY in {soft, hard} or wanted <= soft:
        return
    if wanted > hard:
        raise ConfigError(
            f"{count} connections at a time need {wanted} open files, the limit is {hard}",
            remedy="raise it (`ulimit -Hn`), ask for fewer, or use more client processes",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
