//! Profiles to look at: a service as it really is, hostile names, many frames.

use std::sync::Arc;

use spanprof_exporter::idle::WAITING_WITHOUT_SPAN;
use spanprof_exporter::{Label, LabelSetId, Location, Profile, SampleKey, SampleKind, StackId, label};
use spanprof_symbolizer::{Frame, FrameKind};

/// What a Tokio worker has below the first line of the program's own, root first.
const WORKER: &[&str] = &[
    "__GI___clone3",
    "start_thread",
    "std::sys::thread::unix::Thread::new::thread_start",
    "<alloc::boxed::Box<dyn core::ops::function::FnOnce<()>> as core::ops::function::FnOnce<()>>::call_once",
    "std::thread::lifecycle::spawn_unchecked::<tokio::runtime::blocking::pool::Spawner>::{closure#1}",
    "std::panic::catch_unwind::<core::panic::unwind_safe::AssertUnwindSafe<()>>",
    "std::sys::backtrace::__rust_begin_short_backtrace::<tokio::runtime::blocking::pool::Spawner, ()>",
    "<tokio::runtime::blocking::pool::Inner>::run",
    "<tokio::runtime::task::UnownedTask<tokio::runtime::blocking::schedule::BlockingSchedule>>::run",
    "tokio::runtime::scheduler::multi_thread::worker::run",
    "<tokio::runtime::context::scoped::Scoped<tokio::runtime::scheduler::Context>>::set",
    "<tokio::runtime::scheduler::multi_thread::worker::Context>::run",
    "<tokio::runtime::scheduler::multi_thread::worker::Context>::run_task",
    "tokio::task::coop::budget",
    "<tokio::runtime::task::harness::Harness<F, S>>::poll",
    "<tokio::runtime::task::core::Core<F, S>>::poll",
];

/// A function of the program's own, or of a library, with its place.
fn frame(name: &str) -> Frame {
    let kernel = ["__x64_sys", "do_", "entry_", "schedule"];
    let kind = match name {
        "futex_wait" => FrameKind::Kernel,
        _ if kernel.iter().any(|start| name.starts_with(start)) => FrameKind::Kernel,
        _ if name.starts_with('[') => FrameKind::Synthetic,
        _ if name.contains("::") => FrameKind::Rust,
        _ => FrameKind::Native,
    };
    let own = name.starts_with("orders") || name.starts_with("<orders");
    let file = match name.split("::").nth(1) {
        Some(module) if own => Some(Arc::from(format!("/srv/orders/src/{module}.rs"))),
        _ => None,
    };
    let line = if own { 20 + name.len() as u32 } else { 0 };
    Frame { function: name.into(), system_name: name.into(), file, line, kind }
}

/// Fills a profile by names.
#[derive(Default)]
pub(crate) struct Maker {
    pub(crate) profile: Profile,
}

impl Maker {
    /// A stack by its functions, root first.
    pub(crate) fn stack(&mut self, names: &[&str]) -> StackId {
        let locations = names
            .iter()
            .rev()
            .map(|name| {
                let frames = vec![frame(name)];
                self.profile.intern_location(Location { module: None, address: 0, frames })
            })
            .collect();
        self.profile.intern_stack(locations)
    }

    /// A stack below a worker's frames.
    pub(crate) fn worker_stack(&mut self, own: &[&str]) -> StackId {
        let names: Vec<&str> = WORKER.iter().chain(own).copied().collect();
        self.stack(&names)
    }

    pub(crate) fn labels(&mut self, texts: &[(&str, &str)], thread: i64) -> LabelSetId {
        let mut labels: Vec<Label> = texts.iter().map(|(key, value)| Label::text(key, *value)).collect();
        labels.push(Label::number(label::PID, 4242));
        labels.push(Label::number(label::THREAD_ID, thread));
        self.profile.intern_labels(labels)
    }

    pub(crate) fn add(&mut self, stack: StackId, labels: LabelSetId, kind: SampleKind, nanoseconds: u64) {
        self.profile.add(SampleKey { stack, labels, kind }, nanoseconds, 1 + nanoseconds / 10_101_010);
    }
}

