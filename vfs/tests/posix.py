"""What programs do to files, checked as they do it: one function for each row of the table in docs/semantics.md.

posix.py DIR [ROW...] runs all of them, or some, in a directory that is empty; posix.py --rows names them. The rows in DIFFERENT are those
in which a view is not as ext4 is.
"""

import array, ctypes, errno, fcntl, mmap, os, select, signal, socket, stat, struct, subprocess, sys, tempfile, threading, time

libc = ctypes.CDLL(None, use_errno=True)
KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO_RANGE, INSERT = 1, 2, 8, 16, 32


def long(number):
    return ctypes.c_long(number)


def call(name, *args):
    if getattr(libc, name)(*args) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def refused(code, act, *args):
    try:
        act(*args)
    except OSError as error:
        assert error.errno == code, error
    else:
        raise AssertionError(f"{act} was not refused")


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def appending():
    fds = [os.open("append", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) for _ in range(2)]
    lines = [b"line %d\n" % number for number in range(20000)]
    for number, line in enumerate(lines):
        os.write(fds[number % 2], line)
    for fd in fds:
        os.fsync(fd)
        os.close(fd)
    assert read("append") == b"".join(lines)


def mapping():
    with open("map", "wb+") as file:
        file.truncate(300000)
        with mmap.mmap(file.fileno(), 300000) as memory:
            memory[70000:70005] = b"hello"
            memory[299999:] = b"!"
            memory.flush()
            memory[131071:131073] = b"ab"
            # Another handle sees what a mapping wrote, flushed or not.
            assert read("map")[131070:131074] == b"\0ab\0"
    data = read("map")
    assert len(data) == 300000 and data[70000:70005] == b"hello" and data[-1:] == b"!"


def replacing_what_is_open():
    write("victim", b"old")
    file = open("victim", "rb")
    write("victim.new", b"new")
    os.rename("victim.new", "victim")
    assert file.read() == b"old" and os.fstat(file.fileno()).st_nlink == 0
    assert read("victim") == b"new" and os.stat("victim").st_nlink == 1


def unlinking_what_is_open():
    fd = os.open("gone", os.O_RDWR | os.O_CREAT, 0o600)
    os.unlink("gone")
    os.write(fd, b"x" * 100000)
    os.ftruncate(fd, 70000)
    assert os.fstat(fd).st_size == 70000 and os.fstat(fd).st_nlink == 0
    assert os.pread(fd, 10, 69995) == b"x" * 5
    os.close(fd)
    with tempfile.TemporaryFile(dir=".") as file:
        file.write(b"scratch")
        file.truncate(3)
        file.seek(0)
        assert file.read() == b"scr"


def holes():
    write("punch", b"\x07" * 400000)
    fd = os.open("punch", os.O_RDWR)
    call("fallocate", fd, 3, ctypes.c_long(50000), ctypes.c_long(200000))
    os.close(fd)
    assert read("punch") == b"\x07" * 50000 + b"\0" * 200000 + b"\x07" * 150000
    with open("sparse", "wb") as file:
        file.truncate(1 << 33)
        file.seek(1 << 32)
        file.write(b"island")
    fd = os.open("sparse", os.O_RDONLY)
    data = os.lseek(fd, 0, os.SEEK_DATA)
    assert (1 << 32) - (1 << 16) <= data <= 1 << 32, data
    hole = os.lseek(fd, data, os.SEEK_HOLE)
    assert (1 << 32) + 6 <= hole <= (1 << 32) + (1 << 17), hole
    refused(errno.ENXIO, os.lseek, fd, 1 << 33, os.SEEK_DATA)
    os.close(fd)
    assert os.stat("sparse").st_blocks * 512 < 1 << 20
    fd = os.open("grown", os.O_RDWR | os.O_CREAT, 0o644)
    call("fallocate", fd, 0, ctypes.c_long(0), ctypes.c_long(200000))
    assert os.fstat(fd).st_size == 200000
    call("fallocate", fd, 1, ctypes.c_long(0), ctypes.c_long(400000))
    assert os.fstat(fd).st_size == 200000
    os.close(fd)


