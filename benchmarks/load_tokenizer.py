"""Trains a small tokenizer for the peers, which need one on disk."""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

END = "<|endoftext|>"
WORDS = " watt joule volt ohm token tick gauge cycle"
"""What the mock says: one token each, as it counts them, for peers that tokenize the answers."""


def make(folder: Path) -> None:
    """Byte-level BPE over a text every Python has; the mock's tokens need no real vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[END],
    )
    tokenizer.train_from_iterator([inspect.getsource(argparse), *[WORDS] * 1000], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, bos_token=END, pad_token=END
    )
    fast.save_pretrained(folder)
    config = {"model_type": "gpt2", "vocab_size": 1500}
    (folder / "config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
