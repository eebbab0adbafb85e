"""Personal data out of a text, before it is kept or leaves: what is found is named, not shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

EMAIL = re.compile(r"[A-Za-z0-9][\w.+-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+", re.ASCII)
IBAN = re.compile(  # in groups where the letters are capitals, so that no word is part of it
    r"(?<![A-Za-z0-9])(?:[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}|[A-Za-z]{2}\d{2}[A-Za-z0-9]{11,30})"
    r"(?![A-Za-z0-9])"
)
CARD = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)")
CHINESE_ID = re.compile(r"(?<![0-9A-Za-z])\d{17}[\dXx](?![0-9A-Za-z])")
CHINESE_MOBILE = re.compile(r"(?<!\d)(?:(?:\+|00)?86[ -]?)?1[3-9]\d(?:[ -]?\d{4}){2}(?!\d)")
PHONE = re.compile(r"(?<![\w.])(?:\+|00)\d(?:[ ().-]{0,2}\d){6,14}(?!\d)")
LOCAL_PHONE = re.compile(r"(?<![\w.-])\(?0\d{1,4}\)?(?:[ /-]\d{2,8}){1,4}(?![\w-])")
CALLED = re.compile(
    r"(?P<head>\b(?:phone|tel|telephone|mobile|call me (?:at|on)|fax)\b[\s:.#]*(?:number|no)?"
    r"[\s:.#]*(?:is\s+)?|(?:电话|手机|座机|手机号|电话号码|联系方式)(?:号码?|是|为)?[\s:：]*)"
    r"(?P<value>\+?\d[\d ().-]{4,}\d)",
    re.IGNORECASE,
)
NAMED_ID = re.compile(
    r"(?P<head>\b(?:order|customer|account|invoice|contract|ticket|passport|ssn|id)\b"
    r"\s*(?:id|number|no|nr)?[\s.:#]*(?:is\s+)?"
    r"|(?:订单|客户|账户|账号|帐号|发票|合同|工单|护照|身份证)(?:编号|号码|号)?(?:是|为)?[\s:：#]*)"
    r"(?P<value>(?=[\w-]*\d)[A-Za-z0-9][A-Za-z0-9_-]{3,})",
    re.IGNORECASE,
)
DIGITS = re.compile(r"(?<!\d)\d(?:[ -]?\d){6,}(?!\d)")


class Redacted(NamedTuple):
    """text: with [name] in the place of what was found. found: the names, each once, sorted."""

    text: str
    found: tuple[str, ...]


def redact(text: str) -> Redacted:
    """Replace e-mail addresses, IBANs and card numbers whose checksums hold, Chinese identity
    numbers, telephone numbers, numbers that are called an id, and other runs of 7 or more digits.

    Names of people and addresses are not found: no rule tells them from other words.
    """
    found: set[str] = set()
    for name, pattern, holds in RULES:

        def replaced(
            match: re.Match[str], name: str = name, holds: Callable[[str], bool] = holds
        ) -> str:
            groups = match.groupdict()
            value = groups.get("value", match[0])
            if not holds(value):
                return match[0]
            found.add(name)
            return f"{groups.get('head', '')}[{name}]"

        text = pattern.sub(replaced, text)
    return Redacted(text, tuple(sorted(found)))


def luhn(number: str) -> bool:
    """Whether the check digit of a card number holds (ISO/IEC 7812-1)."""
    digits = [int(c) for c in number if c.isdigit()]
    if not 13 <= len(digits) <= 19:
        return False
    doubled = [2 * d - 9 * (d > 4) for d in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def iban(number: str) -> bool:
    """Whether the check digits of an IBAN hold (ISO 13616)."""
    plain = re.sub(r"[ -]", "", number).upper()
    if not 15 <= len(plain) <= 34 or not plain.isascii():
        return False
    moved = plain[4:] + plain[:4]
    return int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


def chinese_id(number: str) -> bool:
    """Whether the check character of an identity number holds (GB 11643-1999)."""
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    total = sum(int(c) * w for c, w in zip(number[:17], weights, strict=True))
    return "10X98765432"[total % 11] == number[17].upper()


def _always(value: str) -> bool:
    return True


def _no_date(value: str) -> bool:
    return re.match(r"(?:19|20)\d{2}-\d{1,2}-\d{1,2}(?!\d)", value) is None


RULES: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("email", EMAIL, _always),
    ("iban", IBAN, iban),
    ("identity", CHINESE_ID, chinese_id),
    ("card", CARD, luhn),
    ("phone", CHINESE_MOBILE, _always),
    ("phone", PHONE, _always),
    ("phone", CALLED, _always),
    ("phone", LOCAL_PHONE, _always),
    ("id", NAMED_ID, _always),
    ("number", DIGITS, _no_date),
)
