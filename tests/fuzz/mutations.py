"""Hypothesis strategies that break valid files the way disks, editors, people and attackers do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

ODD_TOKENS = (
    *(
        "",
        "0",
        "-1",
        "1.5",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "1e30",
        "9" * 30,
        "9" * 5000,
        "0x10",
        "1_000",
        "²",
        "٣",
        "０",
    ),
    *("/etc/passwd", "../../../etc/passwd", "a/../../b", ".", "..", "~", "\0", "a\0b", "x" * 300, "y/" * 3000, "\x85"),
    *(
        "true",
        "null",
        "'",
        '"',
        "<",
        "&",
        "]",
        "{",
        "%s",
        "{0}",
        "\u2028",
        "\ufeff",
        "é",
        "\U0001f426",
        "\t",
        "=",
        "!!",
    ),
)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 2**31, 2**63, 10**30, float("nan"), float("inf"), -0.0),
    *("", "x", "../..", "\0", "\ud800", "x" * 5000, [], {}, [[]], [None], {"": None}, {"class_path": "os.system"}),
)
_FIELDS = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0", b"\0\0\0\x80")


@st.composite
def broken_bytes(draw: st.DrawFn, valid: bytes, most: int = 4) -> bytes:
    """One to `most` of: flipped bits, changed fields, cuts, insertions, parts doubled, left out or moved."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, most))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(1, 64))
        match draw(st.integers(0, 7)):
            case 0 if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case 1 if data:
                data[at] = draw(st.integers(0, 255))
            case 2:
                del data[at:]
            case 3:
                data[at:at] = draw(st.binary(max_size=64))
            case 4:
                del data[at : at + length]
            case 5:
                data[at:at] = data[at : at + length]
            case 6:
                part = data[at : at + length]
                del data[at : at + length]
                to = draw(st.integers(0, len(data)))
                data[to:to] = part
            case _:
                data[at : at + 4] = draw(st.sampled_from(_FIELDS))
    return bytes(data)


@st.composite
def broken_text(draw: st.DrawFn, valid: str, tokens: Sequence[str] = ODD_TOKENS) -> bytes:
    """Lines doubled, left out, swapped, cut or made up; odd words; other encodings, line ends, a byte order mark."""
    lines = valid.split("\n")
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        other = draw(st.integers(0, len(lines) - 1))
        match draw(st.integers(0, 6)):
            case 0:
                lines.insert(other, lines[at])
            case 1 if len(lines) > 1:
                del lines[at]
            case 2:
                lines[at], lines[other] = lines[other], lines[at]
            case 3:
                lines[at] = lines[at][: draw(st.integers(0, len(lines[at])))]
            case 4:
                lines.insert(at, draw(st.text(max_size=40)))
            case _:
                lines[at] = _with_odd_word(draw, lines[at], tokens)
    text = "\n".join(lines)
    match draw(st.integers(0, 15)):
        case 0:
            return text.encode("utf-16", "replace")
        case 1:
            return ("\ufeff" + text).encode("utf-8", "replace")
        case 2:
            return text.replace("\n", "\r\n").encode("utf-8", "replace")
        case 3:
            return text.replace("\n", "\r").encode("latin-1", "replace")
        case 4:
            return draw(broken_bytes(text.encode("utf-8", "replace")))
        case 5:
            return text.encode("utf-8", "replace") + b"\xff\xfe"
    return text.encode("utf-8", "replace")


def _with_odd_word(draw: st.DrawFn, line: str, tokens: Sequence[str]) -> str:
    """A word of `line`, as XML, YAML and plain lists delimit them, replaced by an odd one."""
    starts = [i for i in range(len(line) + 1) if i == 0 or line[i - 1] in " >:,{["]
    start = draw(st.sampled_from(starts))
    ends = [i for i in range(start, len(line) + 1) if i == len(line) or line[i] in " <:,}]"]
    return line[:start] + draw(st.sampled_from(tokens)) + line[ends[0] :]


@st.composite
def broken_value(draw: st.DrawFn, valid: Any, odd: Sequence[Any] = ODD_VALUES) -> Any:
    """Plain data (dicts, lists, scalars) with one to three entries replaced, removed, doubled or made up."""
    value = valid
    for _ in range(draw(st.integers(1, 3))):
        value = _broken_somewhere(draw, value, odd)
    return value


def _broken_somewhere(draw: st.DrawFn, value: Any, odd: Sequence[Any]) -> Any:
    deeper = isinstance(value, dict | list) and len(value) and draw(st.integers(0, 9)) > 0
    if not deeper:
        return draw(st.sampled_from(odd))
    changed = dict(value) if isinstance(value, dict) else list(value)
    key = draw(st.sampled_from(list(changed))) if isinstance(value, dict) else draw(st.integers(0, len(value) - 1))
    match draw(st.integers(0, 9)):
        case 0:
            del changed[key]
        case 1 if isinstance(changed, dict):
            changed[draw(st.sampled_from(["", "x", "class_path", "__class__", "|", "a|b"]))] = changed[key]
        case 1 | 2 if isinstance(changed, list):
            changed.insert(key, changed[key])
        case _:
            changed[key] = _broken_somewhere(draw, changed[key], odd)
    return changed


def broken_json(valid: Any, odd: Sequence[Any] = ODD_VALUES) -> st.SearchStrategy[bytes]:
    """JSON of broken values; or valid JSON with broken text."""
    text = json.dumps(valid, indent=1)
    return st.one_of(
        broken_value(valid, odd).map(lambda value: json.dumps(value, default=str).encode("utf-8", "replace")),
        broken_text(text),
        st.sampled_from([b"[" * 100_000, b'{"a":' * 100_000, b"", b"null", b"1e999", b'"\\ud800"']),
    )
