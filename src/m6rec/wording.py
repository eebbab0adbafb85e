"""The sentence of an explanation, by language: a small table of phrases for each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from m6rec.errors import QueryError, suggestion


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """The phrases of one language. ``{}`` and ``{name}`` are filled in.

    speaks, against: by kind of reason, with a place for its labels. quote: around a label that
    comes from the data. names: reasons that models name in English, "#" for a number. share:
    of the first group, which says of what; more: of those that are not named. again: before
    every later group. gap: what is not explained.
    """

    speaks: Mapping[str, str]
    against: Mapping[str, str]
    although: str
    share_first: str
    share: str
    more: str
    gap: str
    nothing: str
    unknown: str
    scored: str
    again: str = ""
    quote: str = "{}"
    comma: str = ", "
    last: str = " and "
    between: str = "; "
    end: str = ""
    names: Mapping[str, str] = field(default_factory=dict)

    def listed(self, labels: Sequence[str]) -> str:
        """Return labels as one enumeration."""
        named = [self.named(label) for label in labels]
        return self.last.join(filter(None, [self.comma.join(named[:-1]), named[-1]]))

    def named(self, label: str) -> str:
        """Return a label as it stands inside a sentence."""
        numbers = re.findall(r"\d+", label)
        known = self.names.get(re.sub(r"\d+", "#", label))
        if known is None:
            return self.quote.format(label)
        return known.replace("#", "{}").format(*numbers)


ENGLISH = Wording(
    speaks={
        "history": "because you liked {}",
        "shared": "because you both like {}",
        "mutual": "because you both know {}",
        "circle": "because it is liked by {}",
        "contact": "because you know {}",
        "attribute": "because of {}",
        "text": "because of the words {}",
        "question": "because it helped those who asked {}",
        "popularity": "because it is popular",
        "bias": "because it is rated well",
        "seed": "because it suits new users",
        "other": "because of {}",
    },
    against={
        "history": "you liked {}",
        "shared": "you both like {}",
        "mutual": "you both know {}",
        "circle": "it is liked by {}",
        "contact": "you know {}",
        "attribute": "{} speaks against it",
        "text": "the words {} speak against it",
        "question": "it did not help those who asked {}",
        "popularity": "few people know it",
        "bias": "it is rated below the average",
        "seed": "it does not suit new users",
        "other": "{} speaks against it",
    },
    although="although {}",
    share_first="{}, {:.0%} of all reasons",
    share="{}, {:.0%}",
    more=", and {} more, {:.0%}",
    gap="{rest:+.3g} of {score:.3g} is not explained",
    nothing="nothing speaks for it",
    unknown="no reason is known",
    scored="{item}: score {score:.4g}, {because}",
)

CHINESE = Wording(
    speaks={
        "history": "因为你喜欢{}",
        "shared": "因为你们都喜欢{}",
        "mutual": "因为你们都认识{}",
        "circle": "因为你认识的{}也喜欢",
        "contact": "因为你认识{}",
        "attribute": "因为特征{}",
        "text": "因为文字中有{}",
        "question": "因为它帮到了提过类似问题的人：{}",
        "popularity": "因为它很受欢迎",
        "bias": "因为它的评分较高",
        "seed": "因为它适合新用户",
        "other": "因为{}",
    },
    against={
        "history": "你喜欢{}，这一点对它不利",
        "shared": "你们都喜欢{}，这一点不利",
        "mutual": "你们都认识{}，这一点不利",
        "circle": "你认识的{}也喜欢，这一点不利",
        "contact": "你认识{}，这一点不利",
        "attribute": "特征{}对它不利",
        "text": "文字中的{}对它不利",
        "question": "它没有帮到提过{}的人",
        "popularity": "知道它的人不多",
        "bias": "它的评分低于平均水平",
        "seed": "它不太适合新用户",
        "other": "{}对它不利",
    },
    although="不过，{}",
    share_first="{}（占全部理由的 {:.0%}）",
    share="{}（{:.0%}）",
    more="，以及另外 {} 项（{:.0%}）",
    gap="得分 {score:.3g} 中有 {rest:+.3g} 没有得到解释",
    nothing="没有支持它的理由",
    unknown="没有已知的理由",
    scored="{item}：得分 {score:.4g}，{because}",
    again="也",
    quote="「{}」",
    comma="、",
    last="和",
    between="；",
    end="。",
    names={
        "taste by PCT": "从历史推断的口味",
        "what users here like": "这里的用户普遍喜欢的",
        "an average history": "平均的历史",
        "mean rating of the item": "该物品的平均评分",
        "limits of the rating scale": "评分范围的限制",
        "# similar users": "口味相近的 # 位用户",
        "# similar questions": "# 个相近的问题",
    },
)

LANGUAGES = {"en": ENGLISH, "zh": CHINESE}


def wording(language: str) -> Wording:
    """Return the phrases of a language; QueryError where there are none."""
    found = LANGUAGES.get(language)
    if found is None:
        raise QueryError(
            f'language "{language}" is unknown{suggestion(language, LANGUAGES)} '
            f"(known: {', '.join(LANGUAGES)})"
        )
    return found
