"""Workloads are seeded, as long as asked, and read the formats that others publish."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import config, plugins
from harness.contracts import Workload
from harness.errors import ConfigError
from harness.timeline import Request
from harness.workload_summary import describe, prefix_ratio, summarise

MOONCAKE = [
    {"timestamp": 0, "input_length": 1200, "output_length": 5, "hash_ids": [0, 1, 2]},
    {"timestamp": 1500, "input_length": 1100, "output_length": 7, "hash_ids": [0, 1, 3]},
    {"timestamp": 3000, "input_length": 600, "output_length": 9, "hash_ids": [4, 5]},
]
CONVERSATIONS = [
    {
        "id": "a",
        "conversations": [
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": "How are you?"},
            {"from": "gpt", "value": "I am fine, thank you."},
            {"from": "human", "value": "And now?"},
            {"from": "gpt", "value": "Still fine."},
        ],
    },
    {"id": "b", "conversations": [{"from": "human", "value": "No answer was kept."}]},
]


def row(timestamp: int, isl: int = 1) -> str:
    values = {"timestamp": timestamp, "input_length": isl, "output_length": 1}
    return json.dumps(values) + "\n"


def build(kind: str, **options) -> Workload:
    return plugins.load("workload", kind)(**options)


def some(workload: Workload, count: int = 20, seed: int = 1) -> list[Request]:
    return list(islice(workload.requests(seed=seed), count))


def jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def made_of(tmp_path: Path, kind: str) -> Workload:
    path = tmp_path / "data.jsonl"
    match kind:
        case "trace":
            return build(kind, path=jsonl(path, MOONCAKE))
        case "sharegpt":
            return build(kind, path=jsonl(path, CONVERSATIONS))
        case "mlperf":
            rows = [{"tok_input": [1, 2, place]} for place in range(5)]
            return build(kind, path=jsonl(path, rows))
        case "prompts":
            return build(kind, path=jsonl(path, [{"prompt": "one"}, {"prompt": "two"}]))
        case _:
            return build(kind)


@pytest.mark.parametrize("kind", plugins.kinds("workload"))
def test_the_same_seed_gives_the_same_requests_numbered_from_0(tmp_path, kind):
    workload = made_of(tmp_path, kind)
    first = some(workload)
    assert first == some(workload)
    assert [request.index for request in first] == list(range(len(first)))


@pytest.mark.parametrize("kind", ["inferencex", "load_test", "conversations", "mlperf", "trace"])
def test_another_seed_gives_other_requests(tmp_path, kind):
    workload = made_of(tmp_path, kind)
    assert some(workload) != some(workload, seed=2)


@given(seed=st.integers(0, 10**6), scenario=st.sampled_from(["1k1k", "1k8k", "8k1k"]))
def test_inferencex_lengths_lie_between_0_8_l_and_l(seed, scenario):
    isl, osl = {"1k1k": (1024, 1024), "1k8k": (1024, 8192), "8k1k": (8192, 1024)}[scenario]
    (request,) = some(build("inferencex", scenario=scenario, prompts="tokens"), 1, seed)
    assert int(0.8 * isl) <= request.isl_tokens <= isl
    assert int(0.8 * osl) <= request.max_osl_tokens <= osl
    assert len(request.prompt) == request.isl_tokens


def test_inferencex_uses_the_whole_range():
    lengths = [r.isl_tokens for r in some(build("inferencex", prompts="tokens"), 4000)]
    assert min(lengths) < 830
    assert max(lengths) > 1014


def test_a_slot_gets_ten_requests_and_two_to_warm_up():
    load = config.parse(config.read("gpt-oss-120b"), name="t").load
    assert (load.concurrency, load.count, load.warmup_count) == (64, 640, 128)


@pytest.mark.parametrize("prompts", ["tokens", "text"])
def test_a_trace_keeps_instants_lengths_and_shared_prefixes(tmp_path, prompts):
    path = jsonl(tmp_path / "mooncake.jsonl", MOONCAKE)
    first, second, third = some(build("trace", path=path, prompts=prompts))
    assert [r.t_offset_s for r in (first, second, third)] == [0.0, 1.5, 3.0]
    assert [r.isl_tokens for r in (first, second, third)] == [1200, 1100, 600]
    assert [r.max_osl_tokens for r in (first, second, third)] == [5, 7, 9]
    parts = [r.prompt if prompts == "tokens" else r.prompt.split() for r in (first, second, third)]
    assert [len(part) for part in parts] == [1200, 1100, 600]
    assert parts[0][:1024] == parts[1][:1024]
    assert parts[0][1024:1100] != parts[1][1024:1100]
    assert parts[2][:512] != parts[0][:512]


def test_azure_traces_are_read_to_the_seventh_digit(tmp_path):
    path = tmp_path / "azure.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.6805900,374,44\n"
        "2023-11-16 18:15:50.9951690,396,109\n"
    )
    first, second = some(build("trace", path=path))
    assert (first.isl_tokens, first.max_osl_tokens, first.t_offset_s) == (374, 44, 0.0)
    assert second.t_offset_s == pytest.approx(4.314579, abs=1e-6)


def test_burstgpt_rows_that_failed_are_left_out(tmp_path):
    path = tmp_path / "burst.csv"
    path.write_text(
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,472,18,490,Conversation log\n"
        "45,ChatGPT,300,0,300,API log\n"
        "118,GPT-4,417,276,693,Conversation log\n"
    )
    assert [r.t_offset_s for r in some(build("trace", path=path))] == [0.0, 113.0]


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("trace", '{"a": 1}\n', "of no trace format we know: it has a"),
        ("trace", "", "has no usable request"),
        ("trace", row(5) + row(4), "row 2 .* earlier"),
        ("trace", row(5, isl=-1), "input_length = -1"),
        ("trace", "{not json\n", "damaged or of another format"),
        ("prompts", "[1]\n", "row 1 .* not an object"),
        ("prompts", '{"answer": "x"}\n', "has no prompt: it has answer"),
        ("sharegpt", '{"conversations": []}\n', "no conversation"),
        ("mlperf", '{"text_input": "x"}\n', "none of the columns tok_input"),
    ],
)  # fmt: skip
def test_a_data_file_that_is_wrong_is_refused_by_row(tmp_path, kind, content, message):
    path = tmp_path / "data.jsonl"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        some(build(kind, path=path))


@pytest.mark.parametrize("kind", ["trace", "prompts", "sharegpt", "mlperf"])
def test_a_missing_data_file_is_named(tmp_path, kind):
    with pytest.raises(ConfigError, match=r"cannot read .*nowhere\.jsonl: No such file"):
        some(build(kind, path=tmp_path / "nowhere.jsonl"))


def test_a_pickle_is_not_read():
    with pytest.raises(ConfigError, match="runs code when it is read; convert it"):
        build("mlperf", path=Path("perf.pkl"))


def test_mlperf_uses_every_sample_before_any_again(tmp_path):
    table = pa.table({"tok_input": [[1, place] for place in range(7)], "text_input": ["x"] * 7})
    pq.write_table(table, tmp_path / "perf.parquet")
    requests = some(build("mlperf", path=tmp_path / "perf.parquet"), 14)
    assert {r.prompt for r in requests[:7]} == {r.prompt for r in requests[7:]}
    assert {r.max_osl_tokens for r in requests} == {10_240}


def test_sharegpt_turns_carry_their_history_with_recorded_answers(tmp_path):
    path = jsonl(tmp_path / "share.jsonl", CONVERSATIONS)
    first, second = some(build("sharegpt", path=path))
    assert first.messages == (("system", "Be brief."), ("user", "How are you?"))
    assert second.messages[:3] == (*first.messages, ("assistant", "I am fine, thank you."))
    assert first.session == second.session == "a"
    assert first.max_osl_tokens == round(5 * 4 / 3)
    (flat, _) = some(build("sharegpt", path=path, as_text=True))
    assert flat.messages is None
    assert flat.prompt == "system: Be brief.\n\nuser: How are you?\n\nassistant:"


def test_sharegpt_s_own_file_is_one_list_of_conversations(tmp_path):
    path = tmp_path / "ShareGPT_V3.json"
    path.write_text(json.dumps(CONVERSATIONS))
    lines = jsonl(tmp_path / "share.jsonl", CONVERSATIONS)
    assert some(build("sharegpt", path=path)) == some(build("sharegpt", path=lines))


@pytest.mark.parametrize("kind", plugins.kinds("workload"))
def test_every_workload_says_what_it_is_made_of(tmp_path, kind):
    """Lengths and shared prefixes, from its own first requests."""
    lines = describe(summarise(made_of(tmp_path, kind), seed=1, most=20))
    assert lines[0].startswith("workload: the first ")
    assert any(line.startswith("input tokens: ") for line in lines)
    assert any(line.startswith("output tokens asked: ") for line in lines)
    assert any(line.startswith("shared prefix: ") for line in lines)


def test_a_run_prints_it_before_anything_is_started(joulemark):
    command = ("run", "quickstart", "--url", "http://127.0.0.1:1", "-m", "m")
    command += ("--isl", "7", "--osl", "9")
    assert "# input tokens: mean 6.5, from 6 to 7" in joulemark(*command).stderr
    done = joulemark(*command, "-s", "workload.range_ratio=1")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert "# input tokens: 7 each" in lines
    assert "# output tokens asked: 9 each" in lines
    refused = next(place for place, line in enumerate(lines) if line.startswith("joulemark: "))
    assert lines.index("# output tokens asked: 9 each") < refused


def test_prompts_are_read_from_csv_and_begin_again(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("question,max_tokens\nWhy?,3\nHow?,\n")
    requests = some(build("prompts", path=path), 3)
    assert [(r.prompt, r.max_osl_tokens) for r in requests] == [
        ("Why?", 3), ("How?", 256), ("Why?", 3),
    ]  # fmt: skip
    assert len(some(build("prompts", path=path, repeat=False))) == 2


def test_conversations_share_what_they_say_they_share():
    alone = build("conversations", turns=1, sessions=8, prefix_tokens=600, turn_tokens=60)
    assert summarise(alone, seed=1, most=64).prefix_ratio > 0.8
    other = build("conversations", prefixes=8, turns=1, sessions=8, prefix_tokens=600)
    assert summarise(other, seed=1, most=8).prefix_ratio < 0.05


def test_turns_of_a_session_grow():
    requests = some(build("conversations", turns=3, sessions=2), 6)
    assert [r.session for r in requests] == ["0", "1", "0", "1", "0", "1"]
    assert requests[4].messages[: len(requests[2].messages)] == requests[2].messages
    assert [r.isl_tokens for r in requests[::2]] == [1152, 1408, 1664]


def test_prefix_ratio_of_a_hand_made_pair():
    """Four blocks of 16 ids each; the second request begins with three of the first's."""
    one = tuple(range(64))
    two = (*range(48), *range(100, 116))
    requests = [
        Request(index=place, prompt=prompt, max_osl_tokens=1)
        for place, prompt in enumerate((one, two))
    ]
    assert prefix_ratio(requests) == 3 / 8


def test_a_summary_prints_a_histogram_and_says_what_is_not_known(tmp_path):
    lines = describe(summarise(build("inferencex"), seed=1, most=50))
    assert lines[0] == "workload: the first 50 requests"
    assert any(line.startswith("input tokens: mean 9") for line in lines)
    assert any("####" in line for line in lines)
    path = jsonl(tmp_path / "p.jsonl", [{"prompt": "x"}])
    assert "input tokens: the workload does not say" in describe(
        summarise(build("prompts", path=path), seed=1, most=3)
    )
