import pickle

import torch

from agcam.data.batch import Sample, collate, join_batches, owned


def sample(index: int, boxes: int | None, mask: bool) -> Sample:
    known = boxes is not None
    return Sample(
        image=torch.full((3, 4, 4), float(index)),
        label=torch.tensor(index),
        boxes=torch.ones(boxes, 4) if known else None,
        box_labels=torch.zeros(boxes, dtype=torch.int64) if known else None,
        mask=torch.zeros(4, 4, dtype=torch.int64) if mask else None,
        index=index,
        name=f"n{index}",
    )


def test_a_batch_survives_the_way_from_a_loader_worker() -> None:
    batch = collate([sample(0, 2, mask=True), sample(1, None, mask=False), sample(2, 0, mask=True)])
    again = pickle.loads(pickle.dumps(batch))
    assert [None if b is None else tuple(b.shape) for b in again.boxes] == [(2, 4), None, (0, 4)]
    assert [None if b is None else b.dtype for b in again.box_labels] == [torch.int64, None, torch.int64]
    assert torch.equal(again.image, batch.image)
    assert again.name == ["n0", "n1", "n2"]


def test_missing_masks_are_all_ignored_and_no_mask_at_all_is_none() -> None:
    mixed = collate([sample(0, 1, mask=True), sample(1, 1, mask=False)])
    assert mixed.mask is not None
    assert mixed.mask.unique().tolist() == [0, 255]
    assert collate([sample(0, 1, mask=False)]).mask is None


def test_moving_a_batch_moves_every_tensor() -> None:
    batch = collate([sample(0, 2, mask=True), sample(1, None, mask=False)]).to("meta")
    assert batch.image.is_meta
    assert batch.boxes[0].is_meta
    assert batch.boxes[1] is None
    assert batch.name == ["n0", "n1"]


def test_every_position_belongs_to_exactly_one_process() -> None:
    index = torch.arange(7)
    shares = torch.stack([owned(index, rank, 3) for rank in range(3)])
    assert shares.sum(0).tolist() == [1] * 7


def test_joined_batches_are_the_batch_of_all_their_samples() -> None:
    samples = [sample(0, 2, mask=True), sample(1, None, mask=False), sample(2, 0, mask=False), sample(3, 1, mask=True)]
    expected = collate(samples)
    joined = join_batches([collate(samples[:2]), collate(samples[2:3]), collate(samples[3:])], expected.image)
    assert joined.name == expected.name
    assert [None if b is None else len(b) for b in joined.boxes] == [2, None, 0, 1]
    assert [None if b is None else len(b) for b in joined.box_labels] == [2, None, 0, 1]
    for attribute in ("image", "label", "mask", "index"):
        assert torch.equal(getattr(joined, attribute), getattr(expected, attribute)), attribute
    assert join_batches([collate([samples[1]]), collate([samples[2]])], expected.image[1:3]).mask is None
