"""What the kernel tells: processors, who used them, and the memory of a process and its children.

Linux only: everything is read from /proc. Leaves starting and stopping to process.py.
"""
import os
import platform
import time
from pathlib import Path

# Of the flags of a processor, those that some engine here chooses its kernels by.
FLAGS = """f16c fma avx2 avx_vnni avx512f avx512bw avx512vl avx512_vnni avx512_bf16 avx512_fp16
amx_tile amx_int8 amx_bf16 asimd asimddp bf16 i8mm sve sve2""".split()
WEIGHTS = (".safetensors", ".gguf", ".bin", ".data", ".onnx")


def describe():
    """Processor, flags, cores, memory and kernel, in words."""
    fields = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    have = set((fields.get("flags") or fields.get("Features") or "").split())
    memory = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpu": fields.get("model name") or platform.machine(),
        "family": "/".join(fields.get(key, "?") for key in ("cpu family", "model", "stepping")),
        "flags": " ".join(flag for flag in FLAGS if flag in have),
        "cores": len(os.sched_getaffinity(0)),
        "memory": f"{memory / 2**20:.0f} GiB",
        "cache": fields.get("cache size", "?"),
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}, glibc {platform.libc_ver()[1]}",
        "python": platform.python_version(),
    }


def tree(pid):
    """A process and all below it."""
    children = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            parent = int(Path(f"/proc/{name}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(name))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def cpu_seconds(pids):
    """Time that the processes have spent on processors, in user and kernel."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def busy_seconds():
    """Time that all processors were busy for anybody, stolen time included."""
    with open("/proc/stat") as stat:
        user, nice, system, _idle, _wait, irq, softirq, steal = map(int, stat.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


class Quiet:
    """Measures which share of the machine others took since it was made."""

    def __init__(self, pid):
        self.pids = tree(pid) + [os.getpid()]
        self.busy, self.ours = busy_seconds(), cpu_seconds(self.pids)

    def foreign(self, wall):
        ours = cpu_seconds(self.pids) - self.ours
        return max(0.0, (busy_seconds() - self.busy - ours) / wall / os.cpu_count())


def settle(limit, share):
    """Waits until less than a share of the machine is used, or for so many seconds."""
    until = time.monotonic() + limit
    while time.monotonic() < until:
        busy, began = busy_seconds(), time.monotonic()
        time.sleep(0.5)
        if (busy_seconds() - busy) / (time.monotonic() - began) / os.cpu_count() < share:
            return


def memory(pid):
    """Bytes of a process and its children: the peak, what is resident now, and what of that are
    pages of mapped files, and of weights. Pages that several of them map count once."""
    total = {"peak": 0, "resident": 0, "files": 0, "weights": 0}
    for process in tree(pid):
        try:
            status = Path(f"/proc/{process}/status").read_text()
            maps = Path(f"/proc/{process}/smaps").read_text()
        except OSError:
            continue
        total["peak"] += sum(int(line.split()[1]) * 1024
                             for line in status.splitlines() if line.startswith("VmHWM"))
        kind = ()
        for line in maps.splitlines():
            words = line.split()
            if not words[0].endswith(":"):
                kind = ("resident",)
                if len(words) > 5 and words[4] != "0":
                    kind += ("files",)
                    if words[5].endswith(WEIGHTS):
                        kind += ("weights",)
            elif words[0] == "Pss:":
                for key in kind:
                    total[key] += int(words[1]) * 1024
    return total
