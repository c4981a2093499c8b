from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser

from agcam.data import ImageDataModule

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = {
    "paper/imagenet.yaml": "ImageNet1k",
    "paper/voc2012.yaml": "VOC2012",
    "paper/cub200.yaml": "CUB200",
    "folder.yaml": "ImageFolderDataModule",
}


def test_every_configuration_of_the_paper_is_looked_at_here() -> None:
    assert {f"paper/{path.name}" for path in (CONFIGS / "paper").iterdir()} == set(FILES) - {"folder.yaml"}


@pytest.mark.parametrize(("file", "name"), FILES.items())
def test_its_data_section_makes_a_data_module(file: str, name: str) -> None:
    section = yaml.safe_load((CONFIGS / file).read_text())["data"]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ImageDataModule, "data", required=True)
    data = parser.instantiate_classes(parser.parse_object({"data": section})).data
    assert type(data).__name__ == name
    if file.startswith("paper/"):
        assert (data.batch_size, data.input_config.size, data.input_config.resize) == (16, 224, "squash")
        assert data.input_config.interpolation == "bilinear"
        assert getattr(data, "single_class", True)
