"""Folders of a tiny base model and of adapters over it, as a run leaves them, without training."""

import json

import torch
import transformers
from tiny_models import MASKED, tiny
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from lightadapt_data import methods, model_files

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *(f"w{i}" for i in range(4, 40))]
TEXTS = ["w4 w5 w6", "w7", "w8 w30 w11 w12 w13 w39", "w20 w21 w4", "w33 w34"]


def base_folder(folder, model_type="bert", is_sentence_encoder=True):
    """Save a base model with its tokenizer; return the folder."""
    folder.mkdir()
    tiny(model_type, auto=MASKED).base_model.save_pretrained(folder)
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, model_max_length=32, **names
    ).save_pretrained(folder)
    if is_sentence_encoder:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    return folder


def adapter_folder(folder, base, method, options=None, seed=1, **how):
    """Save an adapter that does a lot, and what loads it; return the folder."""
    how = {
        "task": "text_classification",
        "task_options": {},
        "adapter": method,
        "base_model": str(base),
        "labels": ["no", "perhaps", "yes"],
    } | how
    task, adapter = methods.load("tasks", how["task"]), methods.load("adapters", method)
    settings = methods.settings("tasks", how["task"], how["task_options"])
    torch.manual_seed(seed)
    built = task.build(model_files.find(str(base)), how["base_model"], how["labels"], settings)
    network = built.network
    if "under" in how:
        from lightadapt_data import stacking

        stacking.load_under(network, how["under"], built.head_modules)
        how["under"] = str(how["under"])
    settings = methods.settings("adapters", method, options or {})
    model = adapter.attach(network, settings, built.head_modules)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    model.save_pretrained(str(folder))
    (folder / "labels.json").write_text(json.dumps(how))
    return folder


def logits(trained, texts=TEXTS):
    """Return what the loaded adapter says of the texts, float [texts, labels]."""
    rows = [{"text": text, "label": None} for text in texts]
    task = trained.task
    examples = task.examples(rows, trained.labels, trained.tokenizer, trained.options)
    batch = task.collate(examples, trained.tokenizer)
    del batch["labels"]
    with torch.no_grad():
        return trained.model(**batch).logits
