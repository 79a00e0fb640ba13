"""Says what in the data speaks against a split of power into prefill, decode and idling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.record import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from .estimate import Coefficient, Split

_POOR_R2: Final = 0.5
_LARGEST_CONDITION: Final = 100.0
_BENT_RATIO: Final = 0.5
_NAMES: Final = {
    "prefill_j_per_token": ("an input token", "J"),
    "decode_j_per_token": ("an output token", "J"),
    "idle_w": ("idling", "W"),
}


def fit_findings(r2: float, condition: float, bend_ratio: float | None) -> tuple[Finding, ...]:
    """
    What the fit alone says.

    Args:
        r2: share of the variance explained.
        condition: of the scaled regressors.
        bend_ratio: of the squared residuals, what is left of them if power may also bend with
            the rate of decoding; None: it does not bend for certain.
    """
    found = []
    if r2 < _POOR_R2:
        found.append(
            Finding(
                code="split_poor_fit",
                severity="warning",
                message=f"prefill and decode rates explain {r2:.0%} of the power's variance, below "
                f"{_POOR_R2:.0%}: other things moved it",
            )
        )
    if condition > _LARGEST_CONDITION:
        found.append(
            Finding(
                code="split_not_told_apart",
                severity="warning",
                message=f"the phases rose and fell together (condition {condition:.0f}, above "
                f"{_LARGEST_CONDITION:.0f}): vary the load, or meter an idle stretch",
            )
        )
    if bend_ratio is not None and bend_ratio < _BENT_RATIO:
        found.append(
            Finding(
                code="split_not_linear",
                severity="warning",
                message="power does not go in proportion to the rates: that it may bend with the "
                f"rate of decoding takes {1 - bend_ratio:.0%} of what the fit leaves, so one "
                "J/token for all of these bins does not exist",
            )
        )
    return tuple(found)


def idle_findings(idle_w: Coefficient, measured_w: Coefficient | None) -> tuple[Finding, ...]:
    """Whether the fitted constant is the power that was measured with nothing in flight."""
    if measured_w is None or _overlap(idle_w, measured_w):
        return ()
    return (
        Finding(
            code="split_idle_contradicted",
            severity="warning",
            message=f"the fit puts idling at {idle_w.value:.1f} W ({idle_w.low:.1f} to "
            f"{idle_w.high:.1f}), but with nothing in flight {measured_w.value:.1f} W were "
            "measured: power is not what the fit takes it for",
        ),
    )


def silence_findings(left_out_ratio: float) -> tuple[Finding, ...]:
    """How much was left out because it is not known what the engine did."""
    if not left_out_ratio:
        return ()
    return (
        Finding(
            code="split_silence_left_out",
            severity="info",
            message=f"{left_out_ratio:.0%} of the bins were left out: no token came although "
            "requests were in flight (or their input may have been read in such a silence), and "
            "tokens do not tell whether prompts were read or the engine stood still",
        ),
    )


def cached_findings(requests: Sequence[pd.DataFrame]) -> tuple[Finding, ...]:
    """That part of the input was not computed, so that what was bears the cost of reading alone."""
    read = sum(float(own["isl_tokens"].fillna(0).sum()) for own in requests)
    cached = sum(float(own["cached_tokens"].fillna(0).sum()) for own in requests)
    if not cached:
        return ()
    return (
        Finding(
            code="split_input_cached",
            severity="info",
            message=f"{cached / read:.0%} of the input tokens were cached: the joules of reading "
            "are put on the others alone, and are more for each than of prompts not cached",
        ),
    )


def unseen_findings(split: Split) -> tuple[Finding, ...]:
    """Which phase cannot be told from none."""
    found = []
    for name, what in (("prefill_j_per_token", "an input"), ("decode_j_per_token", "an output")):
        known: Coefficient | None = getattr(split, name)
        phase = name.partition("_")[0]
        if known is not None and known.low > 0:
            continue
        reason = "no bin that is left has any" if known is None else "its interval reaches 0"
        found.append(
            Finding(
                code=f"split_{phase}_not_seen",
                severity="info",
                message=f"the joules of {what} token cannot be told from none: {reason}",
            )
        )
    return tuple(found)


def disagreements(together: Split, each: Sequence[Split]) -> tuple[Finding, ...]:
    """Where a recording by itself says something that all of them together exclude."""
    found = []
    for name, (what, unit) in _NAMES.items():
        pooled: Coefficient | None = getattr(together, name)
        own: list[Coefficient] = [v for s in each if (v := getattr(s, name)) is not None]
        if pooled is None or all(_overlap(pooled, value) for value in own):
            continue
        least, most = min(v.value for v in own), max(v.value for v in own)
        found.append(
            Finding(
                code="split_runs_disagree",
                severity="warning",
                message=f"{what} costs {least:.3g} to {most:.3g} {unit} from recording to "
                f"recording, and their intervals exclude the {pooled.value:.3g} {unit} of all "
                "together: they were not the same load",
            )
        )
    return tuple(found)


def _overlap(one: Coefficient, other: Coefficient) -> bool:
    return one.low <= other.high and other.low <= one.high
