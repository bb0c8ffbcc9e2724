import pytest

from lightadapt_data import prompt_source
from lightadapt_data.errors import InputError, RecipeError

FILE = r"""
dataset: ag_news
templates:
  4bdb:  !Template
    answer_choices: World ||| Sports ||| Business
    id: 4bdb
    jinja: "What label best describes this {news}?\n{{ text }} |||\n{{ answer_choices[label] }}"
    metadata: !TemplateMetadata
      choices_in_prompt: false
      languages:
      - en
      metrics:
      - Accuracy
      original_task: true
    name: classify
    reference: ''
  24e4: !Template
    answer_choices:
    - bad
    - good
    jinja: '{{ sentence }} Was it {{ "good" }} or {{ answer_choices | join(" or ") }}? ||| {{
      answer_choices[label] }}'
    metadata: !TemplateMetadata {}
    name: early
"""


def write(tmp_path, text=FILE):
    path = tmp_path / "templates.yaml"
    path.write_text(text, "utf-8")
    return path


def template(jinja, choices="bad ||| good"):
    return prompt_source.SourceTemplate("t", jinja, choices, {}, "f.yaml")


def test_a_template_is_found_by_name_with_its_metadata(tmp_path):
    found = prompt_source.read(write(tmp_path), "classify")
    assert found.metadata["original_task"] is True
    assert found.described == "templates.yaml: classify (languages en; metrics Accuracy)"
    assert [one.name for one in prompt_source.read_all(write(tmp_path))] == ["classify", "early"]


def test_a_template_becomes_one_with_a_blank_and_its_choices_become_words(tmp_path):
    source, words = prompt_source.as_cloze(prompt_source.read(write(tmp_path), "classify"))
    assert source == "What label best describes this {{news}}?\n{text} {mask}"
    assert words == {
        "0": ("World",),
        "1": ("Sports",),
        "2": ("Business",),
        "World": ("World",),
        "Sports": ("Sports",),
        "Business": ("Business",),
    }


def test_choices_may_be_a_list_and_stand_in_the_input(tmp_path):
    source, words = prompt_source.as_cloze(
        prompt_source.read(write(tmp_path), "early"), ("negative", "positive")
    )
    assert source == "{sentence} Was it good or bad or good? {mask}"
    assert words == {"negative": ("bad",), "positive": ("good",)}


@pytest.mark.parametrize(
    "jinja",
    [
        "{{ x }} ||| {{ answer_choices[label] }}",
        "{{ x }} ||| {% if label == 0 %}bad{% else %}good{% endif %}",
        "{{ x }} ||| {{ ['bad', 'good'][label] }}",
        "{{ x }} ||| {{ {'neg': 'bad', 'pos': 'good'}[label] }}",
        "{{ x }} {% if label != -1 %}||| {{ answer_choices[label] }}{% endif %}",
    ],
)
def test_targets_are_found_by_number_or_by_name(jinja):
    source, words = prompt_source.as_cloze(template(jinja), ("neg", "pos"))
    assert source == "{x} {mask}"
    assert words == {"neg": ("bad",), "pos": ("good",)}


@pytest.mark.parametrize(
    ("jinja", "choices", "reason"),
    [
        ("{{ x }} {{ answer_choices[label] }}", "a ||| b", r"it has 0 times \|\|\|"),
        ("{{ x }} ||| a ||| b", "a ||| b", r"it has 2 times \|\|\|"),
        ("{{ x }} ||| {{ answer_choices[label] }}", None, "it has no answer_choices"),
        (
            "{{ x }} ||| {{ answer_choices[label] }}",
            "a",
            "its answer_choices are 'a'; allowed: two",
        ),
        ("{{ x }} ||| {{ answer_choices[label] }}", "{{ a }} ||| b", "'a' is undefined"),
        ("{{ x }} ||| {{ x }}", "a ||| b", "its targets for the labels are"),
        ("{{ x }} ||| a", "a ||| b", "its targets for the labels are a, a, and its answer choices"),
        ("{{ x }} {{ label }} ||| {{ answer_choices[label] }}", "a ||| b", "its input tells the"),
        ("{{ x | upper }} ||| {{ answer_choices[label] }}", "a ||| b", "more with the column 'x'"),
        (
            "{% if x == 'q' %}why{% endif %} ||| {{ answer_choices[label] }}",
            "a ||| b",
            "more with the column 'x' than to write it",
        ),
        ("{{ x ||| {{ answer_choices[label] }}", "a ||| b", "it is no Jinja"),
        ("{{ x }} ||| {{ answer_choices[label] }}", "1 ||| 2", "numbers of labels or their names"),
        (
            "{{ ''.__class__.__mro__ }} ||| {{ answer_choices[label] }}",
            "a ||| b",
            "it cannot be rendered: access to attribute '__class__'",
        ),
    ],
)
def test_what_cannot_be_a_blank_is_refused_with_the_reason(jinja, choices, reason):
    with pytest.raises(InputError, match=reason) as error:
        prompt_source.as_cloze(template(jinja, choices))
    assert str(error.value).startswith("f.yaml: the template 't' cannot be a blank: ")
    assert "allowed: " in str(error.value)


def test_label_order_has_a_label_for_each_choice():
    with pytest.raises(InputError, match=r"label_order has 1 labels and the template 2 answer"):
        prompt_source.as_cloze(template("{{ x }} ||| {{ answer_choices[label] }}"), ("a",))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("templates: [", "cannot be read as PromptSource's templates"),
        ("templates: !!python/object:os.system {}", "cannot be read as .* could not determine"),
        ("templates: {a: !Other {}}", "cannot be read as"),
        ("a: 1", "holds no mapping 'templates'"),
        ("- a", "holds no mapping 'templates'"),
        ("templates: {a: !Template {name: x}}", "the template 'a' has no text 'jinja'"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, text, reason):
    with pytest.raises(InputError, match=reason):
        prompt_source.read_all(write(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read as .*: .*No such"):
        prompt_source.read_all(tmp_path / "none.yaml")


def test_an_unknown_template_is_refused_with_the_nearest_name(tmp_path):
    with pytest.raises(
        InputError, match="no template 'clasify'; allowed: classify, early; did you mean 'classify'"
    ):
        prompt_source.read(write(tmp_path), "clasify")


def test_options_hold_template_and_words_instead_of_the_file(tmp_path):
    options = {
        "prompt_source": str(write(tmp_path)),
        "template_name": "early",
        "label_order": ["n", "p"],
        "max_tokens": 9,
    }
    assert prompt_source.resolved(options) == {
        "label_order": ["n", "p"],
        "max_tokens": 9,
        "template": "{sentence} Was it good or bad or good? {mask}",
        "words": {"n": ("bad",), "p": ("good",)},
        "taken_from": "templates.yaml: early",
    }


def test_a_template_besides_the_file_is_refused():
    with pytest.raises(RecipeError, match="allowed: either it or them"):
        prompt_source.resolved({"prompt_source": "x", "template": "y"})
