"""Data sets with classes, boxes and masks, one typed batch for all of them."""

from agcam.data.batch import Batch, Example, Sample
from agcam.data.cub import CUB200
from agcam.data.folder import ImageFolderDataModule
from agcam.data.imagenet import ImageNet1k
from agcam.data.module import ImageDataModule
from agcam.data.shapes import Shapes
from agcam.data.voc import VOC2012

__all__ = [
    "CUB200",
    "VOC2012",
    "Batch",
    "Example",
    "ImageDataModule",
    "ImageFolderDataModule",
    "ImageNet1k",
    "Sample",
    "Shapes",
]
