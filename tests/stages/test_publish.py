import json
import os
import re
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightadapt_data import recipe, run, shards
from lightadapt_data.errors import InputError, RecipeError, ServiceError
from lightadapt_data.stages import publish
from lightadapt_data.testing import hub
from lightadapt_data.testing.hub_store import RefusedError

HOME = "/home/someone"


def published(space):
    return space.folder / "publish"


def manifest_of(folder):
    return json.loads((folder / "run_manifest.json").read_text("utf-8"))


def card_of(space):
    return (published(space) / "README.md").read_text("utf-8")


def header_of(space):
    return card_of(space).split("---\n")[1]


def loaded(folder, tmp_path):
    import datasets

    return datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))


def rows_of(space, split):
    paths = sorted((published(space) / "data").glob(f"{split}-*.parquet"))
    return sum(pq.read_metadata(path).num_rows for path in paths)


def test_a_full_run_is_published_with_card_manifest_report_and_adapter(full_run):
    names = {path.name for path in published(full_run).iterdir()}
    assert names == {"data", "README.md", "run_manifest.json", "report.html", "adapter"}
    adapter = {path.name for path in (published(full_run) / "adapter").iterdir()}
    assert adapter == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "labels.json",
        "results.json",
    }


def test_a_select_run_is_published_as_one_train_split(select_run, tmp_path):
    assert manifest_of(published(select_run))["splits"] == {"train": 30}
    data = loaded(published(select_run), tmp_path)
    assert {name: split.num_rows for name, split in data.items()} == {"train": 30}
    assert not (published(select_run) / "adapter").exists()


def test_what_loads_back_is_what_the_manifest_says(full_run, tmp_path):
    data = loaded(published(full_run), tmp_path)
    found = {name: split.num_rows for name, split in data.items()}
    assert found == manifest_of(published(full_run))["splits"]
    assert found == {name: rows_of(full_run, name) for name in found}
    assert set(data["train"]["label"]) <= {"<b>statistics</b>", "code"}


def test_the_header_names_files_features_and_sizes(full_run):
    header = header_of(full_run)
    assert "license: apache-2.0\n" in header
    assert "size_categories: n<1K\n" in header
    assert "    path: data/train-*.parquet\n" in header
    assert f"    num_examples: {rows_of(full_run, 'train')}\n" in header
    assert "  - name: parent_id\n    dtype: string\n" in header
    assert "- lightadapt-data\n" in header


def test_an_unknown_licence_is_warned_of_and_a_known_one_is_not(select_run, full_run):
    assert "**Warning: the licence of this data set is unknown.**" in card_of(select_run)
    assert "license: unknown\n" in header_of(select_run)
    assert "licence is unknown" in publish.headline(select_run)[0]
    assert "Warning" not in card_of(full_run)
    assert "unknown" not in publish.headline(full_run)[0]


def test_the_headline_says_how_to_upload(full_run, select_run):
    assert publish.headline(full_run)[0].endswith("to send it add --push")
    assert publish.headline(select_run)[0].endswith("to send it add --push --repo OWNER/NAME")


def test_shares_of_sources_add_up(full_run):
    section = card_of(full_run).split("## Where the rows come from")[1].split("##")[0]
    rows = re.findall(r"\| ([\d,]+) \| ([\d.]+) % \|", section)
    assert sum(int(n) for n, _ in rows) == sum(manifest_of(published(full_run))["splits"].values())
    assert sum(float(share) for _, share in rows) == pytest.approx(100, abs=0.5)


def test_foreign_text_cannot_change_the_card(full_run):
    body = card_of(full_run).split("---\n", 2)[2]
    assert "# Rows \\| of &lt;b&gt;mine&lt;/b&gt;" in body
    assert not re.search(r"<[a-z/]", body)


def test_metrics_stand_with_their_spread(full_run):
    card = card_of(full_run)
    assert "| adapted | 0.620 ± 0.010 | 2 | 12 |" in card
    assert "The adapted model reaches accuracy 0.620 on 4 test rows" in card


def test_the_card_says_how_to_load_it_in_five_lines(full_run):
    code = card_of(full_run).split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) <= 5
    assert 'load_dataset("me/tiny_set")' in code
    compile(code, "card", "exec")