def data_by_holes(path):
    """Reads a file as programs do that skip holes, and all of it where holes are not told (EINVAL, lseek(2))."""
    fd = os.open(path, os.O_RDONLY)
    size = os.fstat(fd).st_size
    data, at = bytearray(size), 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            assert error.errno == errno.EINVAL, error
            start, end = at, size
        data[start:end] = os.pread(fd, end - start, start)
        at = end
    os.close(fd)
    return bytes(data)


def copying_what_is_still_written():
    # The pages are dirty and the file is longer than the server knows: whoever believes in its holes would lose them.
    with open("dirty", "wb", buffering=0) as file:
        file.write(b"\x05" * 300000)
        file.seek(1 << 24)
        file.write(b"end")
        expected = b"\x05" * 300000 + b"\0" * ((1 << 24) - 300000) + b"end"
        assert data_by_holes("dirty") == expected
        subprocess.run(["cp", "--sparse=auto", "dirty", "copied"], check=True)
    assert data_by_holes("dirty") == expected
    assert read("copied") == expected


def lengths():
    write("long", b"\x09" * 200000)
    os.truncate("long", 65537)
    os.truncate("long", 200000)
    assert read("long") == b"\x09" * 65537 + b"\0" * 134463
    fd = os.open("long", os.O_WRONLY | os.O_TRUNC)
    os.pwrite(fd, b"ab", 65535)
    os.close(fd)
    assert read("long") == b"\0" * 65535 + b"ab"


def names():
    longest = b"\xff" * 255
    write(longest, b"1")
    assert longest in os.listdir(b".")
    refused(errno.ENAMETOOLONG, write, b"\xff" * 256, b"1")
    os.makedirs("a/b/c")
    write("a/b/c/file", b"1")
    os.rename("a/b", "moved")
    assert read("moved/c/file") == b"1" and not os.path.exists("a/b")
    refused(errno.EINVAL, os.rename, "moved", "moved/c/x")
    refused(errno.ENOTEMPTY, os.rmdir, "moved")
    write("one", b"1")
    write("two", b"2")
    call("renameat2", -100, b"one", -100, b"two", 2)
    assert read("one") == b"2" and read("two") == b"1"
    refused(errno.EEXIST, call, "renameat2", -100, b"one", -100, b"two", 1)
    os.link("one", "uno")
    assert os.stat("one").st_nlink == 2 and os.stat("uno").st_ino == os.stat("one").st_ino
    write("uno", b"shared")
    assert read("one") == b"shared"
    os.symlink("moved/c/file", "link")
    assert os.readlink("link") == "moved/c/file" and read("link") == b"1"
    before = os.stat(".").st_nlink
    os.mkdir("sub")
    assert os.stat(".").st_nlink == before + 1
    os.rmdir("sub")


