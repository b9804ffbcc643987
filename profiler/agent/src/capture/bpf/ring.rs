//! Takes the records of the ring apart.

use std::net::{IpAddr, SocketAddr};

use super::accounts::{Accounts, active_span, text_of};
use super::layout::{
    self, ATTRIBUTE_BYTES, EvictedRecord, LifeRecord, Peer, SampleRecord, Shared, SpanRecord, StackHeader,
    WokenRecord,
};
use crate::capture::{Event, StackHash, ThreadId, Waker, WalkEnd};

/// Takes one record of the ring apart. Anything malformed is skipped: it can only come from an object
/// that does not belong to this program.
pub(super) fn decode(
    bytes: &[u8],
    accounts: &mut Accounts,
    ended: &mut Vec<ThreadId>,
    report: &mut dyn FnMut(Event),
) {
    let Some(kind) = parse::<u32>(bytes) else { return };
    match kind {
        layout::RECORD_STACK => report_stack(bytes, report),
        layout::RECORD_SAMPLE => {
            let Some(sample) = parse::<SampleRecord>(bytes) else { return };
            report(Event::Sample {
                process: sample.tgid,
                thread: sample.tid,
                stack: StackHash(sample.stack),
                span: active_span(sample.span, sample.trace),
                time: sample.time,
            });
        }
        layout::RECORD_EVICTED => {
            let Some(evicted) = parse::<EvictedRecord>(bytes) else { return };
            accounts.evicted(evicted.tgid, evicted.tid, evicted.position as usize, &evicted.entry, report);
        }
        layout::RECORD_WOKEN => {
            if let Some(woken) = parse::<WokenRecord>(bytes).and_then(|record| woken(&record)) {
                report(woken);
            }
        }
        layout::RECORD_SPAN => {
            let Some(record) = parse::<SpanRecord>(bytes) else { return };
            let length = (record.attribute_bytes as usize).min(ATTRIBUTE_BYTES);
            if let Some(span) = active_span(record.span, record.trace) {
                let attributes = record.attributes[..length].to_vec();
                report(Event::SpanAttributes { process: record.tgid, span, attributes });
            }
        }
        layout::RECORD_FORK | layout::RECORD_EXEC | layout::RECORD_EXIT => {
            let Some(life) = parse::<LifeRecord>(bytes) else { return };
            report(match kind {
                layout::RECORD_FORK => Event::Forked { parent: life.other, child: life.tgid },
                layout::RECORD_EXEC => Event::Executed { process: life.tgid },
                _ => {
                    ended.push(life.tid);
                    Event::ThreadEnded { process: life.tgid, thread: life.tid, last: life.other != 0 }
                }
            });
        }
        _ => {}
    }
}

fn woken(record: &WokenRecord) -> Option<Event> {
    let place = |hash: u64| (hash != 0).then_some(StackHash(hash));
    let waker = match record.interrupt {
        0 => Waker::Thread {
            process: record.waker_tgid,
            thread: record.waker_tid,
            name: text_of(&record.comm),
            span: active_span(record.waker_span, record.waker_trace),
            stack: place(record.waker_stack),
        },
        _ => Waker::Interrupt,
    };
    Some(Event::Woken {
        process: record.tgid,
        thread: record.tid,
        span: active_span(record.span, record.trace)?,
        stack: place(record.stack),
        begin: record.begin,
        end: record.end,
        waker,
    })
}

fn report_stack(bytes: &[u8], report: &mut dyn FnMut(Event)) {
    let Some(header) = parse::<StackHeader>(bytes) else { return };
    let words: Vec<u64> = bytes[size_of::<StackHeader>()..]
        .chunks_exact(8)
        .map(|word| u64::from_ne_bytes(word.try_into().expect("eight bytes")))
        .collect();
    if words.len() < layout::MAX_KERNEL_FRAMES {
        return;
    }
    let (kernel, user) = words.split_at(layout::MAX_KERNEL_FRAMES);
    let kernel_frames = (header.kernel_frames as usize).min(layout::MAX_KERNEL_FRAMES);
    let user_frames = (header.user_frames as usize).min(user.len()).min(layout::MAX_FRAMES);
    let end = match header.end {
        1 => WalkEnd::Root,
        2 => WalkEnd::NoMapping,
        3 => WalkEnd::NoRule,
        4 => WalkEnd::Fault,
        5 => WalkEnd::TooDeep,
        7 => WalkEnd::Budget,
        _ => WalkEnd::Stuck,
    };
    report(Event::Stack {
        process: header.tgid,
        stack: StackHash(header.stack),
        user: user[..user_frames].to_vec(),
        kernel: kernel[..kernel_frames].to_vec(),
        end,
        peer: peer(&header.peer),
    });
}

fn peer(peer: &Peer) -> Option<SocketAddr> {
    let [a, b, c, d, ..] = peer.address;
    let address = match i32::from(peer.family) {
        libc::AF_INET => IpAddr::from([a, b, c, d]),
        libc::AF_INET6 => IpAddr::from(peer.address).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(address, peer.port))
}

/// The value at the front of `bytes`; `None` if they are too few.
pub(super) fn parse<T: Shared>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: long enough, read unaligned, and any bit pattern is a `T`.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
