"""Faithfulness metrics: the model on perturbed images."""
