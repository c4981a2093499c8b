"""What is explained is what the user's whole model computes: steps before its ViT and its own heads after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from eager import Attention, eager_agcam
from plain import matrices_and_gradients, on_grid
from small_models import CLASSES, GRID, error, random_images, small_model
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from whole_models import (
    WIDTH,
    Calls,
    Normalize,
    OwnHead,
    class_and_mean,
    class_row,
    deep_head,
    features,
    frozen,
    inferred,
    linear,
    patches_only,
    sign_flipped,
    switched_off,
)

from agcam import explain, methods
from agcam.errors import InputError, ModelError
from agcam.explainers.explain import explain_recording
from agcam.explainers.recorder import Tape

OPTIONS: dict[str, dict[str, Any]] = {"integrated_gradients": {"steps": 4}}
CLASS_TOKEN_METHODS = ["attention_gradcam", "generic_attention", "legrad", "lrp", "rollout"]

WHOLE: dict[str, Callable[[], nn.Module]] = {
    "linear head": lambda: OwnHead(features(), linear()),
    "deep head": lambda: OwnHead(features(), deep_head()),
    "head on the logits of a classifier": lambda: OwnHead(small_model(), linear(CLASSES, CLASSES)),
    "normalized before": lambda: nn.Sequential(Normalize(), small_model()),
    "sign flipped before and after": lambda: Calls(sign_flipped, features(), linear()),
    "class token and mean of patches": lambda: Calls(class_and_mean, features(), linear(2 * WIDTH)),
    "patches alone": lambda: Calls(patches_only, features(), deep_head()),
    "class token of all": lambda: Calls(class_row, features(), deep_head()),
    "class token of a ViT that pools nothing": lambda: Calls(
        lambda vit, head, images: head(vit(images)[:, 0]), features(global_pool=""), deep_head()
    ),
    "patches of a ViT that pools nothing": lambda: Calls(
        lambda vit, head, images: head(vit(images)[:, 1:].amax(1)), features(global_pool=""), deep_head()
    ),
    "patches beneath an attention pooling": lambda: Calls(
        lambda vit, head, images: head(vit.forward_features(images).mean(1)),
        small_model("vit_base_patch16_siglip_224", num_classes=0),
        deep_head(),
    ),
    "averaging ViT": lambda: OwnHead(small_model("vit_base_patch16_gap_224", num_classes=0), deep_head()),
    "class token of a rotary ViT": lambda: Calls(
        class_row, small_model("vit_small_patch16_dinov3", num_classes=0), deep_head()
    ),
    "attention pooling": lambda: OwnHead(small_model("vit_base_patch16_siglip_224", num_classes=0), deep_head()),
    "frozen under no_grad": lambda: Calls(frozen, features(), deep_head()),
    "half of the classes": lambda: Calls(lambda vit, head, images: head(vit(images))[:, ::2], features(), deep_head()),
}


def reference(model: nn.Module) -> nn.Module:
    """The model whose plain autograd is right: the one under no_grad computes what this one does."""
    if isinstance(model, Calls) and model.forward_of is frozen:
        return OwnHead(model.trunk["vit"], model.classify)
    return model


@pytest.mark.parametrize("kind", WHOLE)
def test_agcam_equals_its_definition_on_the_whole_model(kind: str) -> None:
    model, images = WHOLE[kind]().eval(), random_images()
    with torch.no_grad():
        logits = model(images)
    expected = eager_agcam(reference(model), images, list(range(logits.shape[1])), GRID)
    assert expected.amax((2, 3)).min() > 1e-3
    found = explain(model, images, "all")
    torch.testing.assert_close(found.logits, logits, rtol=1e-5, atol=1e-5)
    assert error(found.heatmaps, expected) < 1e-5
    with Tape(model) as tape, torch.no_grad():
        model(images)
    assert error(explain_recording(tape.recording, "all").heatmaps, found.heatmaps) < 1e-5


# of the pooling's rows see test_ablations
@pytest.mark.parametrize("kind", [kind for kind in WHOLE if kind != "attention pooling"])
def test_the_full_gradient_equals_its_definition_on_the_whole_model(kind: str) -> None:
    model, images = WHOLE[kind]().eval(), random_images()
    rows = slice(0, 1) if "class token of" in kind or kind in CLASS_ROW else slice(None)
    count = model(images).shape[1]
    expected = eager_agcam(reference(model), images, list(range(count)), GRID, full_gradient_rows=rows)
    assert error(explain(model, images, "all", gradient="full").heatmaps, expected) < 1e-5


CLASS_ROW = {
    "linear head",
    "deep head",
    "head on the logits of a classifier",
    "normalized before",
    "sign flipped before and after",
    "frozen under no_grad",
    "half of the classes",
}


def by_autograd(model: nn.Module, images: Tensor, method: str) -> Tensor:
    """A method's maps by plain autograd through all of the model, (B, C, h, w)."""
    with torch.no_grad():
        count = model(images).shape[1]
    maps = []
    for chosen in range(count):
        matrices, gradients = matrices_and_gradients(model, images, chosen)
        prefix = matrices[0].shape[-1] - 16
        if method == "generic_attention":
            relevance = torch.eye(16 + prefix).to(images).expand(2, -1, -1)
            for matrix, gradient in zip(matrices, gradients, strict=True):
                relevance = relevance + (matrix * gradient).clamp(min=0).mean(1) @ relevance
            maps.append(on_grid(relevance[:, 0], prefix, GRID))
        else:
            rows, by_rows = matrices[-1][:, :, 0, prefix:], gradients[-1][:, :, 0, prefix:]
            maps.append(on_grid((by_rows.mean(2, keepdim=True) * rows).mean(1).clamp(min=0), 0, GRID))
    return torch.cat(maps, 1)


