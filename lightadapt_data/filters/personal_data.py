"""personal_data: masks e-mail and IP addresses, phone, account and card numbers; or drops the row.

Patterns propose, checks decide: IBANs by their checksum and length, cards by Luhn's sum and the
issuer's prefix, IP addresses by their ranges (private networks name nobody). Phone numbers need a
country code, a word such as "tel" before them, or a national form that little else has; versions,
dates, ISBNs and plain numbers stay. Names and places need the engine "presidio".

Source: ISO 13616 and ISO 7064 (IBAN), ISO/IEC 7812-1 (cards), ITU-T E.164 (phones), RFC 5321
(e-mail), RFC 1918 and 4291 (addresses); engine: https://github.com/microsoft/presidio
"""

# ruff: noqa: SIM905 - a list of networks reads better as text
from __future__ import annotations

import importlib
import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from pydantic import model_validator

from lightadapt_data.config import Config
from lightadapt_data.errors import InputError, MissingExtraError
from lightadapt_data.filters import Context, Finding, Text

Kind = Literal["email", "iban", "credit_card", "ip", "phone", "person", "location"]
PATTERN_KINDS: tuple[Kind, ...] = ("email", "iban", "credit_card", "ip", "phone")
PRESIDIO_NAMES = {"email": "EMAIL_ADDRESS", "iban": "IBAN_CODE", "ip": "IP_ADDRESS"}
PRESIDIO_NAMES |= {"phone": "PHONE_NUMBER"}
LEAST_SCORE = 0.4
"""What presidio finds with less is left out; 0.4 is what it gives a phone number without words."""


class Settings(Config):
    """Settings of the personal_data filter."""

    kinds: tuple[Kind, ...] = PATTERN_KINDS
    """What is looked for; "person" and "location" only with the engine "presidio"."""
    action: Literal["mask", "drop", "detect"] = "mask"
    """What happens: "mask" writes "<EMAIL>", "drop" takes the row out, "detect" only reports it."""
    engine: Literal["patterns", "presidio"] = "patterns"
    """Who looks: "presidio" is slower, and needs its package and a spaCy model."""
    spacy_model: str = "en_core_web_sm"
    """Model for the engine "presidio"; its first two letters are the language."""

    @model_validator(mode="after")
    def _can_find(self) -> Settings:
        beyond = [kind for kind in self.kinds if kind not in PATTERN_KINDS]
        if beyond and self.engine == "patterns":
            raise ValueError(
                f'no pattern tells a {beyond[0]}; set engine = "presidio" or leave it out of kinds'
            )
        return self


class Span(NamedTuple):
    """Where personal data stands in a text [characters]."""

    start: int
    end: int
    kind: str


Find = Callable[[str], Iterable[Span]]


def examine(rows: Sequence[Text], settings: Settings, context: Context) -> dict[int, Finding]:
    """Return a finding for each row with personal data, by the setting `action`.

    With "mask" the finding holds the masked text; with "detect" the text as it was, so that the
    row stays and is reported; with "drop" it holds no text.

    Raises:
        MissingExtraError: the engine "presidio" is not installed.
        InputError: its spaCy model is not installed.
    """
    find = _presidio(settings) if settings.engine == "presidio" and rows else _patterns(settings)
    found: dict[int, Finding] = {}
    for index, row in enumerate(rows):
        spans = [] if row.is_settled else _apart(find(row.text), len(row.text))
        if not spans:
            continue
        counts = Counter(span.kind for span in spans)
        listed = ", ".join(f"{counts[kind]} {kind}" for kind in settings.kinds if counts[kind])
        text = None if settings.action == "drop" else row.text
        if settings.action == "mask":
            text = _masked(row.text, spans)
        found[index] = Finding(f"personal_data: {listed}", text=text)
    return found


def _apart(spans: Iterable[Span], n_characters: int) -> list[Span]:
    """Return spans in text order without those that overlap an earlier found one."""
    kept: list[Span] = []
    taken = bytearray()
    for span in spans:
        taken = taken or bytearray(n_characters)
        if 1 not in taken[span.start : span.end]:
            taken[span.start : span.end] = b"\1" * (span.end - span.start)
            kept.append(span)
    return sorted(kept)


def _masked(text: str, spans: Sequence[Span]) -> str:
    parts, end = [], 0
    for span in spans:
        parts += [text[end : span.start], f"<{span.kind.upper()}>"]
        end = span.end
    return "".join([*parts, text[end:]])


def _patterns(settings: Settings) -> Find:
    kinds = [kind for kind in PATTERN_KINDS if kind in settings.kinds]

    def find(text: str) -> Iterator[Span]:
        if not _HINT.search(text):
            return
        for kind in kinds:
            for start, end in _FINDERS[kind](text):
                yield Span(start, end, kind)

    return find


