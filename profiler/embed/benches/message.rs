//! What a message costs under everything: a span of its own, entered at each poll, in a watched task, with the self-profile on.
//!
//!     cargo bench -p spanprof --features self-profile --bench message
//!     cargo bench -p spanprof --features self-profile,opentelemetry-sdk,finished-spans --bench message
//!
//! The second also tells each span's end to an agent on this machine, by the span processor, which is there in all rounds.
//! A thousand tasks take turns, so that none finds its memory in the nearest cache. Rounds with the agent and without it
//! take turns too, in one process; the table tells the CPU time of the thread that polls, and of the agent's own threads.

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use opentelemetry::trace::TracerProvider;
use spanprof::await_points::watch;
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;

const TASKS: usize = 1_000;
const ROUNDS: usize = 15;
const TURNS: usize = 400;

static TURN: AtomicU64 = AtomicU64::new(0);
static MESSAGES: AtomicU64 = AtomicU64::new(0);

/// What a runtime's waker does at the least.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// A connection that has something to read at the next turn; keeps the waker as a runtime's driver does.
#[derive(Default)]
struct Connection {
    waker: Option<Waker>,
    read: u64,
}

struct Read<'a>(&'a std::sync::Mutex<Connection>);

impl Future for Read<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut connection = self.0.lock().expect("nobody panics");
        let turn = TURN.load(Ordering::Relaxed);
        if connection.read < turn {
            connection.read = turn;
            return Poll::Ready(());
        }
        match &mut connection.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

async fn serve(connection: Arc<std::sync::Mutex<Connection>>) {
    loop {
        let span = tracing::info_span!("message");
        Read(&connection).instrument(span).await;
        MESSAGES.fetch_add(1, Ordering::Relaxed);
    }
}

fn clock(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec.
    unsafe { libc::clock_gettime(clock, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// CPU time per message, nanoseconds.
struct Cost {
    this_thread: f64,
    other_threads: f64,
}

/// What is on in a round.
#[derive(Clone, Copy, PartialEq)]
enum On {
    Nothing,
    SelfProfile,
    #[cfg(feature = "finished-spans")]
    FinishedSpansToo,
}

/// An agent's socket that takes spans and looks at none.
#[cfg(feature = "finished-spans")]
fn receiver(folder: &std::path::Path) -> spanprof_exporter::local::LocalReceiver {
    let wanted = spanprof_exporter::local::Wanted { profiles: false, spans: Some(Box::new(|_| true)) };
    spanprof_exporter::local::LocalReceiver::bind_for(folder.join("agent.sock"), wanted).expect("a free path")
}

fn round(on: On) -> Cost {
    let folder = tempfile::tempdir().expect("a folder");
    #[cfg(feature = "finished-spans")]
    let _receiver = receiver(folder.path());
    let agent = (on != On::Nothing).then(|| {
        let builder = spanprof::Agent::builder().service_name("message").directory(folder.path());
        #[cfg(feature = "finished-spans")]
        let builder = match on {
            On::FinishedSpansToo => builder.local_agent(folder.path().join("agent.sock")),
            _ => builder,
        };
        builder.start().expect("it starts")
    });
    spanprof::await_points::set_recording(agent.is_some());
    let connections: Vec<_> = (0..TASKS).map(|_| Arc::default()).collect();
    let mut tasks: Vec<_> = connections
        .iter()
        .map(|connection| {
            let woken = Arc::new(Woken(AtomicBool::new(true)));
            (Waker::from(Arc::clone(&woken)), woken, Box::pin(watch(serve(Arc::clone(connection)))))
        })
        .collect();
    let mut turn = || {
        TURN.fetch_add(1, Ordering::Relaxed);
        for connection in &connections {
            let connection: &std::sync::Mutex<Connection> = connection;
            let waker = connection.lock().expect("nobody panics").waker.take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        for (waker, woken, task) in &mut tasks {
            if woken.0.swap(false, Ordering::Acquire) {
                let _ = black_box(task.as_mut().poll(&mut Context::from_waker(waker)));
            }
        }
    };
    let read = || (clock(libc::CLOCK_THREAD_CPUTIME_ID), clock(libc::CLOCK_PROCESS_CPUTIME_ID));
    (0..TURNS / 4).for_each(|_| turn());
    let (messages, before) = (MESSAGES.load(Ordering::Relaxed), read());
    (0..TURNS).for_each(|_| turn());
    let after = read();
    let messages = (MESSAGES.load(Ordering::Relaxed) - messages) as f64;
    #[cfg(feature = "finished-spans")]
    if on == On::FinishedSpansToo {
        eprintln!("{:?}", agent.as_ref().map(spanprof::Agent::finished_spans));
    }
    drop(agent);
    let (own, all) = ((after.0 - before.0) as f64, (after.1 - before.1) as f64);
    Cost { this_thread: own / messages, other_threads: (all - own) / messages }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder();
    #[cfg(feature = "opentelemetry-sdk")]
    let provider = provider.with_span_processor(spanprof::ProfileProcessor::new());
    let provider = provider.build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("message"));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))
        .expect("the first one");
    let rounds: Vec<_> = (0..ROUNDS).map(|_| (round(On::Nothing), round(On::SelfProfile))).collect();
    let of_rounds =
        |of: fn(&Cost, &Cost) -> f64| median(rounds.iter().map(|(bare, all)| of(bare, all)).collect());
    println!("nanoseconds of CPU time per message, medians of {ROUNDS} rounds of {} messages", TASKS * TURNS);
    println!("bare          {:8.0}", of_rounds(|bare, _| bare.this_thread));
    println!("everything on {:8.0}", of_rounds(|_, all| all.this_thread));
    println!("difference    {:8.0}", of_rounds(|bare, all| all.this_thread - bare.this_thread));
    println!("agent's own   {:8.0}", of_rounds(|bare, all| all.other_threads - bare.other_threads));
    #[cfg(feature = "finished-spans")]
    {
        let rounds: Vec<_> =
            (0..ROUNDS).map(|_| (round(On::SelfProfile), round(On::FinishedSpansToo))).collect();
        let of_rounds =
            |of: fn(&Cost, &Cost) -> f64| median(rounds.iter().map(|(bare, all)| of(bare, all)).collect());
        println!("finished spans {:7.0}", of_rounds(|bare, all| all.this_thread - bare.this_thread));
        println!("their sending {:8.0}", of_rounds(|bare, all| all.other_threads - bare.other_threads));
    }
}
