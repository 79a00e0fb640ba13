"""Recomputes published results from the inputs they cite and puts ours beside theirs."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from harness.cost import formulas as cost
from harness.cost.catalogue import Catalogue
from harness.cost.catalogue_files import data_text, measured_points, model_shape
from harness.cost.rate import bought
from harness.errors import ConfigError
from harness.roofline.fit import Fit, fit, gemm_j_per_flop

from .formulas import OWNED_SOURCE, REFERENCE_LOAD_FACTOR, REFERENCE_PUE, REFERENCE_SITE

FITTED: Final = {"h100-sxm": (1, 2), "b200-hgx": (1,)}
"""Accelerator to the device counts whose points its calibration is fitted to."""
MOST_BATCH: Final = 600
"""Beyond it the engine, not the silicon, sets the pace: such points are left out of the fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    One number, ours and theirs.

    Args:
        group: whose result it is.
        label: which.
        unit: of both.
        ours: recomputed.
        theirs: published.
        rounding: half of the last digit they print.
        tolerance_ratio: how near ours has to come.
        source: key of the source.
    """

    group: str
    label: str
    unit: str
    ours: float
    theirs: float
    rounding: float
    tolerance_ratio: float
    source: str

    @property
    def error_ratio(self) -> float:
        """Ours over theirs, less one."""
        return self.ours / self.theirs - 1

    @property
    def agrees(self) -> bool:
        """Within their rounding, or within the tolerance."""
        near = abs(self.ours - self.theirs) <= self.rounding
        return near or abs(self.error_ratio) <= self.tolerance_ratio


def calibration() -> dict[str, Fit]:
    """The power models of the accelerators that have measured points, fitted anew."""
    points, prompt = measured_points()
    model = model_shape()
    return {
        key: fit(
            model,
            [
                point
                for point in points
                if point.accelerator == key
                and point.devices in counts
                and point.batch <= MOST_BATCH
            ],
            input_tokens=prompt,
        )
        for key, counts in FITTED.items()
    }


def rows(catalogue: Catalogue) -> list[Row]:
    """Every reproduction, in the order of its file, then ML.ENERGY and the calibration."""
    raw = tomllib.loads(data_text("reproduce.toml"))
    found = [
        _row(
            "InferenceX and NVIDIA",
            one,
            "USD/Mtok",
            cost.usd_per_mtok(one["usd_per_hour"], one["tok_per_s"]),
        )
        for one in raw["usd_per_mtok"]
    ]
    for one in raw["tok_per_s_per_mw"]:
        kw = catalogue.power_basis(one["power_basis"]).kw[one["accelerator"]].value
        rate = cost.provisioned_tok_per_s_per_mw(one["tok_per_s"], kw * 1e3)
        found.append(_row("InferenceX and NVIDIA", one, "tok/s/MW", rate))
    for one in raw["nameplate_kw"]:
        kw = cost.endpoints_nameplate_w(sum(one["tdp_w"]), one["cooling"]) / 1e3
        found.append(_row("MLPerf Endpoints' method", one, "kW", kw))
    found += _epoch(catalogue, raw["epoch"])
    found += [_owning(catalogue, one) for one in raw["owning"]]
    found += _model_card(raw["model_card"])
    found += _ml_energy()
    found += _calibration(catalogue)
    return found


def _row(group: str, one: Mapping[str, Any], unit: str, ours: float) -> Row:
    return Row(
        group=group,
        label=one["label"],
        unit=unit,
        ours=ours,
        theirs=one["theirs"],
        rounding=one["rounding"],
        tolerance_ratio=one["tolerance_ratio"],
        source=one["source"],
    )


def _owning(catalogue: Catalogue, one: Mapping[str, Any]) -> Row:
    """Owning from the bottom: purchase, facility, opex and electricity of an hour."""
    site = catalogue.sites[REFERENCE_SITE].figures
    watts = catalogue.power_basis(OWNED_SOURCE).kw[one["accelerator"]].value * 1e3
    bought_rate = bought(catalogue, one["accelerator"], site)
    if bought_rate is None:
        raise ConfigError(f"{one['accelerator']} has no purchase price", remedy="add one")
    drawn_kw = watts / 1e3 * REFERENCE_LOAD_FACTOR * REFERENCE_PUE
    ours = (
        bought_rate.per_hour.value
        + cost.facility_usd_per_hour(
            watts,
            site["facility_usd_per_w"].value,
            wacc_ratio=site["wacc_ratio"].value,
            life_y=site["facility_life_y"].value,
        )
        + cost.opex_usd_per_hour(watts, site["opex_usd_per_w_y"].value)
        + drawn_kw * site["usd_per_kwh"].value
    )
    return _row("Owning from the bottom", one, "USD/h", ours)


def _epoch(catalogue: Catalogue, raw: Mapping[str, Any]) -> list[Row]:
    site = catalogue.sites["ai-liquid"].figures
    wacc = site["wacc_ratio"].value
    watts = raw["it_gw"] * 1e9
    facility_usd = watts * site["facility_usd_per_w"].value
    it_usd = raw["capex_usd"] - facility_usd
    facility_y = facility_usd * cost.capital_recovery_ratio(wacc, raw["facility_life_y"])
    kwh = watts / 1e3 * cost.HOURS_PER_YEAR * raw["mean_load_ratio"] * raw["pue"]
    energy = kwh * site["usd_per_kwh"].value
    totals = {
        int(years): it_usd * cost.capital_recovery_ratio(wacc, int(years))
        + facility_y
        + raw["opex_usd_per_y"]
        for years in raw["total_usd_per_y"]
    }
    named = [
        (f"cost a year, IT lasting {years} years", "B$/year", total / 1e9, theirs / 1e9, 0.5)
        for (years, total), theirs in zip(
            totals.items(), raw["total_usd_per_y"].values(), strict=True
        )
    ]
    named += [
        ("energy a year", "B$/year", energy / 1e9, raw["energy_usd_per_y"] / 1e9, 0.05),
        ("energy's share of the cost", "share", energy / totals[5], raw["energy_share_ratio"], 0.0),
    ]
    return [
        Row(
            group="Epoch, 1 GW of GB200 NVL72",
            label=label,
            unit=unit,
            ours=ours,
            theirs=theirs,
            rounding=rounding,
            tolerance_ratio=raw["tolerance_ratio"],
            source=raw["source"],
        )
        for label, unit, ours, theirs, rounding in named
    ]


def _model_card(raw: Mapping[str, Any]) -> list[Row]:
    model = model_shape()
    named = [
        ("all parameters", "1e9", model.total_params / 1e9, raw["total_params"] / 1e9),
        ("parameters a token uses", "1e9", model.active_params / 1e9, raw["active_params"] / 1e9),
        ("weights", "GiB", model.weight_bytes / 2**30, raw["weight_gib"]),
    ]
    return [
        Row(
            group="gpt-oss-120b from its config",
            label=label,
            unit=unit,
            ours=ours,
            theirs=theirs,
            rounding=0.0,
            tolerance_ratio=raw["tolerance_ratio"],
            source=raw["source"],
        )
        for label, unit, ours, theirs in named
    ]


def _ml_energy() -> list[Row]:
    points, _ = measured_points()
    return [
        Row(
            group="ML.ENERGY v3: watts over tokens a second",
            label=f"{point.accelerator} x{point.devices}, batch {point.batch:.0f}",
            unit="J/token",
            ours=point.device_w * point.devices / point.tok_per_s,
            theirs=point.j_per_token,
            rounding=0.0,
            tolerance_ratio=0.001,
            source="mlenergy-v3",
        )
        for point in points
    ]


def _calibration(catalogue: Catalogue) -> list[Row]:
    found = []
    for key, fitted in calibration().items():
        accelerator = catalogue.accelerator(key)
        figures = accelerator.figures
        per_flop = gemm_j_per_flop(
            fitted,
            tdp_w=figures["tdp_w"].value,
            gemm_flop_per_s=figures["fp8_gemm_tflops"].value * 1e12,
        )
        named = [
            ("static_w", "W", fitted.static_w),
            ("memory_pj_per_bit", "pJ/bit", fitted.memory_j_per_byte / 8e-12),
            ("fp8_pj_per_flop", "pJ/FLOP", per_flop * 1e12),
        ]
        error = f"rmse {fitted.rmse_w:.0f} W, held out {fitted.held_out_rmse_w:.0f} W"
        found += [
            Row(
                group="Calibration: our fit, beside the catalogue",
                label=f"{key} {name} (n {fitted.n}, R2 {fitted.r2:.2f}, {error})",
                unit=unit,
                ours=ours,
                theirs=figures[name].value,
                rounding=0.0,
                tolerance_ratio=0.01,
                source="joulemark-fit",
            )
            for name, unit, ours in named
        ]
    return found
