import sys
import time
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lightadapt_data.errors import InputError, MissingExtraError
from lightadapt_data.filters import Text
from lightadapt_data.filters.personal_data import Settings, examine


def found_in(*texts, **settings):
    rows = [Text(str(i), str(i), text) for i, text in enumerate(texts)]
    return examine(rows, Settings(**settings), None)


def masked(text):
    found = found_in(text)
    return found[0].text if found else text


PERSONAL = [
    # e-mail
    ("Write to jane.doe@example.com.", "Write to <EMAIL>."),
    ("<jane_doe+news@mail.example.co.uk>", "<<EMAIL>>"),
    ("mailto:j@example.org?subject=x", "mailto:<EMAIL>?subject=x"),
    ("Grüße an jürgen@müller-söhne.de", "Grüße an <EMAIL>"),
    ("请联系abc.def@example.cn谢谢", "请联系<EMAIL>谢谢"),
    ("a@b.io,c@d.io;e@f.io", "<EMAIL>,<EMAIL>;<EMAIL>"),
    ("To: 'ann@sub.example.museum'", "To: '<EMAIL>'"),
    ("UPPER.CASE@EXAMPLE.COM!", "<EMAIL>!"),
    ("Ask jane@example.com: yes/no?", "Ask <EMAIL>: yes/no?"),
    # phone
    ("Call +1 212-555-0123 now", "Call <PHONE> now"),
    ("Call +1 (212) 555-0123.", "Call <PHONE>."),
    ("+49 30 901820", "<PHONE>"),
    ("+44 (0)20 7946 0958", "<PHONE>"),
    ("+4915112345678", "<PHONE>"),
    ("+33 6 12 34 56 78 (mobile)", "<PHONE> (mobile)"),
    ("+91-98765-43210, Delhi", "<PHONE>, Delhi"),
    ("dial 0049 30 901820", "dial <PHONE>"),
    ("(212) 555-0123", "<PHONE>"),
    ("212-555-0123", "<PHONE>"),
    ("1-800-555-0199", "<PHONE>"),
    ("212.555.0123 or 212.555.0124", "<PHONE> or <PHONE>"),
    ("us:212-555-0123 4 people", "us:<PHONE> 4 people"),
    ("020 7946 0958", "<PHONE>"),
    ("(030) 901820", "<PHONE>"),
    ("030/9018200", "<PHONE>"),
    ("06 12 34 56 78", "<PHONE>"),
    ("Tel. 901 820 55", "Tel. <PHONE>"),
    ("Phone: 2125550123", "Phone: <PHONE>"),
    ("Fax: 030-901820-11", "Fax: <PHONE>"),
    ("mobile 0171 1234567", "mobile <PHONE>"),
    ("电话：13812345678", "电话：<PHONE>"),
    # addresses of the net
    ("from 8.8.8.8 to 203.0.113.7.", "from <IP> to <IP>."),
    ("http://93.184.216.34:8080/x", "http://<IP>:8080/x"),
    ("host=198.51.100.23", "host=<IP>"),
    ("[2001:db8:85a3::8a2e:370:7334]:443", "[<IP>]:443"),
    ("2a00:1450:4001:81b:0:0:0:200e", "<IP>"),
    ("2001:db8::1 said", "<IP> said"),
    # accounts
    ("IBAN DE89 3704 0044 0532 0130 00 BIC COBADEFF", "IBAN <IBAN> BIC COBADEFF"),
    ("GB29NWBK60161331926819", "<IBAN>"),
    ("ES91 2100 0418 4502 0005 1332 AND MORE", "<IBAN> AND MORE"),
    ("NO93 8601 1117 947", "<IBAN>"),
    ("REF AB12 FR14 2004 1010 0505 0001 3M02 606", "REF AB12 <IBAN>"),
    # cards
    ("Visa 4111 1111 1111 1111", "Visa <CREDIT_CARD>"),
    ("5555-5555-5555-4444", "<CREDIT_CARD>"),
    ("3782 822463 10005 (Amex)", "<CREDIT_CARD> (Amex)"),
    ("card 6011111111111117.", "card <CREDIT_CARD>."),
    ("30569309025904", "<CREDIT_CARD>"),
    ("2223003122003222", "<CREDIT_CARD>"),
    # several in one text
    ("j@x.org, +49 30 901820, 8.8.8.8", "<EMAIL>, <PHONE>, <IP>"),
]

