#!/usr/bin/env python3
"""An independent reader of format 1, written from docs/format.md alone: checks, lists and extracts a packed bundle.

    reader.py check   BUNDLE SIGNER            signatures, hashes and completeness, without a key
    reader.py list    BUNDLE SIGNER KEYFILE    everything that the key file opens
    reader.py extract BUNDLE SIGNER KEYFILE TO and writes it below TO
    reader.py letters FOLDER                   a hot folder: every letter and what it brings, without a key
    reader.py lease   FILE SIGNER              a lease
    reader.py grant   FILE SIGNER              a debug grant
    reader.py example FORMAT.MD                recomputes the worked example of the format's own page

SIGNER is the client's signing key, 64 hexadecimal digits, or `-` to believe the one that the bundle names. It needs `cryptography` and
`blake3`. Every length is checked before it is used; what is not as the page says is refused with one line, and exit code 1.
"""
import os
import struct
import sys

from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

BLOCK, SEGMENT, HEADER, TAG = 65536, 16 << 20, 4096, 16
RECIPE, RESULT_MANIFEST, TASK_LOG, INPUT_MANIFEST = 2, 3, 4, 1


class Refused(Exception):
    pass


def require(holds, why):
    if not holds:
        raise Refused(why)


# --- Primitives -----------------------------------------------------------------------------------------------------------------------

def extract(salt, secret):
    mac = hmac.HMAC(salt or bytes(32), hashes.SHA256())
    mac.update(secret)
    return mac.finalize()


def expand(prk, info, length):
    return HKDFExpand(hashes.SHA256(), length, info).derive(prk)


def hkdf(secret, salt, info, length):
    return expand(extract(salt, secret), info, length)


def raw(public):
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)


def verify(context, key, body, signature):
    message = b"safelight v1 " + context + b"\0" + body
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise Refused("a signature does not hold") from None


def aead_open(key, nonce, sealed, additional):
    try:
        return AESGCM(key).decrypt(nonce, sealed, additional)
    except InvalidTag:
        raise Refused("something sealed is not authentic") from None


def hpke_open(secret, enc, sealed, info):
    """RFC 9180, base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM; the first message of the context."""
    def labeled(suite):
        def l_extract(salt, label, ikm):
            return extract(salt, b"HPKE-v1" + suite + label + ikm)

        def l_expand(prk, label, context, length):
            return expand(prk, struct.pack(">H", length) + b"HPKE-v1" + suite + label + context, length)
        return l_extract, l_expand
    private = X25519PrivateKey.from_private_bytes(secret)
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(enc))
    except ValueError:
        raise Refused("a stanza has no usable key") from None
    l_extract, l_expand = labeled(b"KEM" + struct.pack(">H", 0x20))
    eae = l_extract(b"", b"eae_prk", shared)
    shared = l_expand(eae, b"shared_secret", enc + raw(private.public_key()), 32)
    l_extract, l_expand = labeled(b"HPKE" + struct.pack(">HHH", 0x20, 1, 2))
    context = b"\0" + l_extract(b"", b"psk_id_hash", b"") + l_extract(b"", b"info_hash", info)
    secret = l_extract(shared, b"secret", b"")
    key = l_expand(secret, b"key", context, 32)
    return aead_open(key, l_expand(secret, b"base_nonce", context, 12), sealed, b"")


# --- postcard, in its only spelling -----------------------------------------------------------------------------------------------------

class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        require(count <= len(self.data) - self.at, "something ends too early")
        self.at += count
        return self.data[self.at - count:self.at]

    def u8(self):
        return self.take(1)[0]

    def flag(self):
        value = self.u8()
        require(value < 2, "a yes or no is neither")
        return value == 1

    def number(self, bits=64):
        value, shift = 0, 0
        while True:
            byte = self.u8()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                require(byte or shift == 7, "a number is longer than it need be")
                require(value < 1 << bits, "a number is too large")
                return value
            require(shift < bits, "a number is too long")

    def signed(self, bits=64):
        value = self.number(bits)
        return value >> 1 ^ -(value & 1)

    def bytes(self):
        return self.take(self.number())

    def text(self):
        try:
            return self.bytes().decode()
        except UnicodeDecodeError:
            raise Refused("a text is not UTF-8") from None

    def list(self, item):
        return [item() for _ in range(self.number())]

    def map(self, value):
        pairs = self.list(lambda: (self.text(), value()))
        keys = [key.encode() for key, _ in pairs]
        require(keys == sorted(set(keys)), "a map is in disorder")
        return dict(pairs)

    def maybe(self, item):
        return item() if self.flag() else None

    def end(self):
        require(self.at == len(self.data), "something follows")


