"""Config-composed fine-tuning experiments for the GLM family."""

from glm_experiments.models.registration import install_hook

install_hook()
