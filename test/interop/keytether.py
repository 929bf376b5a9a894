"""The format of src/crypto/FORMAT.md, written again from the page alone, over the `cryptography` package."""

import os
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import constant_time, hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

MAGIC = b"\x8eKT"
CHUNK = 16384
TAG = 16
KINDS = {1: "root", 2: "data"}
STATES = {1: "active", 2: "retired"}
MODES = {1: "one", 2: "any", 3: "all"}


class Refused(Exception):
    """The word that the format gives for what is wrong."""


def label(name):
    return b"keytether/v1 " + name.encode() + b"\0"


def lp16(value):
    return struct.pack(">H", len(value)) + value


def expand(key, info, length):
    return HKDFExpand(algorithm=hashes.SHA512(), length=length, info=info).derive(key)


def mac(name, key, data):
    h = hmac.HMAC(key, hashes.SHA256())
    h.update(label(name) + data)
    return h.finalize()


def code_of(table, word):
    return next(code for code, known in table.items() if known == word)


# Messages


def message_context(request):
    def build(header):
        pairs = sorted((n.encode(), v.encode()) for n, v in request["context"])
        fixed = (request[name].encode() for name in ("tenant", "scope", "purpose", "resourceId"))
        return (
            label("message")
            + header
            + b"".join(map(lp16, fixed))
            + struct.pack(">H", len(pairs))
            + b"".join(lp16(n) + lp16(v) for n, v in pairs)
        )

    return build


def derive(key, salt, context):
    info = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0" + salt + context
    block = expand(key, info, 76)
    return AESGCM(block[:32]), block[32:44], block[44:]


def nonce_of(base, index):
    return (int.from_bytes(base, "big") ^ index).to_bytes(12, "big")


def seal(key, key_id, context_of, plaintext):
    header = MAGIC + b"M\x01\x01\0\0" + key_id
    salt = os.urandom(24)
    aead, base, commitment = derive(key, salt, context_of(header))
    chunks = []
    for index in range(len(plaintext) // CHUNK + 1):
        chunk = plaintext[index * CHUNK : (index + 1) * CHUNK]
        chunks.append(aead.encrypt(nonce_of(base, index), chunk, None))
    return header + salt + commitment + b"".join(chunks)


def open_message(key, message, context_of):
    header = message[:24]
    if len(header) < 24:
        raise Refused("length")
    for at, size, wanted, word in ((0, 4, MAGIC + b"M", "magic"), (4, 1, b"\x01", "version"), (5, 1, b"\x01", "suite"), (6, 2, b"\0\0", "flags")):
        if header[at : at + size] != wanted:
            raise Refused(word)
    if len(message) < 80:
        raise Refused("truncated")
    aead, base, commitment = derive(key, message[24:48], context_of(header))
    if not constant_time.bytes_eq(commitment, message[48:80]):
        raise Refused("commitment")
    plaintext, rest, index = b"", message[80:], 0
    while True:
        sealed, rest = rest[: CHUNK + TAG], rest[CHUNK + TAG :]
        if len(sealed) < TAG:
            raise Refused("truncated")
        try:
            plaintext += aead.decrypt(nonce_of(base, index), sealed, None)
        except InvalidTag:
            raise Refused("tag") from None
        if len(sealed) < CHUNK + TAG:
            return plaintext
        index += 1


# Key records


def identity_bytes(record):
    return (
        MAGIC
        + b"R\x01"
        + bytes([code_of(KINDS, record["kind"]), 1, 0])
        + bytes.fromhex(record["keyId"])
        + struct.pack(">IQ", record["keyVersion"], record["createdMs"])
        + b"".join(lp16(record[name].encode()) for name in ("tenant", "scope", "purpose"))
    )


def derive_key(secret, identity):
    block = expand(secret, label("key-record") + identity, 64)
    return block[:32], block[32:]


def make_record(record, secret, auth_id, auth_key):
    identity = identity_bytes(record)
    key, commitment = derive_key(secret, identity)
    wraps = record["wraps"]
    body = identity + commitment
    body += struct.pack(">QBBB", record["generation"], code_of(STATES, record["state"]), code_of(MODES, record["mode"]), len(wraps))
    for wrap in wraps:
        body += bytes.fromhex(wrap["wrapperId"])
        body += lp16(wrap["kmsKeyVersion"].encode()) + lp16(wrap["wrapAlg"].encode()) + lp16(bytes.fromhex(wrap["wrapped"]))
    body += lp16(auth_id.encode())
    return body + mac("auth-record", auth_key, body), key


class Fields:
    """Reads an object from front to back."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        value = self.data[self.at : self.at + size]
        if len(value) != size:
            raise Refused("length")
        self.at += size
        return value

    def number(self, size):
        return int.from_bytes(self.take(size), "big")

    def lp16(self):
        return self.take(self.number(2))

    def text(self):
        return self.lp16().decode()


def read_record(data, auth_id, auth_key):
    fields = Fields(data)
    if fields.take(5) != MAGIC + b"R\x01":
        raise Refused("magic")
    record = {"kind": KINDS[fields.number(1)]}
    if fields.take(2) != b"\x01\0":
        raise Refused("suite")
    record["keyId"] = fields.take(16).hex()
    record["keyVersion"], record["createdMs"] = fields.number(4), fields.number(8)
    for name in ("tenant", "scope", "purpose"):
        record[name] = fields.text()
    identity = data[: fields.at]
    commitment = fields.take(32)
    record["generation"] = fields.number(8)
    record["state"], record["mode"] = STATES[fields.number(1)], MODES[fields.number(1)]
    record["wraps"] = [
        {"wrapperId": fields.take(16).hex(), "kmsKeyVersion": fields.text(), "wrapAlg": fields.text(), "wrapped": fields.lp16().hex()}
        for _ in range(fields.number(1))
    ]
    if fields.text() != auth_id:
        raise Refused("auth-id")
    expected = mac("auth-record", auth_key, data[: fields.at])
    if not constant_time.bytes_eq(expected, fields.take(32)) or fields.at != len(data):
        raise Refused("mac")
    return record, identity, commitment


def open_key(secret, identity, commitment):
    key, expected = derive_key(secret, identity)
    if not constant_time.bytes_eq(expected, commitment):
        raise Refused("commitment")
    return key


# Data-key wraps


def wrap_context(child):
    return lambda header: label("key-wrap") + header + lp16(child)