@pytest.mark.parametrize("method", ["generic_attention", "attention_gradcam"])
@pytest.mark.parametrize("kind", [*sorted(CLASS_ROW), "class token of all", "class token of a ViT that pools nothing"])
def test_methods_of_the_class_token_equal_autograd_through_the_head(kind: str, method: str) -> None:
    model, images = WHOLE[kind]().eval().double(), random_images().double()
    expected = by_autograd(reference(model), images, method)
    difference = explain(model, images, "all", method=method).heatmaps - expected
    assert difference.abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("kind", WHOLE)
def test_gradcam_and_pixel_gradients_equal_autograd_through_the_whole_model(kind: str) -> None:
    model, images = WHOLE[kind]().eval().double(), random_images().double()
    plain, kept = reference(model), []
    vit = next(module for module in plain.modules() if hasattr(module, "patch_embed"))
    handle = vit.blocks[-1].norm1.register_forward_hook(lambda module, args, output: kept.append(output))
    pixels = images.clone().requires_grad_()
    logits = plain(pixels)
    handle.remove()
    cams, products = [], []
    for chosen in range(logits.shape[1]):
        by_tokens, by_pixels = torch.autograd.grad(logits[:, chosen].sum(), [kept[0], pixels], retain_graph=True)
        weights = by_tokens[:, -16:].mean(1, keepdim=True)
        cams.append((kept[0][:, -16:] * weights).sum(2).clamp(min=0).detach().reshape(2, *GRID))
        products.append((images * by_pixels).unfold(2, 8, 8).unfold(3, 8, 8).sum((1, 4, 5)))
    for method, expected in (("gradcam", cams), ("input_x_gradient", products)):
        difference = explain(model, images, "all", method=method).heatmaps - torch.stack(expected, 1)
        assert difference.abs().max() < 1e-5 * torch.stack(expected).abs().max()


@pytest.mark.parametrize("method", methods())
def test_a_classifier_taken_apart_is_explained_as_before(method: str) -> None:
    """The same weights as one model, and as a ViT without its head and the head beside it."""
    whole, images = small_model().double(), random_images().double()
    options = OPTIONS.get(method, {})
    expected = explain(whole, images, "all", method=method, **options)
    head, whole.head = whole.head, nn.Identity()
    for model in (OwnHead(whole, head), nn.Sequential(nn.Identity(), whole, head), Calls(class_row, whole, head)):
        found = explain(model, images, "all", method=method, **options)
        torch.testing.assert_close(found.logits, expected.logits)
        torch.testing.assert_close(found.heatmaps, expected.heatmaps, rtol=1e-5, atol=1e-7)


def test_legrad_reads_each_block_by_the_whole_head() -> None:
    model, images = OwnHead(features(), deep_head()).eval().double(), random_images().double()
    vit, maps = model.backbone, []
    for chosen in range(CLASSES):
        layers = []
        for number in range(2):
            cut, tokens = Attention(detach=False), vit.norm_pre(vit._pos_embed(vit.patch_embed(images)))
            for block in vit.blocks[:number]:
                tokens = block(tokens)
            with cut:
                tokens = vit.blocks[number](tokens)
            logit = model.head(vit.norm(tokens.mean(1)))[:, chosen].sum()
            (gradient,) = torch.autograd.grad(logit, cut.matrices)
            layers.append(gradient.clamp(min=0).mean(1).mean(1))
        maps.append(on_grid(sum(layers) / 2, 1, GRID))
    assert error(explain(model, images, "all", method="legrad").heatmaps.double(), torch.cat(maps, 1)) < 1e-5


