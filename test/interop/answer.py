"""Reads one JSON request a line from standard input and writes one JSON answer a line. Bytes travel as hex."""

import json
import sys

import keytether as kt


def answer(ask):
    raw = {name: bytes.fromhex(value) for name, value in ask.get("bytes", {}).items()}
    what = ask["what"]
    if what == "seal":
        return {"hex": kt.seal(raw["key"], raw["keyId"], kt.message_context(ask["request"]), raw["plaintext"]).hex()}
    if what == "open":
        return {"hex": kt.open_message(raw["key"], raw["message"], kt.message_context(ask["request"])).hex()}
    if what == "make-record":
        record, key = kt.make_record(ask["record"], raw["secret"], ask["authId"], raw["authKey"])
        return {"hex": record.hex(), "key": key.hex()}
    if what == "read-record":
        record, identity, commitment = kt.read_record(raw["record"], ask["authId"], raw["authKey"])
        return {"record": record, "key": kt.open_key(raw["secret"], identity, commitment).hex()}
    if what == "wrap":
        return {"hex": kt.seal(raw["rootKey"], raw["rootId"], kt.wrap_context(raw["child"]), raw["secret"]).hex()}
    if what == "unwrap":
        return {"hex": kt.open_message(raw["rootKey"], raw["wrapped"], kt.wrap_context(raw["child"])).hex()}
    raise ValueError(what)


for line in sys.stdin:
    try:
        reply = answer(json.loads(line))
    except kt.Refused as refused:
        reply = {"refused": str(refused)}
    print(json.dumps(reply))
