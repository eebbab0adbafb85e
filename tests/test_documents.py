"""Documents of files: every row is either there or named with what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from m6rec.data.opinions import DOCUMENT
from m6rec.errors import DataError
from m6rec.opinion.documents import LONGEST, documents_of, read_documents

RSS = """<?xml version="1.0"?>
<rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/"><channel>
<title>Wire</title>
<item><title>Nokia &amp; SAP rise</title><link>https://x/1</link><guid>g1</guid>
<pubDate>Tue, 02 Jan 2024 10:00:00 +0100</pubDate>
<description>&lt;p&gt;Profit &lt;b&gt;rose&lt;/b&gt;.&lt;/p&gt;</description></item>
<item><title>Late</title><link>https://x/2</link>
<pubDate>Tue, 02 Jan 2024 10:00 GMT</pubDate></item>
<item><link>https://x/3</link></item>
<item><title>No date</title><guid>g4</guid></item>
</channel></rss>"""
ATOM = """<feed xmlns="http://www.w3.org/2005/Atom"><title>Blog</title>
<entry><id>a1</id><title>利润增长</title><updated>2024-01-02T09:00:00Z</updated>
<link rel="self" href="https://x/self"/><link href="https://x/a1"/>
<content type="html">公司净利润大幅增长</content></entry></feed>"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_jsonl(tmp_path: Path) -> None:
    path = write(tmp_path, "posts.jsonl", "\n".join((
        '{"id": 7, "created_at": "2024-01-02T10:00:00Z", "text": ["$", "AAPL", "rises"]}',
        "",
        '{"id": "8", "date": 1704189600, "headline": "Fell", "body": "x", "source": "wire"}',
        "{broken",
        "[1]",
        '{"id": "9", "time": "never", "text": "x"}',
        '{"id": "7", "time": "20240103", "text": "again"}',
        '{"id": "10", "time": 5}',
    )))  # fmt: skip
    frame, problems = read_documents(path)
    assert frame.schema == pl.Schema(DOCUMENT)
    assert frame.select("document", "time", "source", "title", "text").rows() == [
        ("7", 1704189600, "posts", "", "$ AAPL rises"),
        ("8", 1704189600, "wire", "Fell", "x"),
    ]
    assert [str(p).removeprefix(f"{path}, ") for p in problems] == [
        "row 4: is not JSON",
        "row 5: is not an object",
        "row 6: has no time that can be read",
        'row 7: has the id of a row before it, "7"',
        "row 8: has neither title nor text",
    ]


def test_csv_with_quoted_line_breaks(tmp_path: Path) -> None:
    text = 'Date,Headline,Body\n2024-01-02,"A, b","one\ntwo"\n2024-01-03,short\n2024-01-04,C,d\n'
    frame, problems = read_documents(write(tmp_path, "news.csv", text), tz="Asia/Shanghai")
    assert frame["text"].to_list() == ["one\ntwo", "d"]
    assert frame["time"].to_list() == [1704153600 - 8 * 3600, 1704326400 - 8 * 3600]
    assert frame["document"].n_unique() == 2  # by the hash of what they say
    assert [(p.row, p.reason) for p in problems] == [(4, "has 2 fields where 3 are named")]


def test_csv_with_other_delimiters(tmp_path: Path) -> None:
    text = "id;date;title\n1;2024-01-02;Up, and up\n2;20240104;Down\n"
    frame, problems = read_documents(write(tmp_path, "semicolons.csv", text))
    assert frame["title"].to_list() == ["Up, and up", "Down"]
    assert frame["time"].to_list() == [1704153600, 1704326400]
    assert not problems


def test_rss(tmp_path: Path) -> None:
    frame, problems = read_documents(write(tmp_path, "feed.rss", RSS))
    first = frame.row(0, named=True)
    assert first == {"document": "g1", "time": 1704186000, "source": "Wire", "language": "en",
                     "title": "Nokia & SAP rise", "text": "Profit  rose .", "url": "https://x/1",
                     }  # fmt: skip
    assert frame["document"].to_list() == ["g1", "https://x/2"]
    assert frame["time"][1] == 1704189600
    assert [(p.row, p.reason) for p in problems] == [
        (3, "has neither title nor text"), (4, "has no time that can be read"),
    ]  # fmt: skip


def test_atom(tmp_path: Path) -> None:
    frame, problems = read_documents(write(tmp_path, "blog.xml", ATOM))
    assert problems == []
    assert frame.rows() == [
        ("a1", 1704186000, "Blog", "利润增长", "公司净利润大幅增长", "zh", "https://x/a1")
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.rss", '<!DOCTYPE x [<!ENTITY a "b">]><rss>&a;</rss>', "has a document type"),
        ("a.rss", "<rss><channel>", "is not XML"),
        ("a.xml", "<html></html>", "is neither RSS nor Atom: it begins with <html>"),
        (
            "a.csv",
            "id;when;title\n1;2024-01-02;Up\n",
            "no column is a time .columns: id, title, when",
        ),
        ("a.jsonl", '{"date": "2024-01-02", "words": "x"}', "no column is a title or text"),
        ("a.txt", "x", "must end in .jsonl, .csv"),
    ],
)
def test_files_that_cannot_be_are_said(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_documents(write(tmp_path, name, text))


def test_a_missing_file_and_a_wrong_encoding_are_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl: no such file$"):
        read_documents(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match=r"none\.rss: no such file$"):
        read_documents(tmp_path / "none.rss")
    (tmp_path / "a.csv").write_bytes("时间,标题\n".encode("gb18030"))
    with pytest.raises(DataError, match="is not UTF-8"):
        read_documents(tmp_path / "a.csv")


def test_an_entity_bomb_is_refused_before_it_grows(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE b [<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9)
    )
    with pytest.raises(DataError, match="document type"):
        read_documents(write(tmp_path, "b.rss", f"{bomb}]><rss>&j;</rss>"))


def test_texts_are_cut_and_clean() -> None:
    rows = [{"time": 5, "text": "a\0b\ud800c"}, {"time": 5, "text": "x" * (LONGEST + 5)}]
    frame, _ = documents_of(enumerate(rows, 1), where="api")
    assert frame["text"].to_list() == ["abc", "x" * LONGEST]
    assert frame["source"].to_list() == ["api", "api"]


def test_no_rows_are_no_documents() -> None:
    frame, problems = documents_of([], where="api")
    assert frame.is_empty() and frame.schema == pl.Schema(DOCUMENT) and problems == []
