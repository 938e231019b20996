#!/usr/bin/env python3
"""Verifies what Safelight signs of its audit logs, without any code of Safelight's.

  verify.py proof FILE [--site-key KEY] [--client-key KEY]    a proof of `safelight audit prove`
  verify.py certificate FILE [--site-key KEY] [--client-key KEY]    a certificate of `safelight key erase`
  verify.py register DIR --site-key KEY [--seen NOTE --client-key KEY]    a client's register on the disk
  verify.py log FILE... DIR    a log, or its parts in order, against every statement of a register about it

Formats: C2SP tlog-tiles, signed-note, tlog-cosignature; RFC 6962 for the tree. Needs only `cryptography`. A key is
`<name>+<key id>+<base64 of type and key>`, as a proof has it; a key that comes with what it signed proves nothing by itself.
Exit code 0 if everything holds, 1 if something does not.
"""

import argparse
import base64
import binascii
import hashlib
import json
import pathlib
import struct
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LOG, WITNESS = 1, 4
WIDTH = 256


class Wrong(Exception):
    """Something does not hold."""


def leaf_hash(data):
    return hashlib.sha256(b"\0" + data).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def root_of(leaves):
    """The root of RFC 6962 over the hashes of leaves."""
    peaks = []  # of complete subtrees, with their heights
    for leaf in leaves:
        peaks.append((0, leaf))
        while len(peaks) > 1 and peaks[-1][0] == peaks[-2][0]:
            (height, right), (_, left) = peaks.pop(), peaks.pop()
            peaks.append((height + 1, node_hash(left, right)))
    if not peaks:
        return hashlib.sha256(b"").digest()
    root = peaks.pop()[1]
    while peaks:
        root = node_hash(peaks.pop()[1], root)
    return root


def included(leaf, index, size, path, root):
    """RFC 9162, section 2.1.3.2."""
    if index >= size:
        return False
    at, last, current = index, size - 1, leaf
    for beside in path:
        if last == 0:
            return False
        if at & 1 or at == last:
            current = node_hash(beside, current)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            current = node_hash(current, beside)
        at, last = at >> 1, last >> 1
    return last == 0 and current == root


class Key:
    def __init__(self, text):
        name, number, rest = text.rsplit("+", 2) if text.count("+") == 2 else text.split("+", 2)
        raw = base64.b64decode(rest, validate=True)
        self.name, self.kind, self.key = name, raw[0], raw[1:]
        digest = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]
        if digest != binascii.unhexlify(number) or len(self.key) != 32:
            raise Wrong(f"the key {name} is malformed")
        self.id = digest

    def open(self, note):
        """The size and root of a note that this key signed, and when a witness saw it."""
        text, found, lines = note.partition("\n\n")
        if not found:
            raise Wrong("the checkpoint is no signed note")
        text += "\n"
        origin, size, root = text.split("\n")[:3]
        for line in lines.splitlines():
            dash, name, encoded = line.split(" ")
            raw = base64.b64decode(encoded, validate=True)
            if dash != "\u2014" or name != self.name or raw[:4] != self.id:
                continue
            signed, seen, raw = text, None, raw[4:]
            if self.kind == WITNESS:
                (seen,) = struct.unpack(">Q", raw[:8])
                signed, raw = f"cosignature/v1\ntime {seen}\n{text}", raw[8:]
            try:
                Ed25519PublicKey.from_public_bytes(self.key).verify(raw, signed.encode())
            except InvalidSignature:
                raise Wrong(f"the signature of {name} does not hold") from None
            return int(size), base64.b64decode(root), seen
        raise Wrong(f"{self.name} did not sign the checkpoint")


class Statement:
    """safelight-log/v1: what a register says of a log."""

    def __init__(self, entry):
        lines = entry.decode().split("\n")
        if len(lines) != 7 or lines[0] != "safelight-log/v1" or lines[6]:
            raise Wrong("an entry is no statement")
        self.job, self.log, self.records = lines[1], lines[2], int(lines[3])
        self.root = base64.b64decode(lines[4], validate=True)


def proof(path, site_key, client_key):
    print(proved(json.loads(pathlib.Path(path).read_text()), site_key, client_key))


def certificate(path, site_key, client_key):
    said = json.loads(pathlib.Path(path).read_text())
    if said["format"] != "safelight-certificate/v1":
        raise Wrong("the format is unknown")
    holds = proved(said["proof"], site_key, client_key)
    job = Statement(said["proof"]["statement"].encode()).job
    # The record of an erased key ends with the hash of the text.
    about = base64.b64decode(said["proof"]["record"]).endswith(leaf_hash(said["text"].encode()))
    if not about or f"job: {job}" not in said["text"].split("\n"):
        raise Wrong("the text is not the one that was signed")
    print(said["text"] + holds)


def proved(said, site_key, client_key):
    if said["format"] != "safelight-proof/v1":
        raise Wrong("the format is unknown")
    hashes = lambda name: [base64.b64decode(text) for text in said[name]]
    statement = Statement(said["statement"].encode())
    record = leaf_hash(base64.b64decode(said["record"]))
    if said["seq"] < 1 or not included(record, said["seq"] - 1, statement.records, hashes("record_path"), statement.root):
        raise Wrong("the record is not on the log that the statement names")
    size, root, _ = Key(site_key or said["site_key"]).open(said["checkpoint"])
    entry = leaf_hash(said["statement"].encode())
    if not included(entry, said["entry"], size, hashes("statement_path"), root):
        raise Wrong("the statement is not in the register that the site signed")
    seen = "not seen by the client"
    if client_key or said["checkpoint"].count("\u2014") > 1:
        _, _, when = Key(client_key or said["client_key"]).open(said["checkpoint"])
        seen = f"seen by the client at {when}"
    return f"record {said['seq']} of {statement.job} is on its log, register entry {said['entry']} of {size}, {seen}"


