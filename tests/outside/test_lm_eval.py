"""lm-eval with a generation task of one's own on exports: it scores what the models answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.outside.exports import CODE, VERSIONS, export, load_kind, run_python

pytestmark = pytest.mark.slow
TASK = """
task: answers
dataset_path: json
dataset_kwargs:
  data_files: {file}
test_split: train
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  until: ["</s>", "<eop>"]
  max_gen_toks: 24
  do_sample: false
filter_list:
  - name: stripped
    filter:
      - function: regex
        regex_pattern: "\\\\s*(.*\\\\S)"
      - function: take_first
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""
EVALUATE = """
import json, sys
import lm_eval
from lm_eval.tasks import TaskManager
folder, tasks, options = json.loads(sys.argv[1])
found = lm_eval.simple_evaluate(
    model="hf",
    model_args={"pretrained": folder, "dtype": "float32", **options},
    tasks=["answers"],
    task_manager=TaskManager(include_path=tasks, include_defaults=False),
    apply_chat_template=True,
    device="cpu",
    batch_size=2,
    log_samples=True,
)
said = [each["resps"][0][0] for each in found["samples"]["answers"]]
print("FOUND" + json.dumps([found["results"]["answers"]["exact_match,stripped"], said]))
"""
QUESTIONS = ["你是谁？", "Who are you?", "12 + 30 = ?", "What is 7 plus 5?"]


def answer(kind: str, question: str) -> str:
    """What our own model and tokenizer say."""
    model, tokenizer = load_kind(kind)
    messages = [{"role": "user", "content": question}]
    inputs = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt"
    )
    with torch.no_grad():
        output = model.generate(**inputs, max_new_tokens=24, do_sample=False)
    new = output[0, inputs["input_ids"].shape[1] :]
    return str(tokenizer.decode(new, skip_special_tokens=True)).strip()


@pytest.mark.parametrize("kind", ["tiny_glm", "tiny_chatglm"])
def test_a_generation_task_scores_an_export_right(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="needs lm-eval: pip install lm-eval")
    folder = export(kind, tmp_path / "export")
    rows = [{"question": each, "answer": answer(kind, each)} for each in QUESTIONS]
    assert all(row["answer"] for row in rows)
    rows.append({"question": QUESTIONS[0], "answer": "nobody"})  # which it doesn't say
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tasks / "answers.yaml").write_text(TASK.format(file=file), encoding="utf-8")
    options = CODE if VERSIONS[kind] == "1" else {}
    done = run_python(EVALUATE, json.dumps([str(folder), str(tasks), options]), knows_package=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FOUND")]
    found: list[Any] = json.loads(line.removeprefix("FOUND"))
    score, said = found
    assert [each.strip() for each in said] == [
        *(row["answer"] for row in rows[:-1]),
        said[0].strip(),
    ]
    assert score == pytest.approx(4 / 5)
