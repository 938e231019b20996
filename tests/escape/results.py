# What a hostile job leaves in its result, by name. In the open all of it is made.
import os, socket, subprocess, sys
outside = sys.argv[1]
def write(name, text="x"): open(name, "w").write(text)
os.symlink("/etc/shadow", "link-absolute")
os.symlink("../../../../../../../../etc/shadow", "link-up")
os.symlink(outside, "link-to-directory")
os.mkdir("inner"); os.symlink("../..", "inner/link-over-the-top")
os.symlink("link-loop", "link-loop")
os.link("board.txt", "second-name-of-an-input")
os.mkfifo("pipe")
s = socket.socket(socket.AF_UNIX); s.bind("socket"); s.close()
with open("a-tebibyte-of-nothing", "wb") as file: file.truncate(1 << 40)
write("set-user-id", "#!/bin/sh\n"); os.chmod("set-user-id", 0o6755)
write("not-readable"); os.chmod("not-readable", 0)
write("-rf"); write("moves\x1b]0;the-cursor\x07"); write("two\nlines"); write("n" * 255)
os.mkdir("closed"); write("closed/file"); os.chmod("closed", 0)
os.setxattr("-rf", "user.note", b"x")
subprocess.Popen(["sh", "-c", "sleep 1; echo late > late"], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
