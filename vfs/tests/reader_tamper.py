#!/usr/bin/env python3
"""Spoils a golden area in one place at a time, and lets the independent reader open it: it must refuse each, and the untouched one not.

In the reader's own process, with files that are spoilt in memory. Of the places worth trying it tries one in STEP; it prints how many."""
import hashlib
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import reader


class Spoilt(reader.Bundle):
    """A bundle of which one file has other bytes."""
    spoilt, files, skip_hash = None, {}, False

    def file(self, name):
        if self.spoilt and self.spoilt[0] == name:
            return self.spoilt[1]
        if name not in Spoilt.files:
            Spoilt.files[name] = super().file(name)
        return Spoilt.files[name]

    def blob(self, name):
        """With its name checked, or as if whoever spoilt it could make a file with the same hash."""
        if not Spoilt.skip_hash:
            return super().blob(name)
        text = name.hex()
        return self.file(f"blobs/{text[:2]}/{text}")


def opens(path, signer, key):
    try:
        bundle = Spoilt(path, signer)
        return list(reader.listing(bundle, *bundle.open(key)))
    except reader.Refused:
        return None


def places(data, step):
    """Every byte of what is small and of every header; a sample of the rest, always the last 64."""
    head = min(len(data), 700)
    picked = set(range(head)) | set(range(max(0, len(data) - 64), len(data)))
    picked |= {int.from_bytes(hashlib.sha256(b"%d" % i).digest()[:8], "big") % len(data) for i in range(60)}
    return sorted(picked)[step // 2::step]


def main(golden, step):
    path = os.path.join(golden, "bundle")
    with open(os.path.join(golden, "client.key"), "rb") as file:
        key = file.read()
    with open(os.path.join(golden, "listing.txt"), encoding="utf-8") as file:
        listing = file.read().splitlines()
    signer = reader.Bundle(path, None).signer
    names = [os.path.relpath(os.path.join(at, name), path) for at, _, files in os.walk(path) for name in files]
    tried, wrong = 0, []
    for Spoilt.skip_hash in (False, True):
        Spoilt.spoilt = None
        assert opens(path, signer, key) == listing, "the untouched one does not open"
        for name in sorted(names):
            with open(os.path.join(path, name), "rb") as file:
                data = file.read()
            # A name that is checked refuses whatever was changed: one look at each kind of change will do.
            at = places(data, step if Spoilt.skip_hash or "/" not in name else 50 * step)
            changes = [(f"byte {i}", data[:i] + bytes([data[i] ^ 0x20]) + data[i + 1:]) for i in at]
            changes += [("cut", data[:-1]), ("longer", data + b"\0"), ("empty", b"")]
            for what, spoilt in changes:
                Spoilt.spoilt = name, spoilt
                tried += 1
                # The reader's own stanza in the key file is another's business.
                if opens(path, signer, key) is not None and not (name == "keys" and other_entry(what)):
                    wrong.append(f"{name}: {what}")
    if wrong:
        sys.exit("opened:\n" + "\n".join(wrong))
    print(tried)


def other_entry(what):
    return what.startswith("byte ") and int(what[5:]) >= 12 + 114 + 1


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
