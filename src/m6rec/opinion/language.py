"""Which language a text is in: Chinese, English or another, by its script and function words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import polars as pl

Language = Literal["en", "zh", "other"]
HAN = r"[\u3400-\u4dbf\u4e00-\u9fff]"
KANA = r"[\u3040-\u30ff\uac00-\ud7af]"  # Japanese or Korean, in texts with Han as well
LATIN = r"[A-Za-z]"
LETTER = r"\p{L}"
ENGLISH = (
    "the of and to in a for is on that with was by at from as are be its it has said after will "
    "this have an not but their our we you i us or more than up down new over out all no if so "
    "what how why who can could would should do does did just my your me they he she his her"
).split()
OTHERS = (
    "der die das und von mit ist nicht den für auf ein eine im dem zu sich des auch "
    "le la les des et est une du dans pour sur au aux par qui que avec ce plus pas "
    "el los las y en un una por con para del se su al como más "
    "il lo gli di che per una non con sono della nel "
    "och att det som på är av för med till inte ja on ei että oli sekä "
    "de het een van en op te dat niet zijn o os as um uma não com e"
).split()
SHORT = 12  # most words of a text in plain letters that is English without a function word


def languages(texts: Sequence[str]) -> list[Language]:
    """Return the language of each text.

    Chinese: at least a fifth of the letters are Han, without Japanese kana or Korean letters.
    English: Latin letters, and at least as many English function words as others; a headline of
    up to 12 words in plain letters may do without.
    """
    shared = set(ENGLISH) & set(OTHERS)
    english, others = set(ENGLISH) - shared, set(OTHERS) - shared
    text = pl.col("text")
    words = text.str.to_lowercase().str.extract_all(r"\p{L}+")
    counted = pl.DataFrame({"text": list(texts)}, schema={"text": pl.String}).select(
        letters=text.str.count_matches(LETTER),
        han=text.str.count_matches(HAN),
        kana=text.str.count_matches(KANA),
        latin=text.str.count_matches(LATIN),
        words=words.list.len(),
        english=words.list.eval(pl.element().is_in(list(english))).list.sum(),
        others=words.list.eval(pl.element().is_in(list(others))).list.sum(),
    )
    zh = (pl.col("han") > 0) & (pl.col("han") * 5 >= pl.col("letters")) & (pl.col("kana") == 0)
    plain = (pl.col("others") == 0) & (pl.col("words") <= SHORT)
    plain &= pl.col("latin") == pl.col("letters")
    told = (pl.col("english") > 0) & (pl.col("english") >= pl.col("others"))
    en = (pl.col("latin") * 2 > pl.col("letters")) & (told | plain)
    label = pl.when(zh).then(pl.lit("zh")).when(en).then(pl.lit("en")).otherwise(pl.lit("other"))
    return counted.select(found=label)["found"].to_list()
