"""A tiny base model, and a finished training of it that kept its states."""

from dataclasses import replace
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn

from lightadapt_data import adapter_jobs, training
from lightadapt_data.arms import ArmRows, Curated
from lightadapt_data.influence_scores import Training
from lightadapt_data.stages import train

GOOD = ("good", "fine", "great", "warm")
BAD = ("bad", "dull", "poor", "cold")
OTHERS = ("film", "plot", "a", "the", "and", "is", "it", "very")
WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *GOOD, *BAD, *OTHERS]
LABELS = ["negative", "positive"]


def tiny_base(folder: Path) -> Path:
    """Write a random BERT of 2 layers whose tokenizer knows WORDS."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
    )
    model = transformers.BertModel(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", model_max_length=24
    ).save_pretrained(folder)
    return folder


def text_of(number: int) -> str:
    """Return a text of 3 to 6 words; even numbers are good ones."""
    words = [(GOOD, BAD)[number % 2][number // 2 % 4]]
    words += [OTHERS[(number * step + step) % len(OTHERS)] for step in (1, 3, 7, 5, 11)]
    return " ".join(words[: 3 + number % 4])


def rows(n_rows, origin="seed", split="train", first=0):
    """Return rows with right labels."""
    return [
        {
            "id": f"{split}-{number}",
            "text": text_of(number),
            "label": LABELS[1 - number % 2],
            "origin": origin,
            "parent_id": None,
            "method": "",
            "score": None,
            "source": "toy",
            "n_tokens": 3 + number % 4,
            "split": split,
        }
        for number in range(first, first + n_rows)
    ]


def settings(base: Path, **changes):
    """Return settings of the train stage that learn the toy's labels in a second."""
    known = {
        "base_model": str(base),
        "steps": 30,
        "batch_rows": 8,
        "evaluations": 2,
        "seeds": 1,
        "keep_states": True,
        "options": {"bottleneck": {"reduction_factor": 4, "learning_rate": 1e-2}},
    }
    return train.Settings(**{**known, **changes})


def curated(n_train=24, n_validation=12):
    """Return curated rows without a test of their own."""
    validation = rows(n_validation, split="validation", first=100)
    return Curated(rows(n_train), validation, validation, [], LABELS, {})


def arm(members):
    """Return an arm of these rows."""
    return ArmRows(members, 0, 0, 0)


def finished(folder: Path, own, what, seed=0):
    """Train in `folder` with states kept, and return what influence reads."""
    job = adapter_jobs.job(own, what, arm(what.train), seed)
    job = replace(job, states=folder / "states")
    (folder / "adapter").mkdir(parents=True)
    result = training.train(job, own, folder / "adapter")
    return Training(own, job, what.train, what.validation, what.labels, folder, result.best_step)
