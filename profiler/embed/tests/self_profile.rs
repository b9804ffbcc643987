//! What the self-profile says of this process, against what the process knows.
#![cfg(all(feature = "self-profile", target_arch = "x86_64"))]

use std::collections::HashMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use spanprof::Agent;
use spanprof_exporter::{Profile, SampleKind, pprof};

/// One profile per process at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn thread_cpu() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

#[inline(never)]
fn burn(time: Duration) {
    let begin = thread_cpu();
    let mut number = 1u64;
    while thread_cpu() - begin < time {
        for _ in 0..1000 {
            number = black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}

#[inline(never)]
fn nap(time: Duration) {
    std::thread::sleep(time);
    black_box(());
}

/// Runs `work` under a self-profile and gives all that it wrote.
fn profiled(work: impl FnOnce()) -> Vec<Profile> {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let directory = tempfile::tempdir().unwrap();
    let agent = Agent::builder()
        .service_name("self-profile-test")
        .directory(directory.path())
        .frequency(250)
        .start()
        .unwrap();
    assert_eq!(agent.notes(), [] as [String; 0]);
    assert!(agent.self_profile().is_some());
    work();
    drop(agent);
    read_all(directory.path())
}

fn read_all(directory: &Path) -> Vec<Profile> {
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| pprof::decode(&std::fs::read(file).unwrap()).unwrap()).collect()
}

/// Nanoseconds by span id, kind and whether a function is on the stack.
fn sum(profiles: &[Profile], kind: SampleKind, span: u8, function: &str) -> u64 {
    let span = format!("{span:02x}").repeat(8);
    let mut sum = 0;
    for profile in profiles {
        for (key, value) in profile.samples() {
            let is_span = profile
                .labels(key.labels)
                .iter()
                .any(|label| &*label.key == "span_id" && label.value.as_text() == Some(&span));
            let has_function = profile.stack(key.stack).iter().any(|location| {
                profile.location(*location).frames.iter().any(|frame| frame.function.contains(function))
            });
            if key.kind == kind && is_span && has_function {
                sum += value.nanoseconds;
            }
        }
    }
    sum
}

fn assert_close(seen: u64, truth: Duration, what: &str) {
    let truth = truth.as_nanos() as u64;
    let error = seen.abs_diff(truth) as f64 / truth as f64;
    assert!(error < 0.03, "{what}: {:.1} ms seen, {:.1} ms true", seen as f64 / 1e6, truth as f64 / 1e6);
}

#[test]
fn times_of_a_span_are_the_thread_s_own_and_places_are_right() {
    let mut truth = HashMap::new();
    let profiles = profiled(|| {
        std::thread::Builder::new()
            .name("worker".to_owned())
            .spawn(|| {
                let mut truth: HashMap<&str, Duration> = HashMap::new();
                for _ in 0..4 {
                    let _span = spanprof::enter([7; 16], [7; 8]);
                    let (wall, cpu) = (Instant::now(), thread_cpu());
                    burn(Duration::from_millis(100));
                    nap(Duration::from_millis(150));
                    let (wall, cpu) = (wall.elapsed(), thread_cpu() - cpu);
                    *truth.entry("cpu").or_default() += cpu;
                    *truth.entry("waiting").or_default() += wall - cpu;
                }
                truth
            })
            .unwrap()
            .join()
            .map(|measured| truth = measured)
            .unwrap();
    });
    assert!(!profiles.is_empty());
    let cpu = sum(&profiles, SampleKind::Cpu, 7, "");
    let off_cpu = sum(&profiles, SampleKind::OffCpu, 7, "");
    let run_queue = sum(&profiles, SampleKind::RunQueue, 7, "");
    assert_close(cpu, truth["cpu"], "CPU time");
    assert_close(off_cpu + run_queue, truth["waiting"], "waits");
    assert!(sum(&profiles, SampleKind::Cpu, 7, "burn") > cpu * 95 / 100);
    // Whole to the thread's start, as this function's closure runs on it.
    assert!(sum(&profiles, SampleKind::Cpu, 7, "times_of_a_span_are_the_thread_s_own") > cpu * 95 / 100);
}
