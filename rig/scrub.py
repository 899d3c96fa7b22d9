"""Hide secrets in boot logs: Wi-Fi, MQTT and web passwords, and the per-device keys that Tuya firmware prints.

Everything a person or a report is shown goes through `scrub`. Names of networks, addresses and all else stay. What
it cannot do: find a secret that another thread's print cut in two, or one printed without saying what it is; for
the second give the secrets that are known (from a configuration) in `known`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HIDDEN = "***"
_WORTH = 8  # characters, WPA's shortest password: shorter finds are not looked for elsewhere, that hits too much

_PASSWORD = (
    r"(?:[\w.-]*(?:passw(?:or)?d|passphrase|mqtt_?pass)[\w.-]*"
    r"|(?:wifi_?|ap_?|sta_?)?pass\d?|pwd|(?:wpa_?|ap_?|gw_?)?psk(?:_?key)?)"
)
_OTHER = (
    r"(?:[\w.-]*(?:secret|token|authorization"
    r"|(?:auth|auz|local|sec|session|api|access|private|shared|wifi|wpa|wep)[_-]?key)[\w.-]*)"
)
_SCHEME = r"(?:(?:basic|bearer|digest)[ \t]+)?"  # of an HTTP header: not itself the secret
_IS = r"[ \t]*[:=][ \t]*"
# What is said of a password and is none: "password is wrong".
_STATE = r"(?:not|too|null|none|wrong|empty|invalid|valid|incorrect|correct|required|missing|set|unset|ok)"
_NO_STATE = rf"(?!{_STATE}[.,;:!)]*(?:\s|$))"
_FINDERS = tuple(
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        # OpenBeken: Using Pass [..]. To the line's last bracket, since a password may hold one; or to its end.
        rf"(?P<lead>(?:\b(?:pass(?:word)?|pwd|psk)|(?<![\w.-]){_PASSWORD}) ?(?:[:=][ \t]*)?\[)"
        r"(?P<secret>[^\n]*(?=\])|[^\n]*)",
        # The SDK: ssid:NAME key:PASSWORD, with mode:N behind it on an access point.
        r"(?P<lead>\bssid:[^\n]*?\bkey:)(?P<secret>[^\n]*?)(?=[ \t]*(?:mode:\d|$))",
        # OpenBeken's commands and its older MQTT print, where a blank comes before the value.
        r"(?P<lead>\b(?:(?:mqtt|web)password|password[12]|mqtt_pass)[ \t]+)(?P<secret>[^;\n]+)",
        # name:"value", "name":"value", name='value', and the first two with \" as in JSON within JSON
        rf"(?P<lead>(?<![\w.-])(?:{_PASSWORD}|{_OTHER})\\?[\"']?{_IS}\\?\"{_SCHEME})"
        r"(?P<secret>(?:[^\"\\\n]|\\[^\n])*)",
        rf"(?P<lead>(?<![\w.-])(?:{_PASSWORD}|{_OTHER})[\"']?{_IS}'{_SCHEME})"
        r"(?P<secret>[^\n]*?)(?='(?:[\s,;)}\]&]|$)|$)",
        # ?pass=value&.. (web forms)
        rf"(?P<lead>(?<=[?&]){_PASSWORD}[:=])(?P<secret>[^\s&\"]+)",
        # {passwd:value,.. or "passwd":value,.. (Tuya's quoteless JSON)
        rf"(?P<lead>(?:(?<=[{{,]){_PASSWORD}|(?<![\w.-]){_PASSWORD}[\"']){_IS})"
        r"(?P<secret>[^\s,}\]\"'][^,}\n]*)",
        # Any other password: value. It may hold blanks, so to the line's end.
        rf"(?P<lead>(?<![\w.{{,?&-]){_PASSWORD}{_IS})(?P<secret>[^\s\[\"'][^\n]*)",
        # password is VALUE, pwd VALUE, password VALUE where that is no word
        r"(?P<lead>\b(?:password|passphrase|passwd|pwd|psk)[ \t]+(?:(?:is[ \t]+)?(?:set|changed)[ \t]+to|is[ \t]+now"
        rf"|is|was)\b[ \t]*[:=]?[ \t]*)(?P<secret>{_NO_STATE}\S[^\n]*)",
        rf"(?P<lead>\b(?:passwd|pwd)[ \t]+)(?P<secret>{_NO_STATE}[^\s:=\[]\S{{7,}})",
        r"(?P<lead>\b(?:password|passphrase)[ \t]+)(?P<secret>(?=[a-z]*[^a-z\s.,:;!=\[(])[^\s:=\[]\S{7,})",
        # token: value, Authorization: Basic value
        rf"(?P<lead>(?<![\w.-]){_OTHER}[\"']?{_IS}{_SCHEME})(?P<secret>[^\s,;&}}\]\"']+)",
        # key: value is many things (a button, a size); a password from WPA's shortest on
        rf"(?P<lead>(?<![\w.-])key[\"']?{_IS}[\"']?)(?P<secret>[^\s,;&}}\]\"']{{{_WORTH},}})",
        # mqtt://user:password@host
        r"(?P<lead>\b[a-z]+://[^\s:/@]+:)(?P<secret>[^\s@]+)(?=@)",
        # wpa_supplicant: PSK - hexdump(len=32): aa bb ..
        r"(?P<lead>\b(?:psk|pmk|ptk|gtk|passphrase)\b[^:\n]*hexdump[^:\n]*:)(?P<secret>[^\n]+)",
    )
)
# Tuya: "dev id key: 16" or "get key:", then the bytes on one of the next lines (other prints may come between).
_KEY_FOLLOWS = re.compile(r"\b(?:dev id key|get key|get kvs)\b", re.IGNORECASE)
_KEY_LINES = 4
_KEY_BYTES = re.compile(r"(?:\b(?:0x)?[0-9a-f]{2}\b[ ,]*){3,}(?:0x)?[0-9a-f]{2}\b|\b[0-9a-f]{32}\b", re.IGNORECASE)


def scrub(text: str, known: Iterable[str] = ()) -> str:
    """`text` with every secret found in it, and each `known` one, as ***.

    Lines stay lines, what holds no secret stays as it is, and scrubbing twice is scrubbing once.
    """
    secrets = {secret for secret in known if secret.strip("*\r\n \t") and "\n" not in secret}
    while True:
        before = text
        text = _hide_keys(text)
        for finder in _FINDERS:
            for match in finder.finditer(text):
                words = match["secret"].split()  # what runs to its line's end may be a secret and a remark
                secrets |= {part for part in (match["secret"].strip(), *words[:1]) if len(part) >= _WORTH}
            text = finder.sub(lambda match: match["lead"] + _hide(match["secret"]), text)
        for secret in sorted(secrets, key=len, reverse=True):
            if secret.strip("*"):
                text = text.replace(secret, HIDDEN)
        if text == before:  # each round but the last takes characters away that are no asterisks
            return text


def _hide(secret: str) -> str:
    bare = secret.strip()
    return secret.replace(bare, HIDDEN) if bare.strip("*") else secret


def _hide_keys(text: str) -> str:
    lines, left = text.split("\n"), 0
    for at, line in enumerate(lines):
        if _KEY_FOLLOWS.search(line):
            left = _KEY_LINES
        if left:
            lines[at] = _KEY_BYTES.sub(HIDDEN, line)
            left -= 1
    return "\n".join(lines)
