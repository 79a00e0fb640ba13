"""Reads the catalogue's files and a user's own over them, refusing a figure without a source."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import orjson

from harness.errors import ConfigError
from harness.roofline.fit import MeasuredPoint
from harness.roofline.model import ModelShape, from_config

from .catalogue import Accelerator, Catalogue, Figure, Place, PowerBasis, Price, Purchase, Source

FILES: Final = ("sources.toml", "accelerators.toml", "prices.toml", "sites.toml")
TABLES: Final = (
    "sources",
    "accelerators",
    "power_bases",
    "prices",
    "purchases",
    "common",
    "defaults",
    "sites",
    "tariffs",
    "grids",
    "physics",
)
WORDS: Final = frozenset({"name", "vendor", "cooling", "scale_up_domain", "device_names"})
FIGURE_KEYS: Final = frozenset({"value", "low", "high", "source", "unverified", "note"})
ACCELERATOR_FIGURES: Final = frozenset(
    {
        "tdp_w",
        "memory_gb",
        "bandwidth_tb_per_s",
        "bf16_tflops",
        "fp8_tflops",
        "fp4_tflops",
        "link_gb_per_s",
        "fp8_gemm_tflops",
        "static_w",
        "memory_pj_per_bit",
        "fp8_pj_per_flop",
    }
)
ML_ENERGY_KEYS: Final = {"H100": "h100-sxm", "B200": "b200-hgx"}


def data_text(name: str) -> str:
    """One file of the package's data folder."""
    return files("harness").joinpath("data", name).read_text(encoding="utf-8")


def load(extra: Sequence[Path] = ()) -> Catalogue:
    """
    The catalogue of the package, with the user's files laid over it.

    Args:
        extra: TOML files of the same form; a table's key replaces ours, prices come first.

    Raises:
        ConfigError: a file cannot be read, has an unknown key, or a figure without a source.
    """
    raw: dict[str, Any] = {}
    for name in FILES:
        _merge(raw, tomllib.loads(data_text(name)), where=name)
    for path in extra:
        try:
            _merge(raw, tomllib.loads(path.read_text(encoding="utf-8")), where=str(path))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(
                f"{path} cannot be read as a catalogue ({error})", remedy="give a TOML file"
            ) from error
    return _catalogue(raw)


def measured_points() -> tuple[list[MeasuredPoint], float]:
    """ML.ENERGY's points of gpt-oss-120b, and the prompt length they are taken to have."""
    raw = orjson.loads(data_text("mlenergy_gpt_oss_120b.json"))
    points = [
        MeasuredPoint(
            accelerator=ML_ENERGY_KEYS[row["gpu_model"]],
            devices=row["num_gpus"],
            batch=row["avg_batch_size"],
            output_tokens=row["avg_output_len"],
            tok_per_s=row["output_throughput_tokens_per_sec"],
            device_w=row["avg_power_watts"] / row["num_gpus"],
            j_per_token=row["energy_per_token_joules"],
            median_itl_ms=row["median_itl_ms"],
        )
        for row in raw["points"]
    ]
    return points, float(raw["assumed_prompt_tokens"])


