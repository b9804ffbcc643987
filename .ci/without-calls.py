"""Runs a command in which the given system calls fail with EPERM, as under a container's filter.

    python3 .ci/without-calls.py bpf,perf_event_open COMMAND ARGUMENT...

x86-64 only. A classic BPF filter by prctl; it holds for the command and all that it starts.
"""

import ctypes
import os
import struct
import sys

NUMBERS = {"bpf": 321, "perf_event_open": 298, "process_vm_readv": 310, "timer_create": 222}
ALLOW, DENY = 0x7FFF0000, 0x00050000 | 1  # EPERM
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2


def filter_of(names):
    """The filter's instructions: each is a code, two jump distances and a value.

    >>> len(filter_of(["bpf"])) // 8
    4
    """
    numbers = [NUMBERS[name] for name in names]
    program = [(LOAD_NUMBER, 0, 0, 0)]
    for position, number in enumerate(numbers):
        program.append((JUMP_IF_EQUAL, len(numbers) - position, 0, number))
    program += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, DENY)]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


def main():
    names, command = sys.argv[1].split(","), sys.argv[2:]
    instructions = ctypes.create_string_buffer(filter_of(names))
    count = (len(instructions) - 1) // 8
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", count, ctypes.addressof(instructions)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0):
        raise OSError(ctypes.get_errno(), "the filter was refused")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
