//! What a thread or task waited for, in messaging words: the label `wait`.
//!
//! | `wait` | what it is |
//! |---|---|
//! | `long_poll` | a consumer asks for messages and none has come: idle, no work |
//! | `queue_empty` | a worker waits for its next item, a runtime for its next task or event: idle, no work |
//! | `broker_reply` | a client waits for the broker's answer to what it sent, acknowledged, committed or asked |
//! | `flow_control` | held back by a limit of its own process: a full queue, permits taken, back-pressure |
//! | `lock` | a mutex, a read-write lock, a monitor |
//! | `channel` | a channel between threads or tasks |
//! | `condition` | a condition, a barrier, a park: until somebody notifies |
//! | `join` | another thread, task or process to end |
//! | `socket` | somebody at the other end of a socket who is no broker, as far as is known |
//! | `events` | several descriptors or timers at once, of which nobody said which |
//! | `pipe` | the other end of a pipe |
//! | `file` | file I/O |
//! | `page_fault` | memory that had to be fetched |
//! | `memory` | the kernel's work on mappings |
//! | `sleep` | a time to pass |
//! | `run_queue` | ready to run: a thread without a CPU, a task without a thread |
//! | `unknown` | nothing told |
//!
//! Two questions, in two tables of rules: *what* it is blocked on (`objects`), by the kernel's functions first and then
//! by those of the libraries, and *what for* (`purposes`), by the client's functions, the active messaging operation and
//! whether there is a span. The second can only explain what by itself says nothing, such as a condition: a client that
//! waits for its own lock waits for a lock. Both look no further from the leaf than the application's own function, as
//! what called that is no reason to wait. Peer addresses are not told: the kernel has them, a stack has not.

mod labels;
mod objects;
mod purposes;
mod stack;

use spanprof_symbolizer::Frame;

use crate::filter::text;
use crate::profile::{Label, Profile, SampleKind, StackId, label};
pub use labels::WaitLabels;
pub(crate) use stack::KernelEntry;
use stack::Plumbing;

/// What a thread or task waited for; see the table of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // The table above says what each is.
pub enum Wait {
    LongPoll,
    QueueEmpty,
    BrokerReply,
    FlowControl,
    Lock,
    Channel,
    Condition,
    Join,
    Socket,
    Events,
    Pipe,
    File,
    PageFault,
    Memory,
    Sleep,
    RunQueue,
    Unknown,
}

impl Wait {
    /// All of them: the label has no other values.
    pub const ALL: [Wait; 17] = [
        Wait::LongPoll,
        Wait::QueueEmpty,
        Wait::BrokerReply,
        Wait::FlowControl,
        Wait::Lock,
        Wait::Channel,
        Wait::Condition,
        Wait::Join,
        Wait::Socket,
        Wait::Events,
        Wait::Pipe,
        Wait::File,
        Wait::PageFault,
        Wait::Memory,
        Wait::Sleep,
        Wait::RunQueue,
        Wait::Unknown,
    ];

    /// The label's value. Stable: series in Pyroscope and scripts rely on it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Wait::LongPoll => "long_poll",
            Wait::QueueEmpty => "queue_empty",
            Wait::BrokerReply => "broker_reply",
            Wait::FlowControl => "flow_control",
            Wait::Lock => "lock",
            Wait::Channel => "channel",
            Wait::Condition => "condition",
            Wait::Join => "join",
            Wait::Socket => "socket",
            Wait::Events => "events",
            Wait::Pipe => "pipe",
            Wait::File => "file",
            Wait::PageFault => "page_fault",
            Wait::Memory => "memory",
            Wait::Sleep => "sleep",
            Wait::RunQueue => "run_queue",
            Wait::Unknown => "unknown",
        }
    }

    /// The wait that a label's value names; none for another tool's words.
    pub fn named(value: &str) -> Option<Wait> {
        Wait::ALL.into_iter().find(|wait| wait.as_str() == value)
    }

    /// The wait in words, to be followed by "in" and a place; none where nothing is known.
    pub(crate) const fn verb(self) -> Option<&'static str> {
        Some(match self {
            Wait::LongPoll => "waiting for messages",
            Wait::QueueEmpty => "waiting for work",
            Wait::BrokerReply => "waiting for the broker's answer",
            Wait::FlowControl => "held back by flow control",
            Wait::Lock => "waiting for a lock",
            Wait::Channel => "waiting for a channel",
            Wait::Condition => "waiting to be notified",
            Wait::Join => "waiting for another thread or process to end",
            Wait::Socket => "waiting for a socket",
            Wait::Events => "polling",
            Wait::Pipe => "waiting for a pipe",
            Wait::File => "file I/O",
            Wait::PageFault => "page fault",
            Wait::Memory => "waiting for memory",
            Wait::Sleep => "sleeping",
            Wait::RunQueue => "ready to run but not running",
            Wait::Unknown => return None,
        })
    }
}

