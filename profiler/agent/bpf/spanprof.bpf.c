// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-or-later
/* The programs that run in the kernel: a CPU-clock sample, the scheduler's switch and wake-up, and the
 * life of processes. Everything that is not a target's costs two loads and a return. */
#include "context.h"
#include "maps.h"
#include "stacks.h"
#include "threads.h"
#include "unwind.h"
#include "wakers.h"

char LICENSE[] SEC("license") = "GPL";

/* ---- times ---------------------------------------------------------------------------------------- */

INLINE u32 task_state(struct task_struct *task)
{
	if (__builtin_preserve_field_info(task->__state, 2 /* field exists */))
		return task->__state;
	return ((struct task_struct___before_5_14 *)task)->state;
}

/* Of a thread that changes its span at every turn, small entries go together by place: only the span is
 * given up, never the time. At the pace of messages nothing folds. */
INLINE void fold(struct thread *thread, struct scratch *scratch, const struct entry *old)
{
	u32 position = old->stack % FOLDED;
	struct entry *folded = &thread->folded[position % FOLDED];
	if (folded->stack != old->stack) {
		if (folded->count) {
			struct evicted_record *record = (struct evicted_record *)&scratch->record;
			record->kind = RECORD_EVICTED;
			record->tgid = thread->tgid;
			record->tid = thread->tid;
			record->position = ENTRIES + position;
			record->entry = *folded;
			if (!send(record, sizeof(*record))) {
				count(COUNT_LOST_ENTRIES, 1);
				count(COUNT_LOST_NANOSECONDS, folded->off_cpu + folded->run_queue);
			}
		}
		folded->stack = old->stack;
		folded->off_cpu = 0;
		folded->run_queue = 0;
		folded->count = 0;
		folded->generation++;
	}
	folded->off_cpu += old->off_cpu;
	folded->run_queue += old->run_queue;
	folded->count += old->count;
}

INLINE void evict(const struct settings *s, struct thread *thread, struct scratch *scratch, u32 position,
		  struct entry *entry, u64 now)
{
	if (!entry->count)
		return;
	/* What the agent has read already must not be folded: it would count twice. */
	if (entry->unread && entry->off_cpu + entry->run_queue < s->fold_below &&
	    !pay(&thread->recorded, s->record_interval, s->record_burst, now)) {
		fold(thread, scratch, entry);
		return;
	}
	struct evicted_record *record = (struct evicted_record *)&scratch->record;
	record->kind = RECORD_EVICTED;
	record->tgid = thread->tgid;
	record->tid = thread->tid;
	record->position = position;
	record->entry = *entry;
	if (!send(record, sizeof(*record))) {
		count(COUNT_LOST_ENTRIES, 1);
		count(COUNT_LOST_NANOSECONDS, entry->off_cpu + entry->run_queue);
	}
}

/* The position of the entry for the thread's span and `stack`: two ways, the colder one makes room. */
INLINE u32 entry_for(const struct settings *s, struct thread *thread, struct scratch *scratch, u64 stack, u64 now)
{
	u32 way = (stack ^ thread->span ^ thread->span >> 32) % (ENTRIES / 2) * 2;
	u32 touched = now >> 10;
	struct entry *first = &thread->entries[way % ENTRIES];
	struct entry *second = &thread->entries[(way + 1) % ENTRIES];
	if (first->stack == stack && first->span == thread->span) {
		first->touched = touched;
		return way;
	}
	if (second->stack == stack && second->span == thread->span) {
		second->touched = touched;
		return way + 1;
	}
	u32 position = (s32)(first->touched - second->touched) > 0 ? way + 1 : way;
	struct entry *entry = &thread->entries[position % ENTRIES];
	evict(s, thread, scratch, position, entry, now);
	entry->generation++;
	entry->stack = stack;
	entry->span = thread->span;
	entry->trace[0] = thread->trace[0];
	entry->trace[1] = thread->trace[1];
	entry->off_cpu = 0;
	entry->run_queue = 0;
	entry->count = 0;
	entry->unread = 1;
	entry->touched = touched;
	return position;
}