IMPERSONAL = [
    "",
    "word",
    # like e-mail
    "y = x@w.sum(axis=0) + a@b.T",
    "loss = p@q.mean.real(1)",
    "git clone git@github.com:org/repo.git",
    "npm i @types/node@18.0.0 left-pad@1.3.0",
    "<img src='logo@2x.png'>",
    "follow @jane.doe on the net",
    "user@localhost, a @ b, @property",
    # like a phone number
    "ISBN 978-0-306-40615-7 and ISBN 0-306-40615-2",
    "ISSN 0317-8471, ISBN 9780306406157",
    "on 2024-01-15 or 15.01.2024 or 01/15/2024",
    "2019-12-25 10:30:45.123456 +0200",
    "version 10.15.7.2023, build 19041.1415",
    "3.14159265358979 and 6.02214076e+23",
    "1 000 000 000 people, 1,234,567,890 cells",
    "a population of 1234567890",
    "+1000000 points, C++11, +20 000 000 inhabitants",
    "pages 123-456, 1999-2003, 10-20-30",
    "01 02 03 04 05 06 07 08",
    "0x00 0012 3456 7890",
    "SSN 078-05-1120 is no phone number",
    "NDC 0002-3227-30",
    "mobile 2019-12-25, Tel. 1 + 2",
    "phone 12 and cell 1234567 divided",
    "doi:10.1093/bioinformatics/btp352",
    "PMID 12345678, arXiv 2112.11446",
    "550e8400-e29b-41d4-a716-446655440000",
    "9780306406157-123-4567890",
    "1700000000000 ms since 1970",
    "$100-200-300, 25-30 mg, 120/80",
    "for i in range(1000000000): x[0] = 100",
    # like an address
    "version 1.2.3.4 and v1.2.3.4, release 8.7.6.5",
    '__version__ = "1.2.3.4"',
    "libfoo-1.2.3.4, foo==1.2.3.4, foo >= 1.2.3.4",
    "Chrome/91.0.44.12 Mozilla/5.0",
    "1.3.6.1.4.1.311 and 256.1.2.3 and 1.2.3.400",
    "section 2.3.1.4 and figure 1.1.1.2",
    "8.8.8.8-rc1 and 2.0.0.127.example.org",
    "192.168.0.1, 10.0.0.1, 127.0.0.1, 255.255.255.0, 0.0.0.0",
    "std::vector<a::b> dead::beef::cafe",
    "12:30:45, 00:1a:2b:3c:4d:5e, fe80::1, ::1",
    "00:11:22:33:44:55:66:77",
    # like an account or a card
    "DE89 3704 0044 0532 0130 01",
    "AB12 3456 7890 1234 5678",
    "GB82WEST1234569876543",
    "4111 1111 1111 1112",
    "1234567812345670",
    "0000 0000 0000 0000",
    "41111111111111111111111111",
    "x4111111111111111 0.4111111111111111",
]


def test_the_tables_hold_enough_cases():
    assert len(PERSONAL) + len(IMPERSONAL) >= 60


@pytest.mark.parametrize(("text", "expected"), PERSONAL)
def test_personal_data_is_masked(text, expected):
    assert masked(text) == expected


@pytest.mark.parametrize("text", IMPERSONAL)
def test_what_only_looks_like_personal_data_stays(text):
    assert masked(text) == text


TEXT = "Ask jane@example.com or joe@example.com, +49 30 901820."


def test_the_reason_counts_the_kinds():
    assert found_in(TEXT)[0].reason == "personal_data: 2 email, 1 phone"


def test_an_action_masks_drops_or_only_reports():
    reason = "personal_data: 2 email, 1 phone"
    mask, drop, detect = (found_in(TEXT, action=a)[0] for a in ("mask", "drop", "detect"))
    assert {mask.reason, drop.reason, detect.reason} == {reason}
    assert mask.text == "Ask <EMAIL> or <EMAIL>, <PHONE>."
    assert drop.text is None
    assert detect.text == TEXT


