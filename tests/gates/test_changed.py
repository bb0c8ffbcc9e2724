import pytest

from lightadapt_data.gates import changed


def verdict(parent, child):
    return changed.judge([parent], [child], changed.Settings(), None)[0]


@pytest.mark.parametrize("child", ["A cat sat.", "a  cat, sat", "“A cat sat!”"])
def test_copy_is_refused(child):
    assert verdict("A cat sat.", child).reason == "changed: the child has the parent's words"


def test_other_words_pass():
    assert verdict("A cat sat.", "A cat was sitting.").passed


@pytest.mark.parametrize("child", ["", "  \n"])
def test_empty_child_is_refused(child):
    assert verdict("A cat sat.", child).reason == "changed: the child is empty"


def test_emoji_are_no_words():
    assert not verdict("😀😀", "😀").passed