def attributes():
    write("about", b"1")
    os.chmod("about", 0o640)
    os.utime("about", ns=(1, 1234567890123456789))
    os.setxattr("about", "user.note", b"value")
    found = os.stat("about")
    assert found.st_mode & 0o7777 == 0o640 and found.st_mtime_ns == 1234567890123456789
    assert os.getxattr("about", "user.note") == b"value" and os.listxattr("about") == ["user.note"]
    refused(errno.ENODATA, os.getxattr, "about", "user.none")
    assert os.statvfs(".").f_namemax == 255
    fd = os.open(".", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def private_mapping():
    write("private", b"a" * 200000)
    with open("private", "rb+") as file:
        with mmap.mmap(file.fileno(), 200000, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as memory:
            memory[0:1] = b"b"
            memory[131072:131073] = b"b"
    assert read("private") == b"a" * 200000
    with open("private", "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
        assert memory[199999:] == b"a"
    # What is beyond the last page of a file cannot be touched, whatever the mapping says.
    script = "import mmap, os, sys; f = open('cut', 'rb+'); m = mmap.mmap(f.fileno(), 200000); f.truncate(10); m[150000]"
    write("cut", b"c" * 200000)
    ended = subprocess.run([sys.executable, "-c", script])
    assert ended.returncode == -signal.SIGBUS, ended


def zeroing():
    write("zeroed", b"\x07" * 400000)
    fd = os.open("zeroed", os.O_RDWR)
    call("fallocate", fd, ZERO_RANGE, long(100000), long(100000))
    assert read("zeroed") == b"\x07" * 100000 + b"\0" * 100000 + b"\x07" * 200000
    call("fallocate", fd, ZERO_RANGE | KEEP_SIZE, long(390000), long(100000))
    assert os.fstat(fd).st_size == 400000
    call("fallocate", fd, ZERO_RANGE, long(390000), long(100000))
    assert os.fstat(fd).st_size == 490000
    assert read("zeroed")[200000:] == b"\x07" * 190000 + b"\0" * 100000
    os.close(fd)


def shifting_ranges():
    write("shifted", b"1" * 262144)
    fd = os.open("shifted", os.O_RDWR)
    for mode in [COLLAPSE, INSERT]:
        refused(errno.EOPNOTSUPP, call, "fallocate", fd, mode, long(0), long(65536))
    os.close(fd)
    assert read("shifted") == b"1" * 262144


def allocating_more_than_there_is():
    # On a view only: ext4 takes all there is before it says that it is not enough.
    assert "fuse" in subprocess.run(["stat", "-f", "-c", "%T", "."], capture_output=True, text=True, check=True).stdout
    free = os.statvfs(".").f_bavail * os.statvfs(".").f_frsize
    fd = os.open("promised", os.O_RDWR | os.O_CREAT, 0o644)
    os.posix_fallocate(fd, 0, 1 << 20)
    refused(errno.ENOSPC, os.posix_fallocate, fd, 0, free + (1 << 30))
    assert os.fstat(fd).st_size == 1 << 20
    os.write(fd, b"still fine")
    os.fsync(fd)
    os.close(fd)


def large_files():
    with open("large", "wb+") as file:
        for at in [(1 << 32) - 3, (1 << 31) - 1, (1 << 40) + 5]:
            file.seek(at)
            file.write(b"island")
            file.flush()
            file.seek(at)
            assert file.read(6) == b"island"
        assert os.fstat(file.fileno()).st_size == (1 << 40) + 11
        refused(errno.EFBIG, os.ftruncate, file.fileno(), (1 << 44) + 1)
    os.remove("large")


def direct():
    with open("direct", "wb") as file:
        file.write(b"d" * 300000)
    fd = os.open("direct", os.O_RDWR | os.O_DIRECT)
    buffer = mmap.mmap(-1, 65536)
    assert os.preadv(fd, [buffer], 65536) == 65536 and buffer[:] == b"d" * 65536
    buffer[:] = b"e" * 65536
    assert os.pwritev(fd, [buffer], 131072) == 65536
    os.close(fd)
    assert read("direct") == b"d" * 131072 + b"e" * 65536 + b"d" * (300000 - 196608)


def copying_ranges():
    write("source", bytes(range(256)) * 2000)
    with open("source", "rb") as a, open("target", "wb+") as b:
        done = 0
        while done < 512000:
            done += os.copy_file_range(a.fileno(), b.fileno(), 512000 - done)
    assert read("target") == read("source")
    with open("target", "rb+") as file:
        assert os.copy_file_range(file.fileno(), file.fileno(), 70000, 1, 300000) == 70000
    data = read("source")
    assert read("target") == data[:300000] + data[1:70001] + data[370000:]
    with open("source", "rb") as a, open("sent", "wb") as b:
        sent = 0
        while sent < 512000:
            sent += os.sendfile(b.fileno(), a.fileno(), sent, 512000 - sent)
    assert read("sent") == data
    with open("cloned", "wb") as file, open("source", "rb") as source:
        refused(errno.EOPNOTSUPP, fcntl.ioctl, file, 0x40049409, source.fileno())


def syncing():
    fd = os.open("synced", os.O_RDWR | os.O_CREAT, 0o644)
    os.write(fd, b"x" * 100000)
    os.fdatasync(fd)
    os.fsync(fd)
    call("syncfs", fd)
    call("sync_file_range", fd, long(0), long(100000), 7)
    os.close(fd)
    fd = os.open("synced", os.O_WRONLY | os.O_SYNC)
    os.write(fd, b"y")
    os.close(fd)
    fd = os.open(".", os.O_RDONLY)
    os.fsync(fd)
    call("syncfs", fd)
    os.close(fd)


def flock(kind, start, length, pid=0):
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, pid)


def locking():
    write("locked", b"x" * 100)
    ask = """
import fcntl, os, struct, sys
fd = os.open("locked", os.O_RDWR)
def tried(act, *args):
    try:
        act(*args)
        return "got"
    except OSError:
        return "not"
whole = tried(fcntl.flock, fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
held = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 10, 10, 0)
free = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 50, 10, 0)
ofd = tried(fcntl.fcntl, fd, 37, held), tried(fcntl.fcntl, fd, 37, free)
fcntl.fcntl(fd, 37, struct.pack("hhqqi4x", fcntl.F_UNLCK, 0, 0, 0, 0))
print(whole, *ofd, tried(fcntl.fcntl, fd, fcntl.F_SETLK, held), tried(fcntl.fcntl, fd, fcntl.F_SETLK, free))
"""
    other = lambda: subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    assert other() == ["got"] * 5, other()
    fd = os.open("locked", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert other() == ["not", "got", "got", "got", "got"]
    fcntl.flock(fd, fcntl.LOCK_UN)
    fcntl.fcntl(fd, 37, flock(fcntl.F_WRLCK, 10, 10))
    assert other() == ["got", "not", "got", "not", "got"], other()
    fcntl.fcntl(fd, 37, flock(fcntl.F_UNLCK, 10, 10))
    fcntl.fcntl(fd, fcntl.F_SETLK, flock(fcntl.F_WRLCK, 10, 10))
    assert other() == ["got", "not", "got", "not", "got"]
    os.close(fd)
    assert other() == ["got"] * 5


def owning():
    write("owned", b"1")
    uid, gid = os.getuid(), os.getgid()
    os.chown("owned", uid, gid)
    os.chown("owned", -1, gid)
    os.symlink("owned", "owned.link")
    os.lchown("owned.link", uid, gid)
    refused(errno.EPERM, os.chown, "owned", uid + 1, -1)
    refused(errno.EPERM, os.chown, "owned", -1, gid + 1)
    found = os.stat("owned")
    assert (found.st_uid, found.st_gid) == (uid, gid)


def modes():
    write("mode", b"1")
    for mode in [0o000, 0o444, 0o640, 0o1777, 0o2755, 0o4711, 0o7777]:
        os.chmod("mode", mode)
        assert os.stat("mode").st_mode & 0o7777 == mode
    os.chmod("mode", 0o6755)
    os.mkdir("group")
    os.chmod("group", 0o2775)
    os.mkdir("group/below")
    assert os.stat("group/below").st_mode & 0o2000
    previous = os.umask(0o027)
    write("masked", b"")
    os.mkdir("masked.d")
    os.umask(previous)
    assert os.stat("masked").st_mode & 0o777 == 0o640 and os.stat("masked.d").st_mode & 0o777 == 0o750


def set_id_bits():
    # The bits are kept, and the mount is nosuid: nothing happens when such a program is run.
    write("program", b"#!/bin/sh\nid -u\n")
    os.chmod("program", 0o4755)
    mounted = os.statvfs(".").f_flag
    assert mounted & os.ST_NOSUID and mounted & os.ST_NODEV


def times():
    write("time", b"1")
    for pair in [(1, 2), (1234567890123456789, 987654321), (-1, -1500000000), (-2000000000123456789, -1999999999), (4102444800000000001, 7258118400999999999)]:
        os.utime("time", ns=pair)
        found = os.stat("time")
        assert (found.st_atime_ns, found.st_mtime_ns) == pair, (pair, found)
    os.utime("time", ns=(5, 6))
    before = os.stat("time")
    with open("time", "ab") as file:
        file.write(b"2")
        file.flush()
        os.fsync(file.fileno())
        assert os.stat("time").st_mtime_ns > before.st_mtime_ns
    changed = os.stat("time")
    # The kernel stamps what it keeps with the time of its last tick.
    time.sleep(0.02)
    os.chmod("time", 0o600)
    now = os.stat("time")
    assert now.st_mtime_ns == changed.st_mtime_ns, (now, changed)
    assert now.st_ctime_ns > changed.st_ctime_ns, (now, changed)
    os.utime("time")
    assert os.stat("time").st_mtime_ns >= now.st_mtime_ns
    os.mkdir("timed")
    before = os.stat("timed")
    time.sleep(0.02)
    write("timed/new", b"")
    assert os.stat("timed").st_mtime_ns > before.st_mtime_ns
    os.symlink("nowhere", "timed.link")
    os.utime("timed.link", ns=(5, 6), follow_symlinks=False)
    assert os.lstat("timed.link").st_mtime_ns == 6


def extreme_times():
    # As far from 1970 as the numbers go. Where a file system ends earlier, it keeps the nearest that it has.
    write("extreme", b"1")
    for seconds in [1 - (1 << 63), (1 << 63) - 1, -(1 << 40), 1 << 40]:
        for part in [0, 1, 999999999]:
            two = struct.pack("qqqq", seconds, part, seconds, part)
            call("utimensat", -100, b"extreme", two, 0)
            found = os.stat("extreme").st_mtime_ns
            assert (found < 0) == (seconds < 0), (seconds, found)
    write("extreme", b"2")
    assert read("extreme") == b"2"


def time_of_access():
    write("accessed", b"1")
    os.utime("accessed", ns=(1, 1))
    read("accessed")
    os.listdir(".")
    assert os.stat("accessed").st_atime_ns == 1


def extended_attributes():
    write("attributed", b"1")
    os.mkdir("attributed.d")
    for path in ["attributed", "attributed.d"]:
        os.setxattr(path, "user.empty", b"")
        os.setxattr(path, "user.note", b"\0" * 1000)
        refused(errno.EEXIST, os.setxattr, path, "user.note", b"", os.XATTR_CREATE)
        refused(errno.ENODATA, os.setxattr, path, "user.none", b"", os.XATTR_REPLACE)
        assert sorted(os.listxattr(path)) == ["user.empty", "user.note"]
        os.removexattr(path, "user.note")
        refused(errno.ENODATA, os.removexattr, path, "user.note")
        assert os.getxattr(path, "user.empty") == b""


def other_attributes():
    write("plain", b"1")
    for name in ["trusted.a", "security.other"]:
        refused(errno.EOPNOTSUPP, os.setxattr, "plain", name, b"1")
    entries = [(1, 6), (4, 4), (0x10, 4), (0x20, 4)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, bits, 0xffffffff) for tag, bits in entries)
    refused(errno.EOPNOTSUPP, os.setxattr, "plain", "system.posix_acl_access", acl)
    assert os.listxattr("plain") == []


def free_space():
    found = os.statvfs(".")
    assert found.f_bfree <= found.f_blocks and found.f_bavail <= found.f_bfree and found.f_namemax == 255
    # Whoever else uses this disk may give back as much at the same time: once is enough, but it must be seen once.
    seen = [bytes_taken_by(8 << 20) for _ in range(20)]
    assert max(seen) >= 8 << 20, seen


def bytes_taken_by(count):
    before = os.statvfs(".")
    write("used", b"u" * count)
    fd = os.open("used", os.O_RDWR)
    os.fsync(fd)
    taken = (before.f_bfree - os.statvfs(".").f_bfree) * before.f_frsize
    os.close(fd)
    os.remove("used")
    return taken


def exact_space():
    # The quota counts what was written and nothing else, and gives all of it back.
    before = os.statvfs(".")
    write("counted", b"u" * (3 << 20))
    fd = os.open("counted", os.O_RDWR)
    os.fsync(fd)
    assert (before.f_bfree - os.statvfs(".").f_bfree) * before.f_frsize == 3 << 20
    call("fallocate", fd, KEEP_SIZE | PUNCH_HOLE, long(0), long(1 << 20))
    assert (before.f_bfree - os.statvfs(".").f_bfree) * before.f_frsize == 2 << 20
    os.close(fd)
    os.remove("counted")
    assert os.statvfs(".").f_bfree == before.f_bfree


def nameless_files():
    refused(errno.EOPNOTSUPP, os.open, ".", os.O_RDWR | os.O_TMPFILE, 0o600)
    with tempfile.TemporaryFile(dir=".") as file:
        file.write(b"found another way")


def special_files():
    os.mkfifo("pipe")
    reader = subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE)
    with open("pipe", "wb") as file:
        file.write(b"through")
    assert reader.communicate()[0] == b"through"
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("socket")
        server.listen()
        client.connect("socket")
        taken, _ = server.accept()
        client.send(b"hello")
        assert taken.recv(5) == b"hello"
        taken.close()
    os.rename("socket", "socket.2")
    os.link("pipe", "pipe.2")


def devices():
    for kind in [stat.S_IFCHR, stat.S_IFBLK]:
        refused(errno.EPERM, os.mknod, "device", kind | 0o600, os.makedev(1, 3))


def listing():
    os.mkdir("many")
    for number in range(3000):
        write(f"many/{number}", b"")
    libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
    libc.telldir.restype = ctypes.c_long
    directory = ctypes.c_void_p(libc.opendir(b"many"))

    def following(count):
        names = []
        while len(names) < count:
            entry = libc.readdir(directory)
            if not entry:
                break
            names.append(ctypes.string_at(entry + 19))
        return names

    first = following(1000)
    place = long(libc.telldir(directory))
    second = following(5000)
    everything = [b".", b".."] + [str(number).encode() for number in range(3000)]
    assert sorted(first + second) == sorted(everything), len(first + second)
    libc.seekdir(directory, place)
    assert following(5000) == second
    libc.rewinddir(directory)
    again = following(100)
    for number in range(3000):
        os.remove(f"many/{number}")
    # Each name that stayed is told once; of those that went meanwhile none need be.
    rest = following(5000)
    assert len(set(again + rest)) == len(again + rest)
    libc.closedir(directory)
    os.rmdir("many")


def many_links():
    write("linked", b"1")
    os.mkdir("links")
    for number in range(2000):
        os.link("linked", f"links/{number}")
    assert os.stat("links/7").st_nlink == 2001
    os.remove("linked")
    assert os.stat("links/7").st_nlink == 2000 and read("links/1999") == b"1"
    os.symlink("nowhere", "soft")
    os.link("soft", "soft.2", follow_symlinks=False)
    assert os.lstat("soft").st_nlink == 2 and os.readlink("soft.2") == "nowhere"


def running():
    write("script", b"#!/bin/sh\necho ran $1\n")
    os.chmod("script", 0o755)
    assert subprocess.run(["./script", "it"], capture_output=True, text=True, check=True).stdout == "ran it\n"
    os.chmod("script", 0o644)
    refused(errno.EACCES, subprocess.run, ["./script"])


def running_what_is_written():
    os.system("cp /bin/sleep sleeper")
    child = subprocess.Popen(["./sleeper", "60"])
    refused(errno.ETXTBSY, os.open, "sleeper", os.O_WRONLY)
    child.kill()
    child.wait()


def exclusive():
    fd = os.open("only", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.close(fd)
    refused(errno.EEXIST, os.open, "only", os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.symlink("only", "only.link")
    refused(errno.ELOOP, os.open, "only.link", os.O_RDONLY | os.O_NOFOLLOW)
    refused(errno.ENOTDIR, os.open, "only", os.O_RDONLY | os.O_DIRECTORY)
    # Of many that make one name one makes it.
    made = []

    def make():
        try:
            os.close(os.open("race", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            made.append(1)
        except FileExistsError:
            pass

    threads = [threading.Thread(target=make) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def watching():
    fd = libc.inotify_init()
    assert libc.inotify_add_watch(fd, b".", 0x100) > 0
    write("watched", b"")
    assert select.select([fd], [], [], 10)[0] and b"watched" in os.read(fd, 4096)
    os.close(fd)


def file_flags():
    write("flagged", b"")
    with open("flagged", "rb") as file:
        refused(errno.ENOTTY, fcntl.ioctl, file, 0x80086601, array.array("l", [0]))


DIFFERENT = [
    allocating_more_than_there_is, shifting_ranges, owning, set_id_bits, time_of_access, other_attributes, exact_space, nameless_files, devices, file_flags,
]
ROWS = [
    appending, mapping, private_mapping, replacing_what_is_open, unlinking_what_is_open, holes, zeroing, copying_what_is_still_written,
    lengths, large_files, direct, copying_ranges, syncing, locking, names, many_links, exclusive, attributes,
    modes, times, extreme_times, extended_attributes, free_space, special_files, listing, running, running_what_is_written, watching,
] + DIFFERENT

if sys.argv[1] == "--rows":
    for row in ROWS:
        print(row.__name__, "differs" if row in DIFFERENT else "same")
else:
    os.chdir(sys.argv[1])
    chosen = sys.argv[2:]
    for row in ROWS:
        if not chosen or row.__name__ in chosen:
            row()
            print("ok", row.__name__, flush=True)
