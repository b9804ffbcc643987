//! Everything at once that a profiler inside a process can break: allocation, unwinding, the dynamic linker, fork and
//! exec, threads by the hundred thousand, and threads that live by being woken.
//!
//! Each worker counts its rounds and checks what it did. A watcher looks at the counts: a worker that makes no round for
//! `--patience N` seconds (60) hangs, which ends the program with what every thread is waiting in. A wake-up that gets lost
//! is such a hang, as each ping waits for its own pong.
//!
//! The process profiles itself at `--hertz N` (999) into `--directory PATH`, a window per second; without a directory it
//! only publishes its spans, and with `--bare` not even that. `--only NAME,NAME` runs some of the workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use spanprof_tests::truth_program::{TruthProgram, is_stopped};

#[path = "stress_embedded/allocation.rs"]
mod allocation;
#[path = "stress_embedded/brief_threads.rs"]
mod brief_threads;
#[path = "stress_embedded/children.rs"]
mod children;
#[path = "stress_embedded/interruptions.rs"]
mod interruptions;
#[path = "stress_embedded/libraries.rs"]
mod libraries;
#[path = "stress_embedded/unwinding.rs"]
mod unwinding;
#[path = "stress_embedded/wake_ups.rs"]
mod wake_ups;
#[path = "stress_embedded/worker.rs"]
mod worker;

use worker::Worker;

fn workers() -> Vec<Arc<Worker>> {
    vec![
        Worker::new("malloc-0", allocation::round),
        Worker::new("malloc-1", allocation::round),
        Worker::new("unwind", unwinding::round),
        Worker::new("libraries", libraries::round),
        Worker::new("children", children::round),
        Worker::new("threads", brief_threads::round),
        Worker::new("pipes", wake_ups::pipes),
        Worker::new("condvars", wake_ups::condition_variables),
        Worker::new("channels", wake_ups::channels),
        Worker::new("calls", interruptions::round),
    ]
}

fn start_agent(program: &TruthProgram) -> Option<spanprof::Agent> {
    let arguments = program.arguments();
    if arguments.has("bare") {
        return None;
    }
    let mut builder = spanprof::Agent::builder().service_name("stress_embedded");
    if let Some(directory) = arguments.text("directory") {
        let hertz = arguments.number("hertz", 999) as u32;
        builder = builder.directory(directory).frequency(hertz).window(Duration::from_secs(1));
    }
    Some(builder.start().expect("nothing wrong was set"))
}

/// Looks at all workers until they are done, and at the end of the program too.
fn watch(workers: &[Arc<Worker>], patience: Duration, done: &AtomicBool) {
    let mut seen: Vec<(u64, Instant)> = workers.iter().map(|_| (u64::MAX, Instant::now())).collect();
    let mut last_round = Instant::now();
    while !done.load(Ordering::Relaxed) {
        std::thread::park_timeout(Duration::from_millis(500));
        if !workers.iter().all(|worker| worker.has_ended()) {
            last_round = Instant::now();
        }
        for (worker, (rounds, since)) in workers.iter().zip(&mut seen) {
            if worker.rounds() != *rounds || worker.has_ended() {
                (*rounds, *since) = (worker.rounds(), Instant::now());
            } else if since.elapsed() > patience {
                worker::give_up(&format!("`{}` hangs after {} rounds", worker.name, worker.rounds()));
            }
        }
        if last_round.elapsed() > patience {
            worker::give_up("the agent doesn't end");
        }
    }
}

fn main() {
    let program = TruthProgram::begin();
    if program.arguments().has("child") {
        return;
    }
    // Panics are this program's trade; only those that weren't planned are said.
    std::panic::set_hook(Box::new(|information| {
        if !information.payload().is::<unwinding::Planned>() {
            eprintln!("{information}");
        }
    }));
    let patience = Duration::from_secs(program.arguments().number("patience", 60));
    let only = program.arguments().text("only").map(str::to_owned);
    let is_wanted = |worker: &Arc<Worker>| {
        only.as_ref().is_none_or(|only| only.split(',').any(|name| name == worker.name))
    };
    let agent = start_agent(&program);
    let notes = agent.as_ref().map(|agent| agent.notes().to_vec());
    let workers: Vec<_> = workers().into_iter().filter(is_wanted).collect();
    program.ready();

    let threads: Vec<_> = workers.iter().map(|worker| Worker::start(worker, is_stopped)).collect();
    let done = Arc::new(AtomicBool::new(false));
    let watcher = {
        let (workers, done) = (workers.clone(), Arc::clone(&done));
        std::thread::spawn(move || watch(&workers, patience, &done))
    };
    program.wait_for_end();
    for thread in threads {
        thread.join().expect("a worker that fails says so and ends the program");
    }
    drop(agent);
    done.store(true, Ordering::Relaxed);
    watcher.thread().unpark();
    watcher.join().expect("the watcher ends");

    let rounds: Map<String, Value> =
        workers.iter().map(|worker| (worker.name.to_owned(), worker.rounds().into())).collect();
    program.tell(&json!({
        "program": "stress_embedded",
        "pid": std::process::id(),
        "notes": notes,
        "rounds": rounds,
        "brief_threads": brief_threads::started(),
        "children": children::ended(),
        "libraries_unmapped": libraries::unmapped(),
        "interrupted_calls": interruptions::interrupted(),
    }));
}