/* Ends a block: splits it at the wake-up and books it where switch-out said. `ran` of it the thread ran unseen. */
INLINE void begin_running(struct thread *thread, u64 ran, u64 now)
{
	u64 out = thread->out;
	if (out) {
		u64 wake = thread->wake >= out ? thread->wake : now;
		u64 off_cpu = wake - out, run_queue = now - wake;
		if (UNLIKELY(ran)) {
			u64 from_queue = ran < run_queue ? ran : run_queue;
			run_queue -= from_queue;
			off_cpu -= ran - from_queue < off_cpu ? ran - from_queue : off_cpu;
		}
		struct entry *entry = &thread->entries[thread->entry % ENTRIES];
		entry->off_cpu += off_cpu;
		entry->run_queue += run_queue;
		entry->count++;
		thread->off_cpu += off_cpu;
		thread->run_queue += run_queue;
	}
	thread->out = 0;
	thread->wake = 0;
	thread->in = now;
}

/* A switch can go unseen: the kernel runs no program in the context of some tasks, and none within itself. The kernel's
 * own CPU clock then tells how long the thread has run. Here, the switch to it went unseen. */
INLINE void began_unseen(struct thread *thread, u64 ran, u64 now)
{
	u64 in = ran < now - thread->out ? now - ran : thread->out;
	count(COUNT_MISSED_SWITCHES, 1);
	if (thread->wake > in)
		thread->wake = 0;
	begin_running(thread, 0, in);
}

/* The switch from it went unseen, or both: where it waited, and under which span, nobody knows. A thread that was not
 * woken since was preempted. */
static GLOBAL u64 ended_unseen(const struct settings *s, struct thread *thread, struct scratch *scratch, u64 ran, u64 now)
{
	count(COUNT_MISSED_SWITCHES, 1);
	if (thread->out) {
		ran = ran < now - thread->out ? ran : now - thread->out;
		thread->cpu += ran;
		return ran;
	}
	ran = ran < now - thread->in ? ran : now - thread->in;
	thread->cpu += ran;
	thread->context_pointer = 0;
	thread->context_sequence = 0;
	forget_span(thread);
	thread->entry = entry_for(s, thread, scratch, 0, now);
	thread->out = thread->in + ran;
	if (thread->wake < thread->out)
		thread->wake = thread->out;
	return 0;
}

INLINE void switch_in(const struct settings *s, struct task_struct *next, u32 tgid, u64 now)
{
	bool new_thread;
	u32 zero = 0;
	struct thread *thread = thread_of(next, tgid, &new_thread);
	if (!thread)
		return;
	if (UNLIKELY(new_thread))
		met_waiting(thread, next);
	u64 exec_runtime = next->se.sum_exec_runtime, ran = exec_runtime - thread->exec_runtime;
	if (UNLIKELY(ran)) {
		struct scratch *scratch = bpf_map_lookup_elem(&scratches, &zero);
		if (!scratch)
			return;
		ran = ended_unseen(s, thread, scratch, ran, now);
		thread->exec_runtime = exec_runtime;
	}
	begin_running(thread, ran, now);
}

INLINE void switch_out(void *ctx, const struct settings *s, struct task_struct *prev, u32 tgid, bool preempted, u64 now)
{
	u32 state = task_state(prev);
	bool new_thread;
	u32 zero = 0;
	if (UNLIKELY(state & TASK_DEAD))
		return;
	struct thread *thread = thread_of(prev, tgid, &new_thread);
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &zero);
	if (!thread || !scratch)
		return;
	if (UNLIKELY(new_thread))
		met_running(thread, prev);
	u64 exec_runtime = prev->se.sum_exec_runtime;
	if (UNLIKELY(!thread->in && thread->out))
		began_unseen(thread, exec_runtime - thread->exec_runtime, now);
	thread->exec_runtime = exec_runtime;
	if (thread->in)
		thread->cpu += now - thread->in;
	preempted |= state == TASK_RUNNING;
	read_context(thread, scratch, prev);
	u64 stack = blocking_stack(ctx, s, thread, scratch, prev, preempted ? 0 : state, now);
	thread->entry = entry_for(s, thread, scratch, stack, now);
	thread->wake = preempted ? now : 0;
	thread->in = 0;
	thread->out = now;
}

