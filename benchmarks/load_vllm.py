"""A closed loop around vLLM's own request function; run by benchmarks/load.py in vLLM's venv."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import statistics
import sys
from pathlib import Path
from types import ModuleType

import aiohttp

PROMPT = "How many joules does a token cost on this machine? " * 8


def request_functions() -> ModuleType:
    """The module by its file: importing the package needs torch and a platform."""
    name = "vllm/benchmarks/lib/endpoint_request_func.py"
    path = next(p for p in (Path(entry) / name for entry in sys.path) if p.exists())
    spec = importlib.util.spec_from_file_location("endpoint_request_func", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def quantile(values: list[float], q: float) -> float:
    """Nearest rank."""
    return sorted(values)[min(int(q * len(values)), len(values) - 1)]


async def main(url: str, streams: int, count: int, osl: int, out: str) -> None:
    """`vllm bench serve --max-concurrency`: a semaphore around one session."""
    module = request_functions()
    outputs = []
    gate = asyncio.Semaphore(streams)
    connector = aiohttp.TCPConnector(limit=streams, limit_per_host=streams)
    async with aiohttp.ClientSession(connector=connector, trust_env=True) as session:

        async def one() -> None:
            async with gate:
                outputs.append(
                    await module.async_request_openai_chat_completions(
                        module.RequestFuncInput(
                            prompt=PROMPT,
                            api_url=f"{url}/v1/chat/completions",
                            prompt_len=100,
                            output_len=osl,
                            model="mock",
                            ignore_eos=True,
                        ),
                        session=session,
                    )
                )

        await asyncio.gather(*(one() for _ in range(count)))
    good = [output for output in outputs if output.success]
    gaps = [gap for output in good for gap in output.itl]
    tpots = [(o.latency - o.ttft) / (o.output_tokens - 1) for o in good]
    result = {
        "ttft_p50_ms": quantile([o.ttft for o in good], 0.5) * 1e3,
        "ttft_p99_ms": quantile([o.ttft for o in good], 0.99) * 1e3,
        "tpot_mean_ms": statistics.mean(tpots) * 1e3,
        "itl_p50_ms": quantile(gaps, 0.5) * 1e3,
        "itl_p99_ms": quantile(gaps, 0.99) * 1e3,
    }
    (Path(out) / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    url, streams, count, osl, out = sys.argv[1:]
    asyncio.run(main(url, int(streams), int(count), int(osl), out))
