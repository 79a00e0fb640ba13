"""How each load generator is started and what its own report says; for benchmarks/load.py."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of one tool."""

    url: str
    streams: int
    requests: int
    osl: int
    out: Path
    """An empty folder for what the tool writes."""


def joulemark(venvs: Path, job: Job) -> list[str]:
    """Our own loop, through `harness.load.loop.run`."""
    del venvs
    return [
        sys.executable,
        str(HERE / "load.py"),
        "--one",
        job.url,
        str(job.streams),
        str(job.requests),
        str(job.osl),
        str(job.out),
    ]


def joulemark_report(job: Job) -> dict[str, float]:
    """Written by `load.py --one`."""
    return dict(json.loads((job.out / "result.json").read_text()))


def aiperf(venvs: Path, job: Job) -> list[str]:
    """AIPerf, with server token counts, without its display."""
    return [
        str(venvs / "v_aiperf/bin/aiperf"),
        "profile",
        "--model",
        "mock",
        "--url",
        job.url,
        "--endpoint-type",
        "chat",
        "--streaming",
        "--concurrency",
        str(job.streams),
        "--request-count",
        str(job.requests),
        "--isl",
        "64",
        "--osl",
        str(job.osl),
        "--tokenizer",
        str(venvs / "tok"),
        "--ui",
        "none",
        "--artifact-dir",
        str(job.out),
        "--extra-inputs",
        "ignore_eos:true",
        "--use-server-token-count",
    ]


def aiperf_report(job: Job) -> dict[str, float]:
    """`inter_token_latency` is a mean per request (a TPOT); gaps are `inter_chunk_latency`."""
    found = json.loads((job.out / "profile_export_aiperf.json").read_text())
    ttft, tpot = found["time_to_first_token"], found["inter_token_latency"]
    gaps = found.get("inter_chunk_latency") or {}
    return {
        "ttft_p50_ms": ttft["p50"],
        "ttft_p99_ms": ttft["p99"],
        "tpot_mean_ms": tpot["avg"],
        "itl_p50_ms": gaps.get("p50"),
        "itl_p99_ms": gaps.get("p99"),
    }


def guidellm(venvs: Path, job: Job) -> list[str]:
    """GuideLLM, concurrent profile."""
    return [
        str(venvs / "v_guide/bin/guidellm"),
        "run",
        "--backend",
        _openai_http(job.url),
        "--profile",
        f"kind=concurrent,streams={job.streams}",
        "--constraint",
        f"kind=max_requests,count={job.requests}",
        "--tokenizer",
        f"kind=huggingface_auto,model={venvs / 'tok'}",
        "--data",
        f"kind=synthetic_text,prompt_tokens=64,output_tokens={job.osl}",
        "--output",
        f"kind=json,path={job.out / 'guide.json'}",
        "--disable-console",
    ]


def _openai_http(url: str) -> str:
    return f"kind=openai_http,target={url},model=mock,request_format=/v1/chat/completions"


def guidellm_report(job: Job) -> dict[str, float]:
    """It keeps the first and last token of a request only, so there are no gaps."""
    metrics = json.loads((job.out / "guide.json").read_text())["benchmarks"][0]["metrics"]
    ttft = metrics["time_to_first_token_ms"]["successful"]
    tpot = metrics["inter_token_latency_ms"]["successful"]
    return {
        "ttft_p50_ms": ttft["percentiles"]["p50"],
        "ttft_p99_ms": ttft["percentiles"]["p99"],
        "tpot_mean_ms": tpot["mean"],
    }


def inference_perf(venvs: Path, job: Job) -> list[str]:
    """inference-perf, completions (its random data knows no chat), one worker."""
    config: dict[str, Any] = {
        "api": {"type": "completion", "streaming": True},
        "server": {"type": "vllm", "model_name": "mock", "base_url": job.url, "ignore_eos": True},
        "tokenizer": {"pretrained_model_name_or_path": str(venvs / "tok")},
        "data": {
            "type": "random",
            "input_distribution": _fixed(64, job.requests),
            "output_distribution": _fixed(job.osl, job.requests),
        },
        "load": {
            "type": "concurrent",
            "stages": [{"num_requests": job.requests, "concurrency_level": job.streams}],
            "num_workers": 1,
            "worker_max_concurrency": 2 * job.streams,
        },
        "storage": {"local_storage": {"path": str(job.out / "report")}},
    }
    (job.out / "config.json").write_text(json.dumps(config))  # JSON is YAML
    return [str(venvs / "v_infperf/bin/inference-perf"), "-c", str(job.out / "config.json")]


def _fixed(value: int, count: int) -> dict[str, int]:
    return {"min": value, "max": value, "mean": value, "std_dev": 0, "total_count": count}


def inference_perf_report(job: Job) -> dict[str, float]:
    """Seconds in its report; every gap counts in its ITL."""
    latency = json.loads((job.out / "report/summary_lifecycle_metrics.json").read_text())[
        "successes"
    ]["latency"]
    ttft, gaps = latency["time_to_first_token"], latency["inter_token_latency"]
    return {
        "ttft_p50_ms": ttft["median"] * 1e3,
        "ttft_p99_ms": ttft["p99"] * 1e3,
        "tpot_mean_ms": gaps["mean"] * 1e3,
        "itl_p50_ms": gaps["median"] * 1e3,
        "itl_p99_ms": gaps["p99"] * 1e3,
    }


def vllm(venvs: Path, job: Job) -> list[str]:
    """The request function of vLLM in a closed loop of ours: the whole needs torch and a GPU."""
    return [
        str(venvs / "v_vllm/bin/python"),
        str(HERE / "load_vllm.py"),
        job.url,
        str(job.streams),
        str(job.requests),
        str(job.osl),
        str(job.out),
    ]


TOOLS = {
    "joulemark": (joulemark, joulemark_report),
    "aiperf": (aiperf, aiperf_report),
    "guidellm": (guidellm, guidellm_report),
    "inference-perf": (inference_perf, inference_perf_report),
    "vllm": (vllm, joulemark_report),
}
