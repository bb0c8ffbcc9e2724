"""lexicon: the English words that carry numbers and negation.

Gates compare them; augmenters that edit words leave them alone.
"""

# ruff: noqa: SIM905 - long lists of words read better as text
from __future__ import annotations

import re

NUMBER_WORDS = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
        " fifteen sixteen seventeen eighteen nineteen".split()
    )
} | {
    word: 10 * tens
    for tens, word in enumerate(
        "twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2
    )
}
"""Value of each simple number word."""

MULTIPLIERS = {
    "hundred": 100,
    "thousand": 1000,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
"""Words that multiply the number before them."""

ORDINALS = {
    word: value
    for value, word in enumerate(
        "first second third fourth fifth sixth seventh eighth ninth tenth".split(), start=1
    )
}
"""Value of each ordinal word."""

MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan",
            "february feb",
            "march mar",
            "april apr",
            "may",
            "june jun",
            "july jul",
            "august aug",
            "september sept sep",
            "october oct",
            "november nov",
            "december dec",
        ),
        start=1,
    )
    for name in names.split()
}
"""Number of each month, 1 to 12, by name and abbreviation."""

_SPELLED_UNITS = {
    "%": "percent percentage",
    "mg": "milligram milligrams milligramme milligrammes",
    "g": "gram grams gramme grammes",
    "kg": "kilogram kilograms kilo kilos",
    "ml": "millilitre millilitres milliliter milliliters",
    "l": "litre litres liter liters",
    "mm": "millimetre millimetres millimeter millimeters",
    "cm": "centimetre centimetres centimeter centimeters",
    "m": "metre metres meter meters",
    "km": "kilometre kilometres kilometer kilometers kms",
    "ms": "millisecond milliseconds msec",
    "s": "second seconds sec secs",
    "min": "minute minutes mins",
    "h": "hour hours hr hrs",
    "day": "days",
    "week": "weeks",
    "month": "months",
    "year": "years",
    "$": "dollar dollars usd",
    "€": "euro euros eur",
    "£": "gbp",
    "kb": "kilobyte kilobytes",
    "mb": "megabyte megabytes",
    "gb": "gigabyte gigabytes",
    "tb": "terabyte terabytes",
    "hz": "hertz",
    "°c": "celsius",
    "°f": "fahrenheit",
    "times": "x",
}
_OWN_NAME_UNITS = "µg mcg iu mmol mol khz mhz ghz mv kv kw mw v w °"
UNITS = {unit: unit for unit in (*_SPELLED_UNITS, *_OWN_NAME_UNITS.split())} | {
    word: unit for unit, words in _SPELLED_UNITS.items() for word in words.split()
}
"""Unit by each of its names, lower case."""

_NEGATORS = (
    "not cannot no never without none nobody nothing neither nor nowhere hardly scarcely barely"
    " seldom rarely lack lacks lacked lacking unable unlikely unclear unknown unfortunately"
    " unnecessary unsafe unstable unsupported unused unavailable uncertain unusual untrue unfair"
    " unsuccessful unsuccessfully unrelated unchanged impossible improper improbable incorrect"
    " incorrectly invalid inactive incomplete inaccurate insufficient inconsistent inefficient"
    " irrelevant irregular illegal dishonest disagree disagrees disagreed"
).split()

_WORDS = "|".join(sorted(_NEGATORS, key=len, reverse=True))

NEGATION = re.compile(
    r"(?P<idle>\bnot\s+only\b|\bno\.\s*(?=\d)|\bno\s+doubt\b)"
    r"|(?P<pair>\bneither\b[^.!?;]{0,200}?\bnor\b)"
    rf"|\b(?:{_WORDS})\b"
    r"|(?<=\w)n['’]t\b"
    r"|\bfail(?:s|ed|ing)?\s+to\b"
    r"|\bnon-(?=\w)|\bnon(?!e\b|etheless|sense)(?=[a-z]{4})",
    re.IGNORECASE,
)
"""One match per negation; a match of the group `idle` looks like one and is none."""
