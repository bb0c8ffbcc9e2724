import pytest

from lightadapt_data import wordnet
from lightadapt_data.errors import InputError

LICENCE = "  1 This is the licence.  \n"
FILES = {
    "index.noun": "dog n 1 1 @ 1 1 00000001\nhound n 1 1 @ 1 1 00000001\n"
    "dogs n 1 1 @ 1 1 00000001\nmutt n 1 1 @ 1 1 00000001\n",
    "data.noun": "00000001 05 n 04 dog 0 hound 0 dogs 0 mutt 0 000 | an animal\n",
    "index.verb": "raise v 2 1 ! 2 2 00000010 00000012\nlift v 1 1 @ 1 1 00000010\n"
    "lower v 1 1 ! 1 1 00000011\nbear v 1 0 1 1 00000012\n",
    "data.verb": "00000010 30 v 02 raise 0 lift 0 001 ! 00000011 v 0101 01 + 08 00 | up\n"
    "00000011 30 v 01 lower 0 001 ! 00000010 v 0101 01 + 08 00 | down\n"
    "00000012 30 v 02 raise 2 bear 0 000 01 + 08 00 | a child\n",
    "index.adj": "big a 1 1 & 1 1 00000020\nlarge a 1 1 & 1 1 00000020\n"
    "new_york a 1 0 1 0 00000021\n",
    "data.adj": "00000020 00 s 02 big(p) 0 large 0 000 | great\n"
    "00000021 00 a 01 New_York 0 000 | of New York\n",
    "index.adv": "",
    "data.adv": "",
    "cntlist.rev": "dog%1:05:00:: 1 9\nhound%1:05:00:: 1 2\ndogs%1:05:00:: 1 9\n"
    "mutt%1:05:00:: 1 1\n"
    "raise%2:30:00:: 1 6\nraise%2:30:01:: 2 4\nlift%2:30:00:: 1 3\nlift%1:05:00:: 1 2\n"
    "lower%2:30:00:: 1 3\nbear%2:30:00:: 1 8\nbig%5:00:00:huge:00 1 8\nlarge%5:00:00:huge:00 1 8\n",
    "noun.exc": "dice die\n",
    "verb.exc": "borne bear\nlifted lift\n",
}


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(LICENCE + text, "utf-8")
    return tmp_path


def test_only_the_usual_meaning_of_common_words_counts(folder):
    found = wordnet.read(folder)
    assert found.entries == {
        # "mutt" is too rare, "dogs" is a form of "dog".
        "dog": (wordnet.Entry("n", True, ("hound",)),),
        "hound": (wordnet.Entry("n", True, ("dog",)),),
        # "lift" is a noun too; "bear" is the second meaning of "raise".
        "lift": (wordnet.Entry("v", False, ("raise",)),),
        "raise": (wordnet.Entry("v", True, ("lift",)),),
        "big": (wordnet.Entry("a", True, ("large",)),),
        "large": (wordnet.Entry("a", True, ("big",)),),
    }
    assert found.antonyms == {"raise": {"lower"}, "lower": {"raise"}}


def test_only_forms_against_the_rules_are_irregular(folder):
    assert wordnet.read(folder).irregular == frozenset()
    (folder / "verb.exc").write_text("lifte lift\nborne bear\n", "utf-8")
    assert wordnet.read(folder).irregular == {"lift"}


def test_a_written_table_reads_back(folder, tmp_path, monkeypatch):
    found = wordnet.read(folder)
    wordnet.write(found, tmp_path / "table.txt", "A licence.\n\nIts end.")
    assert (
        (tmp_path / "table.txt").read_text("utf-8").startswith("# A licence.\n#\n# Its end.\nbig")
    )
    monkeypatch.setattr(wordnet, "PATH", tmp_path / "table.txt")
    wordnet.load.cache_clear()
    try:
        assert wordnet.load() == found
    finally:
        wordnet.load.cache_clear()


def test_the_folder_can_be_named(folder):
    assert wordnet.load(str(folder)) == wordnet.read(folder)
    before = wordnet.fingerprint(str(folder))
    (folder / "cntlist.rev").write_text("", "utf-8")
    assert wordnet.fingerprint(str(folder)) != before != wordnet.fingerprint()


@pytest.mark.parametrize("name", [*FILES])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink(missing_ok=True)
    for act in (wordnet.load, wordnet.fingerprint):
        with pytest.raises(InputError, match=f"has no file '{name}'.*wordnet-base.*leave the fold"):
            act(str(folder))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data.noun", "nonsense\n"),
        ("index.verb", "raise v x\n"),
        ("cntlist.rev", "a b\n"),
        ("cntlist.rev", "a%9:1 1 1\n"),
        ("noun.exc", "men\n"),
    ],
)
def test_a_file_of_another_format_is_refused(folder, name, text):
    (folder / name).write_text(text, "utf-8")
    with pytest.raises(InputError, match=r"are not those of WordNet 3 .*; give the folder of"):
        wordnet.read(folder)


def test_a_file_in_another_encoding_is_refused(folder):
    (folder / "data.adv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="are not those of WordNet 3"):
        wordnet.read(folder)


def test_the_shipped_table_is_small_and_carries_its_licence():
    text = wordnet.PATH.read_text("utf-8")
    assert len(text) < 300_000
    assert "WordNet 3.0 Copyright 2006 by Princeton University.  All rights reserved." in text
    assert "Permission to use, copy, modify and distribute" in text
    table = wordnet.load()
    assert len(table.entries) > 1000
    assert len(table.antonyms) > 1000
    assert "decrease" in table.antonyms["increase"]
    assert all(word in table.antonyms[o] for word, all_ in table.antonyms.items() for o in all_)
