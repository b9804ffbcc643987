/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-or-later */
/* One record per target thread, found by its tid in an array: a lookup the verifier inlines, half the
 * cost of a hash. Records probe linearly over THREAD_PROBES places; a thread that finds none is counted
 * and left alone. The agent frees records of threads that have ended. */
#ifndef SPANPROF_THREADS_H
#define SPANPROF_THREADS_H

#include "maps.h"

INLINE struct thread *find_thread(u32 tid)
{
	for (u32 probe = 0; probe < THREAD_PROBES; probe++) {
		u32 index = (tid + probe) & thread_mask;
		struct thread *thread = bpf_map_lookup_elem(&threads, &index);
		if (!thread)
			return NULL;
		if (thread->tid == tid)
			return thread;
	}
	return NULL;
}

/* Takes over what is known of the thread's process: its mappings and where its context lies. */
INLINE void refresh(struct thread *thread, const struct target *target, u32 version)
{
	thread->context_kind = target->context_kind;
	thread->context_offset = target->context_offset;
	thread->context_module = target->context_module;
	thread->first_mapping = target->first_mapping;
	thread->mapping_count = target->mapping_count;
	thread->generation = target->generation;
	thread->context_pointer = 0;
	thread->context_sequence = 0;
	thread->version = version;
}

/* Gives a thread of a target its record. Two tasks may want the same free place at once on two CPUs, so
 * the tid is claimed by compare-and-swap; one task is never in two places at once. */
static GLOBAL struct thread *claim_thread(u32 tid, const struct target *target, u32 tgid, u32 version)
{
	for (u32 probe = 0; probe < THREAD_PROBES; probe++) {
		u32 index = (tid + probe) & thread_mask;
		struct thread *thread = bpf_map_lookup_elem(&threads, &index);
		if (!thread)
			return NULL;
		if (thread->tid || __sync_val_compare_and_swap(&thread->tid, 0, tid) != 0)
			continue;
		thread->tgid = tgid;
		thread->since = target->since;
		refresh(thread, target, version);
		return thread;
	}
	count(COUNT_UNTRACKED_THREADS, 1);
	return NULL;
}

/* The record of a thread whose process passed the filter; NULL where it is no target after all, or on
 * its way out: a dying thread still switches, and must not get a second record. */
INLINE struct thread *thread_of(const struct task_struct *task, u32 tgid, bool *new_thread)
{
	u32 tid = task->pid;
	*new_thread = false;
	struct settings *s = the_settings();
	if (!s)
		return NULL;
	struct thread *thread = find_thread(tid);
	if (thread && thread->exited)
		return NULL;
	if (LIKELY(thread && thread->version == s->version))
		return thread;
	struct target *target = bpf_map_lookup_elem(&targets, &tgid);
	if (!target)
		return NULL;
	if (thread) {
		refresh(thread, target, s->version);
		return thread;
	}
	if (task->flags & PF_EXITING)
		return NULL;
	*new_thread = true;
	return claim_thread(tid, target, tgid, s->version);
}

/* A thread met for the first time while it runs has run since its process was taken on, and one met
 * when it starts to run had not: otherwise its switches would have been seen. */
INLINE void met_running(struct thread *thread, const struct task_struct *task)
{
	thread->in = thread->since;
	thread->exec_runtime = task->se.sum_exec_runtime;
}

INLINE void met_waiting(struct thread *thread, const struct task_struct *task)
{
	thread->out = thread->since;
	thread->exec_runtime = task->se.sum_exec_runtime;
}

INLINE void remember_name(struct thread *thread, struct task_struct *task)
{
	bpf_probe_read_kernel(thread->comm, sizeof(thread->comm), &task->comm);
}

#endif
