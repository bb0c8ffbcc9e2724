"""Heads of AdapterHub's format: those of transformers' classes, and that library's own ones.

Its own ones ("flex") are lists of layers. They are taken where they compute what the head of a
class of transformers does: BERT's pooler and classifier, for one, are its two layers with tanh.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightadapt_data.adapterhub_files import HEAD_CONFIG, has_tensors, read_tensors, write_tensors
from lightadapt_data.errors import InputError

logger = logging.getLogger(__name__)

CLASSES = {
    "text_classification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "token_classification": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "question_answering": "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
}
"""By task: where transformers lists the classes by model_type."""

_TWO_LAYERS = ("classifier.dense", "classifier.out_proj")
FLEX: dict[tuple[str, int, str | None, bool], dict[str, tuple[str, ...]]] = {
    ("classification", 1, None, True): {"BertForSequenceClassification": ("classifier",)},
    ("classification", 2, "tanh", False): {
        "BertForSequenceClassification": ("bert.pooler.dense", "classifier"),
        "RobertaForSequenceClassification": _TWO_LAYERS,
        "XLMRobertaForSequenceClassification": _TWO_LAYERS,
    },
    ("classification", 2, "gelu", False): {"ElectraForSequenceClassification": _TWO_LAYERS},
    ("classification", 2, "relu", False): {
        "DistilBertForSequenceClassification": ("pre_classifier", "classifier")
    },
}
"""By type, layers, function between them, pooler: class of transformers -> its linear layers."""
_ONE_LAYER = {"tagging": "classifier", "question_answering": "qa_outputs"}


def put_in(folder: Path, network: Any, head_modules: Sequence[str]) -> list[str]:
    """Set the network's head to the folder's, and return the modules to train and save whole.

    Raises:
        InputError: the head has other labels than the network.
    """
    heads = list(head_modules)
    if not heads or not has_tensors(folder, "model_head"):
        return heads
    config = _config(folder)
    tensors = _fitting(config, read_tensors(folder, "model_head"), network)
    if tensors is None:
        logger.warning(
            "%s: its head (%s) computes what %s does not; only the adapter was taken, so train the "
            "head",
            folder,
            (config.get("config") or {}).get("head_type") or config.get("model_class"),
            type(network).__name__,
        )
        return heads
    parameters = dict(network.named_parameters())
    for name, tensor in tensors.items():
        if parameters[name].shape != tensor.shape:
            raise InputError(
                f"{folder}: {name} of its head is {list(tensor.shape)}, and the network's "
                f"{list(parameters[name].shape)}; allowed: a network with as many labels"
            )
        parameters[name].data.copy_(tensor)
    modules = {name.rpartition(".")[0] for name in tensors}
    outside = {name for name in modules if not any(f"{name}.".startswith(f"{h}.") for h in heads)}
    return [*heads, *sorted(outside)]


def _fitting(
    config: Mapping[str, Any], tensors: Mapping[str, Any], network: Any
) -> Mapping[str, Any] | None:
    """Return the head's tensors under the network's names; None when it is another one."""
    kind, name = config.get("config"), type(network).__name__
    if kind is None:
        is_same = config.get("model_class") == name
        found = tensors
    else:
        layers = _flex_layers(kind).get(name, ())
        keys = sorted({key.rpartition(".")[0] for key in tensors}, key=_number)
        is_same = len(layers) == len(keys) > 0
        found = {
            f"{layer}.{part}": tensors[f"{key}.{part}"]
            for layer, key in zip(layers, keys, strict=False)
            for part in ("weight", "bias")
            if f"{key}.{part}" in tensors
        }
    return found if is_same and found.keys() <= dict(network.named_parameters()).keys() else None


def _number(key: str) -> int:
    return int(key.rpartition(".")[2])


def _flex_layers(kind: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return class of transformers -> linear layers, for one of the library's own heads."""
    head, n_layers = str(kind.get("head_type")), int(kind.get("layers") or 0)
    if head in _ONE_LAYER and n_layers == 1:
        model = "TokenClassification" if head == "tagging" else "QuestionAnswering"
        families = ("Bert", "Roberta", "XLMRoberta", "Electra", "DistilBert", "DebertaV2")
        return {f"{family}For{model}": (_ONE_LAYER[head],) for family in families}
    between = kind.get("activation_function") if n_layers > 1 else None
    return FLEX.get((head, n_layers, between, bool(kind.get("use_pooler"))), {})


