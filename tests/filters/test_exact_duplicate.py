from hypothesis import given
from hypothesis import strategies as st

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


def test_a_settled_row_stays_and_drops_others():
    rows = [Text("a", "a", "x", is_settled=True), Text("b", "b", "x", is_settled=True)]
    assert list(examine([*rows, Text("c", "c", "x")], Settings(), None)) == [2]


def test_a_kept_row_of_another_family_is_found_behind_one_of_the_same():
    settled = [Text(name, name, "x", is_settled=True) for name in "ab"]
    assert examine([*settled, Text("c", "a", "x")], Settings(), None)[2].kept == 1


families = st.lists(
    st.tuples(st.sampled_from("xy"), st.sampled_from("abc"), st.booleans()), max_size=10
)


@given(families)
def test_the_result_equals_a_loop_over_all_pairs(drawn):
    drawn = sorted(drawn, key=lambda row: not row[2])
    rows = [Text(str(i), family, text, "", kept) for i, (text, family, kept) in enumerate(drawn)]
    found = examine(rows, Settings(), None)
    kept = []
    for index, row in enumerate(rows):
        same = [k for k in kept if rows[k].text == row.text and rows[k].family != row.family]
        if same and not row.is_settled:
            assert rows[found[index].kept].text == row.text
            assert found[index].kept in same
        else:
            assert index not in found
            kept.append(index)


@given(st.text())
def test_normalising_twice_equals_once(text):
    assert normalised(normalised(text)) == normalised(text)


def test_a_lone_surrogate_is_no_fault():
    assert list(examine([Text(i, i, "x \ud800") for i in "ab"], Settings(), None)) == [1]
