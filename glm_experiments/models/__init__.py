"""GLM architectures and tokenizers that transformers lacks; published checkpoints made native."""
