"""The help of the training commands on one screen; nothing here imports torch.

Lightning's full list takes 640 lines and, since it is made of the classes themselves, several seconds: `--help-all`.
"""

from __future__ import annotations

import textwrap

FULL_HELP = "--help-all"
_COLUMN, _WIDTH = 31, 100
_EXAMPLES = (
    "fit --config configs/cub200.yaml --data.root CUB_200_2011",
    "fit --data ImageFolderDataModule --data.root photos/ --model.pretrained true",
    "fit --config configs/cub200.yaml --ckpt_path last     resume an interrupted run",
)
_Options = dict[str, tuple[str, str]]
DATA_OPTIONS: _Options = {
    "data": ("NAME", "CUB200, VOC2012, ImageNet1k, ImageFolderDataModule, Shapes or your own class"),
    "data.root": ("DIR", "the folder that holds it"),
    "data.batch_size": ("N", "images in a batch"),
    "data.help": ("NAME", "list all options of a data set"),
}
MODEL_OPTIONS: _Options = {
    "model": ("CLASS", "a classifier of your own, package.module.Class"),
    "model.backbone": ("NAME", "a Vision Transformer of timm"),
    "model.pretrained": ("BOOL", "start from timm's weights"),
    "model.weights": ("FILE", "start from a file: safetensors, a state dict, a checkpoint; or hf-hub:OWNER/NAME"),
    "model.image_size": ("PIXELS", "side of the input; the backbone's own unless given"),
    "model.lr": ("X", "peak learning rate of the head and the last block"),
    "model.layer_decay": ("X", "factor of the learning rate from each block to the one below"),
    "model.weight_decay": ("X", "of AdamW"),
    "model.warmup_epochs": ("N", "epochs of linear warm-up"),
    "model.freeze_epochs": ("N", "epochs in which the head trains alone; -1 for all"),
    "model.unfreeze_blocks_per_epoch": ("N", "blocks that each epoch after those frees; 0 for all at once"),
    "model.drop_path": ("X", "stochastic depth rate of the last block"),
    "model.label_smoothing": ("X", "how far labels move towards a uniform distribution"),
    "model.loss": ("NAME", "cross_entropy, bce, asymmetric"),
    "model.mixup": ("X", "alpha of mixup; 0 for none"),
    "model.cutmix": ("X", "alpha of CutMix; 0 for none"),
    "model.ema": ("X", "decay of a moving average of the weights; 0 for none"),
    "model.test_time_flip": ("BOOL", "average the logits of image and mirror image"),
}
TRAINER_OPTIONS: _Options = {
    "trainer.max_epochs": ("N", "how long to train"),
    "trainer.accelerator": ("NAME", "cpu, gpu, mps"),
    "trainer.devices": ("N", "how many GPUs or processes"),
    "trainer.precision": ("NAME", "32-true, bf16-mixed, 16-mixed"),
    "trainer.logger": ("NAME", "WandbLogger, MLFlowLogger, TensorBoardLogger, CSVLogger"),
    "trainer.callbacks+": ("NAME", "add a callback of Lightning, such as EarlyStopping"),
    "trainer.accumulate_grad_batches": ("N", "batches to an optimizer step"),
}
EXPLANATION_OPTIONS: _Options = {
    "explain": ("BOOL", "false leaves out explanations and their scores"),
    "explanation.methods": ("[NAME,…]", "explanation methods; the first one is shown"),
    "explanation.every_n_epochs": ("N", "explain every n-th epoch and the last"),
    "explanation.max_batches": ("N", "explain only the first batches; all unless given"),
    "explanation.targets": ("NAME", "labelled or predicted: whose heatmap"),
    "explanation.only_correct": ("BOOL", "score only images that are classified correctly"),
    "explanation.ground_truth": ("NAME", "boxes or masks"),
    "explanation.threshold": ("X", "where a heatmap, scaled to [0, 1], is cut"),
    "explanation.protocol": ("NAME", "corrected or leem2024"),
    "explanation.gallery": ("N", "how many images to show; 0 for none"),
    "explanation.gallery_by": ("NAME", "which: index, class or hardest"),
}
RUN_OPTIONS: _Options = {
    "config": ("FILE", "options from a file; those after it overrule it"),
    "ckpt_path": ("FILE", "resume from this checkpoint, or last"),
    "seed_everything": ("N", "seed of weights, order and augmentation"),
    "on_nan": ("NAME", "stop or skip: a step whose loss is not finite"),
    "print_config": ("", "print the whole configuration and exit"),
    "quiet": ("", "print only what went wrong"),
    "debug": ("", "print the traceback before the error message"),
}
GROUPS = {
    "data": DATA_OPTIONS,
    "model": MODEL_OPTIONS,
    "training": TRAINER_OPTIONS,
    "explanations": EXPLANATION_OPTIONS,
    "run": RUN_OPTIONS,
}
DEFAULTS = {
    "model.backbone": "vit_small_patch16_224",
    "model.lr": "0.0005",
    "model.layer_decay": "0.75",
    "model.weight_decay": "0.05",
    "model.warmup_epochs": "1.0",
    "model.loss": "auto",
    "explanation.methods": "agcam, random, center",
    "explanation.every_n_epochs": "1",
    "explanation.targets": "labelled",
    "explanation.ground_truth": "boxes",
    "explanation.threshold": "0.5",
    "explanation.protocol": "corrected",
    "explanation.gallery": "16",
    "explanation.gallery_by": "index",
    "seed_everything": "0",
    "on_nan": "stop",
}
"""What holds where an option is not given, where that is neither nothing, false nor 0."""
GROUP_TITLES = {
    "trainer": "training (Lightning's Trainer)",
    "model": "the model and how its weights are learned",
    "data": "the images and what is done to them",
    "explanation": "where the model looks, and how that is scored",
}
"""Heads of the groups of the full list, by the first part of their options' names."""
OTHER_OPTIONS = (
    "explanation",
    "on-nan",
    "trainer",
    "weights_only",
    "verbose",
    "help",
    "help-all",
    "print-completion",
)
"""Options that the page leaves out: set by the data, or of use to few."""


def train_help(name: str, command: str, what: str) -> str:
    """Describe the options of a training command on one screen.

    Args:
        name: of the program, "agcam" or "train.py".
        command: such as "fit".
        what: the command does.
    """
    lines = [f"usage: {name} {command} [--config FILE] [OPTIONS]", "", f"{what[0].upper()}{what[1:]}.", ""]
    if command == "fit":
        lines += ["examples:", *(f"  {name} {example}" for example in _EXAMPLES), ""]
    for title, options in GROUPS.items():
        lines += [f"{title}:", *(line for option in options.items() for line in _lines(*option)), ""]
    lines.append(f"`{name} {command} {FULL_HELP}` lists every option, all of Lightning's Trainer included.")
    return "\n".join(lines)


def _lines(option: str, described: tuple[str, str]) -> list[str]:
    metavar, what = described
    default = f" ({DEFAULTS[option]})" if option in DEFAULTS else ""
    head = f"  --{option} {metavar}".rstrip()
    body = textwrap.wrap(what + default, _WIDTH - _COLUMN)
    indented = [" " * _COLUMN + line for line in body]
    if len(head) < _COLUMN - 1:
        indented[0] = head.ljust(_COLUMN) + body[0]
        return indented
    return [head, *indented]
