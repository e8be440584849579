"""Training: one loop for every task; what a task adds is in ``image_examples`` and ``labelled_examples``."""

from compress.train.loop import train
from compress.train.recipe import TrainRecipe, load_recipe

__all__ = ["TrainRecipe", "load_recipe", "train"]
