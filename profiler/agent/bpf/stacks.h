/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-or-later */
/* Captures whole stacks, sends each distinct one once, and decides when a block needs one. */
#ifndef SPANPROF_STACKS_H
#define SPANPROF_STACKS_H

#include "peer.h"
#include "threads.h"
#include "unwind.h"

#define KERNEL_BYTES (MAX_KERNEL_FRAMES * 8)

/* Puts the kernel's part of the stack into the record; gives the number of frames. */
INLINE u32 kernel_stack(void *ctx, struct scratch *scratch)
{
	long bytes = bpf_get_stack(ctx, scratch->record.kernel, KERNEL_BYTES, 0);
	return bytes > 0 ? (u32)bytes / 8 : 0;
}

/* Sends the stack in `scratch` unless it was sent before. */
INLINE void send_stack(struct scratch *scratch, u64 hash)
{
	scratch->record.stack = hash;
	u32 frames = scratch->record.user_frames;
	if (frames > MAX_FRAMES)
		frames = MAX_FRAMES;
	u64 size = __builtin_offsetof(struct stack_record, user) + frames * 8;
	if (size > sizeof(struct stack_record))
		return;
	if (send(&scratch->record, size))
		mark_seen(hash);
	else
		count(COUNT_LOST_STACKS, 1);
}

/* A new place, and the thread's walks are spent: the leaf alone stands for the stack, and says so. */
INLINE u64 leaf_only(const struct thread *thread, struct scratch *scratch, u64 ip)
{
	u64 hash = mix(mix(thread->tgid, ip), WALK_BUDGET) | 1;
	if (!was_seen(hash)) {
		scratch->record.kind = RECORD_STACK;
		scratch->record.tgid = thread->tgid;
		scratch->record.end = WALK_BUDGET;
		scratch->record.user_frames = 1;
		scratch->record.kernel_frames = 0;
		scratch->record.generation = thread->generation;
		scratch->record.peer.family = 0;
		scratch->record.user[0] = ip;
		send_stack(scratch, hash);
	}
	count(COUNT_WALKS_SKIPPED, 1);
	return hash;
}

/* The stack under which the current thread leaves the CPU.
 *
 * Walking takes about as long as a whole switch. A thread that blocks every few microseconds is walked
 * 10,000 times a second, and in between the same place (user ip, sp, state, system call) under the same
 * span is taken for the stack last seen there. The span belongs to the place: two handlers can have
 * frames of the same size, and one's stack must not stand under the other's span. A thread that blocks
 * at the pace of messages is walked every time. */
INLINE u64 blocking_stack(void *ctx, const struct settings *s, struct thread *thread, struct scratch *scratch,
			  struct task_struct *task, u32 state, u64 now)
{
	const struct pt_regs *registers = bpf_task_pt_regs(task);
	u64 call = registers->orig_ax;
	u64 key = mix(mix(mix(registers->ip, registers->sp), call << 32 | state), thread->span);
	/* The same line may wait for several peers. */
	if (waits_on_descriptor(call))
		key = mix(key, registers->di);
	u32 way = key % (SITES / 2) * 2;
	struct site *site = &thread->sites[way % SITES];
	struct site *other = &thread->sites[(way + 1) % SITES];
	if (site->key != key && other->key == key)
		site = other;
	bool walk = pay(&thread->walked, s->walk_interval, s->walk_burst, now);

	if (site->key != key) {
		if (!walk)
			return leaf_only(thread, scratch, registers->ip);
		if (site->uses > other->uses)
			site = other;
		other = site == other ? &thread->sites[way % SITES] : other;
		other->uses >>= 1;
		site->key = key;
		site->uses = 0;
	}
	site->uses++;
	if (!walk)
		return site->stack;
	u64 hash = mix(walk_user_stack(thread, scratch, registers), call << 32 | state);
	if (state)
		hash = mix(hash, peer_of(task, registers, &scratch->record.peer));
	hash |= 1;
	site->stack = hash;
	if (!was_seen(hash)) {
		count(COUNT_WALK_ENDS + (scratch->record.end & 15), 1);
		if (s->flags & SETTING_KERNEL_STACKS)
			scratch->record.kernel_frames = kernel_stack(ctx, scratch);
		remember_name(thread, task);
		send_stack(scratch, hash);
	}
	return hash;
}

#endif
