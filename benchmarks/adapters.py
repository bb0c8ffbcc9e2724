"""Every adapter method on every task, with full fine-tuning and the head alone beside them.

Per task some training rows are drawn, each method trains on them for the same steps with several
seeds (`compare-adapters` does the work), the best step is chosen on the dev rows, and the test rows
are looked at once per adapter. The base model is MiniLM; for translation, where no pretrained model
installs as a package, a small Marian model is trained from scratch on other pairs of the same
kind first. Printed: the table of compare-adapters for each task. Nothing is asserted.

Run: python benchmarks/adapters.py [TASK ...] [--seeds 3] [--rows 500] [--steps 120] [--out DIR]
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import statistics
import time
from pathlib import Path
from typing import Any

from lightadapt_data import compare_adapters, recipe

TASKS = {
    "sst2": "text_classification",
    "ag_news": "text_classification",
    "conll03": "token_classification",
    "semeval2010": "relation_extraction",
    "xquad_en": "question_answering",
    "debian_en_de": "translation",
}
METHODS = ("bottleneck", "houlsby", "lora", "prefix", "prompt")
HELD_OUT_ROWS = 500
"""Dev and test rows at most, so that tables are made in minutes; the first ones of each file."""


def main() -> None:
    """Run the named tasks and print a table for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", choices=[*TASKS, []], default=[])
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--held-out", type=int, default=HELD_OUT_ROWS)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tasks"))
    parser.add_argument("--out", type=Path, default=Path("runs/adapters"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    for name in arguments.tasks or TASKS:
        started = time.monotonic()
        folder = arguments.out / name
        n_rows = _write_rows(arguments, name, folder)
        entries, refused = [], {}
        for method in arguments.methods.split(","):
            found = _compared(arguments, name, folder, method)
            known = {entry["method"] for entry in entries}
            for entry in found["methods"]:
                label = method if entry["method"] == "bottleneck" else entry["method"]
                if label not in known:
                    entries.append({**entry, "method": label})
            refused |= found["refused"]
        print(
            f"\n{name}: {TASKS[name]}, {n_rows} training rows, {arguments.steps} steps of "
            f"{arguments.batch}, {arguments.seeds} seeds, {found['metric']}, "
            f"{time.monotonic() - started:.0f} s"
        )
        _print(entries)
        for method, reason in refused.items():
            print(f"  {method} refuses: {reason[:200]}")


def _compared(
    arguments: argparse.Namespace, name: str, folder: Path, method: str
) -> dict[str, Any]:
    """Return what compare-adapters says of one method and the yardsticks."""
    changes: dict[str, Any] = {
        "task": TASKS[name],
        "ingest.task": [str(folder / f"{part}.jsonl") for part in ("train", "dev", "test")],
        "curate.filters": ["exact_duplicate"],
        "train.steps": arguments.steps,
        "train.batch_rows": arguments.batch,
        "train.evaluations": 4,
    }
    if method == "houlsby":
        method = "bottleneck"
        changes["train.bottleneck.variant"] = "houlsby"
    if name == "debian_en_de":
        changes["train.base_model"] = str(_small_translator(arguments, folder))
    what = recipe.load(None, changes.items(), ["curate", "train"])
    asked = compare_adapters.question(what, method, 1, arguments.seeds)
    home = folder / ("houlsby" if "train.bottleneck.variant" in changes else "run")
    return compare_adapters.compare(what, home.absolute(), asked)


def _print(entries: list[dict[str, Any]]) -> None:
    entries.sort(key=lambda entry: -entry["test"]["mean"])
    for entry in entries:
        values = entry["test"]["values"]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(
            f"  {entry['method']:10} {entry['test']['mean']:8.3f} ± {spread:.3f}   "
            f"{entry['trainable']:>12,.0f} trained  {entry['bytes_on_disk'] / 1e6:7.2f} MB  "
            f"{entry['train_rows_per_second']:6.1f} rows/s",
            flush=True,
        )


def _write_rows(arguments: argparse.Namespace, name: str, folder: Path) -> int:
    """Write the drawn training rows and the held-out ones; return how many train."""
    folder.mkdir(parents=True, exist_ok=True)
    source = arguments.data / name
    train = _read(source / "train.jsonl")
    random.Random(0).shuffle(train)
    parts = {"train": train[: arguments.rows]}
    for part in ("dev", "test"):
        parts[part] = _read(source / f"{part}.jsonl")[: arguments.held_out]
    known = {row.get("label") for row in parts["train"]}
    for part, rows in parts.items():  # a label that no drawn row has could not be learned
        kept = [row for row in rows if row.get("label") in known]
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    return len(parts["train"])


def _read(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _small_translator(arguments: argparse.Namespace, folder: Path) -> Path:
    """Return a small Marian model, trained from scratch on pairs that no adapter sees."""
    import torch
    import transformers
    from tokenizers import (
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

    home = folder / "base"
    if (home / "model.safetensors").exists():
        return home.absolute()
    pairs = _read(arguments.data / "debian_en_de" / "train.jsonl")
    random.Random(0).shuffle(pairs)
    pairs = pairs[arguments.rows :]
    core = Tokenizer(models.Unigram())
    core.normalizer = normalizers.NFKC()
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    core.train_from_iterator(
        (text for pair in pairs for text in (pair["source"], pair["target"])),
        trainers.UnigramTrainer(
            vocab_size=8000,
            special_tokens=special,
            unk_token="<unk>",  # noqa: S106
        ),
    )
    core.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",  # noqa: S106  a token, no password
        eos_token="</s>",  # noqa: S106
        unk_token="<unk>",  # noqa: S106
        model_max_length=128,
    )
    torch.manual_seed(0)
    config = transformers.MarianConfig(
        vocab_size=len(tokenizer),
        d_model=256,
        encoder_layers=3,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=768,
        decoder_ffn_dim=768,
        max_position_embeddings=160,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        forced_eos_token_id=1,
        scale_embedding=True,
    )
    model = transformers.MarianMTModel(config)
    _fit(model, tokenizer, pairs)
    model.save_pretrained(home)
    tokenizer.save_pretrained(home)
    return home.absolute()


def _fit(model: Any, tokenizer: Any, pairs: list[dict[str, str]], steps: int = 500) -> None:
    """Train the model on the pairs, in batches of 32 of like length."""
    import torch

    short = [pair for pair in pairs if len(pair["source"]) < 300]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, steps)
    draw = random.Random(1)
    started = time.monotonic()
    for _ in range(steps):
        window = sorted(draw.sample(short, 256), key=lambda pair: len(pair["source"]))
        batch = window[(at := draw.randrange(8) * 32) : at + 32]
        inputs = tokenizer(
            [pair["source"] for pair in batch],
            text_target=[pair["target"] for pair in batch],
            padding=True,
            truncation=True,
            max_length=96,
            return_tensors="pt",
            return_token_type_ids=False,
        )
        inputs["labels"][inputs["labels"] == 0] = -100
        loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    print(
        f"  a translator from scratch: {steps} steps, loss {float(loss):.2f}, "
        f"{time.monotonic() - started:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
