from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightadapt_data.reporting import charts


def parsed(svg):
    return ElementTree.fromstring(svg)


def classes(svg, name):
    return [one for one in parsed(svg).iter() if one.get("class") == name]


def test_a_histogram_stacks_kept_over_dropped_rows_and_marks_the_cut():
    svg = charts.histogram([0.0, 0.5, 1.0], kept=[0, 4], dropped=[6, 2], cut=0.6, x_label="score")
    kept, dropped = classes(svg, "bar-kept"), classes(svg, "bar-dropped")
    assert (len(kept), len(dropped)) == (1, 2)
    assert float(kept[0].get("y")) < float(dropped[1].get("y"))
    assert "cut at 0.600: 4 rows kept" in svg
    assert "Histogram of 12 scores from 0.000 to 1.000" in parsed(svg).get("aria-label")


def test_a_bar_of_one_row_stays_visible_under_a_million():
    svg = charts.histogram([0, 1, 2], kept=[0, 1], dropped=[1_000_000, 0], cut=1.5, x_label="s")
    assert float(classes(svg, "bar-kept")[0].get("height")) >= 2


def test_a_bar_that_towers_over_the_others_gives_a_root_scale_that_is_labelled():
    flat = charts.histogram([0, 1, 2, 3], [0, 5, 9], [10, 5, 0], cut=1.0, x_label="s")
    steep = charts.histogram([0, 1, 2, 3], [0, 50, 90], [10_000, 50, 0], cut=1.0, x_label="s")
    assert "square-root scale" not in flat
    assert "rows (square-root scale)" in steep
    high, low = (
        float(classes(steep, kind)[0].get("height")) for kind in ("bar-dropped", "bar-kept")
    )
    assert high / float(classes(steep, "bar-kept")[1].get("height")) == pytest.approx(
        (10_000 / 90) ** 0.5, rel=0.02
    )
    assert 2 < low < high


def test_every_group_of_lines_has_its_own_dash_and_mark():
    curve = [(1.0, 0.2), (2.0, 0.4)]
    svg = charts.lines({name: [("seed 0", curve)] for name in "abcd"}, "step", "accuracy")
    lines = [one for one in parsed(svg).iter() if one.tag == "polyline"]
    assert len({one.get("stroke-dasharray") for one in lines}) == 4
    marks = [
        next(one for one in parsed(svg).iter() if one.tag == tag) for tag in ("circle", "rect")
    ]
    assert len(marks) == 2
    assert "a ends at 0.400" in parsed(svg).get("aria-label")


def test_dots_show_every_value_the_mean_and_the_reference():
    svg = charts.dots({"one": [0.1, 0.3], "two": [0.5]}, "accuracy", ("chance", 0.25))
    assert len([one for one in parsed(svg).iter() if one.tag == "circle"]) == 2
    assert len(classes(svg, "mean")) == 2
    assert len(classes(svg, "reference")) == 1
    assert not classes(charts.dots({"one": [0.1]}, "accuracy", None), "reference")


@pytest.mark.parametrize(
    "draw",
    [
        lambda text: charts.lines({text: [(text, [(1.0, 1.0)])]}, text, text),
        lambda text: charts.dots({text: [1.0]}, text, (text, 0.0)),
        lambda text: charts.histogram([0, 1], [1], [0], 0.5, text),
    ],
)
def test_text_is_escaped(draw):
    svg = draw('</svg><img src="x" onerror=1> & \'')
    assert not [one for one in parsed(svg).iter() if one.tag == "img"]


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_inside_the_range_and_few(low, width):
    high = low + width
    found = charts.ticks(low, high)
    slack = 1e-6 * max(abs(low), abs(high), width)
    assert all(low - slack <= tick <= high + slack for tick in found)
    assert len(found) <= 8


def test_ticks_of_no_range_are_one():
    assert charts.ticks(3.0, 3.0) == [3.0]
    assert charts.ticks(0, 95, 5) == [0, 25, 50, 75]
