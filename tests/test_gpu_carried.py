"""What `make gpu-check` and `make gpu-bundle` carry to another machine, and what comes back."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import tomllib
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gpu import (
    bundle,
    check,
    engine_plan,
    parts,
    random_gguf,
    random_weights,
    shapes,
    slim,
    vllm_kernels,
    vllm_weights,
)
from harness import launch
from harness.engines.llama_cpp import LlamaCpp
from harness.roofline import model as roofline_model
from harness.sweep import plan as sweep_plan


def test_shapes_have_the_published_sizes():
    llama = roofline_model.from_config(shapes.by_name("llama-3.1-8b"), name="llama")
    assert llama.total_params == pytest.approx(8.03e9, rel=0.002)
    small = roofline_model.from_config(shapes.by_name("gpt-oss-20b"), name="20b")
    assert small.total_params == pytest.approx(20.9e9, rel=0.005)
    large = roofline_model.from_config(shapes.by_name("gpt-oss-120b-mxfp4"), name="120b")
    assert large.total_params == pytest.approx(116.83e9, rel=0.002)
    with pytest.raises(KeyError, match="choose one of"):
        shapes.by_name("gpt-5")


def test_a_model_folder_has_a_word_for_every_id(tmp_path):
    random_weights.write_folder("tiny-llama", tmp_path)
    text = (tmp_path / "tokenizer.json").read_text(encoding="utf-8")
    assert '"t4095": 4095' in text
    assert '"people"' in text


def test_a_sweep_fits_its_time_with_three_repeats_of_as_many_points_as_fit():
    for seconds, points in ((440, 3), (310, 3), (220, 2), (140, 1)):
        plan = engine_plan.plan("transformers", "llama-3.1-8b", seconds)
        assert len(plan.concurrencies) == points
        assert points * engine_plan.REPEATS * (plan.load_s + 14) + 60 <= seconds + 1
    assert engine_plan.plan("transformers", "llama-3.1-8b", 10).load_s == 10.0
    assert engine_plan.plan("transformers", "llama-3.1-8b", 100, load_s=0.5).load_s == 0.5


def test_the_sweep_of_vllm_has_a_point_of_prefill_alone_and_fits_a_stage():
    five = engine_plan.plan("vllm", "gpt-oss-120b-mxfp4", 515, load_s=11.0, repeats=5)
    assert (five.repeats, five.load_s, len(five.concurrencies)) == (5, 11.0, 3)
    plan = engine_plan.plan("vllm", "gpt-oss-120b-mxfp4", 445)
    assert plan.concurrencies == (8, 64, 128)
    assert 4 * engine_plan.REPEATS * (plan.load_s + engine_plan.AROUND_A_RUN_S) + 100 <= 446
    table = tomllib.loads(engine_plan.toml('kind = "fake"\n', plan))
    sweep, points = sweep_plan.plan(table, name="sweep")
    assert sweep.repeats == 3
    found = {
        (
            p.settings.load.concurrency,
            p.settings.workload.isl_tokens,
            p.settings.workload.osl_tokens,
        )
        for p in points
    }
    assert found == {(8, 128, 64), (64, 128, 64), (128, 128, 64), (16, 1024, 1)}
    assert {p.settings.load.warmup_count for p in points} == {16, 128, 256, 32}


# --- what crosses to the other machine -----------------------------------------------------------


def test_parts_come_back_as_they_were(tmp_path):
    source = tmp_path / "wheels"
    source.mkdir()
    random = np.random.default_rng(7)
    sizes = {"a.whl": 300_000, "b.whl": 10, "c.whl": 123_457}
    for name, size in sizes.items():
        (source / name).write_bytes(random.bytes(size))
    document = parts.split(source, tmp_path / "parts", limit_bytes=100_000)
    assert len(document["parts"]) > 4
    assert all(part["bytes"] <= 100_000 for part in document["parts"])
    assert sorted(parts.join(tmp_path / "parts", tmp_path / "back")) == sorted(sizes)
    for name in sizes:
        assert (tmp_path / "back" / name).read_bytes() == (source / name).read_bytes()


def test_a_damaged_or_missing_part_is_named_and_nothing_is_left(tmp_path):
    source = tmp_path / "wheels"
    source.mkdir()
    (source / "a.whl").write_bytes(bytes(250_000))
    parts.split(source, tmp_path / "parts", limit_bytes=100_000)
    part = tmp_path / "parts" / "part-002"
    data = bytearray(part.read_bytes())
    data[500] ^= 1
    part.write_bytes(data)
    with pytest.raises(parts.PartsError, match="part-002 is damaged"):
        parts.join(tmp_path / "parts", tmp_path / "back")
    assert not list((tmp_path / "back").iterdir())
    part.unlink()
    with pytest.raises(parts.PartsError, match="1 of 3 parts are not here: part-002"):
        parts.join(tmp_path / "parts", tmp_path / "back")


def test_what_is_present_and_fits_is_not_carried():
    def install(name, version, *requires):
        return {"metadata": {"name": name, "version": version, "requires_dist": list(requires)}}

    found = bundle.lacking(
        [
            install("engine", "1.0", "numpy<2.5", "numba==0.65.0", "typer", "left; extra == 'x'"),
            install("numpy", "2.4.9"),
            install("numba", "0.65.0"),
            install("typer", "0.99"),
            install("httptools", "0.9.0"),
        ]
    )
    # numpy 2.5.2 is there and does not fit; numba's version is not known, but one is demanded.
    assert found == {"engine": "1.0", "httptools": "0.9.0", "numba": "0.65.0", "numpy": "2.4.9"}


# --- running the stages ---------------------------------------------------------------------------


def test_what_comes_back_fits_its_limits(tmp_path, monkeypatch):
    work, out = tmp_path / "work", tmp_path / "out"
    (work / "meter").mkdir(parents=True)
    out.mkdir()
    monkeypatch.setattr(check, "FILE_BYTES", 20_000)
    # Noise does not compress, so the archive is as large as its content.
    (work / "meter" / "ticks.jmj").write_bytes(np.random.default_rng(1).bytes(50_000))
    (work / "meter" / "tokenizer.json").write_bytes(bytes(10))
    (work / "log.txt").write_text("said\n", encoding="utf-8")
    check._pack(work, out)
    found = sorted(out.iterdir())
    assert len(found) <= check.MOST_FILES
    assert all(path.stat().st_size <= 20_000 for path in found)
    pieces = [path for path in found if path.name.startswith("raw.tar.xz.")]
    assert len(pieces) == 3
    whole = tmp_path / "joined.tar.xz"
    whole.write_bytes(b"".join(path.read_bytes() for path in pieces))
    with tarfile.open(whole) as tar:
        assert "work/meter/ticks.jmj" in tar.getnames()
        assert "work/meter/tokenizer.json" not in tar.getnames()


def test_a_stage_that_is_done_is_not_run_again_and_one_that_lacks_time_says_so(
    tmp_path, monkeypatch, capsys
):
    ran: list[str] = []
    monkeypatch.setattr(check, "_stage", lambda name, *_: ran.append(name) is None)
    write_json_folder(tmp_path / "work" / "doctor", {"status": "done", "failed": []})
    arguments = ["gpu", "doctor", "meter", "--work", str(tmp_path / "work")]
    arguments += ["--out", str(tmp_path / "out"), "--budget-s"]
    monkeypatch.setattr(sys, "argv", [*arguments, "90"])
    with pytest.raises(SystemExit) as ended:
        check.main()
    assert ended.value.code == 1
    assert ran == ["report"]
    said = capsys.readouterr().out
    assert "doctor: done before" in said
    assert "meter: left out: 45 s are left, it needs 60" in said
    monkeypatch.setattr(sys, "argv", [*arguments, "400"])
    with pytest.raises(SystemExit) as ended:
        check.main()
    assert ended.value.code == 0
    assert ran == ["report", "meter", "report"]


def write_json_folder(folder: Path, document: dict) -> None:
    folder.mkdir(parents=True)
    (folder / "stage.json").write_text(json.dumps(document), encoding="utf-8")


def test_a_gguf_of_a_small_shape_has_the_size_it_says():
    file = io.BytesIO()
    size = random_gguf.write(file, "tiny-gpt-oss")
    data = file.getvalue()
    assert len(data) == size
    assert data[:4] == b"GGUF"
    config = shapes.by_name("tiny-gpt-oss")
    experts = [t for t in random_gguf.tensors(config) if t.name == "blk.0.ffn_up_exps.weight"]
    # 4 experts of 128 x 128 values, 17 bytes for each 32 of them.
    assert experts[0].bytes == 4 * 128 * 128 // 32 * 17


@pytest.mark.engine
def test_llama_cpp_answers_from_random_weights(tmp_path):
    """The embedded llama.cpp loads the file as the gpt-oss it is, and makes tokens."""
    path = tmp_path / "tiny.gguf"
    with path.open("wb") as file:
        random_gguf.write(file, "tiny-gpt-oss")
    prepared = LlamaCpp(model=str(path), slots=1, context_tokens=256, threads=1).prepare(
        port=launch.free_port("127.0.0.1")
    )
    with launch.RunningEngine(prepared.launch(), tmp_path / "engine.log"):
        body = {"prompt": "time people year", "max_tokens": 5, "ignore_eos": True}
        request = urllib.request.Request(  # noqa: S310 - our own
            f"{prepared.endpoint(None).base_url}/v1/completions",
            json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - same
            usage = json.loads(answer.read())["usage"]
    assert usage["completion_tokens"] == 5


# --- a vLLM that fits into one call --------------------------------------------------------------


def test_a_cut_shape_has_the_first_layers_and_is_only_tried():
    cut = shapes.by_name("gpt-oss-120b-mxfp4-of-2-layers")
    assert cut["num_hidden_layers"] == 2
    assert cut["layer_types"] == ["sliding_attention", "full_attention"]
    assert cut["num_local_experts"] == 128
    plan = engine_plan.plan("vllm", "gpt-oss-120b-mxfp4-of-2-layers", 80)
    assert (len(plan.concurrencies), plan.repeats, plan.load_s) == (1, 1, 6.0)
    assert plan.prefill is None
    assert engine_plan.plan("vllm", "gpt-oss-120b-mxfp4", 388).concurrencies == (8, 64, 128)
    assert engine_plan.plan("transformers", "llama-3.1-8b", 100, load_s=10).concurrencies == (
        8,
        32,
        64,
    )


@given(st.integers(1, 8192))
def test_every_step_shares_its_compile_time_constants_with_one_that_is_compiled_ahead(tokens):
    """The routing bitmap's padded length, and what counts of tokens are divisible by 16."""

    def constants(count: int) -> tuple[int, bool, tuple[bool, ...]]:
        return -(-count // 32), count == 1, tuple(n * count % 16 == 0 for n in (1, 2, 4, 8))

    assert constants(tokens) in {constants(step) for step in vllm_kernels.steps(8192)}


def test_without_vllm_nothing_is_compiled_ahead_and_one_line_says_why():
    if importlib.util.find_spec("vllm") is not None:
        pytest.skip("vLLM is installed here")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu.vllm_kernels", "--processes", "1"],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("vllm_kernels: ")
    assert "No module named" in done.stderr
    assert done.stderr.count("\n") == 1


def fat_library(entries: list[tuple[int, int, bytes]]) -> bytes:
    """An ELF file with one fat binary of (kind, compute capability, payload) entries."""
    inside = b""
    for kind, arch, payload in entries:
        header = struct.pack("<HHIQ", kind, 0, 64, len(payload)).ljust(28, b"\0")
        inside += (header + struct.pack("<I", arch)).ljust(64, b"\0") + payload
    fatbin = struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(inside)) + inside
    names = b"\0.nv_fatbin\0.shstrtab\0"
    table = 64 + len(fatbin) + len(names)
    header = bytearray(64)
    header[:4] = b"\x7fELF"
    struct.pack_into("<Q", header, 0x28, table)
    struct.pack_into("<HHH", header, 0x3A, 64, 3, 2)
    sections = [(0, 0, 0), (1, 64, len(fatbin)), (12, 64 + len(fatbin), len(names))]
    packed = [struct.pack("<IIQQQQIIQQ", n, 1, 0, 0, at, size, 0, 0, 1, 0)
              for n, at, size in sections]  # fmt: skip
    return bytes(header) + fatbin + names + b"".join(packed)


