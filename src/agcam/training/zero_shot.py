"""CLIP and SigLIP as classifiers whose classes are texts: of open_clip and transformers, which are optional extras."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from agcam.data.input_config import InputConfig
from agcam.errors import InputError, ModelError, brief
from agcam.training.loaded import LoadedModel

_HUGGING_FACE = "hf:"


class ZeroShotClassifier(nn.Module):
    """Scores images by the cosine similarity of their embeddings to those of texts.

    Args:
        encode: the model that makes an embedding (B, D) of images.
        texts: (T, D), the embeddings of T texts.
        scale: what the similarity is multiplied by, as in training.
        bias: what is added to it.
    """

    def __init__(self, encode: nn.Module, texts: Tensor, scale: float, bias: float = 0.0) -> None:
        super().__init__()
        self.encode = encode
        self.scale = scale
        self.bias = bias
        self.register_buffer("texts", F.normalize(texts.detach(), dim=-1))

    def forward(self, images: Tensor) -> Tensor:
        """Make logits (B, T)."""
        texts = self.get_buffer("texts")
        return self.scale * F.normalize(self.encode(images), dim=-1) @ texts.T + self.bias


class _ImageFeatures(nn.Module):
    """The image side of a CLIP of transformers, as a module of images alone."""

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, images: Tensor) -> Tensor:
        return _embedding(self.clip.get_image_features(pixel_values=images))


def load_clip(name: str, texts: Sequence[str]) -> LoadedModel:
    """Load a CLIP or SigLIP, in evaluation mode on the CPU, as a classifier of `texts`.

    Args:
        name: "MODEL/WEIGHTS" of open_clip, such as "ViT-B-32/laion2b_s34b_b79k", or what open_clip calls "hf-hub:…" and
            "local-dir:…"; "hf:NAME" of transformers, such as "hf:openai/clip-vit-base-patch32", or "hf:FOLDER".
        texts: what the classes are called.

    Raises:
        InputError: without texts, or where the library is not installed.
        ModelError: if there is no such model, or its weights cannot be loaded.
    """
    if not texts or not all(text.strip() for text in texts):
        raise InputError("--clip needs --text: what to look for, such as --text 'a kingfisher' 'a heron'")
    load = _load_transformers if name.startswith(_HUGGING_FACE) else _load_open_clip
    try:
        with torch.no_grad():
            return load(name.removeprefix(_HUGGING_FACE), list(texts))
    except (InputError, ModelError):
        raise
    except Exception as error:  # whatever a library raises for what it cannot load
        raise ModelError(f"{name} cannot be loaded ({type(error).__name__}: {brief(error)})") from error


def _load_open_clip(name: str, texts: list[str]) -> LoadedModel:
    open_clip = _import("open_clip", "open-clip")
    model_name, _, weights = name.partition("/") if ":" not in name else (name, "", "")
    if not weights and ":" not in name:
        known = open_clip.list_pretrained_tags_by_model(model_name)
        found = f"; its weights are {', '.join(known)}" if known else ""
        raise InputError(f"--clip {name} names no weights: expected MODEL/WEIGHTS{found}")
    clip = open_clip.create_model(model_name, pretrained=weights or None, require_pretrained=True).eval()
    tokens = open_clip.get_tokenizer(model_name)(texts)
    config = open_clip.get_model_preprocess_cfg(clip)
    size, mode = config["size"], config.get("resize_mode", "shortest")
    if mode not in ("shortest", "squash"):
        raise ModelError(f"{name} wants its images resized by {mode!r}; agcam knows 'shortest' and 'squash'")
    return _classifier(
        clip.visual,
        clip.encode_text(tokens),
        clip,
        texts,
        InputConfig(
            size if isinstance(size, int) else size[-1],
            tuple(config["mean"]),
            tuple(config["std"]),
            "bilinear" if config.get("interpolation") == "bilinear" else "bicubic",
            crop_pct=1.0,
            resize="squash" if mode == "squash" else "center_crop",
        ),
    )


def _load_transformers(name: str, texts: list[str]) -> LoadedModel:
    transformers = _import("transformers", "transformers")
    clip = transformers.AutoModel.from_pretrained(name).eval()
    if not hasattr(clip, "get_text_features"):
        raise ModelError(f"{name} is a {type(clip).__name__}, which has no tower for texts; expected a CLIP or SigLIP")
    tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    if hasattr(clip, "logit_bias"):  # SigLIP was trained on texts of one length, whose padding it reads
        tokens = tokenizer(texts, return_tensors="pt", truncation=True, padding="max_length")
        tokens = {"input_ids": tokens["input_ids"]}
    else:
        tokens = tokenizer(texts, return_tensors="pt", truncation=True, padding=True)
    processor = transformers.AutoImageProcessor.from_pretrained(name)
    size, crops = int(clip.config.vision_config.image_size), bool(getattr(processor, "do_center_crop", False))
    kept = processor.crop_size.height / processor.size.shortest_edge if crops else 1.0
    config = InputConfig(
        size,
        tuple(processor.image_mean),
        tuple(processor.image_std),
        "bilinear" if int(processor.resample) == Image.Resampling.BILINEAR else "bicubic",
        crop_pct=kept,
        resize="center_crop" if crops else "squash",
    )
    embeddings = _embedding(clip.get_text_features(**tokens))
    return _classifier(_ImageFeatures(clip), embeddings, clip, texts, config)


def _classifier(encode: nn.Module, embeddings: Tensor, clip: Any, texts: list[str], config: InputConfig) -> LoadedModel:
    """Make the classifier; a model with a bias (SigLIP) was trained to say yes or no to each text by itself."""
    bias = getattr(clip, "logit_bias", None)
    model = ZeroShotClassifier(encode, embeddings, float(clip.logit_scale.exp()), 0.0 if bias is None else float(bias))
    return LoadedModel(model.eval(), texts, config, multilabel=bias is not None)


def _embedding(found: Any) -> Tensor:
    embedding: Tensor = found if isinstance(found, Tensor) else found.pooler_output
    return embedding


def _import(module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise InputError(f"this model needs {module}, which is not installed: pip install 'agcam[{extra}]'") from None