@pytest.mark.parametrize("method", CLASS_TOKEN_METHODS)
@pytest.mark.parametrize("kind", ["class token and mean of patches", "patches alone"])
def test_methods_of_the_class_token_refuse_heads_that_read_patches(kind: str, method: str) -> None:
    with pytest.raises(ModelError, match=f"{method} follows one class token .* reads other tokens, too"):
        explain(WHOLE[kind](), random_images(), method=method)


def test_raw_attention_sums_the_rows_that_the_whole_model_reads() -> None:
    images = random_images()
    of_class = explain(features(), images, method="raw_attention").heatmaps
    found = explain(WHOLE["class token of all"](), images, method="raw_attention").heatmaps
    torch.testing.assert_close(found, of_class)
    with Attention(detach=True) as attention:
        features()(images)
    of_all = on_grid(sum(matrix.detach().sum((1, 2)) for matrix in attention.matrices), 1, GRID)
    found = explain(WHOLE["class token and mean of patches"](), images, method="raw_attention").heatmaps
    torch.testing.assert_close(found, of_all)


def beside_its_head(vit: nn.Module, head: nn.Module, images: Tensor) -> Tensor:
    found = vit(images)
    return head(found) + found[:, :CLASSES]


def test_lrp_refuses_heads_without_rules() -> None:
    with pytest.raises(ModelError, match="linear"):
        explain(OwnHead(features(), deep_head()), random_images(), method="lrp")
    twice = Calls(lambda vit, head, images: head(vit(images)) + vit.head_drop(vit(images)), features(), linear())
    with pytest.raises(ModelError, match="ran twice in one forward"):
        explain(twice, random_images(), method="lrp")
    beside = Calls(beside_its_head, features(), linear())
    with pytest.raises(ModelError, match="read by more than a linear head"):
        explain(beside, random_images(), method="lrp")


def test_inference_mode_around_the_vit_is_explained_or_named() -> None:
    model, images = Calls(inferred, features(), deep_head()), random_images()
    plain = OwnHead(model.trunk["vit"], model.classify)
    expected = eager_agcam(plain, images, list(range(CLASSES)), GRID)
    assert error(explain(model, images, "all").heatmaps, expected) < 1e-5
    with pytest.raises(ModelError, match=r"torch\.inference_mode.* torch\.no_grad"):
        explain(model, images, method="generic_attention")


@pytest.mark.parametrize("method", ["agcam", "gradcam", "generic_attention", "legrad", "input_x_gradient"])
def test_an_output_without_gradient_is_named(method: str) -> None:
    with pytest.raises(ModelError, match=r"torch\.no_grad, torch\.inference_mode, \.detach\(\)"):
        explain(Calls(switched_off, features(), deep_head()), random_images(), method=method)


@pytest.mark.parametrize("method", [name for name in methods() if name not in ("center", "random")])
def test_forward_features_under_no_grad_is_explained_as_without(method: str) -> None:
    images, options = random_images(), OPTIONS.get(method, {})
    expected = explain(small_model(), images, "all", method=method, **options).heatmaps
    model = small_model()
    model.forward_features = torch.no_grad()(model.forward_features)
    torch.testing.assert_close(explain(model, images, "all", method=method, **options).heatmaps, expected)


CLASS_AGNOSTIC = ["raw_attention", "rollout", "center", "random"]


@pytest.mark.parametrize("method", methods())
@pytest.mark.parametrize(
    "make", [features, lambda: nn.Sequential(Normalize(), features()), lambda: features(global_pool="")]
)
def test_a_model_without_classifier(make: Callable[[], nn.Module], method: str) -> None:
    model, images = make(), random_images()
    if method in CLASS_AGNOSTIC:
        found = explain(model, images, method=method)
        assert found.heatmaps.shape == (2, 1, *GRID)
        assert found.logits.shape == (2, 0)
        assert found.plot(images)
        assert "heatmaps" in found._repr_html_()
    else:
        with pytest.raises(ModelError, match=f"has no classifier, and {method} .*head.*score="):
            explain(model, images, method=method, **OPTIONS.get(method, {}))
    with pytest.raises((ModelError, InputError), match="no classifier"):
        explain(model, images, 241, method=method, **OPTIONS.get(method, {}))


def test_several_vits_are_asked_for() -> None:
    class Towers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.teacher, self.encoder = small_model(seed=5), nn.ModuleDict({"trunk": small_model()})

        def forward(self, images: Tensor) -> Tensor:
            return self.encoder["trunk"](images) + self.teacher(images)

    model, images = Towers().eval(), random_images()
    for method in methods():
        with pytest.raises(InputError, match=r"several ViTs, 'teacher', 'encoder\.trunk'; say which .* vit='teacher'"):
            explain(model, images, method=method, **OPTIONS.get(method, {}))
    with pytest.raises(InputError, match=r"no module 'trunk'; its ViTs are 'teacher', 'encoder\.trunk'"):
        explain(model, images, vit="trunk")
    found = explain(model, images, 1, vit="encoder.trunk")
    torch.testing.assert_close(found.logits, model(images).detach())
    torch.testing.assert_close(found.heatmaps, explain(model.encoder["trunk"], images, 1).heatmaps)
    for method in methods():
        if method != "lrp":
            explain(model, images, 1, method=method, vit="encoder.trunk", **OPTIONS.get(method, {}))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("method", ["agcam", "generic_attention", "gradcam"])
