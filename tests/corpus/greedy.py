"""Submissions that want more than is theirs: memory, disk, processes, output, and what lies outside of their walls.

Each is solved but for 2.1, as in `hostile`, and what it does is bounded, so that a hole in the sandbox would fail a
test and not a machine.
"""

from __future__ import annotations

from corpus import OTHERS, Case, calling, collector, wild
from prefcourse.grading.result import State, Status

CASES: list[Case] = []
case = collector(CASES)


# --- too much of everything ---------------------------------------------------------------------------------


LOUD = {"state": State.RESOURCE, "settings": {"cell_seconds": 30.0}, "seconds": 90.0}  # however slow: it is too much


@case(OTHERS, **LOUD)
def output_of_200_megabytes():
    return wild("for _ in range(200):\n    print('x' * 1_000_000)")


@case(OTHERS, **LOUD)
def output_at_once():
    return wild("print('x' * 200_000_000)")


@case(OTHERS)
def output_in_the_function():
    """What a function prints is cut, so this ends by itself; the value is wrong."""
    return calling("for _ in range(200):\n    print('x' * 100_000)\nreturn 0.5")


@case(OTHERS, **LOUD)
def exception_of_50_megabytes():
    return wild("raise ValueError('x' * 50_000_000)")


@case(OTHERS, statuses={"2.1": Status.FAILED})
def exception_of_50_megabytes_in_the_function():
    return calling("raise ValueError('x' * 50_000_000)")


@case(OTHERS, statuses={"2.1": Status.FAILED})
def result_of_50_megabytes():
    return calling("return [[0.5] * 1000] * 1000 if drop_ties else ['x' * 50_000_000]")


@case(OTHERS, seconds=60)
def a_message_each_moment():
    return wild("for n in range(300_000):\n    print(n, flush=True)")


MEMORY = {"memory_mb": 900}


@case(OTHERS, settings=MEMORY)
def memory_bomb():
    return calling("kept = []\nfor _ in range(20):\n    kept.append(bytearray(b'x') * 100_000_000)\nreturn 0.5")


@case(OTHERS, state=State.RESOURCE, settings=MEMORY | {"cell_seconds": 30.0}, seconds=90)
def memory_bomb_of_many():
    """Each process stays below its own limit. It waits for the watchdog, which stops it at once."""
    body = (
        "import os, time\nfor _ in range(8):\n    if os.fork() == 0:\n        kept = bytearray(b'x') * 200_000_000\n"
        "        time.sleep(20)\n        os._exit(0)\ntime.sleep(20)"
    )
    return wild(body)


@case(OTHERS, state=State.RESOURCE, settings={"processes": 60, "cell_seconds": 30.0}, seconds=90)
def fork_bomb():
    """Two hundred at most, were nobody to stop them."""
    body = (
        "import os, time\nfor _ in range(200):\n    try:\n        child = os.fork()\n    except OSError:\n"
        "        continue\n    if child == 0:\n        time.sleep(20)\n        os._exit(0)\ntime.sleep(20)"
    )
    return wild(body)


@case(OTHERS, settings={"processes": 60}, seconds=60)
def threads_by_the_hundred():
    """As many as it is given. It waits for them, so that what the next cell has of its memory is no matter of luck."""
    body = (
        "import threading, time\nstarted = []\ntry:\n    for _ in range(400):\n"
        "        thread = threading.Thread(target=time.sleep, args=(2,))\n        thread.start()\n"
        "        started.append(thread)\nfinally:\n    for thread in started:\n        thread.join()"
    )
    return wild(body)


@case(OTHERS, state=State.RESOURCE, settings={"disk_mb": 20})
def fills_the_disk():
    body = (
        "import os\nfor place in ('.', '/tmp', '/dev/shm', '/var/tmp', os.path.expanduser('~'), SOCKETS):\n"
        "    try:\n        with open(os.path.join(place, 'MARK'), 'wb') as file:\n            for _ in range(100):\n"
        "                file.write(bytes(1_000_000))\n    except OSError as error:\n        print(place, error)"
    )
    return wild(SHARED + body)


