"""Damage to files, drawn from a seed: of their bytes, of the JSON in them, of text."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(10**30), 10**300, 0.5, 1e308),
    *(float("nan"), float("inf"), "", " ", "\0", "text", "小智🙂", "\ud800", "../../etc/passwd"),
    *("1" * 5000, [], {}, [[]], [None], [1, 2, 3], ["a", 1], {"a": None}, {"": {"b": []}}),
)
"""What JSON may hold where something else is wanted. Draw them by `draw_odd`."""
ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "gb18030", "latin-1", "cp037")
SPLICES = (
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\r",
    b"\n",
    b"\x1a",
    b'"',
    b"\\",
    b"{",
)


def draw_odd(rng: Random) -> Any:
    """One of the odd values, as a copy: what is damaged further must not change the others."""
    return copy.deepcopy(rng.choice(ODD_VALUES))


def damage_bytes(content: bytes, rng: Random) -> bytes:
    """The content with something flipped, cut, put in, repeated or spelled otherwise."""
    begin, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    match rng.randrange(9):
        case 0:
            changed = bytearray(content)
            for _ in range(rng.choice((1, 1, 3, 30)) if content else 0):
                changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
            return bytes(changed)
        case 1:
            return content[:begin]
        case 2:
            return content[:begin] + content[end:]
        case 3:
            return content[:begin] + rng.choice(SPLICES) * rng.choice((1, 3, 500)) + content[begin:]
        case 4:
            return content[:begin] + rng.randbytes(rng.randrange(1, 40)) + content[begin:]
        case 5:
            return content[:end] + content[begin:]
        case 6:
            return content[:begin] + bytes(end - begin) + content[end:]
        case 7:
            text = content.decode("utf-8", errors="replace")
            return text.encode(rng.choice(ENCODINGS), errors="replace")
        case _:
            return rng.choice((b"\r", b"\r\n", b"\n\n", b"\xe2\x80\xa8", b"\n\r")).join(
                content.split(b"\n")
            )


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a nested value: what it lies in, and its key there."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places_in(value[key])


def damage_value(value: Any, rng: Random) -> Any:
    """A nested value of JSON with something in it replaced, left out, renamed or put in."""
    changed = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        places = list(places_in(changed))
        if not places or rng.random() < 0.02:
            return draw_odd(rng)
        home, key = rng.choice(places)
        match rng.randrange(6):
            case 0 | 1 | 2:
                home[key] = draw_odd(rng)
            case 3:
                del home[key]
            case 4 if isinstance(home, dict):
                home[f"{key}{rng.choice(('', 's', ' ', '.x'))}"] = home.pop(key)
            case 5 if isinstance(home, dict):
                home[rng.choice(("name", "type", "", "\0", "model_type", "extra"))] = draw_odd(rng)
            case _:
                home[key] = [home[key]]
    return changed


def damage_json(content: bytes, rng: Random) -> bytes:
    """A JSON file with other values in it, or nested too deeply, or its bytes damaged."""
    match rng.randrange(8):
        case 0 | 1:
            return damage_bytes(content, rng)
        case 2 if rng.random() < 0.3:
            depth = rng.choice((50, 5000, 200_000))
            return b'{"a": ' * depth + b"1" + b"}" * rng.choice((depth, 0))
        case _:
            text = json.dumps(damage_value(json.loads(content), rng), ensure_ascii=False)
            return text.encode(errors="surrogatepass")


def damage_safetensors(content: bytes, rng: Random) -> bytes:
    """A safetensors file whose header says something else, or whose bytes are damaged."""
    if rng.random() < 0.3:
        return damage_bytes(content, rng)
    (length,) = struct.unpack("<Q", content[:8])
    header, body = content[8 : 8 + length], content[8 + length :]
    if rng.random() < 0.2:
        length = rng.choice((0, 1, length - 1, length + 1, len(content), 2**40, 2**64 - 1))
        return struct.pack("<Q", length) + header + body
    changed = damage_json(header, rng)
    return struct.pack("<Q", len(changed)) + changed + body


def damage_file(file: Path, rng: Random) -> None:
    """Damage a file as suits its kind, or put nothing or something else in its place."""
    content = file.read_bytes()
    file.unlink()  # it may be a link to what is kept
    if (chance := rng.random()) < 0.06:
        if chance < 0.02:
            file.mkdir()
        elif chance < 0.04:
            file.write_bytes(b"")
        return
    kinds = {".json": damage_json, ".safetensors": damage_safetensors}
    file.write_bytes(kinds.get(file.suffix, damage_bytes)(content, rng))
