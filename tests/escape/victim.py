# Lays out everything that a process can be reached by, named by a word, and waits. `leave` in place of `wait`: leaves all of it behind, with a
# daemon that left its parent, and ends.
import ctypes, json, os, signal, socket, sys, time
what, word, home, tmp = sys.argv[1:5]
libc = ctypes.CDLL(None, use_errno=True)
key = int.from_bytes(word.encode()[:4], "little") & 0x7fffffff

def listen(family, address, kind=socket.SOCK_STREAM):
    s = socket.socket(family, kind); s.bind(address)
    if kind == socket.SOCK_STREAM: s.listen()
    return s

for path in (f"{tmp}/{word}", f"/dev/shm/{word}", f"{home}/{word}", f"left-{word}"): open(path, "w").write(word)
memory = libc.shmget(key, 4096, 0o1666)
kept = [listen(socket.AF_UNIX, "\0" + word)]
facts = {"word": word, "key": key, "file": f"{tmp}/{word}", "home": f"{home}/{word}", "central": os.path.abspath(f"left-{word}")}
if what == "leave":
    if os.fork(): print("left " + json.dumps(facts), flush=True); os._exit(0)
    os.setsid()
    if os.fork(): os._exit(0)
    os.close(1); os.close(2)
    time.sleep(60)
    sys.exit()
libc.semget(key, 1, 0o1666); libc.msgget(key, 0o1666)
queue = libc.syscall(240, word.encode(), 0o102, 0o666, None)
kept.append(listen(socket.AF_UNIX, f"{tmp}/{word}.socket"))
try:
    tcp = listen(socket.AF_INET, ("127.0.0.1", 0)); udp = listen(socket.AF_INET, ("127.0.0.1", 0), socket.SOCK_DGRAM)
    facts |= {"port": tcp.getsockname()[1], "udp": udp.getsockname()[1]}
except OSError: udp = None
secret = ctypes.create_string_buffer(word.encode() * 4)
page = libc.mmap
page.restype = ctypes.c_void_p; page.argtypes = [ctypes.c_void_p] + [ctypes.c_long] * 5
facts |= {"pid": os.getpid(), "at": ctypes.addressof(secret), "page": page(None, 4096, 3, 0x22, -1, 0), "socket": f"{tmp}/{word}.socket"}
gone = []
signal.signal(signal.SIGUSR1, lambda *_: gone.append(1))
print("ready " + json.dumps(facts), flush=True)
while not gone:
    if udp is None: time.sleep(0.05); continue
    udp.settimeout(0.05)
    try: data, who = udp.recvfrom(10); udp.sendto(data, who)
    except OSError: pass
for path in (facts["file"], f"/dev/shm/{word}", f"{home}/{word}", facts["socket"]): os.unlink(path)
libc.shmctl(memory, 0, None); libc.semctl(libc.semget(key, 1, 0), 0, 0); libc.msgctl(libc.msgget(key, 0), 0, None)
libc.syscall(241, word.encode())
