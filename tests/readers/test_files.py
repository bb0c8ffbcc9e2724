import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightadapt_data.errors import InputError
from lightadapt_data.readers import BadRow
from lightadapt_data.readers.files import Settings, read, sources

ROWS = [{"text": "one, two", "n": 1}, {"text": "three\nfour", "n": None}]


def read_all(*paths, settings=None):
    settings = settings or Settings()
    found = sources([str(path) for path in paths], settings)
    return [row for source in found for row in read(source, settings)]


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_every_kind_of_file_gives_the_same_rows(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines(ROWS))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines(ROWS)))
    with pa.CompressedOutputStream(str(tmp_path / "a.jsonl.zst"), "zstd") as file:
        file.write(lines(ROWS))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"):
        assert read_all(tmp_path / name) == ROWS, name


def test_csv_keeps_commas_and_line_breaks_inside_quotes(tmp_path):
    (tmp_path / "a.csv").write_text('text,n\n"one, two",1\n"three\nfour",\n', "utf-8")
    assert [row["text"] for row in read_all(tmp_path / "a.csv")] == ["one, two", "three\nfour"]


@pytest.mark.parametrize(
    ("rows", "texts"),
    [("line", ["a", "b", "c"]), ("paragraph", ["a\nb", "c"]), ("file", ["a\nb\n\nc"])],
)
def test_a_text_file_holds_lines_paragraphs_or_one_document(tmp_path, rows, texts):
    (tmp_path / "a.txt").write_text("a\nb\n\nc\n", "utf-8")
    found = read_all(tmp_path / "a.txt", settings=Settings(txt_rows=rows))
    assert [row["text"] for row in found] == texts


def test_a_folder_and_a_glob_give_their_files_in_a_stable_order(tmp_path):
    for name in ("b.txt", "a.txt", "sub/c.txt", "notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    folder = sources([str(tmp_path)], Settings())
    assert [source.name for source in folder] == ["a.txt", "b.txt", "sub/c.txt"]
    found = sources([str(tmp_path / "*.txt")], Settings())
    assert [source.name for source in found] == ["a.txt", "b.txt"]


def test_a_bad_line_is_one_bad_row_and_the_rest_is_read(tmp_path):
    good, text = b'{"text": "good"}\n', b'"text"\n'
    (tmp_path / "a.jsonl").write_bytes(good + b"{broken\n" + b'{"text": "\xff"}\n' + text + good)
    rows = read_all(tmp_path / "a.jsonl")
    bad = [row for row in rows if isinstance(row, BadRow)]
    assert [row.where for row in bad] == ["2", "3", "4"]
    assert bad[0].reason.startswith("not JSON")
    assert bad[1].reason == "not UTF-8: byte 0xff at byte 10 of the row"
    assert bad[2].reason == "a JSON value that is no object"
    assert len(rows) == 5


def test_a_csv_row_of_the_wrong_width_or_encoding_is_a_bad_row(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"text,n\nfoo\n\xff,1\ngood,2\n")
    first, second, third = read_all(tmp_path / "a.csv")
    assert first.reason == "1 cells, but the header names 2 columns"
    assert second.reason == "not UTF-8"
    assert third == {"text": "good", "n": "2"}


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_a_truncated_stream_stops_with_the_rows_read_so_far(tmp_path, name):
    rows = [{"text": f"{number * 7919 % 10007} row"} for number in range(5000)]
    whole = tmp_path / "whole"
    with pa.CompressedOutputStream(str(whole), "zstd" if name.endswith("zst") else "gzip") as file:
        file.write(lines(rows))
    (tmp_path / name).write_bytes(whole.read_bytes()[:-2000])
    with pytest.raises(InputError, match=rf"{name}: breaks off .* after [\d,]+ rows .* again"):
        read_all(tmp_path / name)


def test_a_file_that_is_not_what_its_name_says_stops(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(InputError, match=r"a\.parquet: breaks off or is not what its name says"):
        read_all(tmp_path / "a.parquet")


def test_a_path_that_names_nothing_and_an_unknown_kind_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no such file, .*\.parquet, \.jsonl"):
        sources([str(tmp_path / "missing.jsonl")], Settings())
    (tmp_path / "a.docx").write_text("x")
    with pytest.raises(InputError, match=r"a\.docx: unknown kind of file; allowed: \.parquet"):
        sources([str(tmp_path / "a.docx")], Settings())


def test_a_file_without_permission_stops(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("x")
    source = sources([str(path)], Settings())[0]

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(InputError, match="no permission to read"):
        list(read(source, Settings()))