def test_pruning_leaves_one_generations_kernels_and_every_offset(tmp_path):
    library = tmp_path / "lib.so"
    whole = fat_library([(2, 80, b"A" * 32), (2, 90, b"H" * 48), (1, 80, b"P" * 16)])
    library.write_bytes(whole)
    assert slim.prune(library) == 48
    left = library.read_bytes()
    assert len(left) == len(whole)
    assert left == whole.replace(b"A" * 32, bytes(32)).replace(b"P" * 16, bytes(16))
    assert [(k.machine_code, k.arch, k.size) for k in slim.kernels(left)] == [
        (True, 80, 32), (True, 90, 48), (False, 80, 16)]  # fmt: skip
    plain = tmp_path / "plain.so"
    plain.write_bytes(b"no ELF at all")
    assert slim.prune(plain) == 0


def test_wheels_come_back_as_a_folder_without_what_is_left_out(tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "made-0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("made/__init__.py", "x = 1\n")
        wheel.writestr("made/heavy.a", "static")
        wheel.writestr("cudnn/__init__.py", "")
    slim.pack(wheels, tmp_path / "site.tar.xz")
    with tarfile.open(tmp_path / "site.tar.xz") as tar:
        assert tar.getnames() == ["made/__init__.py"]


def test_vllm_finds_the_plugin_that_draws_weights(tmp_path):
    program = vllm_weights.write_program(tmp_path)
    assert os.access(program, os.X_OK)
    found = list(importlib.metadata.distributions(path=[str(tmp_path)]))
    (entry,) = found[0].entry_points
    assert entry.group == "vllm.general_plugins"
    assert entry.load() is vllm_weights.register


def test_experts_are_drawn_not_left_at_zero():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    model = torch.nn.Module()
    for name, size, kind in (
        ("input_layernorm_weight", (64,), torch.bfloat16),
        ("w13_weight", (4, 128, 32), torch.uint8),
        ("w13_weight_scale", (4, 128, 2), torch.uint8),
        ("head", (300, 64), torch.bfloat16),
    ):
        value = torch.zeros(*size, dtype=kind)
        model.register_parameter(name, torch.nn.Parameter(value, requires_grad=False))
    assert vllm_weights.draw(model) == {
        "normal": 19200, "ones": 64, "packed": 16384, "scale": 1024}  # fmt: skip
    assert model.w13_weight.unique().numel() == 256
    assert set(model.w13_weight_scale.unique().tolist()) == {119, 120, 121}
    assert model.head.float().std().item() == pytest.approx(0.02, rel=0.05)
    model.register_parameter(
        "odd", torch.nn.Parameter(torch.zeros(2, dtype=torch.int32), requires_grad=False)
    )
    with pytest.raises(TypeError, match="odd is of"):
        vllm_weights.draw(model)


def test_what_a_call_would_carry_is_summed_with_the_working_tree(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "in_the_tree").write_bytes(bytes(1000))
    carried = tmp_path.with_name("part-001")
    carried.write_bytes(bytes(234))
    assert "1,234 bytes, of the 67,108,864 of" in parts.of_a_call([carried], tmp_path)
    with carried.open("r+b") as file:
        file.truncate(parts.CALL_BYTES)
    assert "more than the" in parts.of_a_call([carried], tmp_path)
    (tmp_path / ".git").rename(tmp_path / "gone")
    assert "is not known" in parts.of_a_call([carried], tmp_path)
