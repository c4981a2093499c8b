"""The model card of an exported classifier: what it was trained on, its figures, how to use it; the hub's README.md."""

from __future__ import annotations

from pathlib import Path

from agcam.errors import DataError
from agcam.io.atomic import write_whole
from agcam.io.text import read_text
from agcam.training.classifier import ViTClassifier

CARD, PICTURE = "README.md", "heatmaps.png"
_MOST_NAMES = 50


def write_card(model: ViTClassifier, folder: Path, title: str, data: str = "", benchmark: Path | None = None) -> None:
    """Write the card into the folder of an exported model; one that is there already is kept, as its author left it.

    Args:
        model: the classifier.
        folder: what `export` wrote.
        title: the model's name.
        data: what it was trained on.
        benchmark: what `agcam benchmark` wrote, whose tables, with their controls, and heatmaps are shown.

    Raises:
        DataError: if `benchmark` holds no results.
        OutputError: if a file cannot be written.
    """
    if (folder / CARD).exists():
        return
    figures = "No benchmark was given: `agcam export --benchmark DIR` shows its figures here, beside their controls."
    if benchmark is not None:
        try:
            figures = "\n".join(_deeper(line) for line in read_text(benchmark / "results.md").splitlines())
        except FileNotFoundError:
            raise DataError(f"{benchmark}: no results.md in it; expected what `agcam benchmark` wrote") from None
        if (picture := benchmark / "figures" / "grid.png").is_file():
            write_whole(folder / PICTURE, picture.read_bytes())
            figures = f"![Where the model looks, by method]({PICTURE})\n\n{figures}"
    names = [name.translate(_ESCAPED) for name in model.class_names]
    more = f", … ({len(names)} classes)" if len(names) > _MOST_NAMES else ""
    license_of_backbone = model.backbone.pretrained_cfg.get("license")
    started = f" timm names `{license_of_backbone}` for the backbone's own weights." if license_of_backbone else ""
    write_whole(
        folder / CARD,
        f"""---
library_name: timm
pipeline_tag: image-classification
tags:
- image-classification
- timm
- transformers
- agcam
---
# {title}

`{model.hparams["backbone"]}` of timm, fine-tuned with agcam to tell {len(names)} classes apart\
{", of which an image may show several" if model.multilabel else ""}.

## License

TO BE FILLED IN by whoever publishes this model, here and as `license:` at the top.{started}

## Data

{data or "TO BE FILLED IN: what it was trained on."}

Classes: {", ".join(names[:_MOST_NAMES])}{more}

## Figures

{figures}

## Use

    model = timm.create_model("hf-hub:{title}", pretrained=True)
    transformers.pipeline("image-classification", model="{title}")
    agcam images --checkpoint hf-hub:{title} --input PHOTOS --output explained
""".encode(),
    )


_ESCAPED = str.maketrans({"\n": " ", "\r": " "} | {character: f"\\{character}" for character in "\\`*_|<>[]#"})


def _deeper(line: str) -> str:
    return f"##{line}" if line.startswith("#") else line