/// The span of the sample whose time went into a lock.
pub(crate) const LOCKED_SPAN: &str = "00000000000000a0";

/// A consumer of orders, ten seconds long, with some sixty spans of five causes.
pub(crate) fn orders() -> Profile {
    consumer_of(false)
}

/// The same, all of one destination, with the first message of each cause kept as slow.
pub(crate) fn orders_with_slow_ones() -> Profile {
    consumer_of(true)
}

fn consumer_of(one_destination: bool) -> Profile {
    let mut maker = Maker::default();
    maker.profile.start_unix_nanoseconds = 1_767_225_600_000_000_000;
    maker.profile.duration_nanoseconds = 10_004_000_000;
    maker.profile.period_nanoseconds = 10_101_010;
    maker.profile.comments = vec!["spanprof 0.1.0, capture by BPF at 99 Hz".into()];
    let handler = [
        "<orders::consumer::Consumer<rumqttc::v5::AsyncClient> as orders::consumer::Run>::run::{closure#0}",
        "<tracing::instrument::Instrumented<orders::consumer::process::{closure#0}> as core::future::future::Future>::poll",
        "orders::consumer::process::{closure#0}",
    ];
    let causes: [&[(SampleKind, u64, &[&str])]; 5] = [
        &[
            (SampleKind::OffCpu, 430_000, LOCK),
            (SampleKind::Cpu, 11_000, PARSE),
            (SampleKind::RunQueue, 38_000, PARSE),
            (SampleKind::Cpu, 1_300, COMMIT),
        ],
        &[
            (SampleKind::Cpu, 180_000, PARSE),
            (SampleKind::Cpu, 61_000, VALIDATE),
            (SampleKind::Cpu, 24_000, HASH),
            (SampleKind::RunQueue, 12_000, VALIDATE),
            (SampleKind::OffCpu, 900, COMMIT),
        ],
        &[
            (SampleKind::OffCpu, 251_000, SOCKET),
            (SampleKind::Cpu, 4_000, HASH),
            (SampleKind::RunQueue, 700, HASH),
        ],
        &[(SampleKind::OffCpu, 120_000, SLEEP), (SampleKind::Cpu, 900, PARSE)],
        &[
            (SampleKind::OffCpu, 42_000, FILE),
            (SampleKind::Cpu, 19_000, FILE),
            (SampleKind::RunQueue, 2_000, FILE),
        ],
    ];
    for number in 0_u64..60 {
        let which = (number % 5) as usize;
        let destinations =
            ["orders.created", "orders.priced", "orders.charged", "orders.retried", "orders.archived"];
        let destination = if one_destination { destinations[0] } else { destinations[which] };
        let span = format!("{:016x}", 0xa0 + number);
        let trace = format!(
            "{:032x}",
            0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.wrapping_mul(number as u128 + 1)
        );
        let name = format!("process {destination}");
        let thread = 4243 + (number % 4) as i64;
        let mut facts = vec![
            (label::TRACE_ID, trace.as_str()),
            (label::SPAN_ID, &span),
            (label::SPAN_NAME, &name),
            (label::SERVICE_NAME, "orders"),
            (label::DESTINATION, destination),
            (label::CONSUMER_GROUP, "billing"),
            (label::OPERATION, "process"),
            (label::THREAD_NAME, THREADS[(number % 4) as usize]),
        ];
        if one_destination && number < 5 {
            facts.push((label::KEPT, "slow"));
        }
        let waiting: Vec<_> = facts.iter().copied().chain([(label::WAIT, WAITS[which])]).collect();
        let labels = maker.labels(&facts, thread);
        let waiting = maker.labels(&waiting, thread);
        // The first of each cause is the slow one.
        let scale = if number < 5 { 1_000 } else { 40 + (number * 7919) % 180 };
        for (kind, microseconds, tail) in causes[which] {
            let own: Vec<&str> = handler.iter().chain(*tail).copied().collect();
            let stack = maker.worker_stack(&own);
            let labels = if *kind == SampleKind::OffCpu { waiting } else { labels };
            maker.add(stack, labels, *kind, microseconds * scale);
        }
    }
    fold_and_idle(&mut maker);
    maker.profile
}

