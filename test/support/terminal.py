# Runs a command on a terminal of its own: terminal.py ROWS COLUMNS WHEN TYPED COMMAND…
# What it prints goes to standard output; TYPED is typed once WHEN has been printed (not when empty).
import fcntl
import os
import pty
import struct
import sys
import termios

rows, columns, when, typed, *command = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", int(rows), int(columns), 0, 0))
    os.execvp(command[0], command)
seen = b""
while True:
    try:
        data = os.read(terminal, 65536)
    except OSError:  # EIO: the last one has closed it
        break
    if not data:
        break
    seen += data
    os.write(1, data)
    if typed and when.encode() in seen:
        os.write(terminal, typed.encode())
        typed = ""
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.exit(status if status >= 0 else 128 - status)
