"""Decode XML by the encoding that it declares: the parser knows few encodings, and annotation tools write many."""

from __future__ import annotations

import codecs
import re

_DECLARED = re.compile(rb"""\s*<\?xml[^>]{0,200}?\sencoding\s*=\s*["']([A-Za-z][A-Za-z0-9._-]{0,40})["']""")
_MARKS = (  # UTF-32's marks begin as UTF-16's do
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
_TEXT = ("ascii", "big5", "cp", "euc", "gb", "iso", "johab", "koi8", "mac-", "ptcp154", "shift", "tis-620", "utf-8")
"""How Python calls the encodings that are tables of characters; others are programs (unicode_escape, punycode)."""
_WIDER = {"gb2312": "gb18030", "gbk": "gb18030"}  # files that declare the narrow one mostly use the wide one


def decode_xml(data: bytes) -> str:
    """Decode XML: by its byte order mark, else by the encoding that it declares, else as UTF-8.

    Raises:
        ValueError: if its bytes are not of that encoding, or the encoding is unknown or not one for text.
    """
    marked = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    if marked is not None:
        return _decode(data, marked, "its first bytes say")
    found = _DECLARED.match(data)
    declared = found[1].decode() if found else ""
    if not declared or re.fullmatch(r"(?i)ucs-?[24]|utf-?(16|32).*", declared):
        # a declaration that can be read byte by byte is in neither UTF-16 nor UTF-32, whatever it says
        return _decode(data, "utf-8", "it declares no encoding, so it should be")
    try:
        name = codecs.lookup(declared).name
    except LookupError:
        name = ""
    if not name.startswith(_TEXT):
        raise ValueError(f"it declares the encoding {declared}, which is unknown; save it as UTF-8")
    return _decode(data, _WIDER.get(name, name), "it declares")


def _decode(data: bytes, name: str, why: str) -> str:
    try:
        return data.decode(name)
    except UnicodeError as error:
        at = f", but byte {error.start} is not" if isinstance(error, UnicodeDecodeError) else ""
        raise ValueError(f"{why} {name.upper()}{at}; save it as UTF-8 or declare its encoding") from error
