"""The system calls that no plugin needs, refused by a seccomp filter.

Namespaces and limits keep a plugin in; this takes away what could widen a
hole in them: other namespaces, mounts, tracing, kernel objects that no limit
counts, sockets of every family but unix (there is no network to reach, and
what waits in a socket is the kernel's memory), larger buffers of those, the
watching of files. Builds a classic BPF program for
``bwrap --seccomp``; touches nothing.
"""

from __future__ import annotations

import errno
import functools
import platform
import struct

_LOAD, _JEQ, _JGE, _JSET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW = 0x7fff0000
_ERRNO = 0x00050000

# Offsets in struct seccomp_data; both machines are little-endian.
_NUMBER, _ARCH, _ARGUMENT_0, _ARGUMENT_1, _ARGUMENT_2 = 0, 4, 16, 24, 32
# New user, mount, pid, network, ipc, uts, cgroup namespaces.
_NEW_NAMESPACES = 0x7e020000
_UNIX = 1
# Options of SOL_SOCKET that enlarge buffers: SO_SNDBUF, SO_RCVBUF and those
# that force it.
_SOL_SOCKET = 1
_BUFFERS = (7, 8, 32, 33)
_X32 = 0x40000000

# machine: (audit arch, {call: number})
_MACHINES = {
    'x86_64': (0xc000003e, {
        'clone': 56, 'socket': 41, 'setsockopt': 54, 'socketpair': 53,
        'inotify_init': 253, 'inotify_init1': 294,
        'unshare': 272, 'setns': 308, 'mount': 165, 'umount2': 166,
        'pivot_root': 155, 'chroot': 161, 'ptrace': 101, 'keyctl': 250,
        'add_key': 248, 'request_key': 249, 'bpf': 321, 'userfaultfd': 323,
        'perf_event_open': 298, 'open_by_handle_at': 304,
        'name_to_handle_at': 303, 'kexec_load': 246,
        'kexec_file_load': 320, 'init_module': 175, 'finit_module': 313,
        'delete_module': 176, 'process_vm_readv': 310,
        'process_vm_writev': 311, 'kcmp': 312, 'quotactl': 179,
        'acct': 163, 'swapon': 167, 'swapoff': 168, 'reboot': 169,
        'syslog': 103, 'vhangup': 153, 'memfd_create': 319, 'shmget': 29,
        'msgget': 68, 'semget': 64, 'mq_open': 240, 'fanotify_init': 300}),
    'aarch64': (0xc00000b7, {
        'clone': 220, 'socket': 198, 'setsockopt': 208,
        'socketpair': 199, 'inotify_init1': 26,
        'unshare': 97, 'setns': 268, 'mount': 40, 'umount2': 39,
        'pivot_root': 41, 'chroot': 51, 'ptrace': 117, 'keyctl': 219,
        'add_key': 217, 'request_key': 218, 'bpf': 280, 'userfaultfd': 282,
        'perf_event_open': 241, 'open_by_handle_at': 265,
        'name_to_handle_at': 264, 'kexec_load': 104,
        'kexec_file_load': 294, 'init_module': 105, 'finit_module': 273,
        'delete_module': 106, 'process_vm_readv': 270,
        'process_vm_writev': 271, 'kcmp': 272, 'quotactl': 60, 'acct': 89,
        'swapon': 224, 'swapoff': 225, 'reboot': 142, 'syslog': 116,
        'vhangup': 58, 'memfd_create': 279, 'shmget': 194, 'msgget': 186,
        'semget': 190, 'mq_open': 180, 'fanotify_init': 262}),
}
# The same numbers everywhere: io_uring, the new mount calls, memfd_secret.
_EVERYWHERE = {
    'io_uring_setup': 425, 'io_uring_enter': 426, 'io_uring_register': 427,
    'open_tree': 428, 'move_mount': 429, 'fsopen': 430, 'fsconfig': 431,
    'fsmount': 432, 'fspick': 433, 'mount_setattr': 442,
    'quotactl_fd': 443, 'memfd_secret': 447}  # nosec B105: a call's name
_CLONE3 = 435
_CHECKED = ('clone', 'socket', 'socketpair', 'setsockopt')


def supported(machine: str | None = None) -> bool:
    """Whether there is a filter for this kind of processor."""
    return (machine or platform.machine()) in _MACHINES


@functools.cache
def program(machine: str | None = None) -> bytes:
    """The filter, as the kernel takes it.

    :raises KeyError: no filter is known for the machine
    """
    return b''.join(struct.pack('<HBBI', *each)
                    for each in instructions(machine or platform.machine()))


def instructions(machine: str) -> list[tuple[int, int, int, int]]:
    """The same as (operation, jump if true, jump if false, value)."""
    arch, calls = _MACHINES[machine]
    code: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, _ARCH),
        (_JEQ, 1, 0, arch),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
        (_LOAD, 0, 0, _NUMBER),
        (_JGE, 0, 1, _X32),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    ]
    # Its arguments lie in memory, where no filter sees them; C libraries
    # fall back to clone.
    code += _refuse(_CLONE3, errno.ENOSYS)
    for name, number in {**calls, **_EVERYWHERE}.items():
        if name not in _CHECKED:
            code += _refuse(number, errno.EPERM)
    code += [
        (_JEQ, 0, 4, calls['clone']),
        (_LOAD, 0, 0, _ARGUMENT_0),
        (_JSET, 0, 1, _NEW_NAMESPACES),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
        (_JEQ, 1, 0, calls['socket']),
        (_JEQ, 0, 4, calls['socketpair']),
        (_LOAD, 0, 0, _ARGUMENT_0),
        (_JEQ, 1, 0, _UNIX),
        (_RETURN, 0, 0, _ERRNO | errno.EAFNOSUPPORT),
        (_RETURN, 0, 0, _ALLOW),
        (_JEQ, 0, 3 + len(_BUFFERS), calls['setsockopt']),
        (_LOAD, 0, 0, _ARGUMENT_1),
        (_JEQ, 0, 1 + len(_BUFFERS), _SOL_SOCKET),
        (_LOAD, 0, 0, _ARGUMENT_2),
    ]
    for index, option in enumerate(_BUFFERS):
        code.append((_JEQ, len(_BUFFERS) - index, 0, option))
    # It does nothing and does not say so: the kernel is as free to give less
    # than is asked for.
    code += [(_RETURN, 0, 0, _ALLOW),
             (_RETURN, 0, 0, _ERRNO)]
    return code


def _refuse(number: int, error: int) -> list[tuple[int, int, int, int]]:
    return [(_JEQ, 0, 1, number), (_RETURN, 0, 0, _ERRNO | error)]
