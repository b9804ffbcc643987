/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-or-later */
/* Who ended a wait: of long waits within a span, the thread that woke the blocked one, its span and its stack.
 *
 * Only long waits are told, and at most so many per CPU and time: a thread that is woken 400,000 times a second pays a
 * comparison for it. What woke it is known here alone: at the wake-up the waker is the running task, later nobody is. */
#ifndef SPANPROF_WAKERS_H
#define SPANPROF_WAKERS_H

#include "context.h"
#include "stacks.h"
#include "threads.h"

/* A task's kernel stack on x86-64. Interrupts that come while the kernel runs have a stack of their own. */
#define THREAD_STACK_BYTES 16384

/* Calls that hand data over: the network's part of them runs on the interrupts' stack and is still the caller's deed. */
INLINE bool hands_data_over(s64 call)
{
	switch (call) {
	case 0:   /* read */
	case 1:   /* write */
	case 3:   /* close */
	case 18:  /* pwrite64 */
	case 20:  /* writev */
	case 40:  /* sendfile */
	case 42:  /* connect */
	case 44:  /* sendto */
	case 45:  /* recvfrom */
	case 46:  /* sendmsg */
	case 47:  /* recvmsg */
	case 48:  /* shutdown */
	case 275: /* splice */
	case 307: /* sendmmsg */
	case 426: /* io_uring_enter */
		return true;
	}
	return false;
}

/* Whether an interrupt woke it, a timer's or a device's: then the running task has nothing to do with it. Nothing tells
 * that outright, so: the idle task wakes nobody; a thread that was interrupted in user mode has made no system call; and
 * one that was interrupted within the kernel is not on its own stack. */
INLINE bool by_interrupt(u64 *ctx, struct task_struct *waker)
{
	if (!waker->pid)
		return true;
	u64 *here = ctx;
	u64 address = 0;
	bpf_probe_read_kernel(&address, sizeof(address), &here);
	bool on_own_stack = address - (u64)waker->stack < THREAD_STACK_BYTES;
	if (waker->flags & PF_KTHREAD)
		return !on_own_stack;
	const struct pt_regs *registers = bpf_task_pt_regs(waker);
	s64 call = registers->orig_ax;
	return call < 0 || (!on_own_stack && !hands_data_over(call));
}

/* The waker's stack, sent once; it must be the running task. */
INLINE u64 waker_stack(struct thread *thread, struct scratch *scratch, struct task_struct *waker)
{
	u64 hash = walk_user_stack(thread, scratch, bpf_task_pt_regs(waker));
	if (!was_seen(hash)) {
		count(COUNT_WALK_ENDS + (scratch->record.end & 15), 1);
		send_stack(scratch, hash);
	}
	return hash;
}

/* Tells of the wake-up of `thread`, which is blocked and was not woken before. */
INLINE void tell_waker(u64 *ctx, const struct settings *s, struct thread *thread, u64 now)
{
	u64 begin = thread->out;
	u32 zero = 0;
	if (LIKELY(now - begin < s->waker_above || !thread->span))
		return;
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &zero);
	if (!scratch)
		return;
	if (!pay(&scratch->wakers, s->waker_interval, s->waker_burst, now)) {
		count(COUNT_WAKERS_NOT_TAKEN, 1);
		return;
	}
	struct task_struct *waker = bpf_get_current_task_btf();
	u32 tgid = waker->tgid, interrupt = by_interrupt(ctx, waker);
	u64 stack = 0, span = 0, trace[2] = {};
	bool new_thread;
	struct thread *known = NULL;
	if (!interrupt && maybe_target(s, tgid))
		known = thread_of(waker, tgid, &new_thread);
	if (known) {
		if (new_thread)
			met_running(known, waker);
		read_context(known, scratch, waker);
		span = known->span;
		trace[0] = known->trace[0];
		trace[1] = known->trace[1];
		stack = waker_stack(known, scratch, waker);
	}
	const struct entry *entry = &thread->entries[thread->entry % ENTRIES];
	struct woken_record *record = (struct woken_record *)&scratch->record;
	record->kind = RECORD_WOKEN;
	record->tgid = thread->tgid;
	record->tid = thread->tid;
	record->interrupt = interrupt;
	record->begin = begin;
	record->end = now;
	record->stack = entry->stack;
	record->span = entry->span;
	record->trace[0] = entry->trace[0];
	record->trace[1] = entry->trace[1];
	record->waker_tgid = tgid;
	record->waker_tid = waker->pid;
	record->waker_stack = stack;
	record->waker_span = span;
	record->waker_trace[0] = trace[0];
	record->waker_trace[1] = trace[1];
	bpf_probe_read_kernel(record->comm, sizeof(record->comm), &waker->comm);
	if (!send(record, sizeof(*record)))
		count(COUNT_WAKERS_NOT_TAKEN, 1);
}

#endif
