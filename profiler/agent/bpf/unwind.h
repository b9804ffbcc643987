/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-or-later */
/* Walks a user stack without frame pointers, by the tables that spanprof-symbolizer builds.
 *
 * Three things make it cheap: a page index, so that a search is over few rows; a cache of rules per CPU;
 * and reading the stack in windows of 1 KiB, because a user read costs 60-75 ns however short it is.
 * The same walk in Rust, spanprof_symbolizer::walk, is the reference. */
#ifndef SPANPROF_UNWIND_H
#define SPANPROF_UNWIND_H

#include "maps.h"

enum rule_kind {
	RULE_NONE = 0,
	RULE_RSP = 1,
	RULE_RBP = 2,
	RULE_END = 3,
	RULE_SIGNAL = 4,
	RULE_PLT = 5,
	RULE_DEREF = 6,
	RULE_BIG = 7,
};

/* Not a rule: no mapping holds the address. */
#define NO_MAPPING 0xffffffffu
/* cfa = rbp + 16, rbp saved at cfa - 16. */
#define FRAME_POINTER_RULE (RULE_RBP | 2 << 3 | 2 << 10)

struct walk {
	u64 ip;
	u64 sp;
	u64 bp;
	u64 hash;
	u64 window_start;
	/* Room for a helper's answer: the callback must have no stack of its own, or Linux 6.18's verifier
	 * fails with a bug of its own ("callback leftover stack slots"). */
	u64 word;
	struct scratch *scratch;
	struct rule_cache *cache;
	u32 generation;
	u32 first_mapping;
	u32 mapping_count;
	u32 end;
	/* Whether `ip` is where the thread stands, not a return address. */
	u32 exact;
};

/* How many of the target's mappings start at or before `pc`. A global function, so that the verifier
 * checks its loop once and not once per frame. */
