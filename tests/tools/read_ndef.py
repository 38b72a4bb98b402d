#!/usr/bin/env python3
"""What link does a phone find in the raw memory of a Type 2 tag?

Written from the NFC Forum's Type 2 Tag and NDEF specifications, without any code of this
repository: a second opinion. Usage: read_ndef.py tag.bin
"""
import sys

PREFIXES = {0: "", 1: "http://www.", 2: "https://www.", 3: "http://", 4: "https://"}
PAGE = 4
DATA_FIRST = 4 * PAGE


def data_area(memory):
    magic, version, size, access = memory[3 * PAGE : 4 * PAGE]
    if magic != 0xE1 or version >> 4 != 1:
        sys.exit("the capability container is not one of a Type 2 tag")
    if access >> 4:
        sys.exit("the tag cannot be read without a key")
    return memory[DATA_FIRST : DATA_FIRST + 8 * size]


def ndef_message(area):
    at = 0
    while at < len(area):
        kind = area[at]
        at += 1
        if kind == 0x00:
            continue
        if kind == 0xFE:
            break
        length = area[at]
        at += 1
        if length == 0xFF:
            length = int.from_bytes(area[at : at + 2], "big")
            at += 2
        value = area[at : at + length]
        if len(value) != length:
            sys.exit("a TLV is longer than the tag")
        if kind == 0x03:
            return value
        at += length
    sys.exit("there is no NDEF message on the tag")


def only_record(message):
    flags, type_length = message[0], message[1]
    begins, ends, chunked = flags & 0x80, flags & 0x40, flags & 0x20
    short, has_id, name_format = flags & 0x10, flags & 0x08, flags & 0x07
    if not begins or not ends or chunked or has_id or name_format != 1:
        sys.exit("the message is not one plain well-known record")
    size = 1 if short else 4
    length = int.from_bytes(message[2 : 2 + size], "big")
    kind = message[2 + size : 2 + size + type_length]
    payload = message[2 + size + type_length :]
    if kind != b"U" or len(payload) != length:
        sys.exit("the record is not one URI that fills the message")
    return payload


def main():
    with open(sys.argv[1], "rb") as file:
        memory = file.read()
    payload = only_record(ndef_message(data_area(memory)))
    print(PREFIXES[payload[0]] + payload[1:].decode("utf-8"))


main()
