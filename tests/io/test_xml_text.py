"""Annotations in the encodings that they declare."""

import codecs
from pathlib import Path

import pytest

from agcam.data.xml_boxes import read_annotation
from agcam.errors import DataError
from voc_trees import annotation, devkit, opened

BOX = (5, 4, 20, 16)
NAMES = {
    "gb2312": "安全帽",
    "GBK": "镕基",  # the first is not in GB2312
    "gb18030": "安全帽",
    "big5": "貓",
    "big5-hkscs": "貓",
    "shift_jis": "猫",
    "euc-jp": "猫",
    "iso-2022-jp": "猫",
    "euc-kr": "고양이",
    "windows-1251": "кот",
    "koi8-r": "кот",
    "ISO-8859-1": "chaîne",
    "latin1": "chaîne",
    "iso-8859-15": "œuf",
    "windows-1252": "œuf",
    "mac-roman": "œuf",
    "cp437": "chaîne",
    "UTF-8": "猫",
}


def write(path: Path, name: str, declared: str, encoding: str, mark: bytes = b"") -> None:
    xml = f'<?xml version="1.0" encoding="{declared}"?>\n' if declared else ""
    path.write_bytes(mark + (xml + annotation([(name, BOX)])).encode(encoding))


def class_in(path: Path) -> str:
    (node,) = read_annotation(path).objects
    return node.findtext("name") or ""


@pytest.mark.parametrize("encoding", NAMES)
def test_declared_encodings_are_read(encoding: str, tmp_path: Path) -> None:
    write(tmp_path / "a.xml", NAMES[encoding], encoding, encoding)
    assert class_in(tmp_path / "a.xml") == NAMES[encoding]


def test_what_declares_gb2312_may_be_written_in_gbk(tmp_path: Path) -> None:
    write(tmp_path / "a.xml", "镕基", "GB2312", "gbk")
    assert class_in(tmp_path / "a.xml") == "镕基"


def test_a_data_set_in_gb2312_is_read(tmp_path: Path) -> None:
    devkit(tmp_path, "a.jpg", "b.jpg", sets={"train": "a", "val": "b"})
    for name in ("a", "b"):
        write(tmp_path / f"Annotations/{name}.xml", "安全帽", "GB2312", "gb2312")
    items = opened(tmp_path, classes=["安全帽", "人"]).open("train").items
    assert [(item.labels, item.boxes.tolist()) for item in items] == [((0,), [[4, 3, 20, 16]])]


@pytest.mark.parametrize("declared", ["", "utf-16", "UTF-8", "gb2312"])
@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("utf-32-le", codecs.BOM_UTF32_LE),
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", b""),
        ("utf-16-be", b""),
    ],
)
def test_first_bytes_tell_more_than_the_declaration(encoding: str, mark: bytes, declared: str, tmp_path: Path) -> None:
    write(tmp_path / "a.xml", "猫", declared, encoding, mark)
    assert class_in(tmp_path / "a.xml") == "猫"


def test_utf_8_that_declares_utf_16_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a.xml", "猫", "utf-16", "utf-8")  # a string that was written to a file
    assert class_in(tmp_path / "a.xml") == "猫"


@pytest.mark.parametrize(
    ("declared", "encoding", "said"),
    [
        ("", "latin-1", "declares no encoding, so it should be UTF-8, but byte [0-9]+ is not"),
        ("utf-8", "latin-1", "declares UTF-8, but byte [0-9]+ is not"),
        ("ascii", "latin-1", "declares ASCII, but byte [0-9]+ is not"),
        ("gb2312", "latin-1", "declares GB18030, but byte [0-9]+ is not"),
        ("no-such", "utf-8", "declares the encoding no-such, which is unknown; save it as UTF-8"),
    ],
)
def test_what_cannot_be_decoded_is_named(declared: str, encoding: str, said: str, tmp_path: Path) -> None:
    write(tmp_path / "a.xml", "chaî", declared, encoding)
    with pytest.raises(DataError, match=rf"a\.xml: not a readable XML file \(it {said}"):
        read_annotation(tmp_path / "a.xml")


@pytest.mark.parametrize(
    "declared", ["unicode_escape", "raw_unicode_escape", "punycode", "idna", "utf-7", "zlib", "bz2", "rot13", "hex"]
)
def test_encodings_that_are_programs_are_refused(declared: str, tmp_path: Path) -> None:
    write(tmp_path / "a.xml", "cat", declared, "ascii")
    with pytest.raises(DataError, match=rf"a\.xml: .*declares the encoding {declared}, which is unknown"):
        read_annotation(tmp_path / "a.xml")


@pytest.mark.parametrize("encoding", ["gb2312", "utf-16", "utf-8", "shift_jis"])
def test_an_entity_bomb_is_refused_in_every_encoding(encoding: str, tmp_path: Path) -> None:
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 12))
    text = f'<!DOCTYPE a [<!ENTITY e0 "boom">{entities}]><annotation>&e11;</annotation>'
    (tmp_path / "a.xml").write_bytes(f'<?xml version="1.0" encoding="{encoding}"?>{text}'.encode(encoding))
    with pytest.raises(DataError, match=r"a\.xml: not a readable XML file \(it declares a document type"):
        read_annotation(tmp_path / "a.xml")


def test_a_file_beyond_the_limit_is_not_decoded(tmp_path: Path) -> None:
    write(tmp_path / "a.xml", "帽" * (1 << 21), "gb2312", "gb2312")
    with pytest.raises(DataError, match=r"a\.xml: larger than 4,194,304 bytes"):
        read_annotation(tmp_path / "a.xml")
