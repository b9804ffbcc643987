/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-or-later */
/* Which span the current thread works on: OpenTelemetry's thread context (OTEP 4947), read from the
 * thread's own memory.
 *
 * A user read is the dearest thing here, so with our writer one 16-byte read of pointer and sequence
 * word tells that nothing changed. Without the sequence word the record itself must be read each time:
 * the same address may hold another span. */
#ifndef SPANPROF_CONTEXT_H
#define SPANPROF_CONTEXT_H

#include "maps.h"

#define RECORD_HEADER 28
#define RECORD_ATTRIBUTES_MAX 612

struct context_header {
	u64 trace[2];
	u64 span;
	u8 valid;
	u8 flags;
	u16 attribute_bytes;
	u32 beyond;
};

INLINE void forget_span(struct thread *thread)
{
	thread->span = 0;
	thread->trace[0] = 0;
	thread->trace[1] = 0;
}

/* Sends a span's attributes the first time that the span is met. */
INLINE void send_attributes(struct thread *thread, struct scratch *scratch, u64 record, u32 bytes)
{
	u64 hash = mix(thread->span, thread->trace[1]);
	if (was_seen(hash))
		return;
	struct span_record *span = (struct span_record *)&scratch->record;
	span->kind = RECORD_SPAN;
	span->tgid = thread->tgid;
	span->span = thread->span;
	span->trace[0] = thread->trace[0];
	span->trace[1] = thread->trace[1];
	span->unused = 0;
	if (bytes > ATTRIBUTE_BYTES)
		bytes = ATTRIBUTE_BYTES;
	span->attribute_bytes = bytes;
	if (bpf_probe_read_user(span->attributes, bytes, (void *)(record + RECORD_HEADER))) {
		count(COUNT_CONTEXT_FAULTS, 1);
		return;
	}
	if (send(span, sizeof(*span)))
		mark_seen(hash);
	else
		count(COUNT_SPANS_WITHOUT_ATTRIBUTES, 1);
}

/* Reads the record at `pointer` and makes its span the thread's. */
INLINE void read_record(struct thread *thread, struct scratch *scratch, u64 pointer)
{
	struct context_header header;
	if (bpf_probe_read_user(&header, RECORD_HEADER, (void *)pointer)) {
		count(COUNT_CONTEXT_FAULTS, 1);
		forget_span(thread);
		return;
	}
	if (header.valid != 1 || !header.span) {
		if (header.valid > 1)
			count(COUNT_CONTEXT_TORN, 1);
		forget_span(thread);
		return;
	}
	bool changed = thread->span != header.span || thread->trace[1] != header.trace[1];
	thread->span = header.span;
	thread->trace[0] = header.trace[0];
	thread->trace[1] = header.trace[1];
	if (changed && header.attribute_bytes && header.attribute_bytes <= RECORD_ATTRIBUTES_MAX)
		send_attributes(thread, scratch, pointer, header.attribute_bytes);
}

/* Where a dynamically allocated block of the thread keeps the pointer; 0 if it is not allocated yet. */
INLINE u64 dynamic_slot(const struct thread *thread, u64 thread_pointer)
{
	u64 vector, block;
	if (bpf_probe_read_user(&vector, 8, (void *)(thread_pointer + 8)) ||
	    bpf_probe_read_user(&block, 8, (void *)(vector + thread->context_module)))
		return 0;
	return block == 0 || block == ~0ull ? 0 : block + thread->context_offset;
}

/* Brings the thread's span up to date; `task` must be the current task. */
INLINE void read_context(struct thread *thread, struct scratch *scratch, const struct task_struct *task)
{
	u32 kind = thread->context_kind;
	if (kind == CONTEXT_NONE)
		return;
	u64 slot = task->thread.fsbase;
	if (!slot) {
		forget_span(thread);
		return;
	}
	if (kind == CONTEXT_DYNAMIC)
		slot = dynamic_slot(thread, slot);
	else
		slot += thread->context_offset;
	u64 pair[2] = {};
	long failed = kind == CONTEXT_SEQUENCE ? bpf_probe_read_user(pair, 16, (void *)slot)
					       : bpf_probe_read_user(pair, 8, (void *)slot);
	if (failed || !pair[0]) {
		if (failed && slot)
			count(COUNT_CONTEXT_FAULTS, 1);
		forget_span(thread);
		thread->context_pointer = 0;
		return;
	}
	if (kind == CONTEXT_SEQUENCE && pair[0] == thread->context_pointer && pair[1] == thread->context_sequence)
		return;
	thread->context_pointer = pair[0];
	thread->context_sequence = pair[1];
	read_record(thread, scratch, pair[0]);
}

#endif
