"""A comparison of selectors, from the command line, on a tiny corpus with the hashing encoder."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from toys import text, write_jsonl

from lightadapt_data import compare, run
from lightadapt_data import recipe as recipes
from lightadapt_data.errors import HeldError, InputError, RecipeError
from lightadapt_data.stages import augment, embed, select, train

BASELINES = ["balanced_random", "random"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A recipe on 120 rows that needs no model."""
    folder = tmp_path_factory.mktemp("inputs")
    for number in range(3):
        rows = [{"id": f"{number}-{i}", "text": text(100 * number + i)} for i in range(40)]
        write_jsonl(folder / "corpus" / f"part-{number}.jsonl", rows)
    (folder / "target.txt").write_text("the mean and the variance\nthe sample variance\n")
    path = folder / "r.toml"
    path.write_text(
        '[ingest]\ncorpus = ["corpus"]\ntarget = ["target.txt"]\n'
        '[embed]\nmethod = "hashing"\n'
        '[select]\nmethod = "nearest"\nkeep = "10"\nbaseline = "balanced_random"\n'
    )
    return path


@pytest.fixture(scope="module")
def compared(recipe, tmp_path_factory):
    """The folder of a finished comparison; to be read only."""
    folder = tmp_path_factory.mktemp("compared") / "out"
    what = recipes.load(recipe)
    compare.compare(what, folder, compare.question(what, "", 3, ""))
    return folder


@pytest.fixture
def out(compared, tmp_path):
    """A copy of the finished comparison, in the folder that `words` name."""
    return shutil.copytree(compared, tmp_path / "out", symlinks=True)


@pytest.fixture
def words(recipe, tmp_path):
    return ["compare", recipe, "--out", tmp_path / "out", "--workers", 1]


@pytest.fixture
def task(tmp_path):
    """Rows like those of the corpus, labelled by one of their words."""
    start = 1000
    for split, n_rows in (("train", 60), ("validation", 8), ("test", 8)):
        found = [text(number) for number in range(start, start + n_rows)]
        rows = [{"text": row, "label": "code" if "socket" in row else "rest"} for row in found]
        write_jsonl(tmp_path / "task" / f"{split}.jsonl", rows)
        start += n_rows
    return tmp_path / "task"


@pytest.fixture
def trained_words(words, task):
    settings = (
        f"ingest.task=['{task}']",
        "augment.methods=['char_noise', 'pseudo_label']",
        "augment.gates=['changed']",
        "curate.filters=['exact_duplicate']",
        "curate.label_ratio=100",
        "train.steps=4",
        "train.seeds=2",
    )
    return [*words, *(word for setting in settings for word in ("--set", setting))]


@pytest.fixture
def jobs(monkeypatch):
    """Make training a formula, and return its (method of the rows, seed) in their order.

    Selected rows are worth more from `nearest`; tests give other numbers than validation.
    """
    done = []

    def run_shard(settings, workspace, shard, out):
        method = workspace.settings["select"].method
        arm, seed = shard.args["arm"], shard.args["seed"]
        done.append((method, arm, seed))
        curated = train.read_curated(workspace, train.methods.load("tasks", settings.task))
        content = train.rows_of_arms(curated, settings.arms)[arm]
        value = 0.5 + 0.2 * (method == "nearest") + 0.01 * seed
        value += 0.003 * ((seed + len(method)) % 3)
        (out / "adapter").mkdir()
        (out / "adapter" / "weights").write_bytes(b"w")
        (out / "labels.json").write_text("{}")
        scores = {"loss": 1.0, "accuracy": value, "macro_f1": value}
        metrics = {
            "arm": arm,
            "seed": seed,
            "validation": scores,
            "test": dict.fromkeys(scores, 0.123),
            "best_step": 1,
            "dev_curve": [],
            "n_rows": len(content.rows),
            "n_tokens": 1,
            "n_added": content.n_added,
            "tokens_added": content.tokens_added,
            "tokens_short": 0,
            "n_trainable": 1,
        }
        (out / "metrics.json").write_text(json.dumps(metrics))
        return {"rows_in": len(content.rows), "rows_out": 0}

    monkeypatch.setattr(train, "run_shard", run_shard)
    return done


