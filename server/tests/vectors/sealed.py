"""The sealed format, written a second time with another library, to hold the first one to its description.

`sealed.py make FILE` writes vectors; `sealed.py check FILE` opens those that the server made.
"""

import json
import os
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ENVELOPE = b"\xe1"


def commitment(key):
    return HKDF(SHA256(), 32, salt=None, info=b"progressdb key commitment").derive(key)


def seal(key, generation, place, value):
    generation = generation.to_bytes(4, "big")
    nonce = os.urandom(12)
    return ENVELOPE + generation + nonce + AESGCM(key).encrypt(nonce, value, ENVELOPE + place + generation)


def unseal(key, place, sealed):
    assert sealed[:1] == ENVELOPE
    generation, nonce, body = sealed[1:5], sealed[5:17], sealed[17:]
    return AESGCM(key).decrypt(nonce, body, ENVELOPE + place + generation)


def make(path):
    values = [b"", b"b", b'{"title":"T"}', "grün".encode(), b"y" * 1000, bytes(range(256))]
    vectors = []
    for number, value in enumerate(values):
        key, place, generation = os.urandom(32), os.urandom(1 + number * 5), 7 ** (number * 2)
        vectors.append({
            "key": key.hex(),
            "generation": generation,
            "place": place.hex(),
            "value": value.hex(),
            "sealed": seal(key, generation, place, value).hex(),
            "commitment": commitment(key).hex(),
        })
    with open(path, "w") as file:
        json.dump(vectors, file, indent=2)
        file.write("\n")


def check(path):
    with open(path) as file:
        vectors = json.load(file)
    assert len(vectors) >= 6, "the file has lost vectors"
    for vector in vectors:
        key, place, value, sealed, committed = (
            bytes.fromhex(vector[name]) for name in ("key", "place", "value", "sealed", "commitment")
        )
        assert unseal(key, place, sealed) == value, vector
        assert int.from_bytes(sealed[1:5], "big") == vector["generation"], vector
        assert commitment(key) == committed, vector
        try:
            unseal(key, place + b"x", sealed)
        except InvalidTag:
            continue
        raise AssertionError(f"opened in another place: {vector}")
    print(f"{len(vectors)} vectors opened")


if __name__ == "__main__":
    {"make": make, "check": check}[sys.argv[1]](sys.argv[2])
