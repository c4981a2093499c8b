"""ViTs of transformers, torchvision and open_clip: the maps are those of the plain definition."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torchvision
import transformers
from eager_libraries import eager_maps
from library_models import CASES, hf
from small_models import CLASSES, GRID, error, random_images, small_model, spread
from timm.data.naflex_dataset import NaFlexCollator
from timm.models.naflexvit import batch_patchify
from torch import Tensor, nn

from agcam import InputError, ModelError, explain, similarity
from agcam.explainers.class_token import read_rows
from agcam.explainers.outputs import OutputReader
from agcam.explainers.recorder import record


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("family", CASES)
def test_maps_equal_the_definition(family: str) -> None:
    case = CASES[family]
    model, images = case.model(), random_images()
    explanation = explain(model, images, "all", score=case.score)
    expected, logits = eager_maps(model, images, case.read, CLASSES, GRID)
    torch.testing.assert_close(explanation.logits, logits, rtol=1e-5, atol=1e-5)
    # classes and images apart, so that a mixed-up axis shows
    assert expected.amax((2, 3)).min() > 1e-4
    assert expected.flatten(0, 1).std(0).min() > 1e-4
    assert error(explanation.heatmaps, expected) < 1e-5
    # nothing made in inference mode may stay in the model: autograd would refuse it
    case.read(model.train()(images)).sum().backward()


def of_class(family: str, **changes: Any) -> nn.Module:
    torch.manual_seed(0)
    return spread(hf(f"{family}Config", f"{family}ForImageClassification", **changes)())


def test_eager_attention_is_explained_as_sdpa_is_and_stays_eager() -> None:
    images = random_images()
    eager, sdpa = (of_class("ViT", attn_implementation=kind) for kind in ("eager", "sdpa"))
    for method in ("agcam", "rollout", "legrad", "gradcam", "input_x_gradient"):
        found, expected = (explain(model, images, "all", method=method).heatmaps for model in (eager, sdpa))
        assert torch.equal(found, expected)
    assert eager.config._attn_implementation == "eager"
    assert eager(images, output_attentions=True).attentions[0].shape == (2, 3, 17, 17)


def test_models_that_return_more_than_logits_are_explained_by_them() -> None:
    images = random_images()
    expected = explain(of_class("ViT"), images, "all")
    more = of_class("ViT", attn_implementation="eager", output_attentions=True, output_hidden_states=True)
    assert len(more(images).hidden_states) == 3
    found = explain(more, images, "all")
    assert torch.equal(found.logits, expected.logits)
    torch.testing.assert_close(found.heatmaps, expected.heatmaps)
    assert len(more(images).attentions) == 2


def test_names_of_classes_are_those_of_the_configuration() -> None:
    birds = {index: f"bird {index}" for index in range(CLASSES)}
    named = explain(of_class("ViT", id2label=birds), random_images())
    assert named.model_info.class_names == tuple(birds.values())
    assert (named.model_info.mean, named.model_info.std) == (None, None)
    assert explain(of_class("ViT"), random_images()).model_info.class_names == ()


@pytest.mark.parametrize("family", ["clip", "clip projected", "siglip", "open_clip", "vit pooler", "dinov3"])
def test_towers_without_a_classifier_say_what_to_give(family: str) -> None:
    model, images = CASES[family].model(), random_images()
    with pytest.raises(ModelError, match=r"has no classifier, and agcam explains classes.*score="):
        explain(model, images)
    assert explain(model, images, method="raw_attention").heatmaps.shape == (2, 1, *GRID)


def test_a_configuration_without_labels_has_no_classifier() -> None:
    with pytest.raises(ModelError, match="has no classifier"):
        explain(of_class("ViT", num_labels=0), random_images())


@pytest.mark.parametrize("family", ["clip projected", "siglip", "open_clip"])
def test_similarity_to_texts_is_that_of_the_embeddings(family: str) -> None:
    model, images = CASES[family].model(), random_images()
    output = model(images)
    embeddings = next(
        (getattr(output, key) for key in ("image_embeds", "pooler_output") if hasattr(output, key)), output
    )
    texts = torch.randn(3, embeddings.shape[1])
    found = explain(model, images, score=similarity(texts))
    expected = torch.nn.functional.cosine_similarity(embeddings[:, None], texts, dim=-1)
    torch.testing.assert_close(found.logits, expected.detach())
    assert found.heatmaps.shape == (2, 3, *GRID)
    assert found.heatmaps.amax((2, 3)).min() > 0


def test_rows_are_those_that_the_model_reads() -> None:
    """Raw attention tells the rows: of the class token, both tokens of a distilled DeiT, or all."""
    images = random_images()
    rows = {"vit": 1, "deit distilled": 2, "dinov2": 17, "siglip": 1, "beit class token": 1, "dinov3": 1}
    for family, count in rows.items():
        case = CASES[family]
        model = case.model()
        recording = read_rows(record(model, images, OutputReader(score=case.score)))
        scores = [call.scores() for call in recording.calls]
        assert {score.shape[2] for score in scores} == {count}, family


def test_a_dinov2_takes_images_of_any_size_and_a_vit_does_not() -> None:
    images = random_images(40, 56)
    found = explain(of_class("Dinov2", mlp_ratio=2), images, "all").heatmaps
    expected, _ = eager_maps(of_class("Dinov2", mlp_ratio=2), images, lambda output: output.logits, CLASSES, (5, 7))
    assert error(found, expected) < 1e-5
    with pytest.raises(InputError, match="images are 40×56, ViTModel takes 32×32; resize them"):
        explain(of_class("ViT"), images)
    with pytest.raises(InputError, match="images are 40×56, VisionTransformer takes 32×32; resize them"):
        explain(nn.Sequential(CASES["torchvision vit"].model()), images)


class OwnHead(nn.Module):
    """A head around a model of transformers, which is frozen and called by keyword."""

    def __init__(self, read: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.backbone = hf("ViTConfig", "ViTModel")()
        self.head = nn.Linear(48, CLASSES)
        self.read = read

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            found = self.backbone(pixel_values=images)
        return self.head(self.read(found))


@pytest.mark.parametrize("read", [lambda out: out.last_hidden_state[:, 0], lambda out: out.last_hidden_state.mean(1)])
def test_a_head_of_ones_own_is_part_of_what_is_explained(read: Callable[[Any], Tensor]) -> None:
    torch.manual_seed(0)
    model, images = spread(OwnHead(read)), random_images()
    found = explain(model, images, "all")

    def logits_of(output: Any) -> Tensor:
        return model.head(read(output))

    expected, logits = eager_maps(model.backbone, images, logits_of, CLASSES, GRID)
    torch.testing.assert_close(found.logits, logits, rtol=1e-5, atol=1e-5)
    assert error(found.heatmaps, expected) < 1e-5


def test_half_precision_is_explained_in_float32() -> None:
    for family in ("vit", "torchvision vit"):
        model, images = CASES[family].model(), random_images()
        expected = explain(model, images, "all").heatmaps
        found = explain(model.bfloat16(), images.bfloat16(), "all").heatmaps
        assert error(found, expected) < 0.1


def test_threads_explain_while_another_predicts() -> None:
    model, images = of_class("ViT", attn_implementation="eager"), [random_images(seed=seed) for seed in range(8)]
    expected = [explain(model, each, "all").heatmaps for each in images]
    logits = model(images[0]).logits
    with ThreadPoolExecutor(3) as pool:
        predicted = [pool.submit(model, images[0], output_attentions=True) for _ in range(20)]
        found = list(pool.map(lambda each: explain(model, each, "all").heatmaps, images))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    outputs = [future.result() for future in predicted]
    assert all(torch.equal(output.logits, logits) and output.attentions[0] is not None for output in outputs)


REFUSED = {
    "swin": (
        lambda: transformers.SwinForImageClassification(
            transformers.SwinConfig(image_size=32, patch_size=4, embed_dim=12, depths=[1], num_heads=[1], window_size=4)
        ),
        "SwinModel cannot be explained: it attends in windows that it shifts",
    ),
    "mae": (hf("ViTMAEConfig", "ViTMAEModel"), "ViTMAEModel cannot be explained: it shuffles its patches"),
    "siglip 2 of any size": (
        hf("Siglip2VisionConfig", "Siglip2VisionModel", num_patches=16),
        "takes patches and their shapes, not images; the checkpoints of one resolution load as SiglipVisionModel",
    ),
    "torchvision swin": (
        lambda: torchvision.models.swin_transformer.SwinTransformer([4, 4], 12, [1, 1], [1, 1], [4, 4]),
        "SwinTransformer cannot be explained: it has no blocks",
    ),
    "data2vec, eager": (
        hf("Data2VecVisionConfig", "Data2VecVisionForImageClassification", attn_implementation="eager"),
        "made no scaled_dot_product_attention call",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_models_are_refused_by_one_line(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(ModelError, match=message) as raised:
        explain(make().eval(), random_images())
    assert "\n" not in str(raised.value)


def patches_of(images: Tensor, padding: int = 0) -> dict[str, Tensor]:
    """What timm's NaFlex collator makes of images with patches of 8 pixels."""
    patches, (h, w) = batch_patchify(images, (8, 8))
    coordinates = torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij"), -1).reshape(1, -1, 2)
    samples = [
        ({"patches": each, "patch_coord": coordinates[0], "patch_valid": torch.ones(h * w, dtype=torch.bool)}, 0)
        for each in patches
    ]
    found, _ = NaFlexCollator(h * w + padding)(samples)
    return found


