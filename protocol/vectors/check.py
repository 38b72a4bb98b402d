#!/usr/bin/env python3
"""Can a stranger who has only docs/PROTOCOL.md compute the same bytes?

Python's standard library alone; section numbers are those of docs/PROTOCOL.md. Prints one line per
file and exits 1 at the first byte that differs.
"""
import base64
import hashlib
import hmac
import json
import pathlib
import re
import struct
import sys

HERE = pathlib.Path(__file__).parent
HOUR_MS = 3_600_000
CHANNEL = {"nfc": 1, "qr": 2, "code": 3}
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def load(name):
    return json.loads((HERE / name).read_text(encoding="utf-8"))


def same(got, wanted, what):
    if got != wanted:
        sys.exit(f"{what}\n  computed {got!r}\n  frozen   {wanted!r}")


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64url(text):
    if not re.fullmatch("[A-Za-z0-9_-]*", text):
        raise ValueError("not base64url")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if b64url(data) != text:
        raise ValueError("not canonical base64url")
    return data


# 1: numbers and check digits. The quasigroup, row by row.
DAMM = ("0317598642 7092154863 4206871359 1750983426 6123045978 "
        "3674209581 5869720134 8945362017 9438617205 2581436790").split()


def damm(digits):
    row = 0
    for digit in digits:
        row = int(DAMM[row][int(digit)])
    return row


def digits(text, count):
    """What a person meant: `count` digits, or None."""
    if len(text.encode()) > 64:
        return None
    out = ""
    for c in text:
        if c.isspace() or c in "-.\u2010\u2011\u2012\u2013\u2014\u2015":
            continue
        c = {"O": "0", "o": "0", "I": "1", "i": "1", "L": "1", "l": "1"}.get(c, c)
        if c not in "0123456789":
            return None
        out += c
    return out if len(out) == count else None


def terminal_id(text):
    read = digits(text, 8)
    if read is None:
        return "TerminalLength"
    return "TerminalCheck" if damm(read) else {"id": read}


# 2: hours, epoch keys, and what follows from them.
def offset_ms(terminal):
    digest = hashlib.sha256(b"m2key/epoch-offset/1\0" + struct.pack(">I", int(terminal))).digest()
    return int.from_bytes(digest[:8], "big") % HOUR_MS


