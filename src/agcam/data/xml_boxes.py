"""Reading boxes from the XML files that PASCAL VOC introduced and ImageNet took over."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from agcam.errors import DataError, brief
from agcam.io.text import quoted
from agcam.io.xml import decode_xml

Box = tuple[float, float, float, float]
MAX_BYTES = 1 << 22
"""Larger annotations are refused."""


@dataclass(frozen=True)
class Annotation:
    """What an annotation says of one image.

    Attributes:
        objects: its `object` elements.
        size: width and height of the image that was annotated; None where they are missing, 0 or no numbers.
        filename: name of that image without its folders; empty where it is missing.
    """

    objects: list[ET.Element]
    size: tuple[float, float] | None
    filename: str


class _NoDoctype(ET.TreeBuilder):
    """Refuses document types, and with them entities: whole files, or bombs."""

    def doctype(self, name: str, pubid: str, system: str) -> None:
        raise ValueError(f"it declares a document type, {name}; annotations have none")


def read_annotation(path: Path) -> Annotation:
    """Read an annotation in any encoding that it declares.

    Raises:
        FileNotFoundError: if there is none; the caller knows what that means.
        DataError: if it is no XML, declares a document type, or is larger than `MAX_BYTES`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise DataError(f"{path}: larger than {MAX_BYTES:,} bytes; is it an annotation?")
        root = ET.fromstring(decode_xml(data), ET.XMLParser(target=_NoDoctype()))
    except FileNotFoundError:
        raise
    except (ET.ParseError, OSError, ValueError, LookupError) as error:
        raise DataError(f"{path}: not a readable XML file ({brief(error)})") from error
    width, height = (_positive(root.findtext(f"size/{side}")) for side in ("width", "height"))
    filename = re.split(r"[/\\]", (root.findtext("filename") or "").strip())[-1]
    return Annotation(list(root.iter("object")), (width, height) if width and height else None, filename)


def name_of(node: ET.Element) -> str:
    """Return the class in an `object` element."""
    return (node.findtext("name") or "").strip()


def box_of(node: ET.Element, path: Path, first: int) -> Box:
    """Read the box of an `object` element: xyxy in pixels counted from 0, right and lower edge exclusive.

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
            found = None if text is None else quoted(text)
            raise DataError(f"{path}: {side} of a {name_of(node)[:80]} is {found}, expected a number") from None
    left, top, right, bottom = corners
    return left - first, top - first, right - first + 1, bottom - first + 1


def _positive(text: str | None) -> float | None:
    """Read a side of an image; labelImg, for one, writes 0 for an unknown one."""
    try:
        side = float(text or "")
    except ValueError:
        return None
    return side if math.isfinite(side) and side > 0 else None