# --- Keys -------------------------------------------------------------------------------------------------------------------------------

def read_key_file(data):
    require(data[:8] == b"SLCLKEY\1" and len(data) >= 128, "not a client key file of version 1")
    n, m = data[8], data[9]
    require(1 <= n <= 64 and m <= 64 and data[10:16] == bytes(6), "a key file's header is wrong")
    require(len(data) == 16 + 32 * (2 + n + m) + 16, "a key file has another length")
    require(blake3(data[:-16]).digest()[:16] == data[-16:], "a key file is damaged")
    at = lambda i: data[16 + 32 * i:48 + 32 * i]
    return [at(2 + i) for i in range(n)]


def stanza_open(stanza, secret, purpose, job):
    require(stanza[0] == 1, "a stanza's suite is unknown")
    info = b"safelight v1 job key " + purpose + b"\0" + job
    return hpke_open(secret, stanza[1:33], stanza[33:], info)


def read_key_of(job_key):
    return hkdf(job_key, b"", b"safelight v1 read", 32)


def attest_key_of(job_key):
    seed = hkdf(job_key, b"", b"safelight v1 attest", 32)
    return raw(Ed25519PrivateKey.from_private_bytes(seed).public_key())


def open_job(keys, secrets, job, attest):
    """The read key of a job, by the first receiving key that it is wrapped to."""
    require(keys[:9] == b"SLJOBKEY\1" and len(keys) >= 12, "not a job key file of version 1")
    n = keys[9]
    require(1 <= n <= 32 and keys[10:12] == b"\0\0" and len(keys) == 12 + 114 * n, "a job key file's header is wrong")
    entries = [keys[12 + 114 * i:126 + 114 * i] for i in range(n)]
    roles = [entry[0] for entry in entries]
    require(roles == [1] + [2] * (n - 1), "a job is not for one client, first, and readers")
    readers = [entry[1:33] for entry in entries[1:]]
    require(readers == sorted(set(readers)), "readers are in disorder")
    for secret in secrets:
        public = raw(X25519PrivateKey.from_private_bytes(secret).public_key())
        for entry in entries:
            if entry[1:33] != public:
                continue
            if entry[0] == 2:
                return stanza_open(entry[33:], secret, b"reader", job)
            job_key = stanza_open(entry[33:], secret, b"client", job)
            require(attest_key_of(job_key) == attest, "the job key is not the one that the envelope names")
            return read_key_of(job_key)
    raise Refused("the job is not sealed to this key")


# --- Sealed things ----------------------------------------------------------------------------------------------------------------------

def blob_open(read_key, purpose, context, blob):
    require(92 <= len(blob) <= 92 + (256 << 20), "a blob is too short or too long")
    require(blob[:12] == b"SLBLOB\0\1\1" + bytes([purpose, 0, 0]), "not a blob of this version, cipher and purpose")
    keys = hkdf(read_key, blob[12:44], b"safelight v1 blob" + bytes([purpose]) + context, 64)
    require(keys[32:] == blob[44:76], "a blob's key is another")
    return aead_open(keys[:32], bytes(12), blob[76:], blob[:76])


