"""How images must look when they enter a model."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, Self

from agcam.errors import InputError

Resize = Literal["squash", "center_crop"]
Interpolation = Literal["bicubic", "bilinear", "nearest"]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class InputConfig:
    """Size, normalization and resizing of the images that a model expects.

    Attributes:
        size: side of the square image in pixels.
        mean: per channel, of images scaled to [0, 1].
        std: per channel.
        interpolation: for enlarging; shrinking always averages over areas.
        crop_pct: share of the shorter side that a center crop keeps.
        resize: "squash" the whole image to a square, or "center_crop" at the image's own proportions.
    """

    size: int = 224
    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)
    interpolation: Interpolation = "bicubic"
    crop_pct: float = 0.875
    resize: Resize = "squash"

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for YAML and checkpoints."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Undo `to_dict`.

        Raises:
            InputError: for a name that is none of its own.
        """
        if unknown := sorted(set(values) - {field.name for field in fields(cls)}):
            raise InputError(f"model.input has no {', '.join(map(str, unknown))}; expected size, mean, std, …")
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)


def from_timm(pretrained_cfg: dict[str, Any], size: int | None = None) -> InputConfig:
    """Take the input of a timm model from its pretrained configuration; `size` replaces the image size if given."""
    import timm.data

    found = timm.data.resolve_data_config(pretrained_cfg=pretrained_cfg)
    return InputConfig(
        size=size or int(found["input_size"][-1]),
        mean=tuple(found["mean"]),
        std=tuple(found["std"]),
        interpolation=found["interpolation"] if found["interpolation"] in ("bicubic", "bilinear") else "bicubic",
        crop_pct=float(found["crop_pct"]),
    )