/// Spans that were folded together, and threads that only wait.
fn fold_and_idle(maker: &mut Maker) {
    let folded = maker.labels(
        &[
            (label::SPAN_NAME, "process orders.created"),
            (label::SERVICE_NAME, "orders"),
            (label::DESTINATION, "orders.created"),
            (label::OPERATION, "process"),
            (label::THREAD_NAME, "tokio-rt-worker"),
        ],
        4243,
    );
    let parse: Vec<&str> = ["orders::consumer::process::{closure#0}"].iter().chain(PARSE).copied().collect();
    let stack = maker.worker_stack(&parse);
    maker.add(stack, folded, SampleKind::Cpu, 88_000_000);
    let idle =
        maker.labels(&[(label::SERVICE_NAME, "orders"), (label::THREAD_NAME, "tokio-rt-worker")], 4243);
    let park = maker.stack(
        &WORKER[..12]
            .iter()
            .chain(&["<tokio::runtime::scheduler::multi_thread::park::Parker>::park", "epoll_wait"])
            .copied()
            .collect::<Vec<_>>(),
    );
    maker.add(park, idle, SampleKind::OffCpu, 640_000_000);
    let cut = maker.stack(&["[stack truncated]", "orders::metrics::aggregate", "orders::metrics::quantile"]);
    maker.add(cut, idle, SampleKind::Cpu, 31_000_000);
}

/// The consumer with eight threads of a pool that wait without a span, 78.6 s in all.
pub(crate) fn with_idle_threads() -> Profile {
    let mut maker = Maker { profile: orders() };
    let waiting = maker.stack(&[WAITING_WITHOUT_SPAN]);
    for number in 0..8 {
        let facts = [(label::SERVICE_NAME, "orders"), (label::THREAD_NAME, "pool")];
        let labels = maker.labels(&facts, POOL + number);
        maker.add(waiting, labels, SampleKind::OffCpu, 9_800_000_000);
        maker.add(waiting, labels, SampleKind::RunQueue, 25_000_000);
    }
    maker.profile
}

/// The consumer with a task of the locked span that awaited a timer for 200 ms and its poll for 5 ms.
pub(crate) fn with_tasks() -> Profile {
    let mut maker = Maker { profile: orders() };
    let labels = maker.labels(
        &[
            (label::TRACE_ID, "4bf92f3577b34da6a3ce929d0e0e4736"),
            (label::SPAN_ID, LOCKED_SPAN),
            (label::SERVICE_NAME, "orders"),
        ],
        4243,
    );
    let stack = maker.stack(&["orders::settle::{closure#0}", "tokio::time::sleep::Sleep::poll"]);
    maker.add(stack, labels, SampleKind::Suspended, 200_000_000);
    maker.add(stack, labels, SampleKind::Ready, 5_000_000);
    maker.profile
}

/// The id of the pool's first thread.
pub(crate) const POOL: i64 = 5000;

const THREADS: [&str; 4] = ["tokio-rt-worker", "tokio-rt-worker", "orders-blocking", "kafka-poll"];
const WAITS: [&str; 5] = ["futex", "futex", "recvfrom", "clock_nanosleep", "fsync"];
const LOCK: &[&str] = &[
    "orders::inventory::Inventory::reserve",
    "<std::sync::poison::mutex::Mutex<orders::inventory::Shelves>>::lock",
    "<std::sys::sync::mutex::futex::Mutex>::lock_contended",
    "std::sys::pal::unix::futex::futex_wait",
    "syscall",
    "entry_SYSCALL_64_after_hwframe",
    "do_syscall_64",
    "__x64_sys_futex",
    "futex_wait",
    "schedule",
];
const PARSE: &[&str] = &[
    "orders::parsing::decode_order",
    "serde_json::de::from_slice::<orders::parsing::Order>",
    "<&mut serde_json::de::Deserializer<serde_json::read::SliceRead<'_>> as serde_core::de::Deserializer<'_>>::deserialize_struct::<orders::parsing::OrderVisitor>",
    "<orders::parsing::OrderVisitor as serde_core::de::Visitor<'_>>::visit_map",
    "<alloc::vec::Vec<orders::parsing::Line>>::push",
    "alloc::raw_vec::RawVecInner::grow_amortized",
    "malloc",
];
const VALIDATE: &[&str] = &[
    "orders::rules::validate",
    "<orders::rules::Rule<orders::rules::Price> as orders::rules::Check>::check",
    "orders::rules::within_limits",
];
const HASH: &[&str] =
    &["orders::signing::verify", "sha2::sha256::compress256", "sha2::sha256::x86::digest_blocks"];
