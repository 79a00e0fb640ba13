"""
Model folders without weights, and `transformers serve` of one with weights drawn on the card.

    python -m benchmarks.gpu.random_weights folder SHAPE DIR
    python -m benchmarks.gpu.random_weights serve DIR [options of `transformers serve`]

Nothing can be downloaded on an offline machine, and writing 42 GB of random numbers to its disk
only to read them back would take most of a lease: so the server's own loader is replaced by one
that makes the model from its configuration on the device. All else is transformers' own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from workloads.synthetic import Synthetic

from . import shapes

_UNKNOWN = "<unk>"


def write_folder(name: str, folder: Path) -> Path:
    """
    Write `config.json`, `generation_config.json` and a tokenizer for a shape.

    The tokenizer has one token a word: those of the synthetic workload, and made-up ones up to
    the vocabulary's size, so that a prompt of n words has n tokens and every id has a text.
    """
    config = shapes.by_name(name)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "config.json", config)
    _write(folder / "generation_config.json", dict(shapes.GREEDY_NEVER_ENDS))
    _write(folder / "tokenizer.json", _tokenizer(int(config["vocab_size"])))
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": _UNKNOWN,
            "model_max_length": config["max_position_embeddings"],
            "chat_template": "{% for m in messages %}{{ m['content'] }} {% endfor %}",
        },
    )
    return folder


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document) + "\n", encoding="utf-8")


def _tokenizer(vocabulary: int) -> dict[str, Any]:
    draw = Synthetic(isl_tokens=4000).requests(seed=0)
    prompt = next(draw).prompt
    words = sorted(set(prompt.split())) if isinstance(prompt, str) else []
    texts = [_UNKNOWN, *words]
    texts += [f"t{number}" for number in range(len(texts), vocabulary)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {text: number for number, text in enumerate(texts[:vocabulary])},
            "unk_token": _UNKNOWN,
        },
    }


def _serve(arguments: list[str]) -> None:
    import torch  # noqa: PLC0415 - only where there is one
    import transformers  # noqa: PLC0415 - only where there is one
    from transformers.cli.serving import model_manager  # noqa: PLC0415 - only where there is one
    from transformers.cli.transformers import app  # noqa: PLC0415 - only where there is one

    def from_configuration(self: Any, name_and_revision: str, *_: Any, **__: Any) -> Any:  # noqa: ANN401
        folder = name_and_revision.rpartition("@")[0] or name_and_revision
        config = transformers.AutoConfig.from_pretrained(folder)
        architecture = getattr(transformers, config.architectures[0])
        device = "cuda" if self.device == "auto" else self.device
        torch.manual_seed(0)
        with torch.device(device):
            model = architecture._from_config(  # noqa: SLF001 - what from_pretrained itself calls
                config, dtype=torch.bfloat16, attn_implementation=self.attn_implementation
            )
        model.generation_config = transformers.GenerationConfig.from_pretrained(folder)
        count = sum(parameter.numel() for parameter in model.parameters())
        sys.stderr.write(f"RANDOM WEIGHTS: {count:,} parameters drawn on {device}\n")
        return model.eval()

    if not hasattr(model_manager.ModelManager, "_load_model"):
        sys.exit("random_weights: this transformers loads models elsewhere; see its model_manager")
    model_manager.ModelManager._load_model = from_configuration  # noqa: SLF001
    sys.argv = ["transformers", "serve", *arguments]
    app()


def write_program(folder: Path) -> Path:
    """Put a program called `transformers` that serves random weights into *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    root = Path(__file__).resolve().parents[2]
    program = folder / "transformers"
    program.write_text(
        f"#!/bin/sh\n# `transformers serve`, with weights drawn on the card.\n"
        f'PYTHONPATH="{root}:$PYTHONPATH" exec "{sys.executable}" -m {__spec__.name} "$@"\n',
        encoding="utf-8",
    )
    program.chmod(0o755)
    return program


def main() -> None:
    """Do as the command line says."""
    match sys.argv[1:]:
        case ["folder", name, folder]:
            sys.stdout.write(f"{write_folder(name, Path(folder))}\n")
        case ["serve", *rest]:
            _serve(rest)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