def test_no_path_of_this_machine_is_published(full_run, select_run):
    for space in (full_run, select_run):
        for path in published(space).rglob("*"):
            if path.suffix in (".md", ".json", ".html"):
                text = path.read_text("utf-8")
                assert str(space.folder.parent) not in text, path
                assert HOME not in text, path
    config = json.loads((published(full_run) / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny-model"


def test_the_manifest_has_recipe_versions_and_keys(full_run):
    manifest = manifest_of(published(full_run))
    assert manifest["recipe"]["ingest"]["corpus"] == ["corpus.jsonl"]
    assert manifest["recipe"]["select"]["keep"] == "30"
    assert "python" in manifest["made_with"]
    assert list(manifest["stages"]) == [
        *("ingest", "embed", "select", "augment", "curate", "train", "report")
    ]
    ingest = manifest["stages"]["ingest"]
    assert ingest["shards"] == [done.key for done in full_run.shards("ingest")]
    assert ingest["result"] == full_run.result("ingest").key


def test_publishing_twice_gives_the_same_bytes(full_run, copy_of):
    copy = copy_of(full_run)
    before = full_run.manifest("publish")
    shutil.rmtree(copy.folder / "work" / "publish")
    made = run.run_stage(copy, "publish")
    assert not made.is_hit
    assert copy.manifest("publish") == before


def test_editing_the_delivered_card_leaves_the_stored_one_alone(select_run, copy_of):
    copy = copy_of(select_run)
    publish.deliver(copy)
    (published(copy) / "README.md").write_text("mine")
    assert copy.result("publish").file("README.md").read_text("utf-8") != "mine"


def test_delivering_replaces_what_was_there(select_run, copy_of):
    copy = copy_of(select_run)
    (published(copy) / "stale.txt").write_text("old")
    publish.deliver(copy)
    assert not (published(copy) / "stale.txt").exists()
    assert not list(copy.folder.glob(".*publish"))


def test_large_files_are_links_where_links_are_possible(select_run):
    (path,) = (published(select_run) / "data").glob("*.parquet")
    stored = select_run.result("publish").file(f"data/{path.name}")
    assert os.stat(path).st_ino == os.stat(stored).st_ino


def test_without_links_files_are_copied(select_run, copy_of, monkeypatch):
    def refuse(*paths):
        raise OSError("no links here")

    copy = copy_of(select_run)
    monkeypatch.setattr(os, "link", refuse)
    publish.deliver(copy)
    assert rows_of(copy, "train") == 30


def test_rows_that_are_missing_when_loaded_back_are_an_error(select_run, copy_of):
    folder = published(copy_of(select_run))
    manifest = manifest_of(folder) | {"splits": {"train": 31}}
    (folder / "run_manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"loads back with rows \{'train': 30\}, .*'train': 31"):
        publish.check_loads(folder)


def test_data_that_does_not_load_is_an_error(select_run, copy_of):
    folder = published(copy_of(select_run))
    (path,) = (folder / "data").glob("*.parquet")
    path.unlink()
    path.write_bytes(b"no parquet")
    with pytest.raises(InputError, match="the folder does not load with datasets"):
        publish.check_loads(folder)


def test_loading_back_leaves_nothing_in_the_home_folder(select_run, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    publish.check_loads(published(select_run))
    assert not list(tmp_path.iterdir())


def test_a_run_without_data_has_nothing_to_publish(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n')
    what = recipe.load(None, [("ingest.corpus", [str(tmp_path / "a.jsonl")])], ["publish"])
    with pytest.raises(InputError, match="neither a selection nor a curated set"):
        run.run_stages(what, tmp_path / "run")


@pytest.mark.parametrize(
    ("key", "value"), [("repo", "a/b/c"), ("license", "My Licence"), ("title", "")]
)
def test_settings_that_the_hub_would_refuse_are_refused(key, value):
    with pytest.raises(RecipeError, match=f"publish.*{key}"):
        recipe.load(None, [("ingest.corpus", ["a"]), (f"publish.{key}", value)])


def test_columns_of_the_users_own_are_kept_and_named(tmp_path):
    files = {"train": [tmp_path / "a.parquet"]}
    table = pa.table({"id": ["a"], "source": [None], "origin": ["seed"], "mine": [1]})
    pq.write_table(
        table.cast(pa.schema([*table.schema]).set(1, pa.field("source", pa.string()))),
        files["train"][0],
    )
    found = publish.card.facts(files)
    assert found.sources == {"unknown": 1}
    assert "- name: mine" in publish.card.header(found, "t", "mit")


def test_nothing_to_deliver_is_no_error(tmp_path):
    space = shards.Workspace(tmp_path, 0, {})
    publish.deliver(space)
    assert publish.headline(space) == []
    assert not list(tmp_path.iterdir())


TOKEN = "hf_stage_secret"


@pytest.fixture
def pushed(copy_of, monkeypatch):
    """Return a copy of a run whose stage publish is to push to a Hub on this machine."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    # Or the client asks the public Hub for a list of agents.
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)

    def settled(space, **more):
        copy = copy_of(space)
        fields = copy.settings["publish"].model_dump()
        fields |= {"push": True, "repo": "me/tiny_set", "license": "mit", **more}
        settings = {**copy.settings, "publish": publish.Settings(**fields)}
        return type(copy)(copy.folder, copy.seed, settings)

    with hub.serve(TOKEN) as server:
        yield settled, server


def test_a_run_is_pushed_loaded_back_by_tag_and_not_pushed_twice(full_run, pushed, caplog):
    settled, server = pushed
    more = {"endpoint": server.url, "adapter_repo": "me/tiny_set-adapter", "license": "apache-2.0"}
    space = settled(full_run, **more)
    caplog.set_level("DEBUG")
    assert run.run_stage(space, "publish").is_hit
    repo, adapter = server.repo("me/tiny_set"), server.repo("me/tiny_set-adapter", "models")
    result = space.result("publish")
    assert set(repo.at("main").files) == {*result.files, ".gitattributes"}
    (tag,) = repo.names("refs/tags/")
    assert tag == f"lightadapt-{result.key[:12]}"
    assert set(adapter.at(tag).files) == {
        *("adapter_config.json", "adapter_model.safetensors", "labels.json", "results.json"),
        *("README.md", ".gitattributes"),
    }
    card = adapter.at(tag).files["README.md"].content.decode()
    assert 'datasets: ["me/tiny_set"]' in card
    assert "tiny-model" not in card.split("---")[1], "a model in a folder is no model of the Hub"
    assert "reaches accuracy 0.620" in card
    rows = result.counts["rows_out"]
    told = publish.headline(space)
    assert told[0] == (
        f"{server.url}/datasets/me/tiny_set at {tag}: {len(result.files)} files sent; "
        f"{rows} rows load back as written"
    )
    publish.deliver(space)
    assert "the Hub had all files already" in publish.headline(space)[0]
    assert [len(one.log()) for one in (repo, adapter)] == [2, 2]
    kept = [path.read_text("utf-8") for path in space.folder.rglob("*.json")]
    assert TOKEN not in "".join(kept) + caplog.text


def test_pushing_is_no_part_of_what_the_stage_makes(select_run, pushed):
    settled, _ = pushed
    space = settled(select_run, endpoint="http://elsewhere", tag="v1", private=True)
    assert set(space.settings["publish"].key_fields()) == {"repo", "license", "title"}


def test_where_a_set_goes_is_not_in_its_manifest(full_run):
    table = manifest_of(published(full_run))["recipe"]["publish"]
    assert set(table) == {"repo", "license", "title"}


def test_a_dry_run_asks_nobody(select_run, pushed):
    settled, server = pushed
    publish.deliver(settled(select_run, push=False, endpoint=server.url))
    assert server.requests == []


def test_the_address_of_the_environment_is_used(select_run, pushed, monkeypatch):
    settled, server = pushed
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    space = settled(select_run)
    publish.deliver(space)
    assert len(server.repo("me/tiny_set").log()) == 2


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"repo": ""}, "no repo; set repo"),
        ({"license": "unknown"}, "the licence is unknown; set license"),
        ({"create_pr": True, "tag": "v1"}, "leave revision and tag out"),
        ({"adapter_repo": "me/other"}, "the run trains no adapter"),
    ],
)
def test_settings_that_cannot_be_pushed_are_refused_before_any_work(select_run, pushed, more, told):
    settled, server = pushed
    space = settled(select_run, endpoint=server.url, **more)
    for refused in (lambda: run.check_inputs(space), lambda: publish.deliver(space)):
        with pytest.raises(InputError, match=told):
            refused()
    assert server.requests == []


def test_an_adapter_needs_a_repository_of_its_own(full_run, pushed):
    settled, _ = pushed
    with pytest.raises(InputError, match="give them two names"):
        publish.deliver(settled(full_run, adapter_repo="me/tiny_set"))


def test_without_a_token_nothing_is_run(select_run, pushed, monkeypatch):
    settled, _ = pushed
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere")
    space = settled(select_run)
    with pytest.raises(InputError, match="there is no token; run `hf auth login`"):
        publish.check(space.settings["publish"], space)


def test_an_unknown_licence_can_be_allowed(select_run, pushed):
    settled, _ = pushed
    space = settled(select_run, license="unknown", allow_unknown_license=True)
    publish.check(space.settings["publish"], space)


def test_a_hub_that_fails_leaves_the_folder_and_says_so(select_run, pushed):
    settled, server = pushed
    server.faults.add("call", call=lambda: refuse(400))
    space = settled(select_run, endpoint=server.url)
    with pytest.raises(ServiceError, match=r"refused me/tiny_set .*put that right"):
        publish.deliver(space)
    assert (published(space) / "README.md").exists()
    assert publish.headline(space)[0].startswith("publish/ holds 30 rows")


def refuse(status):
    raise RefusedError(status, "not like this")


def test_every_card_has_a_place_for_peoples_own_text(select_run):
    assert card_of(select_run).endswith("<!-- yours -->\n<!-- /yours -->\n")


def test_the_command_line_sends_the_set(cli, corpus, target, tmp_path, monkeypatch):
    from lightadapt_data.testing import hub

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    words = ["publish", "--corpus", corpus, "--target", target, "--keep", "10", "--workers", "1"]
    words += ["--set", "embed.method=hashing", "--out", tmp_path / "out", "--repo", "me/set"]
    with hub.serve() as server:
        refused = cli(*words, "--push", "--endpoint", server.url)
        assert refused.code in (2, 3)
        assert "licen" in refused.err
        result = cli(*words, "--push", "--endpoint", server.url, "--license", "mit")
        assert result.code == 0, result.err
        assert "hf_secret" not in result.err + result.out
        again = cli(*words, "--push", "--endpoint", server.url, "--license", "mit")
        assert again.code == 0, again.err