SEC("tp_btf/sched_switch")
int on_switch(u64 *ctx)
{
	struct task_struct *prev = (struct task_struct *)ctx[1];
	struct task_struct *next = (struct task_struct *)ctx[2];
	struct settings *s = the_settings();
	u32 prev_tgid = prev->tgid, next_tgid = next->tgid;
	if (!s)
		return 0;
	bool leaves = maybe_target(s, prev_tgid), enters = maybe_target(s, next_tgid);
	if (LIKELY(!leaves && !enters))
		return 0;
	u64 now = bpf_ktime_get_ns();
	if (enters)
		switch_in(s, next, next_tgid, now);
	if (leaves)
		switch_out(ctx, s, prev, prev_tgid, ctx[0], now);
	return 0;
}

SEC("tp_btf/sched_waking")
int on_waking(u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	struct settings *s = the_settings();
	u32 tgid = task->tgid;
	if (LIKELY(!s || !maybe_target(s, tgid)))
		return 0;
	struct thread *thread = find_thread(task->pid);
	if (thread) {
		/* Of one that seems to run, the latest: its switch may have gone unseen. */
		if (thread->out && thread->wake)
			return 0;
		u64 now = bpf_ktime_get_ns();
		thread->wake = now;
		if (thread->out)
			tell_waker(ctx, s, thread, now);
		return 0;
	}
	bool new_thread;
	thread = thread_of(task, tgid, &new_thread);
	if (thread && new_thread) {
		met_waiting(thread, task);
		thread->wake = bpf_ktime_get_ns();
	}
	return 0;
}

/* ---- on-CPU samples ------------------------------------------------------------------------------- */

/* Whether the clock interrupted user code: the two lowest bits of cs, the 18th of struct pt_regs, which
 * is ABI on x86-64. Then there is no kernel stack to ask for. */
INLINE bool in_user_mode(const u64 *ctx)
{
	return ctx[17] & 3;
}

SEC("perf_event")
int on_sample(u64 *ctx)
{
	struct settings *s = the_settings();
	u64 ids = bpf_get_current_pid_tgid();
	u32 tgid = ids >> 32, zero = 0;
	if (!s || !maybe_target(s, tgid))
		return 0;
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &zero);
	bool new_thread;
	struct task_struct *task = bpf_get_current_task_btf();
	struct thread *thread = thread_of(task, tgid, &new_thread);
	if (!thread || !scratch)
		return 0;
	if (new_thread)
		met_running(thread, task);
	read_context(thread, scratch, task);

	u64 hash = walk_user_stack(thread, scratch, bpf_task_pt_regs(task));
	u32 kernel_frames = 0;
	if (s->flags & SETTING_KERNEL_STACKS && !in_user_mode(ctx)) {
		kernel_frames = kernel_stack(ctx, scratch);
		for (u32 i = 0; i < MAX_KERNEL_FRAMES && i < kernel_frames; i++)
			hash = mix(hash, scratch->record.kernel[i]);
		hash |= 1;
	}
	scratch->record.kernel_frames = kernel_frames;
	count(COUNT_SAMPLES, 1);
	count(COUNT_WALK_ENDS + (scratch->record.end & 15), 1);
	if (!was_seen(hash)) {
		remember_name(thread, task);
		send_stack(scratch, hash);
	}
	struct sample_record sample = {
		.kind = RECORD_SAMPLE,
		.tgid = tgid,
		.tid = (u32)ids,
		.cpu = bpf_get_smp_processor_id(),
		.time = bpf_ktime_get_ns(),
		.stack = hash,
		.span = thread->span,
		.trace = { thread->trace[0], thread->trace[1] },
	};
	if (!send(&sample, sizeof(sample)))
		count(COUNT_LOST_SAMPLES, 1);
	return 0;
}