def test_only_the_chosen_kinds_are_looked_for():
    assert found_in(TEXT, kinds=("phone",))[0].text == TEXT.replace("+49 30 901820", "<PHONE>")
    assert found_in(TEXT, kinds=("iban", "ip")) == {}


def test_masking_twice_equals_once():
    for text, expected in PERSONAL:
        assert masked(expected) == expected, text


def test_settled_rows_are_left_alone():
    assert examine([Text("a", "a", TEXT, is_settled=True)], Settings(), None) == {}


@given(st.text(st.characters(codec="utf-8"), max_size=80))
def test_no_text_breaks_it(text):
    for finding in found_in(text, text * 10).values():
        assert finding.text != text


@given(st.text("0123456789 +-().:@aZ/", max_size=60))
def test_no_run_of_marks_breaks_it(text):
    found_in(text)


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "a.",
        "@",
        "a@",
        "@a.",
        "a@a.",
        "0",
        "1 ",
        "1-",
        "+1",
        "(0",
        "(01",
        "00 ",
        "00 1",
        "1.",
        "a:",
        "1:",
        "::",
        "A",
        "AA00",
        "AA00 ",
        "DE89 3704 ",
        "4111 ",
        "tel ",
        "tel 0 ",
        "version ",
        "8.8.8.8 ",
        "a@b.de ",
        "+49 30 901820 ",
        "x@a.b.c.d.e.f.g.h.",
        "é",
        "日",
    ],
)
def test_a_long_row_takes_milliseconds(piece):
    text = piece * (50_000 // len(piece))
    started = time.process_time()
    found_in(text)
    assert time.process_time() - started < 2  # a pattern that blows up takes hours


def test_a_kind_without_a_pattern_is_refused():
    with pytest.raises(ValidationError, match='no pattern tells a person; set engine = "presidio"'):
        Settings(kinds=("email", "person"))


def test_a_missing_presidio_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(MissingExtraError, match="run: pip install presidio-analyzer, or set"):
        found_in(TEXT, engine="presidio")


class ToyAnalyzer:
    def __init__(self, nlp_engine, supported_languages):
        assert nlp_engine == "en_core_web_sm"
        assert supported_languages == ["en"]

    def analyze(self, text, language, entities, score_threshold):
        assert (language, entities) == ("en", ["EMAIL_ADDRESS", "PERSON"])
        return [
            SimpleNamespace(start=4, end=8, entity_type="PERSON", score=0.85),
            SimpleNamespace(start=4, end=20, entity_type="EMAIL_ADDRESS", score=1.0),
            SimpleNamespace(start=24, end=27, entity_type="PERSON", score=0.85),
        ]


class ToyProvider:
    def __init__(self, nlp_configuration):
        self.model = nlp_configuration["models"][0]["model_name"]

    def create_engine(self):
        return self.model


@pytest.fixture
def presidio(monkeypatch):
    modules = {name: ModuleType(name) for name in ("presidio_analyzer", "spacy")}
    modules["presidio_analyzer.nlp_engine"] = ModuleType("presidio_analyzer.nlp_engine")
    modules["presidio_analyzer"].AnalyzerEngine = ToyAnalyzer
    modules["presidio_analyzer.nlp_engine"].NlpEngineProvider = ToyProvider
    modules["spacy"].util = SimpleNamespace(is_package=lambda name: name == "en_core_web_sm")
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def test_presidio_finds_names_too_and_the_surest_of_two_wins(presidio):
    settings = {"engine": "presidio", "kinds": ("email", "person")}
    found = found_in("Ask jane@example.com or Joe.", **settings)
    assert found[0].text == "Ask <EMAIL> or <PERSON>."
    assert found[0].reason == "personal_data: 1 email, 1 person"


def test_a_missing_spacy_model_is_named_with_its_command(presidio):
    with pytest.raises(InputError, match="'de_x' is not installed; run: python -m spacy download"):
        found_in(TEXT, engine="presidio", spacy_model="de_x")
