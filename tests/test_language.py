"""Languages by script and function words."""

from __future__ import annotations

import pytest

from m6rec.opinion.language import languages


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Operating profit rose to EUR 13.1 mn from EUR 8.7 mn.", "en"),
        ("Nokia soars", "en"),
        ("$AAPL", "en"),
        ("贵州茅台净利润同比增长20%", "zh"),
        ("贵州茅台 Q3 EPS 超预期", "zh"),
        ("Apple的股价 and the shares of Microsoft rose after the results were published", "en"),
        ("Der Umsatz ist im dritten Quartal auf 5 Millionen Euro gestiegen", "other"),
        ("Le bénéfice net a augmenté dans les trois derniers mois", "other"),
        ("トヨタ自動車の営業利益は過去最高", "other"),
        ("Прибыль выросла", "other"),
        ("", "other"),
        ("12.5%", "other"),
    ],
)
def test_languages(text: str, language: str) -> None:
    assert languages([text]) == [language]


def test_many_at_once_and_none() -> None:
    assert languages(["the profit", "利润", ""]) == ["en", "zh", "other"]
    assert languages([]) == []
