import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lightadapt_data import recipe, run, shards
from lightadapt_data.errors import InputError
from lightadapt_data.reporting import describe
from lightadapt_data.stages import report

CHROMIUM = Path("/usr/bin/chromium")
EVIL_ID = 'e"<b>'
SECTIONS = {
    "pay": "Did it pay?",
    "funnel": "From corpus to data set",
    "map": "Map",
    "scores": "Scores",
    "chosen": "What was selected, and why",
    "drops": "What curation dropped, and why",
    "augmented": "Augmentation",
    "curves": "Training",
    "quarantine": "Unreadable rows",
    "cost": "Cost",
    "settings": "Settings and versions",
    "again": "Run it again",
}


class Page(HTMLParser):
    """Counts elements, and keeps attributes, ids and the text of script elements."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.scripts, self.words = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.tags and self.lasttag == "script" and self.cdata_elem:
            self.scripts[-1] += data
        else:
            self.words.append(data)

    @property
    def sections(self):
        return [v for tag, name, v in self.attributes if tag == "section" and name == "id"]


def delivered(space):
    return (space.folder / "report.html").read_text("utf-8")


def rendered(space, **changes):
    settings = space.settings["report"].model_copy(update=changes)
    out = space.folder / "elsewhere"
    out.mkdir()
    report.run(settings, space, out)
    return (out / "report.html").read_text("utf-8")


def test_a_full_run_has_every_section_in_order(full_run):
    page = Page(delivered(full_run))
    assert page.sections == list(SECTIONS)
    text = " ".join(page.words)
    assert all(title in text for title in SECTIONS.values())


def test_a_select_run_has_only_its_own_sections(select_run):
    own = ["funnel", "map", "scores", "chosen", "quarantine", "cost", "settings", "again"]
    assert Page(delivered(select_run)).sections == own


def test_the_navigation_leads_to_sections_that_are_there(full_run, select_run):
    for space in (full_run, select_run):
        page = Page(delivered(space))
        links = [v for _, name, v in page.attributes if name == "href"]
        assert {link[1:] for link in links} <= {*page.sections, "main"}


def test_no_row_can_bring_markup_into_the_page(full_run):
    page = Page(delivered(full_run))
    assert "img" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert page.tags.count("script") == 2
    assert "alert(1)" in page.scripts[0]  # as text of the map
    assert "</" not in page.scripts[0]
    assert "\u2028" not in page.scripts[0]
    assert "no json <script>alert(2)</script>" in page.words


def test_the_map_data_hold_what_the_row_said(full_run):
    data = json.loads(Page(delivered(full_run)).scripts[0])
    text = data["text"][data["id"].index(EVIL_ID)]
    assert text.startswith("</script><img src=x onerror=alert(1)> <!-- cost -->")


def test_the_page_asks_nothing_of_the_network(full_run):
    html = delivered(full_run)
    page = Page(html)
    assert not [v for _, name, v in page.attributes if name in ("src", "srcset", "data")]
    links = [v for _, name, v in page.attributes if name == "href"]
    assert all(link.startswith("#") for link in links)
    assert "default-src 'none'" in html
    assert not re.search(r"@import|url\(", html)


def test_the_policy_lets_the_shipped_script_run_and_no_other(full_run):
    page = Page(delivered(full_run))
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    (policy,) = [v for tag, name, v in page.attributes if tag == "meta" and v and "default" in v]
    assert f"script-src 'sha256-{digest}';" in policy


def test_the_script_is_short_and_never_writes_html():
    script = Path(describe.__file__).with_name("report.js.jinja").read_text("utf-8")
    assert len(script.splitlines()) <= 150
    assert ".innerHTML" not in script.replace("never innerHTML", "")


def test_charts_have_labels_for_screen_readers_and_units(full_run):
    page = Page(delivered(full_run))
    assert page.tags.count("svg") == 3
    labels = [v for tag, name, v in page.attributes if tag == "svg" and name == "aria-label"]
    assert len(labels) == 3
    text = " ".join(page.words)
    for label in ("optimizer step", "rows", "higher is better (no unit)", "test rows (0 to 1)"):
        assert label in text


def test_selected_rows_stand_beside_their_nearest_target_row(select_run):
    text = " ".join(Page(delivered(select_run)).words)
    assert "the mean of a sample & <more>" in text
    assert "Near misses" in text


def test_paths_of_the_machine_are_not_in_the_report(full_run):
    html = delivered(full_run)
    assert str(full_run.folder) not in html
    assert "/home/" not in html
    assert "corpus.jsonl" in html
    assert "tiny-model" in html


def test_the_cost_is_put_in_at_delivery_only(select_run):
    stored = select_run.result("report").file("report.html").read_text("utf-8")
    assert stored.count(report.COST_MARK) == 1
    assert 'id="cost"' not in stored
    assert 'id="cost"' in delivered(select_run)


def test_two_reports_of_the_same_run_are_equal_to_the_byte(full_run, copy_of):
    copy = copy_of(full_run)
    stored = full_run.result("report").file("report.html").read_text("utf-8")
    assert rendered(copy) == stored


def test_costs_add_up_the_seconds_of_each_stage(select_run):
    costs = report.costs(select_run)
    assert [cost["stage"] for cost in costs[:3]] == ["ingest", "embed", "select"]
    assert sum(cost["share"] for cost in costs) == pytest.approx(1)


def test_a_folder_without_a_log_has_no_cost(select_run, copy_of):
    copy = copy_of(select_run)
    (copy.folder / "work" / "events.jsonl").unlink()
    report.deliver(copy)
    assert "cost" not in Page(delivered(copy)).sections


def test_the_size_does_not_grow_with_the_corpus_beyond_the_settings(select_run, copy_of):
    html = rendered(copy_of(select_run), map_points=10, samples=1, text_chars=20)
    data = json.loads(Page(html).scripts[0])
    assert len(data["x"]) < 40
    assert "1 of 30 selected rows" in html


def test_the_map_can_be_left_out(select_run, copy_of):
    assert "map" not in Page(rendered(copy_of(select_run), map_points=0)).sections


def test_the_headline_of_a_selection_says_kept_and_cut(select_run):
    (line,) = report.headline(select_run)
    assert re.fullmatch(r"Kept 30 of 62 rows; cut at score -?\d\.\d\d\.", line)


def test_the_headline_of_a_training_is_its_own(full_run):
    (line,) = report.headline(full_run)
    assert line.startswith("The adapted model reaches accuracy 0.620")


def test_without_a_training_augmentation_and_curation_are_told(full_run):
    settings = {name: s for name, s in full_run.settings.items() if name != "train"}
    lines = report.headline(shards.Workspace(full_run.folder, 0, settings))
    assert lines[1].startswith("Augmentation: ")
    assert re.search(r"The curated set has \d+ train, .*4 test rows; \d+ were", lines[2])


def test_a_run_that_only_reads_has_a_report_too(tmp_path):
    rows = "".join(json.dumps({"text": f"row {n}"}) + "\n" for n in range(3))
    (tmp_path / "a.jsonl").write_text(rows)
    what = recipe.load(None, [("ingest.corpus", [str(tmp_path / "a.jsonl")])], ["report"])
    (made,) = run.run_stages(what, tmp_path / "run")[1:]
    assert made.rows_in == 3
    space = what.workspace(tmp_path / "run")
    assert Page(delivered(space)).sections == ["funnel", "cost", "settings", "again"]
    assert report.headline(space) == []


def test_explain_is_the_story_of_a_row(select_run):
    story = report.explain(select_run, "c1")
    assert story["text"].startswith("the ")
    assert describe.stage_counts(select_run, "select")["rows_in"] == 62
    assert re.fullmatch(r"\d+ of 62", story["rank"])


def test_explain_on_the_command_line_prints_json(cli, full_run):
    result = cli("explain", EVIL_ID, "--json", "--out", full_run.folder)
    assert result.code == 0
    assert result.json()["id"] == EVIL_ID


def test_an_unknown_row_is_exit_3_with_a_near_id(cli, select_run):
    result = cli("explain", "copyy", "--out", select_run.folder)
    assert result.code == 3
    assert "row 'copyy' is not in the ledger" in result.err
    assert "(62 rows); did you mean 'copy'?" in result.err


def test_explain_needs_a_ledger(tmp_path):
    with pytest.raises(InputError, match="no ledger here yet; run select or curate first"):
        report.explain(shards.Workspace(tmp_path, 0, {}), "a")


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium at /usr/bin/chromium")
@pytest.mark.skipif(shutil.which("timeout") is None, reason="needs the command `timeout`")
def test_a_browser_draws_the_map_and_runs_no_foreign_script(full_run, tmp_path):
    shot = tmp_path / "shot.png"
    command = [
        *("timeout", "60", str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu"),
        *(f"--user-data-dir={tmp_path / 'profile'}", "--window-size=390,2000", "--dump-dom"),
        *(f"--screenshot={shot}", "--enable-logging=stderr"),
        (full_run.folder / "report.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    page = Page(done.stdout)
    # The script sets the size of the canvas, so it ran; what rows hold did not.
    assert [v for tag, name, v in page.attributes if tag == "canvas" and name == "width"]
    assert "img" not in page.tags
    assert "Content Security Policy" not in done.stderr
    assert "Uncaught" not in done.stderr