def class_name(how: Mapping[str, Any], model_type: str) -> str:
    """Return the class of transformers that the task builds for the family; empty: none."""
    from transformers.models.auto import modeling_auto

    names = CLASSES.get(how["task"])
    return str(getattr(modeling_auto, names).get(model_type, "")) if names else ""


def labels(folder: Path) -> list[str]:
    """Return the labels of the folder's head in their order; empty: it has none."""
    if not (folder / HEAD_CONFIG).exists():
        return []
    config = _config(folder)
    places = (config.get("config") or config).get("label2id") or {}
    return sorted(places, key=lambda label: int(places[label]))


def _config(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / HEAD_CONFIG).read_text("utf-8"))
        found.get("config")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / HEAD_CONFIG}: cannot be read: {error}") from None
    return found


def export(
    out: Path,
    how: Mapping[str, Any],
    shared: Mapping[str, Any],
    tensors: Mapping[str, Any],
    name: str | None,
) -> None:
    """Write the head, if there is one that the library has; else warn.

    Args:
        out: where to write.
        how: what labels.json says.
        shared: what both configurations hold.
        tensors: of the run's adapter.
        name: of the adapter; None: the head stands on the mean, which no class there does.
    """
    names = {key: key.removeprefix("base_model.model.") for key in tensors}
    saved = {names[key]: tensors[key] for key in tensors if ".bottleneck_" not in key}
    body = {key.partition(".")[0] for key in names.values() if ".bottleneck_" in key}
    if not saved:
        return
    model_class = class_name(how, str(shared["model_type"]))
    is_apart = body.isdisjoint(key.partition(".")[0] for key in saved)
    if name and model_class == "BertForSequenceClassification" and not is_apart:
        found = _flex(saved, how["labels"], name)
    elif name and model_class and is_apart:
        content: dict[str, Any] = {"config": None, "name": None, "model_class": model_class}
        content |= {"num_labels": len(how["labels"]), "label2id": _places(how["labels"])}
        found = content, saved
    else:
        found = None
    if found is None:
        logger.warning(
            "%s: the head of this adapter (%s) has no class in AdapterHub's library and was left "
            "out; train one there, or use the adapter here",
            out,
            ", ".join(sorted({key.rpartition(".")[0] for key in saved})),
        )
        return
    text = json.dumps({**shared, **found[0]}, indent=2, sort_keys=True)
    (out / HEAD_CONFIG).write_text(text, "utf-8")
    write_tensors(out, "model_head", found[1])


def _flex(
    saved: Mapping[str, Any], labels: Sequence[str], name: str
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return BERT's head as a list of layers, with its trained pooler; None: there is more to it.

    The library's own class for it takes the pooler from the base model.
    """
    places = {1: "bert.pooler.dense", 4: "classifier"}
    keys = {
        f"{layer}.{part}": f"heads.{name}.{number}.{part}"
        for number, layer in places.items()
        for part in ("weight", "bias")
    }
    if saved.keys() != keys.keys():
        return None
    kind = {
        "activation_function": "tanh",
        "bias": True,
        "dropout_prob": None,
        "head_type": "classification",
        "label2id": _places(labels),
        "layers": 2,
        "num_labels": len(labels),
        "use_pooler": False,
    }
    content = {"config": kind, "name": name, "model_class": "BertAdapterModel"}
    return content, {keys[key]: tensor for key, tensor in saved.items()}


def _places(labels: Sequence[str]) -> dict[str, int]:
    return {label: place for place, label in enumerate(labels)}
