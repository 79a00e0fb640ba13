"""The errors a user can cause, each with what is wrong, where, and what to do."""

from __future__ import annotations


class JoulemarkError(Exception):
    """
    Something the user can mend; the command line prints it in one line and exits 2.

    Args:
        problem: what is wrong, naming the value and the limit.
        remedy: what to do about it, as an imperative.
    """

    def __init__(self, problem: str, *, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"

    def __reduce__(self) -> tuple[object, ...]:
        # The remedy is keyword-only, which the default pickling cannot replay;
        # errors cross from the sampler's process to ours.
        return (_rebuild, (type(self), self.problem, self.remedy))


def _rebuild(kind: type[JoulemarkError], problem: str, remedy: str) -> JoulemarkError:
    return kind(problem, remedy=remedy)


class ConfigError(JoulemarkError):
    """A key, a value or a combination in the configuration is not usable."""


class ModelError(JoulemarkError):
    """A model file is missing, incomplete or not what its checksum says."""


class EngineError(JoulemarkError):
    """The engine did not start, stopped, or does not answer as an engine should."""


class PowerUnavailableError(JoulemarkError):
    """No energy or power can be read from this source on this machine."""


class CoverageError(JoulemarkError):
    """The samples do not cover the window, so its energy is refused, not guessed."""


class StoreError(JoulemarkError):
    """A run folder cannot be written, or is not one, or is damaged."""


class PushError(JoulemarkError):
    """A store of metrics was not reached, or did not take what it was sent."""


def cause(error: Exception) -> str:
    """
    What the system says went wrong, without what `urllib` wraps around it.

    >>> import urllib.error
    >>> cause(urllib.error.URLError(ConnectionRefusedError(111, "Connection refused")))
    'Connection refused'
    >>> cause(ValueError("no number"))
    'no number'
    """
    inner = getattr(error, "reason", None)
    if isinstance(inner, OSError):
        return inner.strerror or str(inner)
    return str(error)