@pytest.mark.parametrize("name", ["naflexvit_base_patch16_gap", "naflexvit_base_patch16_map"])
def test_naflex_dictionaries_are_explained_as_the_images_that_they_are_of(name: str) -> None:
    model, images = small_model(name), random_images(24, 40)
    expected = explain(model, images, "all")
    for padding in (0, 5):
        found = explain(model, patches_of(images, padding), "all")
        torch.testing.assert_close(found.logits, model(patches_of(images, padding)).detach(), rtol=1e-4, atol=1e-4)
        assert torch.equal(found.heatmaps, expected.heatmaps)
    assert explain(model, patches_of(images, 2), method="raw_attention").heatmaps.shape == (2, 1, 3, 5)


def test_naflex_dictionaries_that_are_no_whole_images_are_refused() -> None:
    model, batch = small_model("naflexvit_base_patch16_gap"), patches_of(random_images(24, 40))
    with pytest.raises(InputError, match="patch_coord, patch_valid is missing"):
        explain(model, {"patches": batch["patches"]})
    dropped = {**batch, "patch_valid": batch["patch_valid"].clone()}
    dropped["patch_valid"][0, 3] = False
    with pytest.raises(InputError, match="14 patches that do not fill a grid of 3×5"):
        explain(model, dropped)
    one, other = patches_of(random_images(24, 40, 1)), patches_of(random_images(40, 24, 1))
    keys = ("patches", "patch_coord", "patch_valid")
    with pytest.raises(InputError, match="patch grids of 3×5, 5×3; explain images of one grid together"):
        explain(model, {key: torch.cat([one[key], other[key]]) for key in keys})
