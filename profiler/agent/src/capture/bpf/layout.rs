//! Twins of the structs in `bpf/layout.h`; sizes and offsets are asserted on both sides.

pub(super) const MAX_FRAMES: usize = 1024;
pub(super) const MAX_KERNEL_FRAMES: usize = 64;
pub(super) const BLOCK_CELLS: usize = 1024;
pub(super) const SEEN_SLOTS: usize = 65536;
pub(super) const SITES: usize = 8;
pub(super) const ENTRIES: usize = 16;
pub(super) const FOLDED: usize = 4;
pub(super) const FILTER_WORDS: usize = 64;
pub(super) const ATTRIBUTE_BYTES: usize = 256;
pub(super) const FRAME_POINTER_PAGES: u32 = 0xffff_ffff;

pub(super) const SETTING_KERNEL_STACKS: u32 = 1;

pub(super) const CONTEXT_NONE: u32 = 0;
pub(super) const CONTEXT_STATIC: u32 = 1;
pub(super) const CONTEXT_SEQUENCE: u32 = 2;
pub(super) const CONTEXT_DYNAMIC: u32 = 3;

pub(super) const RECORD_STACK: u32 = 1;
pub(super) const RECORD_SAMPLE: u32 = 2;
pub(super) const RECORD_EVICTED: u32 = 3;
pub(super) const RECORD_SPAN: u32 = 4;
pub(super) const RECORD_FORK: u32 = 5;
pub(super) const RECORD_EXEC: u32 = 6;
pub(super) const RECORD_EXIT: u32 = 7;
pub(super) const RECORD_WOKEN: u32 = 8;

pub(super) const COUNT_WALK_ENDS: usize = 16;
/// Positions of the counters and their names in `summary.json`.
pub(super) const COUNTER_NAMES: [(usize, &str); 14] = [
    (0, "samples"),
    (1, "samples_lost"),
    (2, "stacks_lost"),
    (3, "waits_lost"),
    (4, "waits_lost_nanoseconds"),
    (5, "events_lost"),
    (6, "threads_untracked"),
    (7, "contexts_unreadable"),
    (8, "contexts_torn"),
    (9, "spans_without_attributes"),
    (10, "stacks_walked"),
    (11, "stacks_not_walked"),
    (12, "switches_missed"),
    (13, "wakers_not_taken"),
];

