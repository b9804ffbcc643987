/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-or-later */
/* The maps, and the small functions that reach into them. Sizes marked "set at load" are given by the
 * agent, which knows how many objects and threads it is going to watch. */
#ifndef SPANPROF_MAPS_H
#define SPANPROF_MAPS_H

#include "layout.h"

struct {
	UINT(type, BPF_MAP_TYPE_ARRAY);
	UINT(max_entries, 1);
	UINT(map_flags, BPF_F_MMAPABLE);
	TYPE(key, u32);
	TYPE(value, struct settings);
} settings SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_HASH);
	UINT(max_entries, 4096);
	TYPE(key, u32);
	TYPE(value, struct target);
} targets SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_ARRAY);
	UINT(max_entries, 1); /* set at load */
	UINT(map_flags, BPF_F_MMAPABLE);
	TYPE(key, u32);
	TYPE(value, struct mapping);
} mappings SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_ARRAY);
	UINT(max_entries, 1); /* set at load */
	UINT(map_flags, BPF_F_MMAPABLE);
	TYPE(key, u32);
	TYPE(value, struct block);
} pages SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_ARRAY);
	UINT(max_entries, 1); /* set at load */
	UINT(map_flags, BPF_F_MMAPABLE);
	TYPE(key, u32);
	TYPE(value, struct block);
} rows SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_ARRAY);
	UINT(max_entries, 1); /* set at load: number of CPUs */
	TYPE(key, u32);
	TYPE(value, struct rule_cache);
} rule_caches SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_ARRAY);
	UINT(max_entries, 1); /* set at load: a power of two */
	UINT(map_flags, BPF_F_MMAPABLE);
	TYPE(key, u32);
	TYPE(value, struct thread);
} threads SEC(".maps");

/* Hashes of stacks and spans that were sent already; a collision only sends one again. */
struct {
	UINT(type, BPF_MAP_TYPE_ARRAY);
	UINT(max_entries, SEEN_SLOTS);
	UINT(map_flags, BPF_F_MMAPABLE);
	TYPE(key, u32);
	TYPE(value, u64);
} seen SEC(".maps");

struct scratch {
	u64 window[128];
	/* Up to when this CPU's records of wake-ups are paid for. */
	u64 wakers;
	struct stack_record record;
};

struct {
	UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, struct scratch);
} scratches SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	UINT(max_entries, COUNTERS);
	TYPE(key, u32);
	TYPE(value, u64);
} counters SEC(".maps");

/* The peers that stacks tell of. What comes when it is full is not told. */
struct {
	UINT(type, BPF_MAP_TYPE_HASH);
	UINT(max_entries, PEERS);
	TYPE(key, u64);
	TYPE(value, u8);
} peers SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_RINGBUF);
	UINT(max_entries, 4096); /* set at load */
} ring SEC(".maps");

/* Set at load: number of thread records less one. */
const volatile u32 thread_mask = 0;
/* Set at load: above how many waiting bytes the agent is woken at once. */
const volatile u64 wake_above = 0;

INLINE void count(u32 counter, u64 by)
{
	u64 *value = bpf_map_lookup_elem(&counters, &counter);
	if (value)
		*value += by;
}

INLINE struct settings *the_settings(void)
{
	u32 zero = 0;
	return bpf_map_lookup_elem(&settings, &zero);
}

INLINE bool maybe_target(const struct settings *s, u32 tgid)
{
	return tgid && (s->filter[(tgid >> 6) % FILTER_WORDS] >> (tgid & 63) & 1);
}

/* The agent polls; it is woken early only when much has piled up. */
INLINE bool send(void *record, u64 size)
{
	u64 waiting = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA);
	u64 flags = waiting > wake_above ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
	return bpf_ringbuf_output(&ring, record, size, flags) == 0;
}

/* Whether something dear may be done now; takes it off the account if so. The account is a time: each
 * deed moves it on by `interval`, and it never lags behind by more than `burst`. */
INLINE bool pay(u64 *account, u64 interval, u64 burst, u64 now)
{
	u64 paid = *account;
	if (paid + burst < now)
		paid = now - burst;
	if (paid > now)
		return false;
	*account = paid + interval;
	return true;
}

INLINE u64 mix(u64 hash, u64 value)
{
	hash = (hash ^ value) * 0x9e3779b97f4a7c15ull;
	return hash ^ (hash >> 32);
}

/* Whether `hash` was sent before; the caller marks it with `mark_seen` once it is on its way. */
INLINE bool was_seen(u64 hash)
{
	u32 slot = hash % SEEN_SLOTS;
	u64 *value = bpf_map_lookup_elem(&seen, &slot);
	return value && *value == hash;
}

INLINE void mark_seen(u64 hash)
{
	u32 slot = hash % SEEN_SLOTS;
	u64 *value = bpf_map_lookup_elem(&seen, &slot);
	if (value)
		*value = hash;
}

#endif
