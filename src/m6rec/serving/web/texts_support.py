"""What the support desk says, in English and in Chinese."""

from __future__ import annotations

SUPPORT: dict[str, tuple[str, str]] = {
    "support": ("Support", "客服"),
    "support text": (
        "Ask in your own words, in any language. The answer comes with its source. If we are not "
        "sure, a person takes over.",
        "用自己的话提问，什么语言都可以。每个答案都会注明出处；如果没有把握，就转给人工。",
    ),
    "question": ("Your question", "您的问题"),
    "ask": ("Ask", "提问"),
    "for instance": ("For instance", "例如"),
    "best answer": ("Answer", "答案"),
    "sure": ("{p} sure", "把握 {p}"),
    "not sure": ("Not sure enough", "把握不足"),
    "escalate": (
        "A person should answer this one. What was found may still help them:",
        "这个问题应由人工回答。下面找到的内容可供参考：",
    ),
    "no answers": ("No answer was found. A person should take over.", "没有找到答案，请转人工。"),
    "more answers": ("Other answers", "其他答案"),
    "whole answer": ("Read all of it", "查看全文"),
    "source": ("Source", "出处"),
    "draft": ("Draft, written from the answers below", "根据下列答案写成的草稿"),
    "sources": ("Sources", "出处"),
    "helped": ("This helped", "有帮助"),
    "not helped": ("This did not help", "没有帮助"),
    "thanks": (
        "Thank you. The next answer to such a question heeds it.",
        "谢谢！下一次回答类似问题时会参考您的反馈。",
    ),
    "related": ("Others asked", "其他人问过"),
    "who asks": ("Customer (may stay empty)", "顾客（可不填）"),
    "no questions": (
        "This run takes in no questions. Train one with the preset for customer service.",
        "当前模型不支持问答。请用客服预设训练一个模型。",
    ),
    "redacted": ("Kept from the language model: {names}", "没有发给语言模型的内容：{names}"),
}
