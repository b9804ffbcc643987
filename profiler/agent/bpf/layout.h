/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-or-later */
/* What the kernel side and the agent share: every struct here has a twin in src/capture/bpf/layout.rs,
 * and a test there compares the two through the object's BTF. All times are CLOCK_MONOTONIC nanoseconds. */
#ifndef SPANPROF_LAYOUT_H
#define SPANPROF_LAYOUT_H

#include "kernel.h"

#define MAX_FRAMES 1024
#define MAX_KERNEL_FRAMES 64
#define BLOCK_CELLS 1024
#define CACHE_SLOTS 4096
#define SEEN_SLOTS 65536
#define PEERS 512
#define SITES 8
#define ENTRIES 16
#define FOLDED 4
#define FILTER_WORDS 64
#define ATTRIBUTE_BYTES 256
#define THREAD_PROBES 8
#define FRAME_POINTER_PAGES 0xffffffffu

/* Settings that change at run time: one element, shared with the agent by mmap. */
struct settings {
	/* Bit (tgid % 4096): whether a process with such an id may be a target. Never a false no. */
	u64 filter[FILTER_WORDS];
	/* A thread's user stack is walked once per this time on the average ... */
	u64 walk_interval;
	/* ... and this much of that time can be saved up, for bursts. */
	u64 walk_burst;
	/* Entries below this sum fold together when they are evicted ... */
	u64 fold_below;
	/* ... unless the thread's last one is longer ago than this, on the average ... */
	u64 record_interval;
	/* ... with this much of that time saved up, for bursts. */
	u64 record_burst;
	/* Who ended a wait is told if it was at least this long ... */
	u64 waker_above;
	/* ... once per CPU and this time on the average ... */
	u64 waker_interval;
	/* ... with this much of that time saved up, for bursts. */
	u64 waker_burst;
	/* Changes whenever any target's mappings or context slot changed. */
	u32 version;
	/* The last generation given out to a set of mappings. */
	u32 generation;
	u32 flags;
	u32 unused;
};

#define SETTING_KERNEL_STACKS 1u
#define SETTING_OFF_CPU 2u

/* One process that is profiled, by tgid. */
struct target {
	/* When it was taken on. */
	u64 since;
	s64 context_offset;
	/* Where in the thread's vector the module's entry lies, in bytes. */
	u64 context_module;
	u32 context_kind;
	u32 first_mapping;
	u32 mapping_count;
	/* Never the same for two different sets of mappings. */
	u32 generation;
};

enum context_kind {
	CONTEXT_NONE = 0,
	/* Pointer at thread pointer + offset. */
	CONTEXT_STATIC = 1,
	/* The same, with a sequence word right behind the pointer. */
	CONTEXT_SEQUENCE = 2,
	/* Pointer at offset within a module's block, found through the thread's vector. */
	CONTEXT_DYNAMIC = 3,
};

/* Executable memory of a process; sorted by start within a target. */
struct mapping {
	u64 start;
	u64 end;
	/* Where the table's first page lies in the process. */
	u64 base;
	u32 page_base;
	u32 row_base;
};

struct block {
	u32 cells[BLOCK_CELLS];
};

struct cached_rule {
	u64 pc;
	u32 generation;
	u32 rule;
};

struct rule_cache {
	struct cached_rule slots[CACHE_SLOTS];
};

/* A place where a thread left the CPU, and the stack that was last seen there. */
struct site {
	u64 key;
	u64 stack;
	u64 uses;
};

/* Exact times of one (span, stack) of one thread. Sums only ever grow within a generation. */
struct entry {
	u64 stack;
	u64 span;
	u64 trace[2];
	u64 off_cpu;
	u64 run_queue;
	u32 count;
	u32 generation;
	/* 1 until the agent has read it, which sets it to 0. */
	u32 unread;
	u32 touched;
};

struct thread {
	u32 tid;
	u32 tgid;
	/* Since when this thread is accounted for. */
	u64 since;
	/* When it last began to run; 0 while it does not. */
	u64 in;
	/* When it last stopped running; 0 while it runs. */
	u64 out;
	/* When it was woken or preempted after `out`; 0 while it is blocked. */
	u64 wake;
	u64 cpu;
	u64 off_cpu;
	u64 run_queue;
	u64 exited;
	/* Up to when the thread's walks are paid for. */
	u64 walked;
	/* Up to when its records of small entries are. */
	u64 recorded;
	/* The kernel's own sum of CPU time when the thread last stopped running. */
	u64 exec_runtime;
	s64 context_offset;
	u64 context_module;
	u64 context_pointer;
	u64 context_sequence;
	u64 span;
	u64 trace[2];
	u32 context_kind;
	u32 version;
	/* Which entry the current block belongs to. */
	u32 entry;
	u32 generation;
	u32 first_mapping;
	u32 mapping_count;
	char comm[16];
	struct site sites[SITES];
	struct entry entries[ENTRIES];
	struct entry folded[FOLDED];
};