/// What the thread or task was working on while it waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activity {
    /// Nobody knows: its process publishes no spans.
    Untold,
    /// On nothing: its process publishes spans, and it had none.
    Idle,
    /// A span of no messaging operation that says what is waited for, such as `process`.
    Span,
    /// An operation that the broker answers: `send`, `publish`, `ack`, `commit` and the like.
    Asking,
    /// An operation that gets messages: `receive`, `poll` and the like.
    Receiving,
}

impl Activity {
    /// Within a span, with its `messaging.operation.name` where it has one.
    pub fn in_span(operation: Option<&str>) -> Activity {
        match operation {
            Some(
                "send"
                | "publish"
                | "ack"
                | "nack"
                | "commit"
                | "settle"
                | "reject"
                | "dead_letter"
                | "extend"
                | "change_invisible_duration"
                | "forward"
                | "request"
                | "flush",
            ) => Activity::Asking,
            Some("receive" | "poll" | "pull" | "pop" | "fetch") => Activity::Receiving,
            _ => Activity::Span,
        }
    }

    /// Within a span whose labels these are.
    pub fn in_span_with(labels: &[Label]) -> Activity {
        Activity::in_span(text(labels, label::OPERATION))
    }

    /// As far as labels tell.
    pub fn of(labels: &[Label]) -> Activity {
        let operation = text(labels, label::OPERATION);
        let names_span = [label::SPAN_ID, label::TRACE_ID, label::SPAN_NAME, label::DESTINATION];
        let has_span = operation.is_some() || names_span.iter().any(|key| text(labels, key).is_some());
        if has_span { Activity::in_span(operation) } else { Activity::Untold }
    }
}

/// What a sample's thread or task waited for; none where the kind of time is no waiting.
///
/// Total: every stack has an answer, also an empty one and one of names that nobody knows.
pub fn wait_of(profile: &Profile, stack: StackId, kind: SampleKind, activity: Activity) -> Option<Wait> {
    classify(profile, stack, kind, activity, None)
}

/// As [`wait_of`], but believes the labels first: whoever set `wait` knew more. Another tool's word there, such as
/// `recvfrom`, counts as a function that was called.
pub(crate) fn wait_told(
    profile: &Profile,
    stack: StackId,
    kind: SampleKind,
    activity: Activity,
    word: Option<&str>,
) -> Option<Wait> {
    let told = word.and_then(Wait::named).filter(|_| is_waiting_in_place(kind));
    told.or_else(|| classify(profile, stack, kind, activity, word))
}

/// Whether time of this kind is spent on what the stack's leaf waits for.
fn is_waiting_in_place(kind: SampleKind) -> bool {
    matches!(kind, SampleKind::OffCpu | SampleKind::Suspended)
}

fn classify(
    profile: &Profile,
    stack: StackId,
    kind: SampleKind,
    activity: Activity,
    word: Option<&str>,
) -> Option<Wait> {
    if matches!(kind, SampleKind::RunQueue | SampleKind::Ready) {
        return Some(Wait::RunQueue);
    }
    if !is_waiting_in_place(kind) {
        return None;
    }
    let locations = profile.stack(stack).iter();
    let frames: Vec<&Frame> = locations.flat_map(|location| &profile.location(*location).frames).collect();
    let plumbing = Plumbing::of(&frames);
    let object = objects::of(&plumbing, word);
    Some(purposes::of(object, &plumbing, activity).unwrap_or(object))
}

#[cfg(test)]
mod tests;