def finished(folder):
    """Return the time of every finished shard; a linked stage counts once."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("done.json")}


def ids(folder):
    return set(pq.read_table(folder / "data")["id"].to_pylist())


def test_a_selector_stands_beside_random_ones_at_equal_tokens(compared):
    found = json.loads((compared / "compare" / "results.json").read_text())
    (pool,) = found["pools"]
    assert list(pool["selectors"]) == ["nearest", *BASELINES]
    assert (pool["rows"], found["draws"]) == (120, 3)
    for entry in pool["selectors"].values():
        assert [draw["draw"] for draw in entry["draws"]] == [0, 1, 2]
        for draw in entry["draws"]:
            assert found["tokens"] - 4 < draw["tokens"] <= found["tokens"]
            assert 0 <= draw["coverage_radius"] <= 2
            assert draw["tokens_left"] is draw["validation"] is None
    (said,) = found["sentences"]
    assert said.startswith("nearest: without a task only the proxies can say: KL reduction ")


def test_draws_of_a_random_selector_differ_and_those_of_another_do_not(compared):
    found = json.loads((compared / "compare" / "results.json").read_text())
    radii = {
        name: {draw["coverage_radius"] for draw in entry["draws"]}
        for name, entry in found["pools"][0]["selectors"].items()
    }
    assert len(radii["nearest"]) == 1
    assert len(radii["random"]) > 1


def test_the_recipes_own_selection_is_what_the_comparison_looks_at(compared):
    assert ids(compared / "compare" / "nearest") == ids(compared)


def test_a_second_comparison_does_nothing_again_and_says_the_same(cli, words, out):
    before = finished(out)
    results = json.loads((out / "compare" / "results.json").read_text())
    both = cli(*words, "--json")
    assert both.json() == results
    assert finished(out) == before
    # The table is data on stdout; with --json it is a summary on stderr.
    assert both.out.count("\n") == 1
    assert "nearest: without a task" in both.err
    plain = cli(*words)
    assert plain.out.split()[:2] == ["selector", "rows"]
    assert "nearest: without a task" in plain.out
    assert cli(*words, "--json", "-q").err == ""


def test_one_draw_more_costs_only_that_draw(cli, words, out, monkeypatch):
    scored = []
    original = select.run_shard
    monkeypatch.setattr(select, "run_shard", lambda *a: scored.append(a) or original(*a))
    assert cli(*words, "--draws", 4).code == 0
    assert len(scored) == 3


def test_ingest_and_embed_are_shared_and_the_folder_can_be_moved(
    cli, words, out, tmp_path, monkeypatch
):
    for name in ("nearest", *BASELINES):
        link = out / "compare" / name / "work" / "embed"
        assert os.readlink(link) == "../../../work/embed"
    out.rename(tmp_path / "moved")
    monkeypatch.setattr(embed, "run_shard", None)
    monkeypatch.setattr(select, "run_shard", None)
    result = cli(*(word if word != out else tmp_path / "moved" for word in words))
    assert result.code == 0, result.err


def test_a_link_to_elsewhere_is_put_right(cli, words, out):
    link = out / "compare" / "nearest" / "work" / "ingest"
    link.unlink()
    link.symlink_to("nowhere")
    assert cli(*words).code == 0
    assert link.exists()


def test_scores_that_another_folder_has_are_taken_over(cli, words, out, monkeypatch):
    shutil.rmtree(out / "compare")
    scored = []
    original = select.run_shard

    def counting(settings, workspace, shard, out):
        scored.append((settings.method, settings.draw))
        return original(settings, workspace, shard, out)

    monkeypatch.setattr(select, "run_shard", counting)
    cli(*words, "--draws", 2)
    assert ("nearest", 0) not in scored
    assert ("nearest", 1) in scored
    shutil.rmtree(out / "work" / "select")
    assert cli("explain", "0-1", "--out", out / "compare" / "nearest").code == 0


def test_the_baselines_are_plain_random_rows(cli, words, compared, tmp_path):
    unlike = tmp_path / "unlike.txt"
    unlike.write_text("a socket\n")
    more = ("select.temperature=0.5", "select.diversity=mmr", f"ingest.unlike=['{unlike}']")
    result = cli(*words, *(word for setting in more for word in ("--set", setting)))
    assert result.code == 0, result.err
    plain = ids(compared / "compare" / "random")
    steered = ids(tmp_path / "out" / "compare" / "random")
    # Another budget only cuts the same order of rows elsewhere.
    assert steered <= plain or plain <= steered


def test_several_selectors_are_judged_and_named_ones_replace_the_recipes(cli, words):
    named = ("--selectors", "graph, centroid,random,graph", "--draws", 2)
    found = cli(*words, *named, "--json").json()
    assert found["selectors"] == ["graph", "centroid"]
    assert list(found["pools"][0]["selectors"]) == ["graph", "centroid", *BASELINES]
    assert len(found["sentences"]) == 2


def test_a_killed_comparison_goes_on_and_comes_to_the_same(cli, words, compared, tmp_path):
    code = (
        "import os, signal, sys\n"
        "from lightadapt_data import cli\n"
        "from lightadapt_data.stages import select\n"
        "original, calls = select.run_shard, []\n"
        "def run_shard(settings, workspace, shard, out):\n"
        "    counts = original(settings, workspace, shard, out)\n"
        "    calls.append(shard)\n"
        "    if len(calls) == 5:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return counts\n"
        "select.run_shard = run_shard\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, check=False
    )
    assert process.returncode == -signal.SIGKILL
    out = tmp_path / "out"
    before = finished(out)
    assert len([path for path in before if path.parts[-3] == "select"]) >= 5
    assert not (out / "compare" / "results.json").exists()
    result = cli(*words)
    assert result.code == 0, result.err
    after = finished(out)
    assert {path: after[path] for path in before} == before
    results = [folder / "compare" / "results.json" for folder in (out, compared)]
    assert results[0].read_bytes() == results[1].read_bytes()
    assert not list(out.rglob(".*"))


def test_piles_grow_at_the_same_budget(cli, words, tmp_path):
    result = cli(*words, "--set", "select.keep=5", "--pools", "1,2,4", "--draws", 2, "--json")
    assert result.code == 0, result.err
    found = result.json()
    sizes = [pool["rows"] for pool in found["pools"]]
    assert sizes == sorted(sizes)
    assert sizes[-1] == 120
    assert [pool["size"] for pool in found["pools"]] == [1, 2, 4]
    spent = {
        entry["summary"]["tokens"]["mean"]
        for pool in found["pools"]
        for entry in pool["selectors"].values()
    }
    assert max(spent) <= found["tokens"]
    assert min(spent) > found["tokens"] - 4
    home = tmp_path / "out" / "compare"
    small = home / "pool-x1"
    assert os.readlink(small / "random" / "work" / "embed") == "../../work/embed"
    inside = [
        {line["id"] for line in pq.read_table(path / "nearest" / "ledger").to_pylist()}
        for path in (small, home / "pool-x2", home)
    ]
    assert inside[0] < inside[1] < inside[2]
    assert len(found["sentences"]) == 3
    assert (
        "nearest against balanced_random by coverage radius, piles x1, x2, x4"
        in (found["sentences"][2])
    )
    assert "as the pile" in result.err or "no trend" in result.err


def test_a_task_decides_by_the_validation_rows_and_never_by_the_test_rows(
    cli, trained_words, jobs, tmp_path
):
    result = cli(*trained_words, "--json")
    assert result.code == 0, result.err
    found = result.json()
    assert (found["metric"], found["n_validation"]) == ("accuracy", 8)
    selectors = found["pools"][0]["selectors"]
    assert selectors["nearest"]["summary"]["validation"]["mean"] > 0.65
    assert "0.123" not in json.dumps(found)
    assert "test" not in json.dumps(found)
    (said,) = found["sentences"]
    assert said.startswith("nearest: pays: +0.2")
    assert "over balanced_random on validation accuracy, 3 draws" in said
    assert {(arm, seed) for _, arm, seed in jobs} == {("adapted", seed) for seed in range(3)}
    assert len(jobs) == 9
    left = selectors["nearest"]["summary"]["tokens_left"]["mean"]
    assert 0 < left <= found["tokens"]


def test_work_on_the_labelled_rows_is_done_once_for_all_selectors(
    cli, trained_words, jobs, monkeypatch
):
    made = []
    original = augment.run_shard

    def counting(settings, workspace, shard, out):
        made.append(shard.name)
        return original(settings, workspace, shard, out)

    monkeypatch.setattr(augment, "run_shard", counting)
    assert cli(*trained_words, "--draws", 2).code == 0
    noise = [name for name in made if name.startswith("char_noise")]
    assert noise
    assert len(noise) == len(set(noise))


def test_where_labelling_leaves_nothing_the_seed_rows_are_trained_on(
    cli, trained_words, jobs, monkeypatch
):
    teacher = augment.methods.load("augmenters", "pseudo_label")
    monkeypatch.setattr(teacher, "augment", lambda rows, settings, context: [])
    result = cli(
        *trained_words, "--draws", 2, "--set", "augment.methods=['pseudo_label']", "--json"
    )
    assert result.code == 0, result.err
    assert {arm for _, arm, _ in jobs} == {"seed"}
    entry = result.json()["pools"][0]["selectors"]["nearest"]
    assert entry["summary"]["tokens_left"]["mean"] == 0
    assert "0 of nearest, 0 of balanced_random" in result.json()["sentences"][0]


def test_the_report_has_the_comparison_and_says_when_it_is_old(cli, words, recipe, out, tmp_path):
    report = out / "report.html"
    run_words = ("run", recipe, "--set", "report.samples=3", "--out", out, "--workers", 1)
    (out / "compare" / "results.json").unlink()
    cli(*run_words)
    assert 'id="comparison"' not in report.read_text()
    assert "<!-- comparison -->" not in report.read_text()
    stored = finished(out / "work" / "report")
    cli(*words)
    html = report.read_text()
    assert '<section id="comparison"><h2>Does selection pay?</h2>' in html
    assert "without a task only the proxies can say" in html
    assert 'id="cost"' in html
    assert "http" not in html.split('id="comparison"')[1].split("</section>")[0]
    assert "run compare again" not in html
    assert finished(out / "work" / "report") == stored
    cli(*run_words, "--set", "ingest.sample=0.9")
    assert "run compare again" in report.read_text()


def test_without_a_report_none_is_made(compared):
    assert not (compared / "report.html").exists()


def refuse(result, folder, code, *parts):
    assert result.code == code, result.err
    (message,) = [line for line in result.err.splitlines() if line.startswith("error: ")]
    for part in parts:
        assert part in message
    assert not (folder / "compare").exists()


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (("--selectors", "nearset"), ("no method 'nearset'", "did you mean 'nearest'?")),
        (("--selectors", "random,balanced_random"), ("name one more", "--selectors nearest")),
        (("--set", "select.method=random"), ("--selectors random", "name one more")),
        (("--draws", "1"), ("--draws 1: allowed: a whole number from 2",)),
        (("--draws", "0"), ("--draws 0",)),
        (("--pools", "5,1"), ("--pools 5,1: allowed", "ascending", "1,5,25")),
        (("--pools", "1,1"), ("ascending",)),
        (("--pools", "5"), ("two or more",)),
        (("--pools", "0,5"), ("from 1",)),
        (("--pools", "a,b"), ("whole numbers",)),
        (("--workers", "0"), ("--workers 0",)),
        (("--selectors", "graph", "--set", "select.graph.k=0"), ("graph",)),
    ],
)
def test_a_wrong_question_is_refused_before_any_work(cli, words, tmp_path, more, parts):
    result = cli(*words, *more)
    refuse(result, tmp_path / "out", 2, *parts)
    assert not (tmp_path / "out").exists()


def test_a_budget_that_leaves_no_choice_is_refused(cli, words, tmp_path):
    result = cli(*words, "--set", "select.keep=100%")
    refuse(result, tmp_path / "out", 3, "all of the corpus", "lower select.keep")
    result = cli(*words, "--set", "select.keep=40", "--pools", "1,10")
    assert result.code == 3
    assert "all of the pool 1 (" in result.err
    assert "drop the smallest of --pools" in result.err


def test_a_budget_of_most_of_a_pile_is_warned_of(cli, words):
    assert "more than half of the corpus" in cli(*words, "--set", "select.keep=90").err


def test_a_recipe_without_a_target_is_refused(cli, corpus, tmp_path):
    recipe = tmp_path / "r.toml"
    recipe.write_text(f'[ingest]\ncorpus = ["{corpus}"]\n[embed]\nmethod = "hashing"\n')
    result = cli("compare", recipe, "--out", tmp_path / "out")
    refuse(result, tmp_path / "out", 3, "no target", "ingest.target")


def test_a_held_folder_is_not_compared_in(cli, words, recipe, out):
    with run.hold(out):
        assert cli(*words).code == 75
    what = recipes.load(recipe)
    asked = compare.question(what, "", 2, "")
    with run.hold(out / "compare" / "random"), pytest.raises(HeldError, match="compare/random"):
        compare.compare(what, out, asked)


def test_a_folder_in_the_place_of_a_link_is_left_alone(cli, words, tmp_path):
    (tmp_path / "out" / "compare" / "nearest" / "work" / "ingest").mkdir(parents=True)
    result = cli(*words)
    assert result.code == 3
    assert "is a folder of its own, where compare needs a link" in result.err


def test_progress_counts_the_draws(recipe, out):
    seen = []
    what = recipes.load(recipe)
    asked = compare.question(what, "", 2, "")
    compare.compare(what, out, asked, 1, lambda *now: seen.append(now))
    counted = [now[1:3] for now in seen if now[0] == "compare"]
    assert counted == [(n, 6) for n in range(1, 7)]


def test_a_stage_that_vanishes_is_named(recipe, tmp_path):
    space = recipes.load(recipe).workspace(tmp_path)
    with pytest.raises(InputError, match="select vanished while it was used; run compare again"):
        compare.result_of(space, "select")


def test_the_question_can_be_asked_from_python(recipe):
    what = recipes.load(recipe)
    assert compare.question(what, "", 3, "1,5,25").pools == (1, 5, 25)
    with pytest.raises(RecipeError, match="name one more"):
        compare.question(what, "random", 3, "")


@pytest.mark.slow
def test_a_real_training_is_compared(cli, trained_words, tmp_path):
    real = [
        *trained_words,
        *("--set", "embed.method=sentence_transformer", "--draws", 2, "--json"),
    ]
    result = cli(*real)
    assert result.code == 0, result.err
    found = result.json()
    values = [
        draw["validation"]
        for entry in found["pools"][0]["selectors"].values()
        for draw in entry["draws"]
    ]
    assert len(values) == 6
    assert all(0 <= value <= 1 for value in values)
    before = hashlib.sha256(json.dumps(found).encode()).hexdigest()
    again = cli(*real).json()
    assert hashlib.sha256(json.dumps(again).encode()).hexdigest() == before
