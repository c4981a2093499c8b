"""Reading boxes from the XML files that PASCAL VOC introduced and ImageNet took over."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from agcam.errors import DataError, brief
from agcam.io.text import shown

Box = tuple[float, float, float, float]
MAX_BYTES = 1 << 22
"""Larger annotations are refused."""


class _NoDoctype(ET.TreeBuilder):
    """Refuses document types, and with them entities: whole files, or bombs."""

    def doctype(self, name: str, pubid: str, system: str) -> None:
        raise ValueError(f"it declares a document type, {name}; annotations have none")


def read_objects(path: Path) -> list[ET.Element]:
    """The `object` elements of an annotation.

    Raises:
        FileNotFoundError: if there is none; what that means is for the caller to say.
        DataError: if it is no XML, declares a document type, or is larger than `MAX_BYTES`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise DataError(f"{path}: larger than {MAX_BYTES:,} bytes; is it an annotation?")
        return list(ET.fromstring(data, ET.XMLParser(target=_NoDoctype())).iter("object"))
    except FileNotFoundError:
        raise
    except (ET.ParseError, OSError, ValueError, LookupError) as error:
        raise DataError(f"{path}: not a readable XML file ({brief(error)})") from error


def name_of(node: ET.Element) -> str:
    """The class that an `object` element names."""
    return (node.findtext("name") or "").strip()


def box_of(node: ET.Element, path: Path, first: int) -> Box:
    """The box of an `object` element: xyxy in pixels counted from 0, right and lower edge exclusive.

    Args:
        node: the element; its box includes both ends, as all such files have it.
        path: the file, for messages.
        first: number of the image's first pixel in the file, 1 in VOC, 0 in ImageNet.

    Raises:
        DataError: if a coordinate is missing or no number.
    """
    corners = []
    for side in ("xmin", "ymin", "xmax", "ymax"):
        text = node.findtext(f"bndbox/{side}")
        try:
            corners.append(float(text or ""))
        except ValueError:
            found = None if text is None else shown(text)
            raise DataError(f"{path}: {side} of a {name_of(node)[:80]} is {found}, expected a number") from None
    left, top, right, bottom = corners
    return left - first, top - first, right - first + 1, bottom - first + 1