SHARED = """import os, sys
SOCKETS = os.path.dirname(sys.argv[sys.argv.index("-f") + 1])
"""


@case(OTHERS, state=State.RESOURCE, seconds=90)
def deep_folders():
    """Nested deeper than Python may recurse, where the grader looks and must tidy up."""
    body = "os.chdir(SOCKETS)\nfor _ in range(3000):\n    os.mkdir('d')\n    os.chdir('d')\nos.chdir('/')"
    return wild(SHARED + body)


@case(OTHERS, state=State.RESOURCE, settings={"cell_seconds": 30.0, "disk_mb": 20}, seconds=90)
def many_files():
    """Empty ones, but an entry is a block at least."""
    body = "for n in range(10_000):\n    os.close(os.open(os.path.join(SOCKETS, f'f{n}'), os.O_CREAT))"
    return wild(SHARED + body)


@case(OTHERS, seconds=60)
def folders_that_may_not_be_entered():
    body = "os.makedirs(SOCKETS + '/shut/in')\nos.chmod(SOCKETS + '/shut/in', 0)\nos.chmod(SOCKETS + '/shut', 0)"
    return wild(SHARED + body)


@case(OTHERS, seconds=60)
def sockets_replaced():
    """The files through which the grader talks, deleted, and links in their place."""
    body = (
        "for name in os.listdir(SOCKETS):\n    os.unlink(os.path.join(SOCKETS, name))\n"
        "    os.symlink('/etc/passwd', os.path.join(SOCKETS, name))\nos.symlink('/', os.path.join(SOCKETS, 'root'))"
    )
    return wild(SHARED + body)


# --- messages that nobody expects ---------------------------------------------------------------------------

TALK = "from IPython.display import display\nMIME = 'application/vnd.prefcourse.check+json'\n"


@case(OTHERS)
def bundle_nested_deeply():
    body = TALK + "deep = []\nfor _ in range(50_000):\n    deep = [deep]\n"
    return calling(body + "display({MIME: deep, 'text/plain': ''}, raw=True)\nreturn 0.5")


@case(OTHERS, seconds=60)
def messages_that_are_no_json():
    """Sent as bytes, past what would refuse to make them."""
    body = """
kernel = get_ipython().kernel
deep, long = b'[' * 100_000 + b']' * 100_000, b'{"text": ' + b'9' * 10_000 + b'}'
for text in (deep, long, b'no json', b'\\xff\\xfe', b'7'):
    message = kernel.session.msg("stream", {"name": "stdout", "text": "x"}, parent=kernel.get_parent())
    parts = kernel.session.serialize(message)
    parts[-1] = text
    parts[1] = kernel.session.sign(parts[2:])
    kernel.iopub_socket.send_multipart([b"stream", *parts])
"""
    return wild(body)


@case(OTHERS, seconds=60)
def messages_without_parts():
    body = """
kernel = get_ipython().kernel
for content in ({}, {"execution_state": None}, {"data": None}, {"name": 7, "text": {}}):
    for kind in ("stream", "status", "display_data", "error", "execute_result", "update_display_data", "nonsense"):
        kernel.session.send(kernel.iopub_socket, kind, content, parent=kernel.get_parent())
kernel.iopub_socket.send_multipart([b"x"])
"""
    return wild(body)


@case(OTHERS)
def idle_before_it_is():
    """Says that it is done, then goes on."""
    body = """
import time
kernel = get_ipython().kernel
kernel.session.send(kernel.iopub_socket, "status", {"execution_state": "idle"}, parent=kernel.get_parent())
time.sleep(1)
return 0.5"""
    return calling(body)


# --- the walls ----------------------------------------------------------------------------------------------


@case(OTHERS)
def leaves_a_process():
    """With a session of its own, no parent and an empty environment."""
    body = """
import subprocess, sys
code = "import os, time\\nif os.fork() == 0:\\n    os.setsid()\\n    if os.fork() == 0:\\n        time.sleep(90)"
subprocess.run([sys.executable, "-c", code, "MARK"], env={})
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(90)", "MARK"], start_new_session=True)
return 0.5"""
    return calling(body)