def _presidio(settings: Settings) -> Find:
    try:
        presidio = importlib.import_module("presidio_analyzer")
        engines = importlib.import_module("presidio_analyzer.nlp_engine")
        spacy = importlib.import_module("spacy")
    except ImportError:
        raise MissingExtraError(
            'personal_data: engine = "presidio" needs a package that is not installed; '
            'run: pip install presidio-analyzer, or set engine = "patterns"'
        ) from None
    model, language = settings.spacy_model, settings.spacy_model[:2]
    # Without this check presidio would download the model, and end the process if it cannot.
    if not spacy.util.is_package(model):
        raise InputError(
            f"personal_data: the spaCy model '{model}' is not installed; "
            f"run: python -m spacy download {model}, or name another in spacy_model"
        )
    models = [{"lang_code": language, "model_name": model}]
    layout = {"nlp_engine_name": "spacy", "models": models}
    analyzer = presidio.AnalyzerEngine(
        nlp_engine=engines.NlpEngineProvider(nlp_configuration=layout).create_engine(),
        supported_languages=[language],
    )
    kinds = {PRESIDIO_NAMES.get(kind, kind.upper()): kind for kind in settings.kinds}

    def find(text: str) -> list[Span]:
        found = analyzer.analyze(
            text=text, language=language, entities=[*kinds], score_threshold=LEAST_SCORE
        )
        found = sorted(found, key=lambda result: (-result.score, result.start, -result.end))
        return [Span(result.start, result.end, kinds[result.entity_type]) for result in found]

    return find


# Every repeat below has a bound, and no pattern starts inside a run that it has refused: a row of
# 50,000 characters takes milliseconds.
_HINT = re.compile(r"@|\d\d|\d\.\d|::")
_LETTERS = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0370-\u052f"
_EMAIL = re.compile(
    rf"(?<![{_LETTERS}0-9._%+-])[{_LETTERS}0-9_%+][{_LETTERS}0-9._%+-]{{0,63}}"
    rf"@(?:[{_LETTERS}0-9](?:[{_LETTERS}0-9-]{{0,61}}[{_LETTERS}0-9])?\.){{1,8}}"
    r"(?!(?:png|jpe?g|gif|svg|webp|css|js|json|html)\b)"  # image@2x.png
    rf"(?:xn--[A-Za-z0-9-]{{2,30}}|[{_LETTERS}]{{2,24}})"
    # Neither a product of matrices, a@w.sum(), nor a remote path, git@host.org:a/b.
    rf"(?![{_LETTERS}0-9_]|(?:\.\w{{1,30}}){{0,4}}\(|:[\w.~-]{{0,60}}/)"
)


def _emails(text: str) -> Iterator[tuple[int, int]]:
    for match in _EMAIL.finditer(text) if "@" in text else ():
        yield match.span()


_IBAN_LENGTHS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18"
    " DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22"
    " IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19"
    " MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31"
    " SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)
_IBAN_LENGTH = {entry[:2]: int(entry[2:]) for entry in _IBAN_LENGTHS.split()}
_IBAN = re.compile(r"(?<![A-Za-z0-9])(?=([A-Z]{2}\d\d(?:[ \u00a0]?[A-Z0-9]){11,30}))")


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    for match in _IBAN.finditer(text):
        places = [at for at in range(*match.span(1)) if text[at].isalnum()]
        n_characters = _IBAN_LENGTH.get(match[1][:2], 0)
        if not 0 < n_characters <= len(places):
            continue
        number = "".join(text[at] for at in places[:n_characters])
        turned = "".join(str(int(mark, 36)) for mark in number[4:] + number[:4])
        end = places[n_characters - 1] + 1
        if int(turned) % 97 == 1 and not text[end : end + 1].isalnum():
            yield match.start(), end


