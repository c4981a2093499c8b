"""Options that make a training command small and quiet."""

SMALL = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
TINY_MODEL = [
    "--model.backbone=vit_tiny_patch16_224",
    "--model.image_size=32",
    "--model.backbone_args={patch_size: 8, embed_dim: 32, depth: 2, num_heads: 2}",
    "--model.layer_decay=1.0",
]