enum record_kind {
	RECORD_STACK = 1,
	RECORD_SAMPLE = 2,
	RECORD_EVICTED = 3,
	RECORD_SPAN = 4,
	RECORD_FORK = 5,
	RECORD_EXEC = 6,
	RECORD_EXIT = 7,
	RECORD_WOKEN = 8,
};

enum walk_end {
	WALK_RUNNING = 0,
	WALK_ROOT = 1,
	WALK_NO_MAPPING = 2,
	WALK_NO_RULE = 3,
	WALK_FAULT = 4,
	WALK_TOO_DEEP = 5,
	WALK_STUCK = 6,
	WALK_BUDGET = 7,
	WALK_KERNEL_THREAD = 8,
};

/* The service at the other end of a socket; family 0 where there is none. The address as the network has it. */
struct peer {
	u16 family;
	u16 port;
	u32 unused;
	u64 address[2];
};

/* A stack, sent once: leaf first, callers already moved into their call. */
struct stack_record {
	u32 kind;
	u32 tgid;
	u64 stack;
	u32 end;
	u32 user_frames;
	u32 kernel_frames;
	u32 generation;
	struct peer peer;
	u64 kernel[MAX_KERNEL_FRAMES];
	u64 user[MAX_FRAMES];
};

struct sample_record {
	u32 kind;
	u32 tgid;
	u32 tid;
	u32 cpu;
	u64 time;
	u64 stack;
	u64 span;
	u64 trace[2];
};

/* An entry that made room for another. */
struct evicted_record {
	u32 kind;
	u32 tgid;
	u32 tid;
	/* Position among the thread's entries; from ENTRIES on, among the folded ones. */
	u32 position;
	struct entry entry;
};

/* The end of a long wait within a span, and who ended it. */
struct woken_record {
	u32 kind;
	u32 tgid;
	u32 tid;
	/* 1 if an interrupt did it: then nothing of the waker counts. */
	u32 interrupt;
	u64 begin;
	u64 end;
	/* Where the thread was blocked, and under which span. */
	u64 stack;
	u64 span;
	u64 trace[2];
	u32 waker_tgid;
	u32 waker_tid;
	/* 0 if the waker is no target. */
	u64 waker_stack;
	u64 waker_span;
	u64 waker_trace[2];
	char comm[16];
};

struct span_record {
	u32 kind;
	u32 tgid;
	u64 span;
	u64 trace[2];
	u32 attribute_bytes;
	u32 unused;
	u8 attributes[ATTRIBUTE_BYTES];
};

struct life_record {
	u32 kind;
	u32 tgid;
	u32 tid;
	/* Of a fork: the parent. Of an exit: whether it was the process's last thread. */
	u32 other;
	u64 time;
};

/* Where a thread stands that has not run since its process was taken on. */
struct visit_record {
	u32 tgid;
	u32 tid;
	u64 state;
	u64 thread_pointer;
	u64 ip;
	u64 sp;
	u64 bp;
};

enum counter {
	COUNT_SAMPLES,
	COUNT_LOST_SAMPLES,
	COUNT_LOST_STACKS,
	COUNT_LOST_ENTRIES,
	COUNT_LOST_NANOSECONDS,
	COUNT_LOST_EVENTS,
	COUNT_UNTRACKED_THREADS,
	COUNT_CONTEXT_FAULTS,
	COUNT_CONTEXT_TORN,
	COUNT_SPANS_WITHOUT_ATTRIBUTES,
	COUNT_WALKS,
	COUNT_WALKS_SKIPPED,
	COUNT_MISSED_SWITCHES,
	COUNT_WAKERS_NOT_TAKEN,
	/* COUNT_WALK_ENDS + enum walk_end */
	COUNT_WALK_ENDS = 16,
	COUNTERS = 32,
};

/* The twins in layout.rs are pinned to the same numbers. */
_Static_assert(sizeof(struct settings) == 592, "settings");
_Static_assert(sizeof(struct target) == 40, "target");
_Static_assert(sizeof(struct mapping) == 32, "mapping");
_Static_assert(sizeof(struct entry) == 64, "entry");
_Static_assert(sizeof(struct thread) == 1664, "thread");
_Static_assert(__builtin_offsetof(struct thread, comm) == 176, "thread.comm");
_Static_assert(__builtin_offsetof(struct thread, entries) == 384, "thread.entries");
_Static_assert(sizeof(struct stack_record) == 56 + MAX_KERNEL_FRAMES * 8 + MAX_FRAMES * 8, "stack_record");
_Static_assert(sizeof(struct sample_record) == 56, "sample_record");
_Static_assert(sizeof(struct evicted_record) == 80, "evicted_record");
_Static_assert(sizeof(struct woken_record) == 120, "woken_record");
_Static_assert(sizeof(struct span_record) == 296, "span_record");
_Static_assert(sizeof(struct visit_record) == 48, "visit_record");
_Static_assert(sizeof(struct life_record) == 24, "life_record");

#endif
