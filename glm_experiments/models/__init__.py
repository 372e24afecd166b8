"""The GLM architectures and tokenizers that transformers lacks; published checkpoints to native modules."""
