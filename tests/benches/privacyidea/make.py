"""An empty privacyIDEA with some HOTP tokens.

Reads a line of JSON: {"tokens": n, "codes": n}. Writes one line of JSON: for each token its serial, its PIN and that many
codes in order. Secrets and PINs are drawn here and live as long as the directory of the configuration.
"""

import hashlib
import hmac
import json
import os
import secrets
import struct
import sys

from privacyidea.app import create_app
from privacyidea.lib.token import init_token


def code(key, counter):
    digest = hmac.new(key, struct.pack(">Q", counter), hashlib.sha1).digest()
    place = digest[-1] & 15
    number = struct.unpack(">I", digest[place : place + 4])[0] & 0x7FFFFFFF
    return f"{number % 1_000_000:06d}"


def token(number, codes):
    key, pin, serial = secrets.token_bytes(20), secrets.token_urlsafe(9), f"BENCH{number:04d}"
    init_token({"type": "hotp", "otpkey": key.hex(), "pin": pin, "serial": serial})
    return {"serial": serial, "pin": pin, "codes": [code(key, n) for n in range(codes)]}


asked = json.loads(sys.stdin.readline())
app = create_app(
    config_name="production", config_file=os.environ["PRIVACYIDEA_CONFIGFILE"], silent=True
)
with app.app_context():
    made = [token(number, asked["codes"]) for number in range(asked["tokens"])]
print(json.dumps(made))
