"""Write the reference files of this folder with AdapterHub's own library; run once, not in tests.

    python -m venv ah && ah/bin/pip install torch==2.13.0 adapters==1.3.0 transformers==4.57.6
    ah/bin/python tests/adapterhub/make_references.py

Per case: what that library saved (two config files, the tensors of adapter and head) and what its
model answers. The weights of the base models are not stored: `fill` makes them from their names.
"""

import json
import shutil
import tempfile
import zlib
from pathlib import Path

import numpy as np
import torch

COMMON = {"vocab_size": 40, "max_position_embeddings": 40}
SIZES = COMMON | {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
ROTARY = SIZES | {"num_key_value_heads": 1, "head_dim": 8}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
PAIRED = (
    COMMON
    | TOKENS
    | {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "decoder_start_token_id": 0}
    | {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    | {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
)
T5 = {"vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
T5 |= {"relative_attention_num_buckets": 8, "pad_token_id": 0, "eos_token_id": 2}
T5 |= {"decoder_start_token_id": 0}
GPT2 = {"vocab_size": 40, "n_positions": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_inner": 32}
DISTILBERT = COMMON | {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}

FAMILIES = {
    "bart": ("AutoModelForSeq2SeqLM", PAIRED),
    "bert": ("AutoModelForSequenceClassification", SIZES),
    "deberta-v2": ("AutoModelForTokenClassification", SIZES),
    "distilbert": ("AutoModelForSequenceClassification", DISTILBERT),
    "electra": ("AutoModelForSequenceClassification", SIZES | {"embedding_size": 16}),
    "gpt2": ("AutoModelForSequenceClassification", GPT2 | TOKENS),
    "llama": ("AutoModelForSequenceClassification", ROTARY | TOKENS),
    "mbart": ("AutoModelForSeq2SeqLM", PAIRED),
    "mistral": ("AutoModelForSequenceClassification", ROTARY | TOKENS),
    "roberta": ("AutoModelForTokenClassification", SIZES),
    "t5": ("AutoModelForSeq2SeqLM", T5),
    "xlm-roberta": ("AutoModelForQuestionAnswering", SIZES),
}
ADAPTERS = {
    "seq_bn": ("SeqBnConfig", {"reduction_factor": 4}),
    "double_seq_bn": ("DoubleSeqBnConfig", {"reduction_factor": 4}),
    "par_bn": ("ParBnConfig", {"reduction_factor": 4}),
    "left_out": ("SeqBnConfig", {"reduction_factor": 8, "leave_out": [1], "non_linearity": "gelu"}),
}
FLEX_HEADS = {  # by case: family, and the arguments of add_classification_head or its kin
    "flex_pooled": ("bert", "classification", {"layers": 1, "use_pooler": True}),
    "flex_two_layers": ("bert", "classification", {}),
    "flex_roberta": ("roberta", "classification", {}),
    "flex_tagging": ("bert", "tagging", {}),
}
NAME = "trained"
IDS = torch.arange(3, 39).reshape(4, 9)
IDS[:, -1] = 2


def fill(model, seed=""):
    """Set every weight to numbers that only its name and the seed decide, exact in float16."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            random = np.random.RandomState(zlib.crc32((seed + name).encode()))
            numbers = random.normal(0, 0.3, tuple(parameter.shape)).astype(np.float16)
            parameter.copy_(torch.from_numpy(numbers.astype(np.float32)))
    return model


def base(family):
    """Return the base model of a family; it is the same in all versions of transformers."""
    import transformers

    auto, _ = FAMILIES[family]
    return fill(getattr(transformers, auto).from_config(config_of(family)).eval())


def config_of(family):
    from transformers import AutoConfig

    auto, sizes = FAMILIES[family]
    labels = {"num_labels": 2 if auto.endswith("QuestionAnswering") else 3}
    return AutoConfig.for_model(family, **sizes, **labels)


def answers(model):
    """Return what the model says of the last two of four rows, one of them padded, by name."""
    ids, mask = IDS.clone(), torch.ones_like(IDS)
    ids[3, 5:], mask[3, 5:] = 0, 0
    ids[3, 4] = 2
    inputs = {"input_ids": ids, "attention_mask": mask}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = IDS[:, :5]
    with torch.no_grad():
        output = model(**inputs)
    names = ("logits", "start_logits", "end_logits")
    return {name: output[name][2:].clone() for name in names if output.get(name) is not None}


def saved(model, folder):
    """Return the content of the files that the library writes, by file and tensor."""
    model.save_adapter(str(folder), NAME, use_safetensors=True)
    from safetensors.torch import load_file

    texts, tensors = {}, {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".json":
            texts[path.name] = json.loads(path.read_text("utf-8"))
        else:
            for key, tensor in load_file(path).items():
                tensors[f"{path.name}/{key}"] = tensor.contiguous()
    if any(len(tensor) == 40 for tensor in tensors.values()):  # a tied head of words is the base's
        tensors = {key: tensor for key, tensor in tensors.items() if "head" not in key}
        del texts["head_config.json"]
    return texts, tensors


def cases():
    """Yield name of the case, files, tensors."""
    import adapters

    for family in FAMILIES:
        for kind, (config, options) in ADAPTERS.items():
            if kind == "left_out" and family not in ("bert", "gpt2", "t5"):
                continue
            model = base(family)
            adapters.init(model)
            model.add_adapter(NAME, config=getattr(adapters, config)(**options))
            yield f"{family}/{kind}", model
    for kind, (family, head, options) in FLEX_HEADS.items():
        model = adapters.AutoAdapterModel.from_config(config_of(family)).eval()
        model.add_adapter(NAME, config=adapters.SeqBnConfig(reduction_factor=4))
        getattr(model, f"add_{head}_head")(NAME, num_labels=3, **options)
        yield f"{family}/{kind}", model
    model = base("bert")
    adapters.init(model)
    for name in ("language", NAME):
        model.add_adapter(name, config=adapters.SeqBnConfig(reduction_factor=4))
    yield "bert/stack", model


def main():
    import adapters.composition
    from safetensors.torch import save_file

    here = Path(__file__).parent
    texts, tensors = {}, {}
    for case, model in cases():
        fill(model.eval())
        is_stack = case.endswith("stack")
        under = adapters.composition.Stack("language", NAME)
        model.set_active_adapters(under if is_stack else NAME)
        if hasattr(model, "active_head"):
            model.active_head = NAME
        found = {f"answer/{name}": value for name, value in answers(model).items()}
        with tempfile.TemporaryDirectory() as folder:
            files, weights = saved(model, Path(folder))
            texts[case] = files
            found |= weights
            if is_stack:
                shutil.rmtree(folder)
                model.save_adapter(folder, "language", use_safetensors=True, with_head=False)
                path = Path(folder, "adapter.safetensors")
                from safetensors.torch import load_file

                found |= {f"under/{path.name}/{k}": v for k, v in load_file(path).items()}
                texts[case]["under"] = json.loads(Path(folder, "adapter_config.json").read_text())
        family = case.split("/")[0]
        tensors.setdefault(family, {}).update({f"{case}/{k}": v for k, v in found.items()})
    for family, found in tensors.items():
        save_file(found, here / f"{family}.safetensors")
    lines = [f'"{case}": {json.dumps(files, sort_keys=True)}' for case, files in texts.items()]
    (here / "references.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main()