def model_shape(path: Path | None = None) -> ModelShape:
    """
    A model from its `config.json`; gpt-oss-120b without a path.

    Raises:
        ConfigError: the file cannot be read or is no such config.
    """
    if path is None:
        return from_config(orjson.loads(data_text("gpt_oss_120b_config.json")), name="gpt-oss-120b")
    place = path / "config.json" if path.is_dir() else path
    try:
        config = orjson.loads(place.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise ConfigError(
            f"{place} cannot be read as a model's config ({error})", remedy="give a config.json"
        ) from error
    if not isinstance(config, dict):
        raise ConfigError(f"{place} holds no JSON object", remedy="give a config.json")
    return from_config(config, name=str(config.get("_name_or_path") or place.parent.name))


def _merge(into: dict[str, Any], new: Mapping[str, Any], *, where: str) -> None:
    for table, content in new.items():
        if table not in TABLES:
            raise ConfigError(
                f"{where}: unknown table [{table}]", remedy=f"known are: {', '.join(TABLES)}"
            )
        if isinstance(content, list):
            # The newest file first, so that a user's price of the same date is preferred.
            into[table] = content + into.get(table, [])
            continue
        known = into.setdefault(table, {})
        for key, value in content.items():
            both = isinstance(value, dict) and isinstance(known.get(key), dict)
            known[key] = {**known[key], **value} if both and "value" not in value else value


def _catalogue(raw: Mapping[str, Any]) -> Catalogue:
    sources = {key: _source(key, table) for key, table in raw["sources"].items()}
    common = raw["common"]
    currency = str(common["currency"])
    base = {key: value for key, value in common.items() if key != "currency"}

    def places(table: str, shared: Mapping[str, Any]) -> dict[str, Place]:
        return {
            key: _place(key, {**shared, **content}, sources, currency)
            for key, content in raw[table].items()
        }

    return Catalogue(
        sources=sources,
        accelerators={
            key: _accelerator(key, table, sources) for key, table in raw["accelerators"].items()
        },
        power_bases={
            key: PowerBasis(
                key=key,
                includes_facility=bool(_get(table, "includes_facility", f"power basis {key}")),
                meaning=str(table.get("meaning", "")),
                kw={
                    name: _figure({**table, "value": kw, "note": ""}, sources, f"{key}.{name}")
                    for name, kw in _get(table, "kw", f"power basis {key}").items()
                },
            )
            for key, table in raw["power_bases"].items()
        },
        prices=tuple(_price(table, sources) for table in raw["prices"]),
        purchases=tuple(_purchase(table, sources) for table in raw["purchases"]),
        sites=places("sites", base),
        tariffs=places("tariffs", {}),
        grids=places("grids", {}),
        defaults=_place("defaults", raw["defaults"], sources, currency),
        physics_figures=_place("physics", raw["physics"], sources, currency),
    )


def _get(table: Mapping[str, Any], key: str, where: str) -> Any:  # noqa: ANN401  # TOML values
    if key not in table:
        raise ConfigError(f"{where} has no {key!r}", remedy="add it to the catalogue file")
    return table[key]


def _source(key: str, table: Mapping[str, Any]) -> Source:
    where = f"source {key}"
    if "date" not in table and "retrieved" not in table:
        raise ConfigError(f"{where} has neither date nor retrieved", remedy="say when it was")
    return Source(
        key=key,
        title=str(_get(table, "title", where)),
        where=str(_get(table, "where", where)),
        date=str(table["date"]) if "date" in table else f"read {table['retrieved']}",
        grade=str(_get(table, "grade", where)),
    )


def _figure(table: Mapping[str, Any], sources: Mapping[str, Source], where: str) -> Figure:
    source = str(table.get("source"))
    if source not in sources:
        raise ConfigError(
            f"{where} has the source {source!r}, which is not in [sources]",
            remedy="name a source with a date",
        )
    value = _get(table, "value", where)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{where} is {value!r}, not a number", remedy="give a number")
    low, high = float(table.get("low", value)), float(table.get("high", value))
    if not low <= value <= high or value < 0:
        raise ConfigError(
            f"{where} is {value}, with the range {low:g} to {high:g}",
            remedy="give a number of at least 0 inside its range",
        )
    return Figure(
        value=float(value),
        source=sources[source],
        low=low,
        high=high,
        unverified=bool(table.get("unverified", False)),
        note=str(table.get("note", "")),
    )


def _figures(
    table: Mapping[str, Any], sources: Mapping[str, Source], where: str
) -> dict[str, Figure]:
    found = {}
    for name, content in table.items():
        if name in WORDS or name == "currency":
            continue
        unknown = set(content) - FIGURE_KEYS if isinstance(content, dict) else {name}
        if unknown:
            raise ConfigError(
                f"{where}: {name} has unknown keys {sorted(unknown)}",
                remedy=f"a figure is a table of {', '.join(sorted(FIGURE_KEYS))}",
            )
        found[name] = _figure(content, sources, f"{where}.{name}")
    return found


def _place(
    key: str, table: Mapping[str, Any], sources: Mapping[str, Source], currency: str
) -> Place:
    return Place(
        key=key,
        name=str(table.get("name", key)),
        currency=str(table.get("currency", currency)),
        figures=_figures(table, sources, key),
    )


def _accelerator(key: str, table: Mapping[str, Any], sources: Mapping[str, Source]) -> Accelerator:
    figures = _figures(table, sources, key)
    unknown = set(figures) - ACCELERATOR_FIGURES
    if unknown:
        raise ConfigError(
            f"accelerator {key} has unknown figures {sorted(unknown)}",
            remedy=f"known are: {', '.join(sorted(ACCELERATOR_FIGURES))}",
        )
    return Accelerator(
        key=key,
        name=str(_get(table, "name", key)),
        vendor=str(table.get("vendor", "")),
        cooling=str(table.get("cooling", "")),
        scale_up_domain=int(table.get("scale_up_domain", 1)),
        device_names=tuple(table.get("device_names", ())),
        figures=figures,
    )


def _price(table: Mapping[str, Any], sources: Mapping[str, Source]) -> Price:
    where = f"price of {table.get('accelerator')}"
    return Price(
        accelerator=str(_get(table, "accelerator", where)),
        basis=str(_get(table, "basis", where)),
        buyer=str(table.get("buyer", "any")),
        per_hour=_figure({**table, "value": _get(table, "per_hour", where)}, sources, where),
        currency=str(_get(table, "currency", where)),
        includes_power=bool(_get(table, "includes_power", where)),
    )


def _purchase(table: Mapping[str, Any], sources: Mapping[str, Source]) -> Purchase:
    where = f"purchase of {table.get('accelerator')}"
    return Purchase(
        accelerator=str(_get(table, "accelerator", where)),
        per_unit=_figure({**table, "value": _get(table, "per_unit", where)}, sources, where),
        accelerators=int(_get(table, "accelerators", where)),
        currency=str(_get(table, "currency", where)),
    )
