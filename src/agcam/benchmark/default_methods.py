"""The methods that `agcam benchmark` compares unless told otherwise; importing them costs nothing."""

DEFAULT = (
    "agcam",
    "raw_attention",
    "rollout",
    "lrp",
    "generic_attention",
    "attention_gradcam",
    "gradcam",
    "legrad",
    "contrast_cam",
    "agcam:feature_map=softmax",
    "agcam:gradient=full",
    "random",
    "center",
)
"""Every method that agcam itself holds, and the paper's ablations."""
