"""What holds for every method file that is found; nothing here names a method."""

import ast
import inspect
import itertools
import json
import textwrap

import numpy as np
import pytest

from lightadapt_data import methods, stages
from lightadapt_data.augmenters import Candidate, Context
from lightadapt_data.config import Config
from lightadapt_data.encoders.hashing import Settings as Hashing
from lightadapt_data.encoders.hashing import load as load_hashing
from lightadapt_data.filters import Match, Text
from lightadapt_data.gates import Verdict
from lightadapt_data.selectors import Scores

FAMILIES = {
    "readers": ("sources", "read"),
    "encoders": ("fingerprint", "load"),
    "selectors": ("score",),
    "filters": ("duplicates",),
    "augmenters": ("augment",),
    "translators": ("translate", "fingerprint"),
    "gates": ("judge",),
    "tasks": (),
    "adapters": ("attach",),
}
ALL = [(family, name) for family in FAMILIES for name in methods.names(family)]
encode = load_hashing(Hashing()).encode


def of(family):
    return [pytest.param(methods.load(family, name), id=name) for name in methods.names(family)]


@pytest.mark.parametrize(("family", "name"), ALL)
def test_a_method_says_what_it_is_and_where_it_comes_from(family, name):
    module = methods.load(family, name)
    assert module.__doc__.startswith(f"{name}: ")
    assert "Source:" in module.__doc__
    for function in FAMILIES[family]:
        assert inspect.getdoc(getattr(module, function)), function


def documented(model):
    """Return the fields of a Settings, its parents' among them, that a docstring follows."""
    found = set()
    for part in model.__mro__:
        if part is Config or not issubclass(part, Config):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(part))).body[0].body
        for node, following in itertools.pairwise(body):
            is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            if isinstance(node, ast.AnnAssign) and is_text:
                found.add(node.target.id)
    return found


@pytest.mark.parametrize("name", stages.STAGES)
def test_every_setting_of_a_stage_is_described(name):
    model = stages.load(name).Settings
    assert set(model.model_fields) <= documented(model)


@pytest.mark.parametrize(("family", "name"), ALL)
def test_every_setting_is_described_and_has_a_default(family, name):
    model = methods.load(family, name).Settings
    assert issubclass(model, Config)
    described = documented(model)
    for field, info in model.model_fields.items():
        assert field in described, f"{family}/{name}: {field} has no docstring"
        assert not info.is_required(), f"{family}/{name}: {field} has no default"
    with pytest.raises(Exception, match="frozen"):
        model().__setattr__(next(iter(model.model_fields), "x"), 1)


@pytest.mark.parametrize(("family", "name"), ALL)
def test_settings_that_enter_a_key_are_json(family, name):
    assert json.dumps(methods.load(family, name).Settings().key_fields())


@pytest.mark.parametrize(("family", "name"), ALL)
def test_heavy_packages_are_imported_inside_functions(family, name):
    tree = ast.parse(inspect.getsource(methods.load(family, name)))
    heavy = {"torch", "faiss", "transformers", "peft", "sklearn", "pyarrow", "datasets", "nlpaug"}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            assert not heavy & {imported.split(".")[0] for imported in names}


class ToyCorpus:
    """A corpus in memory."""

    def __init__(self, texts, order=None):
        order = list(range(len(texts))) if order is None else order
        self.vectors = encode([texts[i] for i in order])
        self.n_rows, self.dim = self.vectors.shape
        self.keys = np.array([1 + 7919 * i for i in order], np.uint64)
        self.tokens = np.full(self.n_rows, 5, np.int32)
        self._groups = np.array([i % 3 for i in order], np.int32)

    def mean(self):
        total = np.sort(self.vectors.astype(np.float64), axis=0).sum(axis=0)
        return (total / self.n_rows).astype(np.float32)

    def blocks(self):
        for start in range(0, self.n_rows, 4):
            yield start, self.vectors[start : start + 4].copy()

    def column(self, name):
        return self._groups


