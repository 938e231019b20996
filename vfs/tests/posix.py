"""What programs do to files, checked as they do it. Run it on any directory that is empty."""

import ctypes, errno, mmap, os, subprocess, sys, tempfile

os.chdir(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)


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


for test in [
    appending, mapping, replacing_what_is_open, unlinking_what_is_open, holes, copying_what_is_still_written, lengths, names, attributes,
]:
    test()
    print("ok", test.__name__)