/// Plain data that the kernel side shares: any bit pattern is a value.
///
/// # Safety
/// Implementors are `repr(C)`, without padding that matters, and valid for every bit pattern.
pub(super) unsafe trait Shared: Copy {}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Settings {
    pub(super) filter: [u64; FILTER_WORDS],
    pub(super) walk_interval: u64,
    pub(super) walk_burst: u64,
    pub(super) fold_below: u64,
    pub(super) record_interval: u64,
    pub(super) record_burst: u64,
    pub(super) waker_above: u64,
    pub(super) waker_interval: u64,
    pub(super) waker_burst: u64,
    pub(super) version: u32,
    pub(super) generation: u32,
    pub(super) flags: u32,
    pub(super) unused: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Target {
    pub(super) since: u64,
    pub(super) context_offset: i64,
    pub(super) context_module: u64,
    pub(super) context_kind: u32,
    pub(super) first_mapping: u32,
    pub(super) mapping_count: u32,
    pub(super) generation: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) base: u64,
    pub(super) page_base: u32,
    pub(super) row_base: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) cells: [u32; BLOCK_CELLS],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Site {
    pub(super) key: u64,
    pub(super) stack: u64,
    pub(super) uses: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) stack: u64,
    pub(super) span: u64,
    pub(super) trace: [u64; 2],
    pub(super) off_cpu: u64,
    pub(super) run_queue: u64,
    pub(super) count: u32,
    pub(super) generation: u32,
    pub(super) unread: u32,
    pub(super) touched: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Thread {
    pub(super) tid: u32,
    pub(super) tgid: u32,
    pub(super) since: u64,
    pub(super) r#in: u64,
    pub(super) out: u64,
    pub(super) wake: u64,
    pub(super) cpu: u64,
    pub(super) off_cpu: u64,
    pub(super) run_queue: u64,
    pub(super) exited: u64,
    pub(super) walked: u64,
    pub(super) recorded: u64,
    pub(super) exec_runtime: u64,
    pub(super) context_offset: i64,
    pub(super) context_module: u64,
    pub(super) context_pointer: u64,
    pub(super) context_sequence: u64,
    pub(super) span: u64,
    pub(super) trace: [u64; 2],
    pub(super) context_kind: u32,
    pub(super) version: u32,
    pub(super) entry: u32,
    pub(super) generation: u32,
    pub(super) first_mapping: u32,
    pub(super) mapping_count: u32,
    pub(super) comm: [u8; 16],
    pub(super) sites: [Site; SITES],
    pub(super) entries: [Entry; ENTRIES],
    pub(super) folded: [Entry; FOLDED],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct StackHeader {
    pub(super) kind: u32,
    pub(super) tgid: u32,
    pub(super) stack: u64,
    pub(super) end: u32,
    pub(super) user_frames: u32,
    pub(super) kernel_frames: u32,
    pub(super) generation: u32,
    pub(super) peer: Peer,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Peer {
    pub(super) family: u16,
    pub(super) port: u16,
    pub(super) unused: u32,
    pub(super) address: [u8; 16],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct SampleRecord {
    pub(super) kind: u32,
    pub(super) tgid: u32,
    pub(super) tid: u32,
    pub(super) cpu: u32,
    pub(super) time: u64,
    pub(super) stack: u64,
    pub(super) span: u64,
    pub(super) trace: [u64; 2],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct EvictedRecord {
    pub(super) kind: u32,
    pub(super) tgid: u32,
    pub(super) tid: u32,
    pub(super) position: u32,
    pub(super) entry: Entry,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct WokenRecord {
    pub(super) kind: u32,
    pub(super) tgid: u32,
    pub(super) tid: u32,
    pub(super) interrupt: u32,
    pub(super) begin: u64,
    pub(super) end: u64,
    pub(super) stack: u64,
    pub(super) span: u64,
    pub(super) trace: [u64; 2],
    pub(super) waker_tgid: u32,
    pub(super) waker_tid: u32,
    pub(super) waker_stack: u64,
    pub(super) waker_span: u64,
    pub(super) waker_trace: [u64; 2],
    pub(super) comm: [u8; 16],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct SpanRecord {
    pub(super) kind: u32,
    pub(super) tgid: u32,
    pub(super) span: u64,
    pub(super) trace: [u64; 2],
    pub(super) attribute_bytes: u32,
    pub(super) unused: u32,
    pub(super) attributes: [u8; ATTRIBUTE_BYTES],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct LifeRecord {
    pub(super) kind: u32,
    pub(super) tgid: u32,
    pub(super) tid: u32,
    pub(super) other: u32,
    pub(super) time: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct VisitRecord {
    pub(super) tgid: u32,
    pub(super) tid: u32,
    pub(super) state: u64,
    pub(super) thread_pointer: u64,
    pub(super) ip: u64,
    pub(super) sp: u64,
    pub(super) bp: u64,
}

macro_rules! shared {
    ($($name:ty),*) => {
        // SAFETY: repr(C) integers and arrays of them, valid for every bit pattern.
        $(unsafe impl Shared for $name {})*
    };
}

shared!(u32, u64, Settings, Target, Mapping, Block, Entry, Thread);
shared!(StackHeader, SampleRecord, EvictedRecord, WokenRecord, SpanRecord, LifeRecord, VisitRecord);

// SAFETY: as above; aya asks for the same promise to put a value into a map.
unsafe impl aya::Pod for Target {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{offset_of, size_of};

    /// The numbers of `layout.h`'s static assertions.
    #[test]
    fn sizes_and_offsets_are_those_of_the_kernel_side() {
        assert_eq!(size_of::<Settings>(), 592);
        assert_eq!(size_of::<Target>(), 40);
        assert_eq!(size_of::<Mapping>(), 32);
        assert_eq!(size_of::<Entry>(), 64);
        assert_eq!(size_of::<Thread>(), 1664);
        assert_eq!(offset_of!(Thread, comm), 176);
        assert_eq!(offset_of!(Thread, entries), 384);
        assert_eq!(size_of::<StackHeader>(), 56);
        assert_eq!(size_of::<SampleRecord>(), 56);
        assert_eq!(size_of::<EvictedRecord>(), 80);
        assert_eq!(size_of::<WokenRecord>(), 120);
        assert_eq!(size_of::<SpanRecord>(), 296);
        assert_eq!(size_of::<LifeRecord>(), 24);
        assert_eq!(size_of::<VisitRecord>(), 48);
    }
}
