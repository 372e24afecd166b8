"""What a model answers and scores, before and after it is tuned."""

from glm_experiments.evaluation.measuring import Evaluation, evaluate, measure_loss

__all__ = ["Evaluation", "evaluate", "measure_loss"]