const COMMIT: &[&str] = &["orders::store::commit", "<orders::store::Batch>::flush"];
const SOCKET: &[&str] = &[
    "orders::payment::charge",
    "<std::net::tcp::TcpStream as std::io::Read>::read",
    "recv",
    "entry_SYSCALL_64_after_hwframe",
    "do_syscall_64",
    "schedule_timeout",
];
const SLEEP: &[&str] =
    &["orders::retry::back_off", "std::thread::functions::sleep", "__GI___clock_nanosleep", "do_nanosleep"];
const FILE: &[&str] =
    &["orders::archive::append", "<std::fs::File>::sync_all", "fsync", "entry_SYSCALL_64_after_hwframe"];

/// As many frames as a large window has, of many crates, with spans.
pub(crate) fn wide(frames: usize) -> Profile {
    let mut maker = Maker::default();
    let crates = ["orders", "billing", "stock", "mail", "search", "report"];
    let names: Vec<String> = (0..4000)
        .map(|number| format!("{}::module_{}::function_{number}", crates[number % 6], number % 97))
        .collect();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |limit: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % limit
    };
    let mut made = 0;
    let mut path: Vec<usize> = vec![0];
    while made < frames {
        path.truncate(1 + random(path.len() as u64) as usize);
        let deeper = 1 + random(14) as usize;
        for _ in 0..deeper {
            path.push(random(names.len() as u64) as usize);
            made += 1;
        }
        let stack: Vec<&str> = path.iter().map(|name| names[*name].as_str()).collect();
        let stack = maker.stack(&stack);
        let span = format!("{:016x}", 1 + random(3000));
        let labels = maker.labels(&[(label::SPAN_ID, &span), (label::SERVICE_NAME, "wide")], 1);
        let kind = SampleKind::ALL[random(3) as usize];
        maker.add(stack, labels, kind, 10_000 + random(4_000_000));
    }
    maker.profile
}

/// Names as an attacker would choose them.
pub(crate) const HOSTILE: [&str; 7] = [
    "</script><script>window.owned = 1</script>",
    "<img src=x onerror=\"window.owned = 1\">",
    "\"'`{{data}}{{script}}<!-- <![CDATA[",
    "\u{202e}\u{2066}gnp.exe\u{200b}\u{0}\u{1b}[31m\u{7f}",
    "javascript:window.owned=1",
    "__proto__",
    "\u{2028}\u{2029}&lt;b&gt;\\u003c\\",
];

/// The hostile names wherever a name can stand, and one of 64 KB.
pub(crate) fn hostile() -> Profile {
    let mut maker = Maker::default();
    let long = "<a href='x'>&".repeat(5042);
    for name in HOSTILE.into_iter().chain([long.as_str()]) {
        let stack = maker.stack(&[name, "orders::main", name]);
        let keys = [
            label::TRACE_ID,
            label::SPAN_ID,
            label::SPAN_NAME,
            label::SERVICE_NAME,
            label::DESTINATION,
            label::CONSUMER_GROUP,
            label::OPERATION,
            label::THREAD_NAME,
            label::WAIT,
        ];
        let texts: Vec<(&str, &str)> = keys.iter().map(|key| (*key, name)).collect();
        let labels = maker.labels(&texts, name.len() as i64);
        for kind in SampleKind::ALL {
            maker.add(stack, labels, kind, 1_000_000 + name.len() as u64);
        }
    }
    maker.profile.comments = vec![HOSTILE[0].into()];
    maker.profile
}
