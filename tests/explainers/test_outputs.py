"""One of several outputs, one number, a score: what is explained is chosen by the user."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import pytest
import torch
from eager import eager_agcam
from small_models import CLASSES, GRID, error, random_images, small_model
from test_whole_model import CLASS_AGNOSTIC, OPTIONS
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from whole_models import WIDTH, Calls, OwnHead, deep_head, features, linear

from agcam import explain, methods, similarity
from agcam.errors import AgcamError, InputError, ModelError

Tasks = namedtuple("Tasks", ["species", "age"])


class Heads(nn.Module):
    def __init__(self, kind: type) -> None:
        super().__init__()
        self.vit, self.species, self.age = features(), linear(), linear(WIDTH, 2, seed=7)
        self.kind = kind

    def forward(self, images: Tensor) -> Any:
        found = self.vit(images)
        species, age = self.species(found), self.age(found)
        if self.kind is dict:
            return {"species": species, "age": age}
        return self.kind(species, age) if self.kind is Tasks else (species, age)


@pytest.mark.parametrize("method", methods())
@pytest.mark.parametrize(("kind", "first", "second"), [(dict, "species", "age"), (tuple, 0, 1), (Tasks, "species", 1)])
def test_one_of_several_outputs(kind: type, first: str | int, second: str | int, method: str) -> None:
    model, images, options = Heads(kind).eval(), random_images(), OPTIONS.get(method, {})
    for output, head in ((first, model.species), (second, model.age)):
        expected = explain(OwnHead(model.vit, head), images, 1, method=method, **options)
        found = explain(model, images, 1, method=method, output=output, **options)
        assert torch.equal(found.logits, expected.logits)
        torch.testing.assert_close(found.heatmaps, expected.heatmaps)
    names = {dict: "dict of 'species' (2, 5), 'age' (2, 2)", tuple: "tuple of 0 (2, 5), 1 (2, 2)"}.get(
        kind, "Tasks of 0"
    )
    with pytest.raises(ModelError) as caught:
        explain(model, images, 1, method=method, **options)
    assert names in str(caught.value)
    assert "choose one by output, such as output=" in str(caught.value)
    with pytest.raises(InputError, match=r"has no output 'sex'; it returned .*\(2, 5\)"):
        explain(model, images, 1, method=method, output="sex", **options)


def test_an_only_tensor_in_a_container_is_the_output() -> None:
    model, images = small_model(), random_images()
    expected = explain(model, images, 1)
    wrapped = Calls(lambda vit, head, x: {"logits": vit(x), "loss": None}, model, nn.Identity())
    assert torch.equal(explain(wrapped, images, 1).heatmaps, expected.heatmaps)


SCORES = {
    "difference": lambda out: out[:, 3] - out[:, 1],
    "downwards": lambda out: -out[:, 0],
    "two": lambda out: torch.stack([out[:, 2], out.logsumexp(1)], 1),
    "probability": lambda out: out.softmax(1)[:, 2:4],
    "similarity": similarity(torch.randn(3, CLASSES, generator=torch.Generator().manual_seed(2))),
}


class Scored(nn.Module):
    """A model whose logits are the scores: what plain methods explain is what a score should be explained as."""

    def __init__(self, model: nn.Module, score: Any) -> None:
        super().__init__()
        self.model, self.score = model, score

    def forward(self, images: Tensor) -> Tensor:
        found = self.score(self.model(images))
        return found if found.dim() == 2 else found[:, None]


# contrast_cam explains the lead of a class over the others, and a score by itself: see its own tests
NOT_AS_LOGITS = ("center", "random", "contrast_cam")


@pytest.mark.parametrize("method", [name for name in methods() if name not in NOT_AS_LOGITS])
@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("own_head", [False, True])
def test_scores_are_explained_as_logits_are(own_head: bool, name: str, method: str) -> None:
    model = OwnHead(features(), linear()) if own_head else small_model()
    images, score, options = random_images(), SCORES[name], OPTIONS.get(method, {})
    found = explain(model, images, method=method, score=score, **options)
    expected = explain(Scored(model, score), images, "all", method=method, **options)
    torch.testing.assert_close(found.logits, Scored(model, score)(images).detach())
    assert found.targets.tolist() == [list(range(found.logits.shape[1]))] * 2
    torch.testing.assert_close(found.heatmaps, expected.heatmaps, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SCORES)
def test_scores_equal_the_definition(name: str) -> None:
    model, images = OwnHead(features(), deep_head()).eval(), random_images()
    found = explain(model, images, score=SCORES[name])
    expected = eager_agcam(Scored(model, SCORES[name]), images, list(range(found.logits.shape[1])), GRID)
    assert error(found.heatmaps, expected) < 1e-5


def test_an_image_tower_is_explained_by_its_similarity_to_texts() -> None:
    model, images, texts = (
        features(),
        random_images(),
        torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(6)),
    )
    found = explain(model, images, score=similarity(texts))
    expected = cosine_similarity(model(images)[:, None], texts[None], dim=2).detach()
    torch.testing.assert_close(found.logits, expected)
    assert error(found.heatmaps, eager_agcam(Scored(model, similarity(texts)), images, [0, 1, 2, 3], GRID)) < 1e-5
    one = explain(model, images, 2, score=similarity(texts))
    assert error(one.heatmaps, found.heatmaps[:, 2:3]) < 1e-5
    assert explain(model, images, score=similarity(texts[0])).logits.shape == (2, 1)
    with pytest.raises(InputError, match=r"embeddings of width 7 needs an output \(B, 7\), found a tensor \(2, 48\)"):
        explain(model, images, score=similarity(torch.randn(3, 7)))
    with pytest.raises(InputError, match=r"similarity needs embeddings \(T, D\)"):
        similarity("a kingfisher")


def test_scores_of_tokens_read_every_row() -> None:
    model, images = features(global_pool=""), random_images()

    def score(tokens: Tensor) -> Tensor:
        return tokens[:, 1:].mean(1)[:, :3]

    expected = eager_agcam(Scored(model, score), images, [0, 1, 2], GRID)
    assert error(explain(model, images, score=score).heatmaps, expected) < 1e-5


@pytest.mark.parametrize("method", methods())
def test_one_number_is_explained_as_it_is(method: str) -> None:
    images, options = random_images(), OPTIONS.get(method, {})
    flat = Calls(lambda vit, head, x: head(vit(x)).squeeze(1), features(), linear(WIDTH, 1))
    column = OwnHead(flat.trunk["vit"], flat.classify)
    for model in (flat, column):
        found = explain(model, images, method=method, **options)
        torch.testing.assert_close(found.logits[:, 0], flat(images).detach())
        assert found.targets.tolist() == [[0], [0]]
    assert torch.equal(explain(flat, images, method=method, **options).heatmaps, found.heatmaps)
    html = explain(flat, images, method=method, **options)._repr_html_()
    assert f"output {float(found.logits[0, 0]):.3g}" in html
    assert "100%" not in html


def test_downwards_is_the_explanation_of_the_negative_value() -> None:
    model, images = OwnHead(features(), linear(WIDTH, 1)), random_images()
    up = explain(model, images).heatmaps
    down = explain(model, images, score=lambda out: -out[:, 0]).heatmaps
    assert error(down, eager_agcam(Scored(model, lambda out: -out), images, [0], GRID)) < 1e-5
    assert (up - down).abs().max() > 1e-3


BAD: dict[str, tuple[Any, str]] = {
    "no tensor": (lambda out: 3.0, r"float tensor \(2,\) or \(2, T\), found float"),
    "batch": (lambda out: out[:1], r"one row an image, .* found \(1, 5\)"),
    "rank": (lambda out: out[:, None, None], r"\(2, T\), found a tensor \(2, 1, 1, 5\)"),
    "integers": (lambda out: out.argmax(1), r"float tensor"),
    "no gradient": (lambda out: out.argmax(1).float(), r"no gradient passes .* argmax"),
}


@pytest.mark.parametrize("method", [name for name in methods() if name not in CLASS_AGNOSTIC])
@pytest.mark.parametrize("case", BAD)
def test_scores_that_are_none_are_named(case: str, method: str) -> None:
    score, message = BAD[case]
    with pytest.raises(AgcamError, match=message):
        explain(small_model(), random_images(), method=method, score=score, **OPTIONS.get(method, {}))
