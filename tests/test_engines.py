"""Engines: the commands they are started by, the GPUs they take, what goes into the record."""

from __future__ import annotations

import json
import os
import stat
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from harness import config, kept_engine, launch, live_facts, plugins
from harness.cli.run import COMMAND
from harness.contracts import LaunchSpec
from harness.engines import _launching as launching
from harness.engines import _several as several
from harness.errors import ConfigError, EngineError
from harness.request_fields import fixed_length

STARTED = ["vllm", "sglang", "tensorrt_llm", "dynamo", "transformers", "llama_cpp"]


def build(kind: str, **options):
    return plugins.load("engine", kind)(**{"model": "m", "port": 8000, **options})


def programs(engine) -> list[dict]:
    return several.plan_of(engine.launch().argv)["programs"]


@pytest.fixture(autouse=True)
def _no_choice_of_gpus(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize("kind", STARTED)
def test_dry_run_of_the_gpt_oss_preset_prints_a_command_and_starts_nothing(kind):
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    if kind == "llama_cpp":
        arguments = ["quickstart", "--engine", "llama-cpp", "--dry-run"]
    else:
        arguments = ["gpt-oss-120b", "--engine", kind.replace("_", "-"), "--dry-run"]
    done = CliRunner().invoke(COMMAND, arguments, standalone_mode=False)
    if kind == "llama_cpp" and isinstance(done.exception, Exception):
        pytest.skip(f"no model here: {done.exception}")
    assert done.exception is None, done.output
    programs_named = {
        "vllm": "vllm serve openai/gpt-oss-120b",
        "sglang": "python3 -m sglang.launch_server --model-path openai/gpt-oss-120b",
        "tensorrt_llm": "trtllm-serve openai/gpt-oss-120b",
        "dynamo": "python3 -m dynamo.frontend",
        "transformers": "transformers serve openai/gpt-oss-120b",
        "llama_cpp": "harness.engines.llama_cpp",
    }
    assert programs_named[kind] in done.output
    assert {process.pid for process in psutil.Process().children(recursive=True)} == before


@pytest.mark.parametrize(
    ("kind", "options", "gpus"),
    [
        ("vllm", {}, (0,)),
        ("vllm", {"tensor_parallel_size": 4}, (0, 1, 2, 3)),
        ("vllm", {"tensor_parallel_size": 2, "data_parallel_size": 2}, (0, 1, 2, 3)),
        ("vllm", {"tensor_parallel_size": 2, "gpus": (6, 7)}, (6, 7)),
        ("vllm", {"device": "cpu"}, ()),
        ("sglang", {"tensor_parallel_size": 4, "data_parallel_size": 4}, tuple(range(16))),
        ("sglang", {"tensor_parallel_size": 4, "data_parallel_size": 4, "dp_attention": True},
         (0, 1, 2, 3)),
        ("tensorrt_llm", {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}, (0, 1, 2, 3)),
        ("dynamo", {"mode": "disaggregated", "prefill_workers": 2, "tensor_parallel_size": 2},
         tuple(range(6))),
        ("dynamo", {"backend": "mocker", "workers": 3}, ()),
    ],
)  # fmt: skip
def test_the_parallel_layout_says_which_gpus(kind, options, gpus):
    assert build(kind, **options).gpu_indices == gpus


def test_the_chosen_gpus_reach_every_process_and_no_two_workers_share_one():
    engine = build("dynamo", mode="disaggregated", decode_workers=2, gpus=(2, 3, 5))
    seen = [p["environment"].get("CUDA_VISIBLE_DEVICES") for p in programs(engine)]
    assert seen == [None, "2", "3", "5"]
    assert engine.gpus_by_role == {"decode": (2, 3), "prefill": (5,)}
    ports = [int(p["environment"]["DYN_SYSTEM_PORT"]) for p in programs(engine)[1:]]
    assert len(set(ports)) == 3
    # Dynamo reads them as signed 16-bit numbers.
    assert max(ports) < 2**15


def test_a_choice_in_the_environment_is_respected(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4")
    assert build("vllm").gpu_indices == (3,)
    assert build("vllm", tensor_parallel_size=2).gpu_indices == (3, 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5ba7")
    engine = build("vllm")
    assert engine.gpu_indices == ()
    assert "CUDA_VISIBLE_DEVICES" not in engine.launch().environment


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("vllm", {"tensor_parallel_size": 0}, "tensor_parallel_size is 0, below 1"),
        ("vllm", {"gpus": (0, 1)}, "names 2 GPUs, but tensor x pipeline x data parallel takes 1"),
        ("sglang", {"tensor_parallel_size": 2, "gpus": (1, 1)}, "name each GPU once"),
        ("tensorrt_llm", {"extra_args": ("--config", "x")}, "joulemark writes one itself"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(kind, options, message):
    with pytest.raises(ConfigError, match=message):
        build(kind, **options)


def test_options_become_the_engines_own_flags():
    vllm = " ".join(
        build(
            "vllm", pipeline_parallel_size=2, expert_parallel=True, max_num_seqs=64,
            gpu_memory_utilization=0.9, prefix_caching=False, enforce_eager=True,
            extra_args=("--async-scheduling",),
        ).launch().argv
    )  # fmt: skip
    for flag in ("--pipeline-parallel-size 2", "--enable-expert-parallel", "--max-num-seqs 64",
                 "--gpu-memory-utilization 0.9", "--no-enable-prefix-caching", "--enforce-eager",
                 "--async-scheduling"):  # fmt: skip
        assert flag in vllm
    sglang = " ".join(build("sglang", expert_parallel_size=4, prefix_caching=False).launch().argv)
    assert "--enable-metrics" in sglang
    assert "--ep-size 4" in sglang
    assert "--disable-radix-cache" in sglang


def test_tensorrt_llm_is_told_to_count_in_a_file_it_is_pointed_at():
    engine = build("tensorrt_llm", prefix_caching=False, options={"stream_interval": 2})
    plan = several.plan_of(engine.launch().argv)
    ((path, content),) = plan["files"].items()
    assert plan["programs"][0]["argv"][-2:] == ["--extra_llm_api_options", path]
    assert json.loads(content) == {
        "return_perf_metrics": True,
        "enable_energy_metrics": True,
        "kv_cache_config": {"enable_block_reuse": False},
        "stream_interval": 2,
    }


@pytest.mark.parametrize("kind", ["vllm", "sglang", "tensorrt_llm", "dynamo", "transformers"])
@pytest.mark.parametrize("runtime", ["docker", "podman"])
def test_an_image_runs_the_same_command_inside(kind, runtime):
    bare = build(kind)
    engine = build(kind, image="img:1", image_runtime=runtime, image_args=("--volume", "/m:/m"))
    plan = several.plan_of(engine.launch().argv)
    for inside, outside in zip(plan["programs"], programs(bare), strict=True):
        argv = inside["argv"]
        assert argv[:3] == [runtime, "run", "--rm"]
        assert argv[argv.index("--entrypoint") + 1] == outside["argv"][0]
        assert argv[argv.index("img:1") + 1 :] == outside["argv"][1:]
        assert argv[argv.index("/m:/m") - 1 : argv.index("/m:/m") + 1] == ["--volume", "/m:/m"]
    names = [argv[argv.index("--name") + 1] for argv in (p["argv"] for p in plan["programs"])]
    assert plan["afterwards"] == [[runtime, "rm", "--force", name] for name in names]
    assert engine.facts()["version"] == "image img:1"


def test_secrets_stay_out_of_command_lines_shown_and_records():
    engine = build(
        "vllm",
        extra_args=("--api-key", "s3cret", "--hf-token=s3cret"),
        environment={"MY_TOKEN": "s3cret", "OMP_NUM_THREADS": "4"},
    )
    facts = json.dumps(engine.facts())
    assert "s3cret" not in facts
    assert '"OMP_NUM_THREADS": "4"' in facts
    assert "s3cret" not in "\n".join(launch.describe(engine.launch()))
    assert "s3cret" in " ".join(engine.launch().argv)


def test_the_record_of_a_run_holds_no_secret_of_the_environment():
    engine = {"kind": "vllm", "model": "m", "environment": {"HF_TOKEN": "s3cret"}}
    load = {"concurrency": 1, "request_count": 1}
    settings = config.parse({"engine": engine, "load": load}, name="t")
    assert settings.as_json()["engine"]["environment"] == {"HF_TOKEN": "set"}


def test_a_missing_program_is_named_with_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    for kind, program in (
        ("vllm", "vllm"),
        ("tensorrt_llm", "trtllm-serve"),
        ("dynamo", "python3"),
    ):
        with pytest.raises(EngineError, match=f"no program `{program}` on PATH"):
            build(kind).prepare(port=1)
    with pytest.raises(EngineError, match=r"no program `podman`.*set no image"):
        build("vllm", image="i", image_runtime="podman").prepare(port=1)


def test_random_weights_and_mocked_engines_say_so():
    assert build("vllm", load_format="dummy").facts()["weights"] == "random"
    assert build("transformers", random_weights=True).facts()["weights"] == "random"
    assert "mocker" in build("dynamo", backend="mocker").facts()["weights"]


def test_ignore_eos_is_kept_from_gpt_oss_chats_and_from_nothing_else():
    """vllm#50690: it makes vLLM's harmony parser fail once the model ends its turn."""

    def fields(model: str, endpoint_type: str) -> dict:
        load = config.parse(
            {"load": {"concurrency": 1, "request_count": 1, "endpoint_type": endpoint_type}},
            name="t",
        ).load
        return dict(fixed_length(build("vllm", model=model), load))

    assert fields("openai/gpt-oss-120b", "chat") == {}
    assert fields("openai/gpt-oss-120b", "completions") == {"ignore_eos": True}
    assert fields("Qwen/Qwen3-32B", "chat") == {"ignore_eos": True}


def test_attach_reads_the_counters_of_the_server_it_is_told():
    attach = plugins.load("engine", "attach")
    plain = attach(url="http://127.0.0.1:1", model="m")
    assert plain.counters() is None
    assert plain.fixed_length() == {}
    told = attach(url="http://127.0.0.1:1", model="m", server="sglang")
    assert type(told.counters()).__name__ == "SglangCounters"
    assert told.fixed_length() == {"ignore_eos": True}


def test_what_only_one_engine_is_told_stands_below_its_name():
    table = {
        "engine": {
            "kind": "sglang", "model": "m",
            "sglang": {"tensor_parallel_size": 2}, "vllm": {"max_num_seqs": 4},
        },
        "load": {"concurrency": 1, "request_count": 1},
    }  # fmt: skip
    assert config.parse(table, name="t").engine.tensor_parallel_size == 2  # type: ignore[union-attr]
    table["engine"]["tensor_parallel_size"] = 4
    assert config.parse(table, name="t").engine.tensor_parallel_size == 4  # type: ignore[union-attr]


# Two programs: one answers once the other has told it the model's name through a file.
FRONTEND = textwrap.dedent(
    """
    import http.server, pathlib, sys
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200); self.end_headers()
            told = pathlib.Path(sys.argv[2])
            self.wfile.write(told.read_bytes() if told.exists() else b"{}")
        def log_message(self, *_): pass
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
    """
)
WORKER = textwrap.dedent(
    """
    import pathlib, sys, time
    time.sleep(0.3)
    pathlib.Path(sys.argv[1]).write_text("my-model")
    time.sleep(600)
    """
)


def several_spec(tmp_path: Path, worker: str = WORKER) -> LaunchSpec:
    port = launch.free_port("127.0.0.1")
    told = str(tmp_path / "shared" / "told")
    argv, environment = launching.together(
        [
            launching.Program(argv=(sys.executable, "-c", FRONTEND, str(port), told)),
            launching.Program(argv=(sys.executable, "-c", worker, told)),
        ],
        container=launching.Container(),
        port=port,
        files={str(tmp_path / "options.yaml"): "{}"},
        folders=[str(tmp_path / "shared")],
    )
    return LaunchSpec(
        argv=argv, environment=environment, host="127.0.0.1", port=port, ready_timeout_s=30,
        ready_url=f"http://127.0.0.1:{port}/v1/models#my-model",
    )  # fmt: skip


def test_several_processes_start_as_one_and_end_as_one(tmp_path: Path):
    spec = several_spec(tmp_path)
    with launch.RunningEngine(spec, tmp_path / "log") as running:
        assert (tmp_path / "shared" / "told").read_text() == "my-model"
        assert (tmp_path / "options.yaml").read_text() == "{}"
        (guard,) = running.pids
        family = [guard, *(p.pid for p in psutil.Process(guard).children(recursive=True))]
        assert len(family) == 4, "guard, supervisor, frontend, worker"
    left = psutil.wait_procs([psutil.Process(p) for p in family if psutil.pid_exists(p)], 20)[1]
    assert not left
    assert not (tmp_path / "shared").exists()
    assert not (tmp_path / "options.yaml").exists()


def test_one_process_that_ends_ends_them_all_and_is_named(tmp_path: Path):
    spec = several_spec(tmp_path, "import sys; sys.exit('fatal error: no GPU left')")
    with (
        pytest.raises(EngineError, match=r"ended with code 1: fatal error: ended first: .*python"),
        launch.RunningEngine(spec, tmp_path / "log"),
    ):
        pass


def test_a_container_is_removed_by_name_when_the_engine_ends(tmp_path: Path, monkeypatch):
    """The client is a fake that a SIGTERM does not end, as a container's may not."""
    fake = tmp_path / "bin" / "docker"
    fake.parent.mkdir()
    fake.write_text(
        f'#!/bin/sh\necho "$1 $2 $3" >> {tmp_path}/calls\n[ "$1" = rm ] || exec sleep 600\n'
    )
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    port = launch.free_port("127.0.0.1")
    spec = build("vllm", image="img:1", port=port, device="cpu").launch()
    running = launch.RunningEngine(
        LaunchSpec(argv=spec.argv, ready_url=spec.ready_url, host=spec.host, port=port,
                   ready_timeout_s=1.5),
        tmp_path / "log",
    )  # fmt: skip
    with pytest.raises(EngineError, match="did not answer"), running:
        pass
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == ["run --rm --name", f"rm --force joulemark-{port}-0"]


def test_the_version_is_that_of_the_program_s_own_environment(tmp_path, monkeypatch):
    """An engine's script on PATH names its interpreter, also in pip's form for long paths."""
    python = tmp_path / "env" / "bin" / "python3.11"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\ncase \"$2\" in *\\'vllm\\'*) echo 9.8.7;; *) exit 1;; esac\n")
    python.chmod(0o755)
    script = tmp_path / "bin" / "vllm"
    script.parent.mkdir()
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    for head in (f"#!{python}\n", f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n"):
        script.write_text(head + "import vllm\n")
        script.chmod(0o755)
        assert build("vllm").facts()["version"] == "9.8.7"
    script.write_bytes(b"\x7fELF not a script /usr/bin/python3")
    assert build("vllm").facts()["version"] is None
    script.unlink()
    assert build("transformers").facts()["version"] is None


# As vLLM 0.32.0 printed it, shortened.
VLLM_LOG = (
    "(APIServer pid=1) INFO non-default args: {'dtype': 'bfloat16'}\n"
    "(EngineCore pid=2) INFO 11-26 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with "
    "config: model='/tmp/tiny-gpt-oss', tokenizer='/tmp/tiny-gpt-oss', tokenizer_mode=auto, "
    "dtype=torch.bfloat16, max_seq_len=1024, quantization=None, hf_token=abc, "
    "structured_outputs_config=StructuredOutputsConfig(backend='auto', reasoning_parser='x'), "
    "compilation_config={'mode': <CompilationMode.NONE: 0>, 'sizes': [1, 2]}, seed=0, "
    "enable_prefix_caching=True\nnext line, seed=5\n"
)


def test_effective_settings_are_read_from_vllm_s_log(tmp_path):
    (tmp_path / "engine.log").write_text(VLLM_LOG)
    found = live_facts.facts_of(build("vllm", port=1), tmp_path / "engine.log")
    assert found == {
        "settings": {
            "tokenizer_mode": "auto",
            "dtype": "torch.bfloat16",
            "max_seq_len": "1024",
            "quantization": "None",
            "seed": "0",
            "enable_prefix_caching": "True",
        }
    }
    (tmp_path / "engine.log").write_text("nothing of the sort\n")
    assert live_facts.facts_of(build("vllm", port=1), tmp_path / "engine.log") == {}
    assert live_facts.facts_of(build("vllm", port=1), tmp_path / "missing.log") == {}


def test_a_folder_of_weights_is_mounted_and_a_hub_s_name_is_not():
    argv = programs(build("vllm", model="/srv/weights", image="img:1"))[0]["argv"]
    assert "/srv/weights:/srv/weights" in argv
    argv = programs(build("vllm", model="org/name", image="img:1"))[0]["argv"]
    assert not [part for part in argv if part.startswith("org/name:")]


def test_sglang_s_attention_replicas_are_asked_for_as_0_5_23_has_it():
    """The older spelling is deprecated there and goes at the end of 2026."""
    options = {"tensor_parallel_size": 8, "data_parallel_size": 4}
    apart = build("sglang", **options, dp_attention=True).launch().argv
    assert apart[apart.index("--attn-dp-size") + 1] == "4"
    assert not {"--dp-size", "--enable-dp-attention"} & set(apart)
    whole = build("sglang", **options).launch().argv
    assert whole[whole.index("--dp-size") + 1] == "4"


def test_servers_are_told_to_say_what_came_from_a_cache():
    assert "--enable-prompt-tokens-details" in build("vllm").launch().argv
    assert "--enable-cache-report" in build("sglang").launch().argv


def test_an_engine_that_takes_no_token_ids_is_asked_for_none():
    """Transformers wants a string; found out before it is started, and said by a dry run."""
    table = config.read("gpt-oss-120b")
    table["engine"]["kind"] = "transformers"
    settings = config.parse(table, name="t")
    with pytest.raises(ConfigError, match=r"token ids, of which this engine takes none; use `-s"):
        kept_engine.check_form(settings, settings.engine)
    arguments = ["gpt-oss-120b", "--engine", "transformers", "--dry-run"]
    done = CliRunner().invoke(COMMAND, arguments, standalone_mode=False)
    assert "# would be refused: request 0 is made of token ids" in done.output
    arguments += ["-s", "workload.prompts=text", "--endpoint-type", "chat"]
    done = CliRunner().invoke(COMMAND, arguments, standalone_mode=False)
    assert "refused" not in done.output
    assert "(chat)" in done.output


@pytest.mark.parametrize(
    ("backend", "words", "options"),
    [
        ("vllm", {"--max-model-len", "--no-enable-prefix-caching"}, None),
        ("mocker", {"--max-model-len", "--no-enable-prefix-caching"}, None),
        ("sglang", {"--context-length", "--disable-radix-cache"}, None),
        ("trtllm", set(), {"max_seq_len": 512, "kv_cache_config": {"enable_block_reuse": False}}),
    ],
)
def test_dynamo_tells_each_backend_in_its_own_words(backend, words, options):
    engine = build("dynamo", backend=backend, max_model_len=512, prefix_caching=False)
    assert words <= set(programs(engine)[1]["argv"])
    plain = set(programs(build("dynamo", backend=backend))[1]["argv"])
    assert not words & plain
    if options is not None:
        (content,) = several.plan_of(engine.launch().argv)["files"].values()
        assert options.items() <= json.loads(content).items()
