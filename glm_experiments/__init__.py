"""Config-composed fine-tuning experiments for the GLM family."""

from glm_experiments.models.auto_classes import install_hook

install_hook()
