import pytest

from lightadapt_data.reporting import describe
from lightadapt_data.reporting.card import plain, size_category


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/home/me/data/pool.parquet", "pool.parquet"),
        ("/home/me/data/*.jsonl", "*.jsonl"),
        ("~/models/tiny", "tiny"),
        ("../secret/rows.csv", "rows.csv"),
        ("C:\\Users\\me\\rows.csv", "rows.csv"),
        ("C:/Users/me/rows.csv", "rows.csv"),
        ("\\\\server\\share\\rows.csv", "rows.csv"),
    ],
)
def test_a_path_is_cut_to_its_last_part(path, name):
    assert describe.without_paths(path) == name
    assert describe.without_paths({"a": [path, 1]}) == {"a": [name, 1]}


@pytest.mark.parametrize("text", ["10%", "owner/model", "nearest", "1/2", "", "a: b", "s3://b/x"])
def test_what_is_no_path_stays(text):
    assert describe.without_paths(text) == text


def test_versions_name_the_product_and_python():
    found = describe.versions()
    assert list(found)[:2] == ["lightadapt-data", "python"]
    assert "pyarrow" in found


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", "a\\|b"),
        ("[x](http://y)", "\\[x\\](http://y)"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("*x* `y` # z", "\\*x\\* \\`y\\` \\# z"),
        ("near_duplicate _x_ __init__", "near_duplicate \\_x\\_ \\_\\_init\\_\\_"),
        ("two\nlines", "two lines"),
    ],
)
def test_markdown_signs_are_escaped(text, shown):
    assert plain(text) == shown


@pytest.mark.parametrize(
    ("n_rows", "name"), [(0, "n<1K"), (1000, "1K<n<10K"), (999_999, "100K<n<1M"), (2e12, "n>1T")]
)
def test_sizes_have_the_hubs_names(n_rows, name):
    assert size_category(n_rows) == name
