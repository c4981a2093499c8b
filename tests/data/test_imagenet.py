import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agcam.data import ImageNet1k
from agcam.errors import DataError

TENCH, COCK, CRANE, MACHINE = "n01440764", "n01514668", "n02012849", "n03126707"
MAPPING = {
    TENCH: "tench, Tinca tinca",
    COCK: "cock",
    CRANE: "crane",
    "n02113186": "Cardigan, Cardigan Welsh corgi",
    "n02963159": "cardigan",
    MACHINE: "crane",
    "n03710637": "maillot",
    "n03710721": "maillot, tank suit",
}
VAL = {1: CRANE, 2: TENCH, 3: CRANE}
WHOLE = (0, 0, 39, 29)  # of an image of 40×30


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(str(path.name))).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, format="JPEG")


def annotate(path: Path, *objects: tuple[str, tuple[int, int, int, int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sides = ("xmin", "ymin", "xmax", "ymax")
    nodes = [
        f"<object><name>{name}</name><bndbox>"
        + "".join(f"<{side}>{value}</{side}>" for side, value in zip(sides, box, strict=True))
        + "</bndbox></object>"
        for name, box in objects
    ]
    path.write_text(f"<annotation>{''.join(nodes)}</annotation>")


def val_name(number: int) -> str:
    return f"ILSVRC2012_val_{number:08d}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """As Kaggle packs it: classes in no order, three of the eight with images, the mapping beside ILSVRC/."""
    root = tmp_path / "imagenet"
    data, annotations = (root / "ILSVRC" / part / "CLS-LOC" for part in ("Data", "Annotations"))
    for wnid in (MACHINE, CRANE, TENCH):
        for number in (1, 2):
            picture(data / "train" / wnid / f"{wnid}_{number}.JPEG")
        annotate(annotations / "train" / wnid / f"{wnid}_1.xml", (wnid, (2, 3, 10, 12)))
    for number, wnid in VAL.items():
        picture(data / "val" / f"{val_name(number)}.JPEG")
        annotate(annotations / "val" / f"{val_name(number)}.xml", (wnid, (5, 6, 20, 21)))
    (root / "LOC_synset_mapping.txt").write_text("".join(f"{k} {v}\n" for k, v in reversed(MAPPING.items())))
    return root


def images(root: Path, split: str) -> Path:
    return root / "ILSVRC/Data/CLS-LOC" / split


def annotation(root: Path, number: int) -> Path:
    return root / "ILSVRC/Annotations/CLS-LOC/val" / f"{val_name(number)}.xml"


def solve(root: Path, **changed: str) -> None:
    lines = {val_name(n): f"{wnid} 5 6 20 21 {wnid} 1 1 2 2 " for n, wnid in VAL.items()} | changed
    text = "".join(f"{name},{words}\n" for name, words in lines.items())
    (root / "LOC_val_solution.csv").write_text(f"ImageId,PredictionString\n{text}")


def opened(root: Path, **options: object) -> ImageNet1k:
    data = ImageNet1k(root=str(root), batch_size=2, num_workers=0, image_size=32, **options)
    data.setup("fit")
    return data


def test_indices_are_places_in_the_mapping_by_wordnet_id(root: Path) -> None:
    train = opened(root).open("train")
    found = {item.name.split("/")[0]: item.labels for item in train.items}
    assert found == {TENCH: (0,), CRANE: (2,), MACHINE: (5,)}
    assert len(train.class_names) == len(MAPPING)


def test_classes_that_share_a_first_synonym_keep_names_of_their_own(root: Path) -> None:
    assert opened(root).class_names == [
        "tench",
        "cock",
        "crane (n02012849)",
        "Cardigan, Cardigan Welsh corgi",
        "cardigan",
        "crane (n03126707)",
        "maillot",
        "maillot, tank suit",
    ]


def test_boxes_count_pixels_from_0_and_include_both_ends(root: Path) -> None:
    annotate(annotation(root, 1), (CRANE, WHOLE), (CRANE, (5, 6, 20, 21)))
    item = opened(root).open("val").items[0]
    assert item.boxes.tolist() == [[0, 0, 40, 30], [5, 6, 21, 22]]
    assert item.box_labels.tolist() == [2, 2]


def test_boxes_are_clipped_to_the_image(root: Path) -> None:
    annotate(annotation(root, 1), (CRANE, (-3, 10, 70, 80)))
    assert opened(root).open("val").items[0].boxes.tolist() == [[0, 10, 40, 30]]


def test_images_without_annotation_have_no_boxes_and_are_counted(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        train = opened(root).open("train")
    assert [item.boxes is None for item in train.items] == [False, True] * 3
    assert "train: 3 of 6 images have no boxes" in caplog.text
    assert "val: " not in caplog.text


def test_boxes_of_other_classes_are_left_out_in_training_and_those_in_english_are_not(root: Path) -> None:
    path = root / f"ILSVRC/Annotations/CLS-LOC/train/{TENCH}/{TENCH}_1.xml"
    annotate(path, (CRANE, (1, 1, 5, 5)), ("Tench", (2, 3, 10, 12)))
    assert opened(root).open("train").items[0].boxes.tolist() == [[2, 3, 11, 13]]


def test_validation_labels_come_from_the_solution_where_there_is_one(root: Path) -> None:
    for number in VAL:
        annotation(root, number).unlink()
    solve(root)
    val = opened(root).open("val")
    assert [item.labels for item in val.items] == [(2,), (0,), (2,)]
    assert all(item.boxes is None for item in val.items)


def test_validation_labels_come_from_the_boxes_where_there_is_no_solution(root: Path) -> None:
    assert [item.labels for item in opened(root).open("val").items] == [(2,), (0,), (2,)]


def test_validation_images_may_lie_in_class_folders(root: Path) -> None:
    for number, wnid in VAL.items():
        path = images(root, "val") / f"{val_name(number)}.JPEG"
        (images(root, "val") / wnid).mkdir(exist_ok=True)
        path.rename(images(root, "val") / wnid / path.name)
    annotation(root, 2).unlink()
    val = opened(root).open("val")
    assert [item.labels for item in val.items] == [(0,), (2,), (2,)]
    assert [item.boxes is None for item in val.items] == [True, False, False]


def unsolved(root: Path) -> None:
    solve(root)
    path = root / "LOC_val_solution.csv"
    path.write_text(path.read_text().replace(val_name(1), val_name(9)))


def sorted_wrongly(root: Path) -> None:
    (images(root, "val") / COCK).mkdir()
    (images(root, "val") / f"{val_name(1)}.JPEG").rename(images(root, "val") / COCK / f"{val_name(1)}.JPEG")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda r: solve(r, **{val_name(1): f"{COCK} 5 6 20 21"}),
            f"class is not clear.*xml says {CRANE}; .*LOC_val_solution.csv says {COCK}",
        ),
        (sorted_wrongly, f"class is not clear.*xml says {CRANE}; folder .*{COCK} says {COCK}"),
        (lambda r: annotate(annotation(r, 1), (CRANE, WHOLE), (COCK, WHOLE)), f"not clear.*{COCK} and {CRANE}"),
        (lambda r: annotate(annotation(r, 1), ("n99999999", WHOLE)), "unknown class.*synset_mapping.*n99999999"),
        (lambda r: annotation(r, 1).unlink(), "class is unknown; expected LOC_val_solution.csv, .*or a class folder"),
        (unsolved, f"LOC_val_solution.csv: no line for {val_name(1)}.JPEG"),
        (lambda r: annotation(r, 1).write_text("<annotation><object>"), f"{val_name(1)}.xml: not a readable XML"),
        (lambda r: annotate(annotation(r, 1), (CRANE, ("wide",) * 4)), f"xmin of a {CRANE} is 'wide'"),
        (lambda r: annotate(annotation(r, 1), (CRANE, (90, 90, 99, 99))), "empty or outside its image"),
    ],
)
def test_a_wrong_annotation_is_named_and_can_be_left_out(root: Path, spoil: object, said: str) -> None:
    spoil(root)
    with pytest.raises(DataError, match=said):
        opened(root)
    kept = opened(root, on_error="skip").open("val").items
    assert sum(len(item.boxes) for item in kept) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ImageId,Words\n", r"solution\.csv:1: expected the heading ImageId,PredictionString"),
        ("", r"solution\.csv:1: expected the heading"),
        (f"ImageId,PredictionString\nx,{'1' * 200_000}\n", r"solution\.csv: cannot be read as CSV .*limit"),
        (f"ImageId,PredictionString\nx,{TENCH} 1 2 3\n", r"solution\.csv:2: found .* expected an image's name"),
        (f"ImageId,PredictionString\nx,{TENCH} 1 2 3 4 {COCK} 1 2 3 4\n", r"solution\.csv:2: .*always of one wnid"),
        (f"ImageId,PredictionString\nx,{TENCH} 1 2 3 4\nx,{TENCH} 1 2 3 4\n", r"solution\.csv:3: x appears twice"),
    ],
)
def test_a_wrong_line_of_the_solution_is_named(root: Path, text: str, said: str) -> None:
    (root / "LOC_val_solution.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        opened(root)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("tench, Tinca tinca\n", r"mapping\.txt:1: found 'tench.* expected 'n01440764 tench"),
        (f"{TENCH}\n", rf"mapping\.txt:1: found '{TENCH}', expected"),
        (f"{TENCH} tench\n{TENCH} tench\n", rf"mapping\.txt:2: {TENCH} appears twice"),
        (f"{TENCH} tench\n", rf"{CRANE}: no such class in .*mapping\.txt"),
    ],
)
def test_a_wrong_mapping_is_named(root: Path, text: str, said: str) -> None:
    (root / "LOC_synset_mapping.txt").write_text(text)
    with pytest.raises(DataError, match=said):
        opened(root)


def test_the_mapping_may_lie_inside(root: Path) -> None:
    mapping = root / "LOC_synset_mapping.txt"
    mapping.rename(root / "ILSVRC" / mapping.name)
    assert len(opened(root / "ILSVRC").class_names) == len(MAPPING)


def test_without_the_mapping_classes_are_the_training_folders(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "LOC_synset_mapping.txt").unlink()
    with caplog.at_level(logging.WARNING):
        data = opened(root)
    assert data.class_names == [TENCH, CRANE, MACHINE]
    assert "no LOC_synset_mapping.txt; classes are these 3 folders and their names are WordNet ids" in caplog.text
    assert [item.labels for item in data.open("val").items] == [(1,), (0,), (1,)]  # the boxes tell what is on them
    annotate(annotation(root, 2), (COCK, WHOLE))
    with pytest.raises(DataError, match=rf"unknown class, expected a WordNet id of .*CLS-LOC/train: .* says {COCK}"):
        opened(root)


@pytest.fixture
def repacked(tmp_path: Path) -> Path:
    """As torchvision and most tutorials have it: train/ and val/ with class folders, and nothing else."""
    for wnid in (CRANE, TENCH):
        picture(tmp_path / "train" / wnid / f"{wnid}_1.JPEG")
        picture(tmp_path / "val" / wnid / f"{wnid}_2.JPEG")
    return tmp_path


def test_folders_alone_are_read(repacked: Path, caplog: pytest.LogCaptureFixture) -> None:
    (repacked / "train" / CRANE / "notes.txt").write_text("seen at dusk")
    with caplog.at_level(logging.WARNING):
        data = opened(repacked)
    assert data.class_names == [TENCH, CRANE]
    assert [item.labels for item in data.open("train").items] == [(0,), (1,)]
    assert [item.labels for item in data.open("val").items] == [(0,), (1,)]
    assert f"{repacked / 'train'}: left out 1 file: 1 .txt" in caplog.text
    (repacked / "LOC_synset_mapping.txt").write_text("".join(f"{k} {v}\n" for k, v in MAPPING.items()))
    assert opened(repacked).class_names[:2] == ["tench", "cock"]  # the official indices again
    assert [item.labels for item in opened(repacked).open("val").items] == [(0,), (2,)]


def test_a_flat_validation_set_without_the_solution_says_what_is_needed(repacked: Path) -> None:
    for path in sorted(repacked.glob("val/*/*")):
        path.rename(repacked / "val" / path.name)
        path.parent.rmdir()
    with pytest.raises(DataError, match=r"its class is unknown; expected LOC_val_solution\.csv, .*or a class folder"):
        opened(repacked)


def test_another_folder_among_the_classes_is_named(repacked: Path) -> None:
    picture(repacked / "train/tench/1.JPEG")
    with pytest.raises(DataError, match=r"train: 'tench' where only WordNet ids as n01440764 may be; there is no LOC_"):
        opened(repacked)


def test_a_missing_root_says_what_was_expected_and_where_to_register(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"nowhere: no ImageNet here; expected Data/CLS-LOC/.*register at image-net\.org"
    ):
        opened(tmp_path / "nowhere")


def test_a_missing_or_empty_split_is_named(root: Path) -> None:
    for path in images(root, "val").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"val: no image; expected \*\.JPEG"):
        opened(root)
    images(root, "train").rename(root / "elsewhere")
    with pytest.raises(DataError, match="train: no such folder"):
        opened(root)


def test_batches_hold_labels_and_boxes(root: Path) -> None:
    data = opened(root)
    assert next(iter(data.train_dataloader())).image.shape == (2, 3, 32, 32)
    batch = next(iter(data.val_dataloader()))
    assert batch.label.tolist() == [2, 0]
    assert np.allclose(batch.boxes[0], [[4, 6.4, 16.8, 23.4667]], atol=1e-3)
