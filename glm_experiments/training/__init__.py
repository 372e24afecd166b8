"""TrainingArguments mapping, the Trainer, its callbacks. Knows no peft, tracker or Hydra."""
