//! What the embedded half holds of memory, after a soak of ever new spans, stacks and threads.

use crate::capturing::wait_for_turn;
use crate::self_profiled::Folder;
use crate::truth::{Truth, number};

/// Publishing only, KiB.
const PUBLISHING_LIMIT: i64 = 100;
/// Profiling itself, KiB: what is the process's own, …
const SELF_PROFILE_LIMIT: i64 = 5 << 10;
/// … and with the pages of the program's file that its code and its reading bring into memory.
const SELF_PROFILE_RESIDENT_LIMIT: i64 = 8 << 10;

#[test]
fn little_memory_is_held() {
    let _turn = wait_for_turn();
    assert_little_memory(8, 3);
}

#[test]
#[ignore = "takes twelve minutes; the test above is its short form"]
fn little_memory_is_held_after_an_hour_in_four_minutes() {
    let _turn = wait_for_turn();
    assert_little_memory(240, 1);
}

/// Of publishing only what is the process's own is judged: how many pages of the program's file lie in memory is the linker's
/// doing, by pieces of 64 KiB. The self-profile is judged by both.
///
/// The variants take turns, and the middle of `turns` is held against the limits: allocators round by more than a page.
fn assert_little_memory(seconds: u64, turns: usize) {
    let mut held = [const { [const { Vec::new() }; 2] }; 3];
    for _ in 0..turns {
        let folder = Folder::new();
        let variants: [&[&str]; 3] = [&["--bare"], &[], &["--directory", folder.path()]];
        for (variant, held) in variants.into_iter().zip(&mut held) {
            let mut truth = Truth::start(env!("CARGO_BIN_EXE_soak_embedded"), seconds, variant);
            truth.begin();
            let told = truth.wait();
            eprintln!("{variant:?}: {told}");
            assert!(number(&told["messages"]) > 1_000 * seconds, "{told}");
            for (held, key) in held.iter_mut().zip(["anonymous_kib", "resident_kib"]) {
                held.push(number(&told[key]) as i64);
            }
        }
        assert!(folder.read().windows() as u64 >= seconds / 2);
    }
    let [bare, publishing, self_profile] = held.map(|variant| {
        variant.map(|mut values| {
            values.sort_unstable();
            values[values.len() / 2]
        })
    });
    eprintln!(
        "KiB, anonymous and resident: bare {bare:?}, publishing {publishing:?}, self-profile {self_profile:?}"
    );
    let publishing = publishing[0] - bare[0];
    assert!(publishing <= PUBLISHING_LIMIT, "publishing adds {publishing} KiB");
    let [own, resident] = [0, 1].map(|which| self_profile[which] - bare[which]);
    assert!(own <= SELF_PROFILE_LIMIT, "profiling itself adds {own} KiB of its own");
    assert!(resident <= SELF_PROFILE_RESIDENT_LIMIT, "profiling itself adds {resident} KiB");
}
