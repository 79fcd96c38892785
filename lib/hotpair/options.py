"""The keys of an INI section: their defaults, how their text becomes a value, and what to write when it does not."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from hotpair import ini

Number = TypeVar("Number", int, float)


class Option(NamedTuple):
    """One key of a section: its default as text, how the text becomes a value, and what to write."""

    default: str
    parse: Callable[[str], Any]
    write: str


def seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e9:
        raise ValueError(text)
    return value


def number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError(text)
    return int(text)


def port(text: str) -> int:
    if not 0 < number(text) < 65536:
        raise ValueError(text)
    return number(text)


def limit(text: str) -> float:
    """Parse a time-out, which less than a second would make of every slow answer."""
    if seconds(text) < 1:
        raise ValueError(text)
    return seconds(text)


def size(text: str) -> int:
    """Parse a size in bytes: 4096, 32K, 1M, 2G."""
    unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:].upper(), 0)
    return number(text[:-1].strip()) * unit if unit else number(text)


def between(parse: Callable[[str], Number], least: float, most: float) -> Callable[[str], Number]:
    """Return what parses as `parse` does, within bounds."""

    def bounded(text: str) -> Number:
        if not least <= parse(text) <= most:
            raise ValueError(text)
        return parse(text)

    return bounded


def one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(text)
        return text

    return parse


def shaped(pattern: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(text)
        return text

    return parse


def values(section: ini.Section, options: dict[str, Option], required: tuple[str, ...]) -> dict[str, Any]:
    """Return every option of a section, defaults filled in; what is wrong is noted in the section's file."""
    for key in section.values:
        if key not in options:
            section.problem(f"unknown key {key!r}", "write one of " + ", ".join(sorted(options)), key)
    parsed = {}
    for key, option in options.items():
        text = section.values.get(key, option.default)
        if key in required and not text:
            section.problem(f"{key} is missing", f"write `{key} =` and {option.write}")
        try:
            parsed[key.replace("-", "_")] = option.parse(text) if text or key not in required else text
        except ValueError:
            section.problem(f"{key} cannot be {text!r}", f"write {option.write}", key)
            parsed[key.replace("-", "_")] = option.parse(option.default) if option.default else ""
    return parsed