def test_checkpointing_of_the_models_own_is_named(method: str, reentrant: bool) -> None:
    def checkpointed(vit: nn.Module, head: nn.Module, images: Tensor) -> Tensor:
        return head(checkpoint(vit, images.requires_grad_(reentrant), use_reentrant=reentrant))

    with pytest.raises(ModelError, match=r"torch\.utils\.checkpoint|no gradient passes"):
        explain(Calls(checkpointed, features(), deep_head()), random_images(), method=method)


@pytest.mark.parametrize("where", ["all", "mlp"])
def test_quantized_weights_are_named(where: str) -> None:
    model, images = small_model(), random_images()
    chosen = {nn.Linear} if where == "all" else {f"blocks.{number}.mlp.fc1" for number in range(2)}
    quantized = torch.ao.quantization.quantize_dynamic(model, chosen, dtype=torch.qint8)
    for method in methods():
        if method in CLASS_AGNOSTIC:
            assert explain(quantized, images, 1, method=method).heatmaps.isfinite().all()
            continue
        with pytest.raises(ModelError, match=r"is a quantized Linear|has a head of type Linear|has a Linear as"):
            explain(quantized, images, 1, method=method, **OPTIONS.get(method, {}))


class Prompted(nn.Module):
    """Prompt tuning: further tokens between the class token and the patches."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts = nn.Parameter(torch.randn(1, 10, WIDTH, generator=torch.Generator().manual_seed(8)))

    def forward(self, tokens: Tensor) -> Tensor:
        prompts = self.prompts.expand(len(tokens), -1, -1)
        return torch.cat([tokens[:, :1], prompts, tokens[:, 1:]], 1)


def test_prompt_tuning_is_told_its_remedy() -> None:
    model, images = small_model(), random_images()
    model.norm_pre = Prompted()
    for method in ("agcam", "raw_attention", "rollout", "generic_attention", "legrad", "lrp", "attention_gradcam"):
        with pytest.raises(ModelError, match=r"27 columns, not 1 and .* 4×4; if tokens .* num_prefix_tokens = 11"):
            explain(model, images, 1, method=method)
    model.num_prefix_tokens = 11
    expected = eager_agcam(model, images, list(range(CLASSES)), GRID)
    assert error(explain(model, images, "all").heatmaps, expected) < 1e-5


def test_hooks_of_others_are_named_where_a_replay_differs() -> None:
    model, images = small_model(), random_images()
    model.blocks[1].register_forward_hook(lambda module, args, output: output + output.mean(1, keepdim=True))
    with pytest.raises(ModelError, match=r"logits differ .*hooks of others are on blocks\.1.*remove them"):
        explain(model, images)


def test_exported_models_are_told_what_to_explain() -> None:
    exported = torch.export.export(small_model(), (random_images(),)).module()
    with pytest.raises(ModelError, match="exported, traced or scripted; explain the module that it was made of"):
        explain(exported, random_images())
    traced = torch.jit.trace(small_model(), random_images())
    with pytest.raises(ModelError, match="exported, traced or scripted"):
        explain(traced, random_images())


def test_images_of_the_wrong_size_are_named_inside_a_model_too() -> None:
    for method in methods():
        with pytest.raises(InputError, match="40×40, vit_tiny_patch16_224 takes 32×32"):
            explain(OwnHead(features(), linear()), random_images(40, 40), method=method, **OPTIONS.get(method, {}))


def test_a_model_may_resize_its_images() -> None:
    model = Calls(lambda vit, head, x: head(vit(x[:, :, ::2, ::2])), features(), deep_head())
    images = random_images(64, 64)
    expected = explain(OwnHead(model.trunk["vit"], model.classify), images[:, :, ::2, ::2], "all").heatmaps
    torch.testing.assert_close(explain(model, images, "all").heatmaps, expected)


def test_one_forward_and_replays_of_one_row_are_all_that_a_head_costs() -> None:
    model, tokens = OwnHead(features(), deep_head()), []
    model.backbone.blocks[0].register_forward_pre_hook(lambda module, args: tokens.append(args[0].shape[1]))
    explain(model, random_images(), "all")
    assert tokens == [17, 1, 1]
