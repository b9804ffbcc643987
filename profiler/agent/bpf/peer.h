/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-or-later */
/* Whom a thread waits for on a socket: the other end's address, as the kernel has it.
 *
 * Read where a stack is walked anyway, from the socket of the system call's descriptor; a call that only polls one
 * descriptor counts, too. Whoever serves ten thousand clients would have as many stacks: so clients are not told, as far as
 * ports tell them apart, and no more peers than PEERS. */
#ifndef SPANPROF_PEER_H
#define SPANPROF_PEER_H

#include "threads.h"

#define FAMILY_INET 2
#define FAMILY_INET6 10
/* The first port that clients are given (net.ipv4.ip_local_port_range). */
#define CLIENT_PORTS 32768
#define TYPE_OF_FILE 0xf000
#define IS_SOCKET 0xc000

/* One step along a chain of pointers: the value of a field of what `from` points to; zero where it can't be read. */
#define FIELD(from, field)                                                                       \
	({                                                                                           \
		typeof((from)->field) value = 0;                                                         \
		bpf_probe_read_kernel(&value, sizeof(value), &(from)->field);                            \
		value;                                                                                   \
	})

/* Whether a system call's first argument is the descriptor that it waits on. */
INLINE bool waits_on_descriptor(u64 call)
{
	switch (call) {
	case 0:   /* read */
	case 1:   /* write */
	case 19:  /* readv */
	case 20:  /* writev */
	case 42:  /* connect */
	case 44:  /* sendto */
	case 45:  /* recvfrom */
	case 46:  /* sendmsg */
	case 47:  /* recvmsg */
	case 299: /* recvmmsg */
	case 307: /* sendmmsg */
		return true;
	default:
		return false;
	}
}

/* The descriptor that a system call waits on; -1 where it is none, or several. */
INLINE s32 awaited_descriptor(const struct pt_regs *registers)
{
	u64 call = registers->orig_ax;
	s32 descriptor = -1;
	if (waits_on_descriptor(call))
		return registers->di;
	/* poll and ppoll: the first of an array, which begins with the descriptor. */
	if ((call == 7 || call == 271) && registers->si == 1)
		bpf_probe_read_user(&descriptor, sizeof(descriptor), (void *)registers->di);
	return descriptor;
}

INLINE struct sock *socket_of(struct task_struct *task, u32 descriptor)
{
	struct files_struct *files = FIELD(task, files);
	struct fdtable *table = FIELD(files, fdt);
	if (!table || descriptor >= FIELD(table, max_fds))
		return NULL;
	struct file **descriptors = FIELD(table, fd);
	struct file *file = NULL;
	bpf_probe_read_kernel(&file, sizeof(file), descriptors + descriptor);
	if (!file)
		return NULL;
	struct inode *inode = FIELD(file, f_inode);
	if (!inode || (FIELD(inode, i_mode) & TYPE_OF_FILE) != IS_SOCKET)
		return NULL;
	struct socket *socket = FIELD(file, private_data);
	return socket ? FIELD(socket, sk) : NULL;
}

/* Fills in the service at the other end; its family stays 0 where there is none. Gives what tells it from others. */
INLINE u64 peer_of(struct task_struct *task, const struct pt_regs *registers, struct peer *peer)
{
	s32 descriptor = awaited_descriptor(registers);
	if (descriptor < 0)
		return 0;
	struct sock *sock = socket_of(task, descriptor);
	if (!sock)
		return 0;
	u16 family = FIELD(sock, __sk_common.skc_family);
	u16 port = __builtin_bswap16(FIELD(sock, __sk_common.skc_dport));
	if (!port || (port >= CLIENT_PORTS && FIELD(sock, __sk_common.skc_num) < CLIENT_PORTS))
		return 0;
	u64 *address = peer->address;
	address[0] = address[1] = 0;
	if (family == FAMILY_INET)
		bpf_probe_read_kernel(address, 4, &sock->__sk_common.skc_daddr);
	else if (family == FAMILY_INET6)
		bpf_probe_read_kernel(address, 16, &sock->__sk_common.skc_v6_daddr);
	else
		return 0;
	u64 key = mix(mix(address[0], address[1]), (u32)family << 16 | port);
	u8 known = 1;
	if (!bpf_map_lookup_elem(&peers, &key) && bpf_map_update_elem(&peers, &key, &known, BPF_ANY))
		return 0;
	peer->port = port;
	peer->family = family;
	return key;
}

#endif
