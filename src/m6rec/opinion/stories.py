"""News that a made-up world is told in, in English and Chinese: for the demo, with no real name."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from m6rec.opinion.shocks import Made


class Firm(NamedTuple):
    """The names that it is written about by."""

    english: str
    chinese: str


FIRMS = (
    Firm("Northwind Foods", "北风食品"), Firm("Harbor Motors", "海港汽车"),
    Firm("Bluepeak Software", "蓝峰软件"), Firm("Meadow Dairy", "草原乳业"),
    Firm("Ironbridge Auto", "铁桥车业"), Firm("Lumen Cloud", "流明云"),
    Firm("Saffron Kitchens", "藏红花餐饮"), Firm("Swiftwheel", "捷轮股份"),
    Firm("Cobalt Chips", "钴蓝芯片"), Firm("Orchard Lane", "果园里"),
    Firm("Vega Electric", "织女电动"), Firm("Quartz Data", "石英数据"),
)  # fmt: skip

EVENTS = {
    1: (
        ("profit beats expectations", "利润超出预期"), ("record sales", "销售额创新高"),
        ("strong growth in orders", "订单强劲增长"),
        ("analysts upgrade the rating", "分析师上调评级"),
        ("wins a large contract", "中标大额合同"), ("raises its outlook", "上调业绩指引"),
        ("margins improve", "利润率改善"), ("demand is rising", "需求上升"),
    ),
    -1: (
        ("profit warning", "发布盈利预警"), ("sales fall short", "销售额下滑"),
        ("a product recall", "宣布召回产品"), ("analysts downgrade the rating", "分析师下调评级"),
        ("loses a large contract", "失去大额合同"), ("cuts its outlook", "下调业绩指引"),
        ("a lawsuit over defects", "因缺陷遭起诉"), ("losses widen", "亏损扩大"),
    ),
    0: (
        ("holds its annual meeting", "召开年度股东大会"), ("opens an office", "设立新办事处"),
        ("publishes its calendar", "公布日程安排"), ("names a board member", "任命董事"),
        ("takes part in a trade fair", "参加行业展会"), ("moves its headquarters", "总部搬迁"),
    ),
}  # fmt: skip
PLACES = (
    ("in the northern region", "北方地区"), ("in the home market", "国内市场"),
    ("abroad", "海外市场"), ("in its core business", "核心业务"),
    ("at its largest plant", "最大工厂"), ("online", "线上渠道"),
    ("in the second quarter", "第二季度"), ("among small customers", "中小客户"),
)  # fmt: skip
VOICES = (
    ("according to the company", "公司公告称"), ("two suppliers say", "两家供应商表示"),
    ("people familiar with the matter report", "知情人士透露"), ("a filing shows", "文件显示"),
    ("a local paper writes", "当地媒体报道"), ("a customer posts", "有客户发帖称"),
    ("a trade union notes", "工会指出"), ("a broker's note says", "券商报告称"),
)  # fmt: skip
CHINESE = 0.4  # share of documents


def named(made: Made) -> Made:
    """Return a world whose entities are the firms."""
    names = {f"E{i:02d}": firm.english for i, firm in enumerate(FIRMS)}
    told = pl.col("entity").replace_strict(names)
    frames = {name: getattr(made, name).with_columns(told) for name in Made._fields[:3]}
    return made._replace(**frames)


def documents(made: Made, seed: int = 0) -> pl.DataFrame:
    """Return a document for each reading of a named world: document, time, source, title, text,
    language, url. The tone of its text is that of the reading's sentiment; numbers in it mean
    nothing."""
    rng = np.random.default_rng(seed)
    readings = made.readings
    n = len(readings)
    places = {firm.english: i for i, firm in enumerate(FIRMS)}
    codes = readings["entity"].replace_strict(places).to_numpy()
    s = readings["sentiment"].to_numpy()
    tones = np.sign(s) * (rng.random(n) < np.abs(s) * 1.5)
    chinese = rng.random(n) < CHINESE
    picks = rng.integers(0, 1_000_000, (n, 5))
    rows = []
    for i in range(n):
        firm, zh = FIRMS[codes[i]], int(chinese[i])
        events = EVENTS[int(tones[i])]
        event, second = events[picks[i, 0] % len(events)], events[picks[i, 1] % len(events)]
        place, voice = PLACES[picks[i, 2] % len(PLACES)], VOICES[picks[i, 3] % len(VOICES)]
        figure = picks[i, 4] % 90 + 10
        if zh:
            title = f"{firm.chinese}{event[1]}"
            said = f"{firm.chinese}在{place[1]}{event[1]}，涉及{figure}项业务"
            text = f"{voice[1]}，{said}；{second[1]}。"
        else:
            title = f"{firm.english}: {event[0]}"
            text = (
                f"{voice[0].capitalize()}: {firm.english}, {event[0]} {place[0]}, "
                f"touching {figure} lines of business; {second[0]}."
            )
        rows.append((title, text, "zh" if zh else "en"))
    told = pl.DataFrame(rows, schema=["title", "text", "language"], orient="row")
    return pl.concat(
        [readings.select("document", "time", "source"), told], how="horizontal"
    ).with_columns(url=pl.lit(""))


def aliases() -> pl.DataFrame:
    """Return the table of names: entity, alias; an entity is its English name."""
    rows = [(f.english, name) for f in FIRMS for name in (f.english, f.chinese)]
    return pl.DataFrame(rows, schema=["entity", "alias"], orient="row")