@case(OTHERS, statuses={"2.1": Status.ERROR}, says="LookupError")
def reads_what_is_not_its_own():
    """The course, the tests, the homes, other processes: any that can be read is named in a cell's error."""
    body = """
import glob, os
seen = []
for place in ("THE_CANARY", "THE_COURSE/solutions", "THE_COURSE/tests", "THE_COURSE/.git", "THE_HOME"):
    try:
        os.listdir(place)
        seen.append(place)
    except OSError:
        pass
for path in ("/etc/passwd", "/etc/shadow", "THE_CANARY/file", "THE_COURSE/prefcourse/exercises/chapter02/answers.py",
             *glob.glob("/proc/[0-9]*/cmdline"), *glob.glob("/proc/[0-9]*/environ")):
    try:
        text = open(path, "rb").read()
        seen += [path] * (b"PYTEST_" in text or b"nbval" in text or not path.startswith("/proc"))
    except OSError:
        pass
raise (SystemError if seen else LookupError)(repr(seen))"""
    return wild(body)


@case(OTHERS, statuses={"2.1": Status.ERROR}, says="LookupError")
def writes_what_is_not_its_own():
    body = """
import os, site, sys, tempfile
targets = ["THE_CANARY", "THE_COURSE", "THE_COURSE/tests", "THE_HOME", "/tmp/..", "/usr/lib", "/var/tmp", sys.prefix]
targets += [*site.getsitepackages(), *sys.path, os.path.dirname(os.path.abspath(os.__file__))]
for target in filter(None, targets):
    for name in ("MARK.py", "conftest.py", "sitecustomize.py", "prefcourse.py", "solutions/THE_STEM.ipynb"):
        try:
            with open(os.path.join(target, name), "a") as file:
                file.write("# MARK")
        except OSError:
            pass
for command in ("mount -t tmpfs MARK /usr", "unshare -Urn true && echo MARK > /tmp/escaped"):
    os.system(command)
raise LookupError"""
    return wild(body)


@case(OTHERS, statuses={"2.1": Status.ERROR}, says="LookupError")
def goes_online():
    """TCP, UDP and abstract unix sockets of this machine, and the world's."""
    body = """
import socket
reached = []
def tried(kind, family, address):
    with socket.socket(family, kind) as s:
        s.settimeout(0.3)
        try:
            s.connect(address)
            s.send(b"MARK")
            reached.append(address)
        except OSError:
            pass
tried(socket.SOCK_STREAM, socket.AF_INET, ("127.0.0.1", THE_PORT))
tried(socket.SOCK_STREAM, socket.AF_UNIX, "\\0MARK")
tried(socket.SOCK_STREAM, socket.AF_INET, ("1.1.1.1", 443))
tried(socket.SOCK_STREAM, socket.AF_INET, ("169.254.169.254", 80))
raise (SystemError if reached else LookupError)(repr(reached))"""
    return wild(body)


@case(OTHERS, statuses={"2.1": Status.ERROR}, says="LookupError")
def has_no_powers():
    body = """
import ctypes, os
seen = []
if os.getuid() == 0:
    seen.append("root")
for line in open("/proc/self/status"):
    if line.startswith(("CapEff", "CapPrm", "CapBnd")) and int(line.split()[1], 16):
        seen.append(line)
for call in (lambda: os.chroot("/tmp"), lambda: os.setuid(0), lambda: os.mknod("/tmp/x", 0o60600, os.makedev(254, 0)),
             lambda: os.sethostname("x") if hasattr(os, "sethostname") else 1 / 0, lambda: os.nice(-5)):
    try:
        call()
        seen.append("a call")
    except (OSError, ZeroDivisionError):
        pass
if ctypes.CDLL(None).unshare(0x10000000) == 0:
    seen.append("namespaces")
raise (SystemError if seen else LookupError)(repr(seen))"""
    return wild(body)