TEXTS = [f"the {'abcdefghij'[i]} of a {'klmnopqrst'[i]} number {i}" for i in range(10)]
TARGET = encode(["the a of a k", "the b of a l"])


def scored(module, corpus, target=TARGET, seed=0):
    before = target.copy()
    scores = module.score(corpus, target, module.Settings(), seed)
    assert isinstance(scores, Scores)
    assert np.array_equal(target, before)
    return scores


@pytest.mark.parametrize("module", of("selectors"))
@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1], ["same"] * 6, ["", "", "x"]])
@pytest.mark.parametrize("n_targets", [1, 2])
def test_a_selector_gives_every_row_one_finite_score(module, texts, n_targets):
    scores = scored(module, ToyCorpus(texts), TARGET[:n_targets])
    assert scores.score.shape == scores.nearest.shape == (len(texts),)
    assert scores.score.dtype == np.float32
    assert scores.nearest.dtype == np.int32
    assert np.isfinite(scores.score).all()
    assert ((scores.nearest >= -1) & (scores.nearest < n_targets)).all()


@pytest.mark.parametrize("module", of("selectors"))
def test_a_selector_is_seeded_and_blind_to_the_order_of_rows(module):
    first, again = (scored(module, ToyCorpus(TEXTS)).score for _ in range(2))
    assert np.array_equal(first, again)
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    assert np.allclose(scored(module, ToyCorpus(TEXTS, order)).score, first[order], atol=1e-6)


@pytest.mark.parametrize("module", of("filters"))
def test_a_filter_drops_rows_for_kept_ones_only(module):
    texts = ["one two three four five six seven"] * 3 + ["something else entirely here", ""]
    found = module.duplicates(
        [Text(str(i), str(i), t) for i, t in enumerate(texts)], module.Settings()
    )
    assert set(found) == {1, 2}
    for dropped, match in found.items():
        assert isinstance(match, Match)
        assert match.kept not in found
        assert match.kept < dropped
        assert 0 <= match.similarity <= 1
    assert module.duplicates([], module.Settings()) == {}


@pytest.mark.parametrize("module", of("gates"))
def test_a_gate_gives_each_pair_a_verdict_that_its_neighbours_cannot_change(module):
    parents = ["a dose of 40 mg is not safe", "plain words here", "", "\U0001f600"]
    children = ["a dose of 400 mg is safe", "plain words stand here", "x", "\U0001f600 \U0001f600"]
    together = module.judge(parents, children, module.Settings(), encode)
    alone = [
        module.judge([parent], [child], module.Settings(), encode)[0]
        for parent, child in zip(parents, children, strict=True)
    ]
    assert together == alone
    for verdict in together:
        assert isinstance(verdict, Verdict)
        assert verdict.passed or verdict.reason
    assert module.judge([], [], module.Settings(), encode) == []


ROWS = [
    {"id": f"r{i}", "text": text, "label": "ab"[i % 2]}
    for i, text in enumerate(
        [
            "The sample mean is a good estimate of the expected value.",
            "Open the socket before the thread starts to read from it.",
            "word",
            "\U0001f600\U0001f600",
            "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
            "for i in range(10): print(i ** 2)",
        ]
    )
]


@pytest.mark.parametrize("module", of("augmenters"))
def test_an_augmenter_depends_on_row_and_seed_only(module):
    context = Context(0, ROWS, encode)
    before = json.dumps(ROWS)
    together = module.augment(ROWS, module.Settings(), context)
    turned = module.augment(ROWS[::-1], module.Settings(), context)
    assert json.dumps(ROWS) == before
    assert all(isinstance(candidate, Candidate) for candidate in together)
    assert {c.parent_id for c in together} <= {row["id"] for row in ROWS}

    def by_id(found):
        return sorted((c.parent_id, c.replica, c.text, c.label, c.refused) for c in found)

    assert by_id(together) == by_id(turned)
    assert module.augment([], module.Settings(), context) == []