_CARD = re.compile(
    r"(?<![\w.+])(?<!\d-)(?:\d{14,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?"
    r"|\d{4}([ -])\d{6}\2\d{4,5})(?![\w-]|[.,]\d)",
    re.ASCII,
)
_ISSUERS = (
    (re.compile("4"), (16, 19)),
    (re.compile("5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), (16,)),
    (re.compile("3[47]"), (15,)),
    (re.compile("6011|64[4-9]|65|62|352[89]|35[3-8]"), (16, 19)),
    (re.compile("30[0-5]|3[689]"), (14,)),
)
"""Prefixes and lengths of Visa, Mastercard, American Express, Discover and the like, Diners."""


def _cards(text: str) -> Iterator[tuple[int, int]]:
    for match in _CARD.finditer(text):
        digits = [int(mark) for mark in match[0] if mark.isdecimal()]
        number = "".join(map(str, digits))
        doubled = sum(digits[-1::-2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
        is_issued = any(
            prefix.match(number) and len(number) in lengths for prefix, lengths in _ISSUERS
        )
        if is_issued and doubled % 10 == 0:
            yield match.span()


_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = re.compile(
    r"(?<![\w.])(?<![A-Za-z][-/])(?<![=<>~!^]=)(?<![=<>~!^]=\s)"
    rf"{_OCTET}(?:\.{_OCTET}){{3}}(?!\w|\.\w|-[A-Za-z])",
    re.ASCII,
)
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{0,4}){3,7}(?![\w:])", re.ASCII)
_VERSION = re.compile(
    r"(?:(?<![a-z])(?:v|ver|versions?|rel|releases?|rev|revision|build|section|sec|chapter|fig"
    r"|figure|table|clause|kernel|firmware|oid|update|patch)|version_*|§)[^\w<]{0,4}$",
    re.IGNORECASE,
)
_NOBODYS = tuple(
    ipaddress.ip_network(net)
    for net in "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12"
    " 192.168.0.0/16 224.0.0.0/3".split()
)
"""Private and local networks, groups and masks."""


def _ips(text: str) -> Iterator[tuple[int, int]]:
    for match in _IPV4.finditer(text):
        address = ipaddress.IPv4Address(match[0])
        is_nobodys = any(address in network for network in _NOBODYS)
        if not is_nobodys and not _VERSION.search(text[max(0, match.start() - 20) : match.start()]):
            yield match.span()
    for match in _IPV6.finditer(text):
        try:
            number = int(ipaddress.IPv6Address(match[0]))
        except ValueError:
            continue
        # Addresses of the net start with 2 or 3; "a::b" may be a name in a program.
        if number >> 125 == 1 and sum(map(bool, match[0].split(":"))) >= 3:
            yield match.span()


_GAP = r"[ \u00a0./-]"
_ABROAD = re.compile(
    rf"(?<![\w+])(?:\+ ?|(?<!\d )00 ?(?=[1-9]\d{{0,2}}{_GAP}))[1-9]\d{{0,14}}"
    rf"(?:(?:{_GAP}?\(|\){_GAP}?|{_GAP})\d{{1,14}}){{0,7}}(?!\w)",
    re.ASCII,
)
_COUNTRY = re.compile(
    r"1(?=[2-9]\d{9}$)|7|20|27|2[1-6]\d|29\d|3[0-469]|3[578]\d|4[013-9]|42\d|5[1-8]|50\d|59\d"
    r"|6[0-6]|6[789]\d|8[1246]|8[0578]\d|9[0-58]|9[679]\d"
)
_AT_HOME = re.compile(
    r"(?<![\w.,/+-])(?<!\d[ :])(?:"
    r"(?:1[ .-])?(?:\([1-9]\d\d\) ?|[1-9]\d\d-)\d{3}[ .-]\d{4}|[2-9]\d\d\.\d{3}\.\d{4}"
    r"|(?:\(0[1-9]\d{1,4}\) ?|0[1-9]\d{1,4}[ /-])\d{3,8}(?:[ -]\d{3,4}){0,2}(?! \d)"
    r"|0[1-79]([ .-])\d\d\1\d\d\1\d\d\1\d\d(?! \d)"
    r")(?![\w@]|[-/.,:]\d)",
    re.ASCII,
)
_AFTER_WORD = re.compile(
    r"(?:(?<![^\W_])(?:tel|telephone|telefon|tel[eé]fono|t[eé]l|phone|ph|mobile|mob|cell|fax|handy"
    r"|whatsapp|hotline)(?: ?(?:no|nr|number))?|电话|電話|手机|手機|携帯)"
    r"(?P<mark>\.?[:：]|\.)?\s{0,2}(?P<number>\(?\d(?:[ \u00a0().-]{0,2}\d){6,14})(?!\w)",
    re.IGNORECASE,
)
_DATE = re.compile(r"(?:19|20)\d\d[-. ]\d\d?[-. ]\d\d?|\d\d?[-. ]\d\d?[-. ](?:19|20)\d\d")
_SPLIT = re.compile(r"\(?0|\(|\d{2,4}[ .-]\d{2,4}[ .-]?\d{4}")


def _phones(text: str) -> Iterator[tuple[int, int]]:
    for match in _ABROAD.finditer(text):
        digits = re.sub(r"\(0\)|\D", "", match[0]).lstrip("0")
        code = _COUNTRY.match(digits)
        if code and 8 <= len(digits) <= 15 and not digits.startswith("00", code.end()):
            yield match.span()
    for match in _AT_HOME.finditer(text):
        if 9 <= sum(map(str.isdecimal, match[0])) <= 12:
            yield match.span()
    for match in _AFTER_WORD.finditer(text):
        is_phone = match["mark"] or _SPLIT.match(match["number"])
        if is_phone and not _DATE.match(match["number"]):
            yield match.span("number")


_FINDERS: dict[Kind, Callable[[str], Iterator[tuple[int, int]]]] = {
    "email": _emails,
    "iban": _ibans,
    "credit_card": _cards,
    "ip": _ips,
    "phone": _phones,
}
