#!/usr/bin/env python3
"""Does OpenSSL accept a compact JWS with the keys of a JWK set?

Written from RFC 7515, 7517 and 7518, without any code of this repository: a second opinion.
Usage: verify_jws.py file.jws jwks.json; prints header and claims as one JSON object.
"""
import base64
import json
import os
import subprocess
import sys
import tempfile

# SubjectPublicKeyInfo of a P-256 key, up to the point (RFC 5480).
SPKI_P256 = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")


def unbase64url(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def pem(jwk):
    if (jwk["kty"], jwk["crv"]) != ("EC", "P-256"):
        sys.exit("the key is not one of P-256")
    point = b"\x04" + unbase64url(jwk["x"]) + unbase64url(jwk["y"])
    text = base64.b64encode(SPKI_P256 + point).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n".encode()


def der_integer(number):
    size = number.bit_length() // 8 + 1
    return bytes([2, size]) + number.to_bytes(size, "big")


def der_signature(raw):
    if len(raw) != 64:
        sys.exit("an ES256 signature has 64 bytes")
    halves = [int.from_bytes(half, "big") for half in (raw[:32], raw[32:])]
    body = b"".join(der_integer(half) for half in halves)
    return bytes([0x30, len(body)]) + body


def openssl_accepts(key, signature, text):
    with tempfile.TemporaryDirectory() as folder:
        names = [os.path.join(folder, name) for name in ("key.pem", "signature.der")]
        for name, content in zip(names, (key, signature)):
            with open(name, "wb") as file:
                file.write(content)
        command = ["openssl", "dgst", "-sha256", "-verify", names[0], "-signature", names[1]]
        return subprocess.run(command, input=text, capture_output=True).returncode == 0


def main():
    with open(sys.argv[1]) as file:
        head, claims, signature = file.read().strip().split(".")
    with open(sys.argv[2]) as file:
        keys = json.load(file)["keys"]
    header = json.loads(unbase64url(head))
    if header["alg"] != "ES256":
        sys.exit("the algorithm is not ES256")
    key = next((key for key in keys if key["kid"] == header["kid"]), None)
    if key is None:
        sys.exit("the JWK set does not hold the key")
    text = f"{head}.{claims}".encode()
    if not openssl_accepts(pem(key), der_signature(unbase64url(signature)), text):
        sys.exit("OpenSSL refuses the signature")
    print(json.dumps({"header": header, "claims": json.loads(unbase64url(claims))}))


main()
