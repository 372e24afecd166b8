"""Conversations, and the prompt formats with tokenizers that have their tokens."""

from glm_experiments.data.conversations import Conversation, Message

GENERATIONS = {
    "chatglm": "chatglm",
    "chatglm2": "chatglm2",
    "chatglm3": "chatglm3",
    "glm4": "glm4",
    "alpaca": "chatglm3",
}
PAIRS = [*GENERATIONS.items(), ("alpaca", "chatglm"), ("alpaca", "glm4")]
ONE = (Message("user", "您好"),)
TWO = (*ONE, Message("assistant", "再见"), Message("user", "Who", "are you"))
SYSTEM = (Message("system", "Be brief."), *ONE)


def talk(*messages):
    return Conversation(messages, "rows.jsonl", 7)
