import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toys import write_jsonl

from lightadapt_data.errors import InputError
from lightadapt_data.evaluation_files import existing, passages

ROWS = [
    {"question": "Who wrote it?", "label": "a", "answers": {"text": ["Ann", "Ann B."], "at": [0]}},
    {"question": "When?", "label": "b", "answers": {"text": [], "at": []}},
]
COLUMNS = ("text", "question", "answers.text")
EXPECTED = [
    (1, "question", "Who wrote it?"),
    (1, "answers.text", "Ann"),
    (1, "answers.text", "Ann B."),
    (2, "question", "When?"),
]


def read(path, columns=COLUMNS):
    return [passage[1:] for passage in passages(str(path), columns)]


def test_json_lines_parquet_and_their_nested_columns_are_read(tmp_path):
    assert read(write_jsonl(tmp_path / "exam.jsonl", ROWS)) == EXPECTED
    (tmp_path / "exam.ndjson.gz").write_bytes(
        gzip.compress("\n\n".join(map(json.dumps, ROWS)).encode())
    )
    assert [text for _, _, text in read(tmp_path / "exam.ndjson.gz")] == [e[2] for e in EXPECTED]
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "exam.parquet")
    assert read(tmp_path / "exam.parquet") == EXPECTED


def test_csv_and_text_are_read(tmp_path):
    (tmp_path / "a.csv").write_text('\ufeffquestion,x\n"one,\ntwo",1\nthree\n', "utf-8")
    assert read(tmp_path / "a.csv") == [(1, "question", "one,\ntwo"), (2, "question", "three")]
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one\r\n\ntwo"))
    assert read(tmp_path / "a.txt.gz") == [(1, "text", "one"), (3, "text", "two")]


def test_a_passage_is_called_by_file_and_row(tmp_path):
    path = write_jsonl(tmp_path / "exam.jsonl", ROWS)
    assert passages(str(path), COLUMNS)[3].name == "exam.jsonl row 2"


def test_a_column_may_have_a_dot_in_its_name_or_objects_in_lists_below(tmp_path):
    nested = {"c.d": "one", "a": [{"b": "two"}, {"b": ["three", 4, " "]}]}
    path = write_jsonl(tmp_path / "a.jsonl", [nested])
    assert [text for *_, text in read(path, ("c.d", "a.b", "a", "c", "x.y"))] == [
        "one",
        "two",
        "three",
    ]


def test_a_file_without_the_columns_is_refused_with_those_it_has(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"prompt": "x", "label": 1}])
    with pytest.raises(InputError, match=r"columns text, .*; it has prompt, label; name"):
        read(path)
    (tmp_path / "b.txt").write_text("")
    with pytest.raises(InputError, match="it has none; name those"):
        read(tmp_path / "b.txt")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text": '),
        ("a.jsonl", b"[1]\n"),
        ("a.jsonl.gz", b"no gzip"),
        ("a.txt", b"\xff\xfe\x00"),
        ("a.csv", b'text\n"open'),
        ("a.parquet", b"PAR1 not"),
    ],
)
def test_a_broken_file_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: breaks off or is not .*; fetch or write"):
        read(tmp_path / name)


def test_a_missing_file_and_an_unknown_kind_are_named(tmp_path):
    with pytest.raises(InputError, match=r"no.jsonl: no such evaluation file; correct"):
        existing(str(tmp_path / "no.jsonl"))
    with pytest.raises(InputError, match="no such evaluation file"):
        existing(str(tmp_path))
    for name in ("a.pdf", "a.parquet.gz", "a"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(InputError, match=r"unknown kind of evaluation file; allowed: .jsonl"):
            existing(str(tmp_path / name))