def tile_path(row, tile, width):
    name = f"{tile % 1000:03}"
    while tile >= 1000:
        tile //= 1000
        name = f"x{tile % 1000:03}/{name}"
    return f"tile/{row}/{name}" + ("" if width == WIDTH else f".p/{width}")


def entries_of(directory, size):
    for tile in range((size + WIDTH - 1) // WIDTH):
        width = min(WIDTH, size - tile * WIDTH)
        data = (directory / tile_path("entries", tile, width)).read_bytes()
        hashes = (directory / tile_path("0", tile, width)).read_bytes()
        for at in range(width):
            (length,) = struct.unpack_from(">H", data)
            entry, data = data[2 : 2 + length], data[2 + length :]
            if leaf_hash(entry) != hashes[32 * at : 32 * at + 32]:
                raise Wrong(f"entry {tile * WIDTH + at} is not the one of its tile")
            yield entry


def register(directory, site_key, seen, client_key):
    directory = pathlib.Path(directory)
    note = (directory / "checkpoint").read_text()
    size, root, _ = Key(site_key).open(note)
    leaves = [leaf_hash(entry) for entry in entries_of(directory, size)]
    if root_of(leaves) != root:
        raise Wrong("the entries are not those that the site signed")
    if seen:
        old, old_root, when = Key(client_key).open(pathlib.Path(seen).read_text())
        if old > size:
            raise Wrong(f"the register was cut off: the client saw {old} entries, {size} are there")
        if root_of(leaves[:old]) != old_root:
            raise Wrong(f"the register was rewritten at or before entry {old}, which the client saw at {when}")
    print(f"{size} entries, as signed" + (", and they begin with what the client saw" if seen else ""))


def records_of(data):
    """The encoded records of a log: `SLAUDIT\\0`, version u16, length u16, header, link; then length u32, record, link."""
    if data[:8] != b"SLAUDIT\0":
        raise Wrong("it is no audit log")
    (length,) = struct.unpack_from("<H", data, 10)
    at = 12 + length + 32
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        if at + 4 + length + 32 > len(data):
            return
        yield data[at + 4 : at + 4 + length]
        at += 4 + length + 32


def joined(paths):
    """The bytes of a log from its parts: `SLAUDITC`, version u16, length u16, continued, link; `continued` is the log's own header, the
    part's number, and the number and link of the record before it."""
    data = pathlib.Path(paths[0]).read_bytes()
    (length,) = struct.unpack_from("<H", data, 10)
    header = data[12 : 12 + length]
    for number, path in enumerate(paths[1:], 1):
        part = pathlib.Path(path).read_bytes()
        (length,) = struct.unpack_from("<H", part, 10)
        says = part[12 : 12 + length]
        if part[:8] != b"SLAUDITC" or says[: len(header)] != header or number > 127 or says[len(header)] != number:
            raise Wrong(f"{path} is not part {number + 1} of this log")
        if says[-32:] != data[-32:]:
            raise Wrong(f"{path} does not continue the part before it")
        data += part[12 + length + 32 :]
    return data


def log(paths, directory):
    data = joined(paths)
    (length,) = struct.unpack_from("<H", data, 10)
    number = binascii.hexlify(data[12 + length - 16 : 12 + length]).decode()
    leaves = [leaf_hash(record) for record in records_of(data)]
    directory = pathlib.Path(directory)
    size = int((directory / "checkpoint").read_text().split("\n")[1])
    about = [said for said in map(Statement, entries_of(directory, size)) if said.log == number]
    if not about:
        raise Wrong("the register says nothing of this log")
    for said in about:
        if said.records > len(leaves):
            raise Wrong(f"the log was cut off after record {len(leaves)}; {said.records} were registered")
        if root_of(leaves[: said.records]) != said.root:
            raise Wrong(f"the log was rewritten at or before record {said.records}")
    print(f"{len(leaves)} records, as {len(about)} statements of the register have them")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    one = kinds.add_parser("proof")
    one.add_argument("file")
    one.add_argument("--site-key")
    one.add_argument("--client-key")
    one = kinds.add_parser("certificate")
    one.add_argument("file")
    one.add_argument("--site-key")
    one.add_argument("--client-key")
    one = kinds.add_parser("register")
    one.add_argument("directory")
    one.add_argument("--site-key", required=True)
    one.add_argument("--seen")
    one.add_argument("--client-key")
    one = kinds.add_parser("log")
    one.add_argument("file", nargs="+")
    one.add_argument("directory")
    said = parser.parse_args()
    try:
        if said.kind == "proof":
            proof(said.file, said.site_key, said.client_key)
        elif said.kind == "certificate":
            certificate(said.file, said.site_key, said.client_key)
        elif said.kind == "register":
            register(said.directory, said.site_key, said.seen, said.client_key)
        else:
            log(said.file, said.directory)
    except (Wrong, OSError, ValueError, KeyError, IndexError, struct.error) as error:
        print(f"does not hold: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
