"""What holds for every method file that is found; nothing here names a method."""

import ast
import inspect
import itertools
import json
import textwrap

import numpy as np
import pytest
from toys import ToyCorpus, target_of

from lightadapt_data import methods, stages
from lightadapt_data.augmenters import Candidate, Context
from lightadapt_data.config import Config
from lightadapt_data.diversity import Order
from lightadapt_data.encoders.hashing import Settings as Hashing
from lightadapt_data.encoders.hashing import load as load_hashing
from lightadapt_data.filters import Finding, Text
from lightadapt_data.gates import Verdict
from lightadapt_data.selectors import Scores

FAMILIES = {
    "readers": ("sources", "read"),
    "encoders": ("fingerprint", "load"),
    "selectors": ("score",),
    "diversity": ("order",),
    "filters": ("examine",),
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


def corpus_of(texts, order=None):
    order = list(range(len(texts))) if order is None else order
    ordered = [texts[i] for i in order]
    keys = np.array([1 + 7919 * i for i in order], np.uint64)
    columns = {"source": [i % 3 for i in order]}
    return ToyCorpus(encode(ordered), ordered, keys, columns)


TEXTS = [f"the {'abcdefghij'[i]} of a {'klmnopqrst'[i]} number {i}" for i in range(10)]
TARGET = ["the a of a k", "the b of a l"]


def scored(module, corpus, texts=TARGET, seed=0):
    target = target_of(encode(texts), texts)
    before = target.vectors.copy()
    scores = module.score(corpus, target, module.Settings(), seed)
    assert isinstance(scores, Scores)
    assert np.array_equal(target.vectors, before)
    assert json.dumps(dict(scores.facts))
    return scores


@pytest.mark.parametrize("module", of("selectors"))
@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1], ["same"] * 6, ["", "", "x"]])
@pytest.mark.parametrize("n_targets", [1, 2])
def test_a_selector_gives_every_row_one_finite_score(module, texts, n_targets):
    scores = scored(module, corpus_of(texts), TARGET[:n_targets])
    assert scores.score.shape == scores.nearest.shape == (len(texts),)
    assert scores.score.dtype == np.float32
    assert scores.nearest.dtype == np.int32
    assert np.isfinite(scores.score).all()
    assert ((scores.nearest >= -1) & (scores.nearest < n_targets)).all()


@pytest.mark.parametrize("module", of("selectors"))
def test_a_selector_is_seeded_and_blind_to_the_order_of_rows(module):
    first, again = (scored(module, corpus_of(TEXTS)).score for _ in range(2))
    assert np.array_equal(first, again)
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    assert np.allclose(scored(module, corpus_of(TEXTS, order)).score, first[order], atol=1e-6)


@pytest.mark.parametrize("module", of("diversity"))
@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1], ["same"] * 6, ["", "", "x"], []])
@pytest.mark.parametrize("n_wanted", [1, 4, 100])
def test_a_diversity_method_orders_every_row_once(module, texts, n_wanted):
    vectors = encode(texts)
    scores = np.linspace(1, 0, len(texts), dtype=np.float32)
    found, again = (module.order(vectors, scores, n_wanted, module.Settings()) for _ in range(2))
    assert isinstance(found, Order)
    assert sorted(found.places.tolist()) == list(range(len(texts)))
    assert np.array_equal(found.places, again.places)
    place_of = np.argsort(found.places)
    for row, other in enumerate(found.close_to.tolist()):
        assert other == -1 or place_of[other] < place_of[row]


class NoRun:
    """What a filter gets outside a run."""

    seed = 0

    def vectors(self, rows):
        return encode([row.text for row in rows])

    def encode(self, texts):
        return encode(texts)


@pytest.mark.parametrize("module", of("filters"))
def test_a_filter_names_a_kept_row_or_a_reason(module):
    texts = ["one two three four five six seven"] * 3 + ["something else entirely here", ""]
    rows = [Text(str(i), str(i), text, is_settled=i == 1) for i, text in enumerate(texts)]
    found = module.examine(rows, module.Settings(), NoRun())
    assert 1 not in found
    for dropped, finding in found.items():
        assert isinstance(finding, Finding)
        assert finding.reason
        assert 0 <= finding.similarity <= 1
        if finding.kept is not None:
            assert finding.kept not in found
            assert finding.kept < dropped
    assert module.examine([], module.Settings(), NoRun()) == {}
    assert module.examine(rows, module.Settings(), NoRun()) == found


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
