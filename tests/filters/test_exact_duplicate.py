from lightadapt_data.filters import Text
from lightadapt_data.filters.exact_duplicate import Settings, examine, normalised


def test_case_spaces_and_unicode_forms_do_not_hide_a_copy():
    rows = [Text("a", "a", "Caf\u00e9  au lait"), Text("b", "b", "cafe\u0301 AU\nlait ")]
    assert examine(rows, Settings(), None)[1].kept == 0


def test_every_copy_names_the_first_row_which_is_kept():
    rows = [Text(str(i), str(i), "same") for i in range(4)]
    found = examine(rows, Settings(), None)
    assert {match.kept for match in found.values()} == {0}
    assert list(found) == [1, 2, 3]


def test_a_child_that_equals_its_parent_is_not_a_copy_here():
    assert examine([Text("a", "a", "x"), Text("b", "a", "x")], Settings(), None) == {}


def test_normalising_twice_equals_once():
    for text in ("\ufb01ne  Print", "\u1e9e STRASSE", " a\tb "):
        assert normalised(normalised(text)) == normalised(text)