GLOBAL u32 count_mappings_up_to(u64 pc, u32 first, u32 total)
{
	u32 low = 0, high = total;
	for (u32 i = 0; i < 16; i++) {
		if (low >= high)
			break;
		u32 middle = (low + high) >> 1;
		u32 index = first + middle;
		struct mapping *mapping = bpf_map_lookup_elem(&mappings, &index);
		if (!mapping)
			return 0;
		if (mapping->start <= pc)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The last of `rows` rows from `first_row` whose low byte is not above `byte`. Branchless: the sign of a
 * difference is the mask, which spares the verifier 256 paths. */
INLINE u32 search_rows(u32 first_row, u32 count_of_rows, u32 byte)
{
	u32 index = first_row / BLOCK_CELLS;
	struct block *block = bpf_map_lookup_elem(&rows, &index);
	if (!block)
		return RULE_NONE;
	u32 found = 0;
#pragma unroll
	for (u32 step = 128; step; step >>= 1) {
		u32 candidate = found + step;
		u32 row = block->cells[(first_row + candidate) % BLOCK_CELLS];
		u32 inside = (u32)((s32)(candidate - count_of_rows) >> 31);
		u32 not_above = (u32)((s32)((row & 255) - byte - 1) >> 31);
		found += step & inside & not_above;
	}
	return block->cells[(first_row + found) % BLOCK_CELLS] >> 8;
}

/* The rule for `pc`, or NO_MAPPING. */
GLOBAL u32 find_rule(u64 pc, u32 first, u32 total)
{
	u32 up_to = count_mappings_up_to(pc, first, total);
	if (!up_to)
		return NO_MAPPING;
	u32 index = first + up_to - 1;
	struct mapping *mapping = bpf_map_lookup_elem(&mappings, &index);
	if (!mapping || pc < mapping->start || pc >= mapping->end)
		return NO_MAPPING;
	if (mapping->page_base == FRAME_POINTER_PAGES)
		return FRAME_POINTER_RULE;
	u32 page_index = mapping->page_base + (u32)((pc - mapping->base) >> 8);
	u32 block_index = page_index / BLOCK_CELLS;
	struct block *block = bpf_map_lookup_elem(&pages, &block_index);
	if (!block)
		return RULE_NONE;
	u32 page = block->cells[page_index % BLOCK_CELLS];
	if (!(page & 255))
		return page >> 8;
	return search_rows(mapping->row_base + (page >> 8), page & 255, pc & 255);
}

INLINE u32 cached_rule(struct walk *walk, u64 pc)
{
	struct rule_cache *cache = walk->cache;
	u32 slot = (u32)(pc ^ pc >> 12) % CACHE_SLOTS;
	struct cached_rule *known = &cache->slots[slot];
	if (LIKELY(known->pc == pc && known->generation == walk->generation))
		return known->rule;
	u32 rule = find_rule(pc, walk->first_mapping, walk->mapping_count);
	known->pc = pc;
	known->generation = walk->generation;
	known->rule = rule;
	return rule;
}

/* Makes sure that the window covers [low, low + 16) or more; false if that memory cannot be read. */
INLINE void slide_window(struct walk *walk, u64 low)
{
	walk->window_start = low;
	if (bpf_probe_read_user(walk->scratch->window, sizeof(walk->scratch->window), (void *)low))
		walk->window_start = 0;
}

INLINE bool in_window(struct walk *walk, u64 address)
{
	return walk->window_start && address - walk->window_start < sizeof(walk->scratch->window);
}

INLINE bool read_word(struct walk *walk, u64 address, u64 *word)
{
	if (in_window(walk, address)) {
		*word = walk->scratch->window[(address - walk->window_start) / 8 % 128];
		return true;
	}
	return bpf_probe_read_user(word, sizeof(*word), (void *)address) == 0;
}

/* Registers that the kernel saved below a signal handler's frame: offsets within struct ucontext. */
INLINE bool leave_signal_frame(struct walk *walk)
{
	u64 context = walk->sp;
	if (bpf_probe_read_user(&walk->bp, 8, (void *)(context + 120)) ||
	    bpf_probe_read_user(&walk->sp, 8, (void *)(context + 160)) ||
	    bpf_probe_read_user(&walk->ip, 8, (void *)(context + 168)))
		return false;
	walk->exact = true;
	return true;
}

/* One frame: record it, then find its caller. Stops by returning 1. The output is indexed by the loop's
 * own counter: a counter of ours would be a new state to the verifier at each turn. */
static long step(u32 i, struct walk *walk)
{
	u64 pc = walk->exact ? walk->ip : walk->ip - 1;
	struct scratch *scratch = walk->scratch;
	scratch->record.user[i % MAX_FRAMES] = pc;
	walk->hash = mix(walk->hash, pc);

	u32 rule = cached_rule(walk, pc);
	u32 kind = rule & 7;
	u64 offset = (rule >> 10) * 8;
	u64 saved_bp = (u64)(rule >> 3 & 127) * 8;
	u64 cfa;

	if (rule == NO_MAPPING) {
		walk->end = WALK_NO_MAPPING;
		return 1;
	}
	switch (kind) {
	case RULE_RSP:
		cfa = walk->sp + offset;
		break;
	case RULE_RBP:
		cfa = walk->bp + offset;
		break;
	case RULE_BIG:
		cfa = walk->sp + (u64)(rule >> 6) * 8;
		saved_bp = (u64)(rule >> 3 & 7) * 8;
		break;
	case RULE_PLT:
		cfa = walk->sp + 8 + ((pc & 15) >= (rule >> 10) ? 8 : 0);
		saved_bp = 0;
		break;
	case RULE_DEREF:
		if (bpf_probe_read_user(&walk->word, 8, (void *)(walk->bp - offset))) {
			walk->end = WALK_FAULT;
			return 1;
		}
		cfa = walk->word;
		saved_bp = cfa - walk->bp;
		break;
	case RULE_SIGNAL:
		if (leave_signal_frame(walk))
			return 0;
		walk->end = WALK_FAULT;
		return 1;
	case RULE_END:
		walk->end = WALK_ROOT;
		return 1;
	default:
		walk->end = WALK_NO_RULE;
		return 1;
	}

	u64 low = saved_bp ? cfa - saved_bp : cfa - 8;
	if (!in_window(walk, low) || !in_window(walk, cfa - 8))
		slide_window(walk, low);
	if ((saved_bp && !read_word(walk, cfa - saved_bp, &walk->bp)) || !read_word(walk, cfa - 8, &walk->ip)) {
		walk->end = WALK_FAULT;
		return 1;
	}
	if (cfa <= walk->sp) {
		walk->end = WALK_STUCK;
		return 1;
	}
	walk->sp = cfa;
	walk->exact = false;
	return 0;
}

/* Walks the current task's user stack into `scratch`; gives its hash, never 0. */
INLINE u64 walk_user_stack(const struct thread *thread, struct scratch *scratch, const struct pt_regs *registers)
{
	u32 cpu = bpf_get_smp_processor_id();
	struct rule_cache *cache = bpf_map_lookup_elem(&rule_caches, &cpu);
	if (!cache)
		return 0;
	struct walk walk = {
		.ip = registers->ip,
		.sp = registers->sp,
		.bp = registers->bp,
		.hash = thread->tgid,
		.scratch = scratch,
		.cache = cache,
		.generation = thread->generation,
		.first_mapping = thread->first_mapping,
		.mapping_count = thread->mapping_count,
		.exact = true,
	};
	long frames = bpf_loop(MAX_FRAMES, step, &walk, 0);
	if (!walk.end)
		walk.end = WALK_TOO_DEEP;
	scratch->record.kind = RECORD_STACK;
	scratch->record.tgid = thread->tgid;
	scratch->record.end = walk.end;
	scratch->record.user_frames = frames > 0 ? frames : 0;
	scratch->record.kernel_frames = 0;
	scratch->record.generation = thread->generation;
	scratch->record.peer.family = 0;
	count(COUNT_WALKS, 1);
	return walk.hash | 1;
}

#endif
