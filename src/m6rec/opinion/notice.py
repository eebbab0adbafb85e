"""What stands on every screen and in every message of the opinion monitor."""

NOTICE = {"en": "Information, not advice.", "zh": "仅供参考，不构成投资建议。"}
