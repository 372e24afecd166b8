"""What is measured before and after tuning."""

from __future__ import annotations

from dataclasses import dataclass

from glm_experiments.config.rules import check, positive


@dataclass(kw_only=True, slots=True)
class EvaluationConfig:
    """What is measured by generating answers."""

    before: bool
    """Measure the model before it is tuned, too."""
    after: bool
    batch_size: int
    max_new_tokens: int
    num_rows: int | None
    """Rows of every validation set that are answered; null: all."""
    metrics: list[str]
    """Of exact_match, bleu4, rouge, perplexity."""

    def scores(self) -> list[str]:
        """Names of what `metrics` come to: rouge is three."""
        rouge = ["rouge_1", "rouge_2", "rouge_l"]
        return [name for each in self.metrics for name in (rouge if each == "rouge" else [each])]

    def problems(self) -> list[str]:
        problems = positive(
            "evaluation",
            {
                "batch_size": self.batch_size,
                "max_new_tokens": self.max_new_tokens,
                "num_rows": self.num_rows,
            },
        )
        known = ("exact_match", "bleu4", "rouge", "perplexity")
        for metric in self.metrics:
            check(
                problems,
                metric in known,
                f"evaluation.metrics has {metric!r}; type of {', '.join(known)}",
            )
        check(
            problems,
            bool(self.metrics) or not (self.before or self.after),
            "evaluation.metrics is empty; type e.g. 'evaluation.metrics=[exact_match]', or "
            "evaluation.before=false evaluation.after=false",
        )
        return problems