def segment_open(key, data, length):
    """Yields the plaintext of a segment, block by block."""
    require(len(data) >= HEADER and data[:12] == b"SLSEGMNT\1\1\x10\0", "not a segment of this version, cipher and block size")
    require(data[80:HEADER] == bytes(HEADER - 80), "a segment's header page is not zero to its end")
    require(struct.unpack("<I", data[12:16])[0] == length and 1 <= length <= SEGMENT, "a segment has another length")
    blocks = -(-length // BLOCK)
    hole = [data[16 + i // 8] >> i % 8 & 1 for i in range(256)]
    require(not any(hole[blocks:]), "a segment has a hole after its end")
    keys = hkdf(key, b"", b"safelight v1 segment" + data[:48], 64)
    require(keys[32:] == data[48:80], "a segment's key is another")
    sizes = [min(BLOCK, length - i * BLOCK) for i in range(blocks)]
    tags_at = HEADER + sum(size for size, gone in zip(sizes, hole) if not gone)
    stored = blocks - sum(hole[:blocks])
    require(len(data) == tags_at + TAG * stored, "a segment's file has another length")
    at, rank = HEADER, 0
    for i, size in enumerate(sizes):
        if hole[i]:
            yield bytes(size)
            continue
        tag = data[tags_at + TAG * rank:][:TAG]
        last = b"\1" if i == blocks - 1 else b"\0"
        yield aead_open(keys[:32], bytes(4) + struct.pack(">Q", i), data[at:at + size] + tag, data[:80] + last)
        at, rank = at + size, rank + 1


def check_entry(entry, result):
    path, kind, what, mode, time, xattrs = entry
    require(mode & ~0o1777 == 0, "a mode has other bits than permissions")
    names = [name for name, _ in xattrs]
    require(len(xattrs) <= 64 and names == sorted(set(names)), "attributes are in disorder")
    for name, value in xattrs:
        require(name[:5] == b"user." and 5 < len(name) < 256 and b"\0" not in name and len(value) <= 65536, "an attribute is wrong")
    if kind == "directory":
        require(result or not what, "an input directory is opaque")
    elif kind == "symlink":
        require(1 <= len(what) < 4096 and b"\0" not in what, "a link's target is wrong")
    elif kind == "whiteout":
        require(result and mode == 0 and time == 0 and not xattrs, "a whiteout is wrong")


def check_tree(entries, result):
    require(entries and entries[0][0] == b"" and entries[0][1] == "directory", "a tree does not begin with its root")
    directories, files, before = {b""}, set(), None
    for entry in entries:
        path, kind, what = entry[:3]
        require(before is None or before < path, "entries are in disorder")
        before = path
        check_entry(entry, result)
        if path:
            parent, _, name = path.rpartition(b"/")
            require(parent in directories and not path.startswith(b"/"), "an entry is in no directory")
            require(1 <= len(name) <= 255 and name not in (b".", b"..") and b"\0" not in name and len(path) <= 4096, "a name is wrong")
        if kind == "directory":
            directories.add(path)
        elif kind == "file":
            files.add(path)
        elif kind == "link":
            require(what in files, "a hard link is not to an earlier file")


def read_manifest(read_key, sealed, job, place, signer):
    """The trees of a manifest: [(central path, [(path, kind, what, mode, mtime, xattrs)])]. `place` is None for inputs."""
    purpose, context = (INPUT_MANIFEST, b"input manifest") if place is None else (RESULT_MANIFEST, b"result manifest")
    plain = blob_open(read_key, purpose, job + (place or b""), sealed)
    require(len(plain) >= 72, "a manifest is too short")
    verify(context, signer, plain[64:], plain[:64])
    require(plain[64:72] == b"SLMANIF\1", "not a manifest of version 1")
    r = Reader(plain[72:])
    require(r.take(10) == job, "a manifest is another job's")
    found = None
    if r.number(32):
        found = r.take(10) + struct.pack(">I", r.number(32)) + struct.pack(">Q", r.number())
    require(found == place, "a manifest is another attempt's")
    trees = r.list(lambda: (r.text(), r.list(lambda: read_entry(r))))
    r.end()
    paths = [path for path, _ in trees]
    require(len(trees) <= 64 and paths == sorted(set(paths)), "trees are in disorder")
    require(sum(len(entries) for _, entries in trees) <= 1 << 22, "a manifest has too many entries")
    require(not any(b.startswith(a + "/") for a in paths for b in paths), "a tree lies within another")
    for _, entries in trees:
        check_tree(entries, place is not None)
    return trees


def read_entry(r):
    path, kind = r.bytes(), r.number(32)
    require(kind < 5, "an entry is of an unknown kind")
    kind = ["directory", "file", "symlink", "link", "whiteout"][kind]
    what = None
    if kind == "directory":
        what = r.flag()
    elif kind == "file":
        length, records = r.number(), r.bytes()
        require(len(records) == 64 * -(-length // SEGMENT), "a file has another number of segments than its length needs")
        what = length, [(records[i:i + 32], records[i + 32:i + 64]) for i in range(0, len(records), 64)]
        require(all(any(name) or not any(key) for name, key in what[1]), "a segment of zeros has a key")
    elif kind != "whiteout":
        what = r.bytes()
    mode, time = r.number(32), r.signed()
    return path, kind, what, mode, time, r.list(lambda: (r.bytes(), r.bytes()))


# --- Signed documents and the bundle ------------------------------------------------------------------------------------------------------

def signed(context, data, signer, most):
    require(106 <= len(data) <= 106 + most and data[:10] == b"SLSIGNED\1\0", "not a signed document of version 1")
    require(data[10:42] == signer, "a document is signed by somebody else")
    verify(context, signer, data[106:], data[42:106])
    return Reader(data[106:])


def read_outline(r):
    job, client, priority = r.take(10), r.text(), r.u8()
    policy, digest = r.text(), r.take(32)

    def step():
        return r.number(), r.list(lambda: r.number(32)), r.map(lambda: struct.unpack("<d", r.take(8))[0]), r.map(lambda: r.list(r.text)), r.number(), r.maybe(lambda: (r.number(32), r.number()))
    steps, expires = r.list(step), r.number()
    central, retries = r.list(lambda: (r.text(), r.flag())), r.maybe(lambda: r.number(32))
    r.maybe(r.number), r.maybe(r.number), r.flag(), r.flag()
    require(priority <= 100 and 1 <= len(steps) <= 1000, "an outline is wrong")
    return job, expires


def read_envelope(data, signer):
    r = signed(b"envelope", data, signer, 256 * 1024)
    require(r.number(16) == 1, "an envelope's version is unknown")
    job, outline_expires = read_outline(r)
    require(r.take(32) == signer, "an envelope names another client")
    attest, inputs, recipe = r.take(32), r.take(32), r.take(32)
    site = r.take(48)[16:]
    stanza, issued, expires = r.bytes(), r.number(), r.number()
    r.end()
    require(1 <= len(stanza) <= 1024 and inputs != recipe, "an envelope is wrong")
    require(issued < expires <= issued + 90 * 86400 and outline_expires <= expires, "an envelope's times are wrong")
    return job, attest, inputs, recipe, site, issued, expires


CAUSES = ["exited", "killed", "timed out", "out of memory", "canceled", "view lost", "audit lost", "poisoned", "not authentic", "no output",
          "node lost", "not started", "no key", "flooded"]


def read_cause(r):
    choice = r.number(32)
    require(choice < len(CAUSES), "a cause is unknown")
    more = []
    if choice == 0:
        more = [r.u8()]
    elif choice == 1:
        more = [r.signed(32)]
    elif choice == 2:
        more = [r.number()]
    elif choice == 11:
        more = [r.text(), r.signed(32)]
        require(len(more[0]) <= 100 and more[0].isprintable(), "a step is wrong")
    return " ".join(str(part) for part in [CAUSES[choice], *more])


def read_result(r):
    task = r.number(32), r.number()
    session, attempt, fence = r.take(10), r.number(32), r.number()
    manifest, log = r.maybe(lambda: r.take(32)), r.maybe(lambda: r.take(32))
    audit = r.list(lambda: r.take(32))
    cause = read_cause(r)
    require(attempt and fence and len(audit) <= 64, "a result is wrong")
    return task, attempt, fence, session, manifest, log, audit, cause


class Store:
    """Files below a directory, objects among them by their names."""

    def __init__(self, path):
        self.path, self.lengths = path, {}

    def file(self, name):
        try:
            with open(os.path.join(self.path, name), "rb") as file:
                return file.read()
        except OSError as error:
            raise Refused(f"cannot read {name}: {error.strerror}") from None

    def blob(self, name):
        text = name.hex()
        data = self.file(f"blobs/{text[:2]}/{text}")
        require(blake3(data).digest() == name, f"object {text} has other bytes")
        require(len(data) == self.lengths.get(name, len(data)), f"object {text} has another length")
        return data

    def read_list(self, name):
        data = self.blob(name)
        require(data[:10] == b"SLBLOBS\0\1\0", "not a list of version 1")
        r = Reader(data[10:])
        pairs = r.list(lambda: (r.take(32), r.number(32)))
        r.end()
        names = [name for name, _ in pairs]
        require(len(pairs) <= 1 << 20 and names == sorted(set(names)), "a list is in disorder")
        require(all(1 <= length <= 268439552 for _, length in pairs), "a list has a blob that no blob can be")
        return dict(pairs)


class Bundle(Store):
    """A packed bundle whose every blob was checked."""

    def __init__(self, path, signer):
        super().__init__(path)
        data = self.file("bundle")
        require(len(data) >= 106, "not a bundle")
        self.signer = signer or data[10:42]
        r = signed(b"bundle", data, self.signer, 64 << 20)
        self.job, envelope = r.take(10), r.take(32)
        self.results = r.list(lambda: read_result(r))
        listed, total = r.take(32), r.number()
        r.number()
        r.end()
        require(envelope != listed, "envelope and list are one object")
        places = [(it[0], it[1], it[2]) for it in self.results]
        require(places == sorted(set(places)), "results are in disorder")
        require(len({it[3] for it in self.results}) == len(self.results), "a session is there twice")
        self.lengths = self.read_list(listed)
        require(sum(self.lengths.values()) == total, "the list's lengths do not add up")
        job, self.attest, self.inputs, self.recipe, *_ = read_envelope(self.blob(envelope), self.signer)
        require(job == self.job, "the envelope is another job's")
        named = [envelope, self.inputs, self.recipe]
        for it in self.results:
            named += [name for name in (it[4], it[5], *it[6]) if name]
        require(all(name in self.lengths for name in named), "something that is named is not in the list")
        for name in self.lengths:
            self.blob(name)

    def open(self, key_file):
        """[(title, trees)], [(title, bytes)]"""
        key = open_job(self.file("keys"), read_key_file(key_file), self.job, self.attest)
        views = [("inputs", read_manifest(key, self.blob(self.inputs), self.job, None, self.signer))]
        texts = []
        for task, attempt, fence, session, manifest, log, *_ in self.results:
            place = session + struct.pack(">I", attempt) + struct.pack(">Q", fence)
            title = f"{task[0]}.{task[1]} attempt {attempt}"
            if manifest:
                views.append((f"result {title}", read_manifest(key, self.blob(manifest), self.job, place, self.attest)))
            if log:
                texts.append(("log", blob_open(key, TASK_LOG, self.job + place, self.blob(log))))
        texts.append(("recipe", blob_open(key, RECIPE, self.job, self.blob(self.recipe))))
        return views, texts

    def contents(self, what):
        length, records = what
        for name, key in records:
            size = min(length, SEGMENT)
            length -= size
            if any(name):
                yield from segment_open(key, self.blob(name), size)
            else:
                yield bytes(size)


# --- Letters of a hot folder ------------------------------------------------------------------------------------------------------------

class Folder(Store):
    """A hot folder. Its letters are signed by whom their names say, which is not to say that anybody trusts them."""

    def letters(self):
        ready = os.path.join(self.path, "ready")
        require(os.path.isfile(os.path.join(self.path, "safelight-hotfolder")), "not a hot folder")
        for to in sorted(os.listdir(ready)):
            for name in sorted(os.listdir(os.path.join(ready, to))):
                yield self.letter(to, name)

    def letter(self, to, name):
        stem, _, kind = name.rpartition(".")
        parts = stem.split("-")
        require(kind in KINDS and [len(part) for part in parts] == [64, 16, 20], "a letter's name is wrong")
        signer, data = bytes.fromhex(parts[0]), self.file(f"ready/{to}/{name}")
        context, most, read = KINDS[kind]
        r = signed(context, data, signer, most)
        stamp = recipient, epoch, number, issued, expires = r.take(32), r.take(8), r.number(), r.number(), r.number()
        named = f"{signer.hex()}-{epoch.hex()}-{number:020}.{kind}", recipient.hex()
        require(named == (name, to), "a letter is not the one that its name says")
        require(number and issued < expires <= issued + 90 * 86400, "a stamp is wrong")
        require(int.from_bytes(epoch[:5], "big") <= issued + 300, "a letter is older than its epoch")
        said = read(self, r, signer, stamp)
        r.end()
        return f"{kind} from={signer.hex()} to={to} epoch={epoch.hex()} number={number} issued={issued} expires={expires} {said}"

    def load(self, r, named):
        """What a letter brings: all of it must be there, and what it names among it."""
        listed, total = r.take(32), r.number()
        lengths = self.read_list(listed)
        require(sum(lengths.values()) == total, "the list's lengths do not add up")
        require(all(name in lengths for name in named), "something that is named is not in the list")
        self.lengths = lengths
        for name in lengths:
            self.blob(name)
        self.lengths = {}
        return f"list={listed.hex()} bytes={total}", listed


def announcement(folder, r, signer, stamp):
    job, envelope = r.take(10), r.take(32)
    about, _, inputs, recipe, site, _, expires = read_envelope(folder.blob(envelope), signer)
    require((about, site) == (job, stamp[0]) and expires >= stamp[4], "an envelope is not its announcement's")
    load, listed = folder.load(r, [envelope, inputs, recipe])
    require(listed != envelope, "envelope and list are one object")
    return f"job={job.hex()} envelope={envelope.hex()} {load}"


def result_notice(folder, r, signer, stamp):
    job = r.take(10)
    task, attempt, fence, session, manifest, log, audit, cause = read_result(r)
    require(manifest or cause != "exited 0", "a success brings nothing")
    load, _ = folder.load(r, [name for name in (manifest, log, *audit) if name])
    some = lambda name: name.hex() if name else "-"
    audit = ",".join(name.hex() for name in audit)
    return (f"job={job.hex()} task={task[0]}.{task[1]} session={session.hex()} attempt={attempt} fence={fence} manifest={some(manifest)} "
            f"log={some(log)} audit={audit} cause={cause} {load}")


def read_prekey(data, signer):
    r = signed(b"prekey", data, signer, 256)
    name, key, site, issued = r.take(16), r.take(32), r.take(32), r.number()
    r.end()
    require(site == signer, "a prekey is another site's")
    return name, f"{name.hex()}:{key.hex()}:{issued}"


def prekey_batch(folder, r, signer, stamp):
    prekeys = [read_prekey(data, signer) for data in r.list(r.bytes)]
    require(1 <= len(prekeys) <= 256 and len({name for name, _ in prekeys}) == len(prekeys), "a batch of prekeys is wrong")
    return ",".join(said for _, said in prekeys)


def job_ended(folder, r, signer, stamp):
    job, outcome = r.take(10), r.number(32)
    require(outcome < 3, "an outcome is unknown")
    return f"job={job.hex()} {['succeeded', 'failed', 'canceled'][outcome]} results={r.number()}"


def receipt(folder, r, signer, stamp):
    of, verdict = r.take(32), r.number(32)
    require(verdict < 2, "a verdict is unknown")
    code = r.number(32) if verdict else 0
    require(code < 22, "a code is unknown")
    return f"of={of.hex()} " + (f"refused {code}" if verdict else "accepted")


def heartbeat(folder, r, signer, stamp):
    last = r.maybe(lambda: f"{r.take(8).hex()}-{r.number()}")
    return f"last={last or '-'}"


def register_notice(folder, r, signer, stamp):
    first, entries, checkpoint, key = r.number(), r.list(r.bytes), r.text(), r.take(32)
    require(1 <= len(entries) <= 200 and all(len(entry) <= 512 for entry in entries), "a register's entries are wrong")
    require(len(checkpoint.encode()) <= 4096 and first + len(entries) < 1 << 64, "a register's letter is wrong")
    names = ",".join(blake3(entry).hexdigest() for entry in entries)
    return f"first={first} entries={names} checkpoint={blake3(checkpoint.encode()).hexdigest()} key={key.hex()}"


def look_notice(folder, r, signer, stamp):
    job, session, audit = r.take(10), r.take(10), r.list(lambda: r.take(32))
    require(1 <= len(audit) <= 64, "a look's log has too many parts, or none")
    load, _ = folder.load(r, audit)
    names = ",".join(name.hex() for name in audit)
    return f"job={job.hex()} session={session.hex()} audit={names} {load}"


KINDS = {
    "job": (b"announcement", 512, announcement),
    "result": (b"result notice", 4096, result_notice),
    "prekeys": (b"prekey batch", 128 * 1024, prekey_batch),
    "receipt": (b"receipt", 256, receipt),
    "heartbeat": (b"heartbeat", 256, heartbeat),
    "cancel": (b"cancel", 256, lambda folder, r, signer, stamp: f"job={r.take(10).hex()}"),
    "register": (b"register notice", 128 * 1024, register_notice),
    "ended": (b"job ended", 256, job_ended),
    "look": (b"look notice", 4096, look_notice),
    "revocation": (b"revocation", 256, lambda folder, r, signer, stamp: f"job={r.take(10).hex()} grant={r.take(10).hex()}"),
}


def grant(data, signer):
    r = signed(b"debug grant", data, signer, 2048)
    version, number, client, key, job = r.number(16), r.take(10), r.text(), r.take(32), r.take(10)
    task = r.maybe(lambda: f"{r.number(32)}.{r.number()}")
    site, operator, issued, begins, expires = r.take(32), r.take(32), r.number(), r.number(), r.number()
    prekey, stanza = r.take(16), r.bytes()
    r.end()
    require(version == 1 and key == signer and 1 <= len(stanza) <= 1024, "a grant is wrong")
    require(issued <= begins < expires <= min(begins + 30 * 86400, issued + 90 * 86400), "a grant's times are wrong")
    return (f"grant number={number.hex()} client={client} job={job.hex()} task={task or '-'} site={site.hex()} operator={operator.hex()} "
            f"issued={issued} from={begins} expires={expires} prekey={prekey.hex()} stanza={blake3(stanza).hexdigest()}")


def lease(data, signer):
    r = signed(b"lease", data, signer, 1024)
    client, job, step, task, tasks = r.text(), r.take(10), r.number(32), r.number(), r.number(32)
    attempt, fence, session, node = r.number(32), r.number(), r.take(10), r.text()
    key, slot, expires, policy, digest = r.take(32), r.number(16), r.number(), r.text(), r.take(32)
    r.end()
    require(attempt and fence and 1 <= tasks <= 1024 and task + tasks < 1 << 64, "a lease is wrong")
    return (f"lease client={client} job={job.hex()} task={step}.{task} tasks={tasks} attempt={attempt} fence={fence} session={session.hex()} "
            f"node={node} key={key.hex()} slot={slot} expires={expires} policy={policy} digest={digest.hex()}")


# --- The commands -------------------------------------------------------------------------------------------------------------------------

def shown(name):
    return "".join(chr(b) if 0x21 <= b <= 0x7e and b != 0x5c else f"\\x{b:02x}" for b in name)


def listing(bundle, views, texts):
    for title, trees in views:
        yield title
        for central, entries in trees:
            for path, kind, what, mode, time, xattrs in entries:
                said = kind
                if kind == "directory" and what:
                    said = "directory opaque"
                elif kind == "file":
                    hasher = blake3()
                    for part in bundle.contents(what):
                        hasher.update(part)
                    said = f"file {what[0]} {hasher.hexdigest()}"
                elif kind in ("symlink", "link"):
                    said = f"{kind} {shown(what)}"
                listed = ",".join(f"{shown(name)}={value.hex()}" for name, value in xattrs)
                yield f"{central}\t{shown(path)}\t{mode:04o}\t{time}\t{said}\t{listed}"
    for title, data in texts:
        yield f"{title} {len(data)} {blake3(data).hexdigest()}"


def write_out(bundle, views, to):
    """Files and directories of each view below a directory of its own; links are listed, not made."""
    for title, trees in views:
        for central, entries in trees:
            root = os.path.join(os.fsencode(to), title.replace(" ", "-").encode(), central.lstrip("/").encode())
            for path, kind, what, *_ in entries:
                place = os.path.join(root, path) if path else root
                if kind == "directory":
                    os.makedirs(place, exist_ok=True)
                elif kind == "file":
                    with open(place, "xb") as file:
                        for part in bundle.contents(what):
                            file.write(part)


def example(page):
    """Recomputes what the page's worked example shows."""
    values = {}
    inside = False
    for line in page[page.index("## Worked example"):].splitlines():
        if line.startswith("```"):
            inside = not inside
        elif inside and "=" in line:
            name, _, text = line.partition("=")
            last = name.strip()
            values[last] = bytes.fromhex(text.strip())
        elif inside:
            values[last] += bytes.fromhex(line.strip())
    v = values
    segment = v["segment, first 80 bytes"] + bytes(HEADER - 80) + v["segment, stored block and tag"]
    require(b"".join(segment_open(v["segment key"], segment, 10)) == v["plaintext"], "the segment is another")
    require(blake3(segment).digest() == v["object"], "the object's name is another")
    require(blob_open(read_key_of(v["job key"]), RECIPE, v["job"], v["blob"]) == v["recipe"], "the blob is another")
    require(stanza_open(v["stanza"], v["x25519 secret"], b"client", v["job"]) == v["job key"], "the stanza is another")
    require(attest_key_of(v["job key"]) == v["attest key"], "the attest key is another")
    require(raw(Ed25519PrivateKey.from_private_bytes(v["signing seed"]).public_key()) == v["signing key"], "the signing key is another")
    verify(b"input manifest", v["signing key"], v["manifest body"], v["signature"])
    r = Reader(v["manifest body"][8:])
    require(r.take(10) == v["job"] and r.number() == 0, "the manifest is another's")
    (central, entries), = r.list(lambda: (r.text(), r.list(lambda: read_entry(r))))
    r.end()
    check_tree(entries, False)
    require(central == "/mnt" and entries[1][0] == b"scene", "the manifest has another entry")
    require(entries[1][2] == (10, [(v["object"], v["segment key"])]), "the manifest names another segment")
    keys = hkdf(read_key_of(v["job key"]), b"", b"safelight v1 audit" + v["session"], 64)
    record, plain = v["record"], v["record's plaintext"]
    index = bytes(7) + b"\7"
    require(record[:12] == blake3(index + plain, key=keys[32:]).digest()[:12], "the record's nonce is another")
    require(aead_open(keys[:32], record[:12], record[12:], index) == plain, "the record is another")


def main(arguments):
    command = arguments[0] if arguments else ""
    if command == "example" and len(arguments) == 2:
        with open(arguments[1], encoding="utf-8") as file:
            example(file.read())
        print("the example holds")
        return
    if command == "letters" and len(arguments) == 2:
        for line in list(Folder(arguments[1]).letters()):
            print(line)
        return
    if command == "lease" and len(arguments) == 3:
        with open(arguments[1], "rb") as file:
            print(lease(file.read(), bytes.fromhex(arguments[2])))
        return
    if command == "grant" and len(arguments) == 3:
        with open(arguments[1], "rb") as file:
            print(grant(file.read(), bytes.fromhex(arguments[2])))
        return
    if (command, len(arguments)) not in {("check", 3), ("list", 4), ("extract", 5)}:
        sys.exit(__doc__)
    signer = None if arguments[2] == "-" else bytes.fromhex(arguments[2])
    bundle = Bundle(arguments[1], signer)
    if command == "check":
        print(f"{len(bundle.lengths)} objects, {len(bundle.results)} results")
        return
    with open(arguments[3], "rb") as file:
        views, texts = bundle.open(file.read())
    for line in listing(bundle, views, texts):
        print(line)
    if command == "extract":
        write_out(bundle, views, arguments[4])


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Refused as refused:
        sys.exit(f"refused: {refused}")