/* ---- the life of processes ------------------------------------------------------------------------ */

INLINE void send_life(u32 kind, u32 tgid, u32 tid, u32 other)
{
	struct life_record life = { .kind = kind, .tgid = tgid, .tid = tid, .other = other, .time = bpf_ktime_get_ns() };
	if (!send(&life, sizeof(life)))
		count(COUNT_LOST_EVENTS, 1);
}

/* A new thread is runnable from its birth; a new process starts with its parent's mappings. */
SEC("tp_btf/sched_process_fork")
int on_fork(u64 *ctx)
{
	struct task_struct *parent = (struct task_struct *)ctx[0];
	struct task_struct *child = (struct task_struct *)ctx[1];
	struct settings *s = the_settings();
	u32 parent_tgid = parent->tgid, child_tgid = child->tgid;
	if (!s || !maybe_target(s, parent_tgid))
		return 0;
	struct target *target = bpf_map_lookup_elem(&targets, &parent_tgid);
	if (!target)
		return 0;
	u64 now = bpf_ktime_get_ns();
	if (child_tgid != parent_tgid) {
		struct target inherited = *target;
		inherited.since = now;
		if (bpf_map_update_elem(&targets, &child_tgid, &inherited, BPF_ANY)) {
			count(COUNT_UNTRACKED_THREADS, 1);
			return 0;
		}
		__sync_fetch_and_or(&s->filter[(child_tgid >> 6) % FILTER_WORDS], 1ull << (child_tgid & 63));
		send_life(RECORD_FORK, child_tgid, child->pid, parent_tgid);
	}
	bool new_thread;
	struct thread *thread = thread_of(child, child_tgid, &new_thread);
	if (thread && new_thread) {
		thread->since = now;
		thread->out = now;
		thread->wake = now;
	}
	return 0;
}

SEC("tp_btf/sched_process_exec")
int on_exec(u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	struct settings *s = the_settings();
	u32 tgid = task->tgid;
	if (!s || !maybe_target(s, tgid))
		return 0;
	struct target *target = bpf_map_lookup_elem(&targets, &tgid);
	if (!target)
		return 0;
	target->mapping_count = 0;
	target->context_kind = CONTEXT_NONE;
	target->generation = __sync_fetch_and_add(&s->generation, 1) + 1;
	struct thread *thread = find_thread(task->pid);
	if (thread) {
		refresh(thread, target, s->version);
		forget_span(thread);
	}
	send_life(RECORD_EXEC, tgid, task->pid, 0);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int on_exit(u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	struct settings *s = the_settings();
	u32 tgid = task->tgid;
	if (!s || !maybe_target(s, tgid))
		return 0;
	struct thread *thread = find_thread(task->pid);
	if (!thread)
		return 0;
	u64 now = bpf_ktime_get_ns();
	if (thread->in)
		thread->cpu += now - thread->in;
	thread->in = 0;
	thread->out = 0;
	thread->exited = now;
	remember_name(thread, task);
	send_life(RECORD_EXIT, tgid, task->pid, task->signal->live.counter == 0);
	return 0;
}

/* ---- threads that have not run since ---------------------------------------------------------------- */

/* Writes the user registers of every thread of a target that is not accounted for yet: it is blocked, and
 * nothing of it is seen until it runs. The agent walks its stack from outside. */
SEC("iter/task")
int on_visit(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct settings *s = the_settings();
	if (!task || !s || !maybe_target(s, task->tgid) || find_thread(task->pid))
		return 0;
	u32 tgid = task->tgid;
	if (!bpf_map_lookup_elem(&targets, &tgid))
		return 0;
	const struct pt_regs *registers = bpf_task_pt_regs(task);
	struct visit_record visit = {
		.tgid = tgid,
		.tid = task->pid,
		.state = task_state(task),
		.thread_pointer = task->thread.fsbase,
		.ip = registers->ip,
		.sp = registers->sp,
		.bp = registers->bp,
	};
	bpf_seq_write(ctx->meta->seq, &visit, sizeof(visit));
	return 0;
}
