"""Training: the classifier and all that it is made of."""
