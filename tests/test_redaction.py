"""Personal data is found in English and Chinese, by its checksum where it has one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m6rec.support.redaction import chinese_id, iban, luhn, redact


@pytest.mark.parametrize(
    ("text", "expected", "found"),
    [
        ("Write to ann.b+shop@mail.example.org.", "Write to [email].", ("email",)),
        ("邮箱是wang_li@example.cn，谢谢", "邮箱是[email]，谢谢", ("email",)),
        ("Call +44 20 7946 0958 please", "Call [phone] please", ("phone",)),
        ("my phone number is 555 0134", "my phone number is [phone]", ("phone",)),
        ("030 / 1234567 is my line", "030 / [number] is my line", ("number",)),
        ("我的手机号是13812345678。", "我的手机号是[phone]。", ("phone",)),
        ("电话：010-62781234", "电话：[phone]", ("phone",)),
        ("card 4111 1111 1111 1111 was charged", "card [card] was charged", ("card",)),
        ("IBAN DE89 3704 0044 0532 0130 00 is mine", "IBAN [iban] is mine", ("iban",)),
        ("身份证11010519491231002X丢了", "身份证[identity]丢了", ("identity",)),
        ("order no. A-12345 is late", "order no. [id] is late", ("id",)),
        ("订单号：SF20991234 没到", "订单号：[id] 没到", ("id",)),
        ("reference 12345678 and a@b.co", "reference [number] and [email]", ("email", "number")),
    ],
)  # fmt: skip
def test_what_is_personal_is_replaced(text: str, expected: str, found: tuple[str, ...]) -> None:
    assert redact(text) == (expected, found)


@pytest.mark.parametrize(
    "text",
    [
        "I bought 2 hubs for 49.90 on 2024-05-31 at 10:30",
        "Error 404 on firmware 3.11.2",
        "我在2024年5月买了3个",
        "Is my id needed in order to pay?",
        "the account is locked",
    ],
)
def test_other_numbers_stay(text: str) -> None:
    assert redact(text) == (text, ())


def test_checksums() -> None:
    assert luhn("4111-1111-1111-1111") and not luhn("4111 1111 1111 1112") and not luhn("18")
    assert iban("GB82 WEST 1234 5698 7654 32") and not iban("GB83 WEST 1234 5698 7654 32")
    assert chinese_id("11010519491231002X") and not chinese_id("110105194912310021")


def test_a_card_with_a_wrong_check_digit_is_still_a_long_number() -> None:
    assert redact("4111 1111 1111 1112") == ("[number]", ("number",))


@given(st.text())
def test_nothing_is_found_twice(text: str) -> None:
    once = redact(text).text
    assert redact(once).text == once