def epoch_at(terminal, unix_ms):
    return min(max((unix_ms - offset_ms(terminal)) // HOUR_MS, 0), 2**32 - 1)


def mac(key, domain, data=b""):
    return hmac.new(key, domain + b"\0" + data, hashlib.sha256).digest()


def coordinates(channel, window, turn):
    return struct.pack(">BHH", CHANNEL[channel], window, turn)


def lengths(key, policy, channel):
    shortest, longest = policy["shortest_ms"], policy["longest_ms"]
    rest, out = HOUR_MS, []
    while rest > longest:
        choices = min(longest, rest - shortest) - shortest + 1
        draw = mac(key, b"m2key/window/1", struct.pack(">BH", CHANNEL[channel], len(out)))
        length = shortest + (int.from_bytes(draw[:8], "big") * choices >> 64)
        out.append(length)
        rest -= length
    return out + [rest]


def policy_ok(policy):
    shortest, longest, grace = (policy[k] for k in ("shortest_ms", "longest_ms", "grace_ms"))
    return shortest >= 1000 and 2 * shortest <= longest <= HOUR_MS and 0 <= grace <= 60_000


def code_digits(key, window, turn):
    number = int.from_bytes(mac(key, b"m2key/code/1", coordinates("code", window, turn))[:8], "big")
    return f"{number % 10**7:07}"


# 3: what is shown.
def base32(token):
    number = int.from_bytes(token, "big") << 2
    return "".join(CROCKFORD[number >> 5 * place & 31] for place in reversed(range(26)))


def unbase32(text):
    if len(text.encode()) != 26:
        return None
    number = 0
    for c in text.upper():
        c = {"O": "0", "I": "1", "L": "1"}.get(c, c)
        if c not in CROCKFORD:
            return None
        number = number << 5 | CROCKFORD.index(c)
    return None if number & 3 else (number >> 2).to_bytes(16, "big").hex()


def link_host(text):
    name, colon, port = text.partition(":")
    label = "[a-z0-9]([a-z0-9-]*[a-z0-9])?"
    if len(text.encode()) > 24 or not re.fullmatch(rf"{label}(\.{label})*", name):
        return False
    return not colon or bool(re.fullmatch("[1-9][0-9]{0,4}", port)) and int(port) <= 65535


def read_link(text):
    text = text.strip()
    if "://" in text:
        found = re.fullmatch(r"(?i:https)://[A-Za-z0-9.:\[\]-]*/t/(.*)", text, re.S)
        if not found:
            return "Shape"
        text = found[1]
    terminal, dot, token = text.partition(".")
    if not dot:
        return "Shape"
    terminal = terminal_id(terminal)
    if isinstance(terminal, str):
        return "Terminal"
    token = unbase32(token)
    return {**terminal, "token": token} if token else "Token"


def ndef(link):
    rest = link.removeprefix("https://").encode()
    return bytes([0xD1, 1, len(rest) + 1, 0x55, 4]) + rest


def read_ndef(data):
    if data[:2] != b"\xd1\x01" or data[3:5] != b"U\x04" or data[2] != len(data) - 4:
        return "Shape"
    try:
        return {"uri": "https://" + data[5:].decode()}
    except UnicodeDecodeError:
        return "Shape"


def shown_code(terminal, rotating):
    body = terminal[:7] + rotating
    every = body + str(damm(body))
    return "-".join((every[:5], every[5:10], every[10:]))


def read_code(text):
    read = digits(text, 15)
    if read is None:
        return "Length"
    if damm(read):
        return "Slip"
    return {"id": read[:7] + str(damm(read[:7])), "digits": read[7:14]}


# 4: signatures. Verifying ES256 takes little more than the curve's equation.
P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
G = (0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
     0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5)


def add(a, b):
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and (a[1] + b[1]) % P == 0:
        return None
    if a == b:
        slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, P)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def times(k, point):
    total = None
    while k:
        if k & 1:
            total = add(total, point)
        point, k = add(point, point), k >> 1
    return total


def es256(jwk, signed, signature):
    if len(signature) != 64:
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    x, y = (int.from_bytes(unb64url(jwk[c]), "big") for c in "xy")
    if not (0 < r < N and 0 < s < N) or (y * y - x * x * x + 3 * x - B) % P:
        return False
    z, w = int.from_bytes(hashlib.sha256(signed).digest(), "big"), pow(s, -1, N)
    point = add(times(z * w % N, G), times(r * w % N, (x, y)))
    return point is not None and point[0] % N == r


def strict(text):
    def members(pairs):
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a member twice")
        return dict(pairs)
    return json.loads(text, object_pairs_hook=members)


def judge(jws, typ, jwks, known):
    parts = jws.split(".")
    try:
        header, payload, signature = (unb64url(part) for part in parts)
        header = strict(header)
        header["alg"], header["typ"], header["kid"]
    except (ValueError, TypeError, KeyError):
        return "Malformed"
    if "crit" in header:
        return "Critical"
    if header["alg"] != "ES256":
        return "Algorithm"
    if header["typ"] != typ:
        return "Purpose"
    keys = [key for key in jwks["keys"] if key["kid"] == header["kid"]]
    if not keys:
        return "UnknownKey"
    if not es256(keys[0], ".".join(parts[:2]).encode(), signature):
        return "Signature"
    try:
        claims = strict(payload)
    except ValueError:
        return "Claims"
    return claims if claims.keys() == known else "Claims"


# One function per file of vectors.
def check_ids(vectors):
    for case in vectors["terminals"]:
        number = f"{case['number']:07}"
        same(number + str(damm(number)), case["id"], "terminal id")
        same(offset_ms(case["id"]), case["offset_ms"], "offset")
        for unix_ms, epoch in case["epoch_at"]:
            same(epoch_at(case["id"], unix_ms), epoch, f"epoch at {unix_ms}")
    for case in vectors["uuids"]:
        raw = bytearray(case["unix_ms"].to_bytes(6, "big") + bytes.fromhex(case["random"]))
        raw[6], raw[8] = raw[6] & 0x0F | 0x70, raw[8] & 0x3F | 0x80
        text = raw.hex()
        same("-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:])), case["uuid"], "uuid")


def check_keys(vectors):
    for case in vectors["epoch_keys"]:
        fields = (case["generation"], int(case["terminal"]), case["version"], case["epoch"])
        data = b"m2key/epoch-key/1\0" + struct.pack(">IIII", *fields)
        same(data.hex(), case["input"], "epoch key input")
        key = hmac.new(bytes.fromhex(case["seed"]), data, hashlib.sha256).digest()
        same(key.hex(), case["epoch_key"], "epoch key")
        same(b64url(mac(key, b"m2key/check/1")[:8]), case["check"], "check value")


def check_windows(vectors):
    for case in vectors["plans"]:
        opens = case["epoch"] * HOUR_MS + offset_ms(case["terminal"])
        same(opens, case["opens_ms"], "epoch opens")
        plan = lengths(bytes.fromhex(case["epoch_key"]), case["policy"], case["channel"])
        same(plan, case["lengths_ms"], "window lengths")
    for case in vectors["policies"]:
        same(policy_ok(case["policy"]), case["ok"], f"policy {case['policy']}")


def check_tokens(vectors):
    key, terminal = bytes.fromhex(vectors["epoch_key"]), vectors["terminal"]
    for case in vectors["machine"]:
        at = coordinates(case["channel"], case["window"], case["turn"])
        token = mac(key, b"m2key/token/1", at)[:16]
        same(token.hex(), case["token"], "token")
        same(base32(token), case["base32"], "base32")
        link = f"https://{case['host']}/t/{terminal}.{base32(token)}"
        same(link, case["link"], "link")
        same(ndef(link).hex(), case["ndef"], "tag message")
    for case in vectors["codes"]:
        rotating = code_digits(key, case["window"], case["turn"])
        same(rotating, case["digits"], "rotating digits")
        same(shown_code(terminal, rotating), case["shown"], "typed code")


def check_jws(vectors):
    jwk = vectors["jwks"]["keys"][0]
    members = json.dumps({k: jwk[k] for k in ("crv", "kty", "x", "y")}, separators=(",", ":"))
    same(b64url(hashlib.sha256(members.encode()).digest()), vectors["thumbprint"], "thumbprint")
    for case in vectors["signed"]:
        signed = case["jws"].rpartition(".")[0]
        same(hashlib.sha256(signed.encode()).hexdigest(), case["digest"], "digest")
        claims = judge(case["jws"], case["typ"], vectors["jwks"], case["claims"].keys())
        same(claims, case["claims"], case["typ"])
    receipt = vectors["signed"][1]["claims"]
    for case in vectors["judged"]:
        judged = judge(case["jws"], "m2key-receipt+jwt", vectors["jwks"], receipt.keys())
        same(judged, case["why"] or receipt, case["what"])


def check_audit(vectors):
    previous = bytes(32)
    for case in vectors["rows"]:
        same(previous.hex(), case["previous"], "previous hash")
        data = b"m2key/audit-row/1\0" + previous + struct.pack(">Qq", case["sequence"], case["at_ms"])
        for text in (case["node"].encode(), case["kind"].encode(), case["body"].encode()):
            data += struct.pack(">I", len(text)) + text
        previous = hashlib.sha256(data).digest()
        same(previous.hex(), case["hash"], "row hash")


def check_step_up(vectors):
    def uuid(text):
        return bytes.fromhex(text.replace("-", ""))

    for case in vectors["challenges"]:
        amount = case["amount"]
        data = b"m2key/step-up/1\0" + uuid(case["claim"]) + struct.pack(">Q", amount["amount_minor"])
        data += amount["currency"].encode() + uuid(case["payee"]) + uuid(case["account"])
        data += bytes.fromhex(case["nonce"])
        same(hashlib.sha256(data).hexdigest(), case["challenge"], "challenge of a payment")


def check_inputs(vectors):
    def read_as(reader, case, text):
        wanted = case.get("why") or {k: v for k, v in case.items() if k not in ("text", "message")}
        same(reader(text), wanted, repr(text))

    for name, reader in (("terminal_ids", terminal_id), ("links", read_link), ("codes", read_code)):
        for case in vectors[name]:
            read_as(reader, case, case["text"])
    for case in vectors["link_hosts"]:
        same(link_host(case["text"]), case["ok"], repr(case["text"]))
    for case in vectors["ndef"]:
        read_as(read_ndef, case, bytes.fromhex(case["message"]))
    exponents = {"EUR": 2, "JPY": 0, "KWD": 3}
    for case in vectors["money"]:
        same(read_money(case["json"], exponents), case.get("shown"), case["json"])
    for case in vectors["times"]:
        same(read_time(case["text"]), case.get("unix_ms"), repr(case["text"]))


def read_money(text, exponents):
    try:
        money = strict(text)
    except ValueError:
        return None
    amount, currency = money.get("amount_minor"), money.get("currency")
    if money.keys() != {"amount_minor", "currency"} or currency not in exponents:
        return None
    if type(amount) is not int or not 1 <= amount <= 100_000_000_000:
        return None
    exponent = exponents[currency]
    whole, part = divmod(amount, 10**exponent)
    return f"{whole}.{part:0{exponent}} {currency}" if exponent else f"{whole} {currency}"


def read_time(text):
    from datetime import datetime, timedelta, timezone
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", text):
        return None
    try:
        since = datetime.fromisoformat(text.replace("Z", "+00:00")) - datetime(1970, 1, 1, tzinfo=timezone.utc)
    except ValueError:
        return None
    return since // timedelta(milliseconds=1)


def main():
    for path in sorted(HERE.glob("*.json")):
        globals()[f"check_{path.stem}"](load(path.name))
        print(f"{path.name}: the same")


main()
