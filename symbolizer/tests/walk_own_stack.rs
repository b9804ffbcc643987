//! Walks this process's own stacks through its own objects' tables and compares every frame with the
//! compiler's unwinder (`_Unwind_Backtrace`), which reads the same sections by its own code.
#![cfg(target_arch = "x86_64")]

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::hint::black_box;
use std::path::Path;

use spanprof_symbolizer::unwind::{Rule, UnwindTable};
use spanprof_symbolizer::walk::{Registers, Walk, WalkEnd, walk};
use spanprof_symbolizer::{ObjectFile, unwind::BuildStatistics};

unsafe extern "C" {
    fn _Unwind_Backtrace(
        visit: extern "C" fn(*mut c_void, *mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
}

struct Mapping {
    start: u64,
    end: u64,
    offset: u64,
    path: String,
}

fn mappings() -> Vec<Mapping> {
    std::fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .map(|line| {
            let mut fields = line.split_whitespace();
            let (start, end) = fields.next().unwrap().split_once('-').unwrap();
            let offset = fields.nth(1).unwrap();
            let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
            Mapping {
                start: hex(start),
                end: hex(end),
                offset: hex(offset),
                path: fields.nth(2).unwrap_or_default().to_owned(),
            }
        })
        .collect()
}

/// The tables of everything executable that is mapped here.
struct Tables {
    mapped: Vec<(u64, u64, u64, std::rc::Rc<UnwindTable>)>,
}

impl Tables {
    fn of_this_process() -> Tables {
        let mut mapped: Vec<(u64, u64, u64, std::rc::Rc<UnwindTable>)> = Vec::new();
        let mut known: Vec<(String, std::rc::Rc<(ObjectFile, UnwindTable)>)> = Vec::new();
        for mapping in mappings() {
            let object = if mapping.path == "[vdso]" {
                let length = (mapping.end - mapping.start) as usize;
                // SAFETY: the kernel maps the vdso readable for the life of the process.
                let image = unsafe { std::slice::from_raw_parts(mapping.start as *const u8, length) };
                ObjectFile::from_bytes(image.to_vec(), "[vdso]").unwrap()
            } else if mapping.path.starts_with('/') {
                match ObjectFile::open(Path::new(&mapping.path), &mapping.path) {
                    Ok(object) => object,
                    Err(_) => continue,
                }
            } else {
                continue;
            };
            let position = known.iter().position(|(path, _)| *path == mapping.path);
            let entry = match position {
                Some(position) => &known[position].1,
                None => {
                    let table = UnwindTable::build(&object).unwrap();
                    known.push((mapping.path.clone(), std::rc::Rc::new((object, table))));
                    &known.last().unwrap().1
                }
            };
            let Some(address) = entry.0.file_offset_to_address(mapping.offset) else { continue };
            let table = std::rc::Rc::new(entry.1.clone());
            mapped.push((mapping.start, mapping.end, mapping.start.wrapping_sub(address), table));
        }
        Tables { mapped }
    }

    fn rule_at(&self, pc: u64) -> Rule {
        self.mapped
            .iter()
            .find(|(start, end, ..)| (*start..*end).contains(&pc))
            .map_or(Rule::NONE, |(_, _, bias, table)| table.rule_at(pc.wrapping_sub(*bias)))
    }
}

thread_local! {
    static TABLES: RefCell<Option<Tables>> = const { RefCell::new(None) };
    static CAPTURED: RefCell<Vec<(Walk, Vec<u64>)>> = const { RefCell::new(Vec::new()) };
}

fn with_tables(run: impl FnOnce()) -> Vec<(Walk, Vec<u64>)> {
    TABLES.with(|tables| *tables.borrow_mut() = Some(Tables::of_this_process()));
    run();
    CAPTURED.with(RefCell::take)
}

extern "C" fn visit(context: *mut c_void, frames: *mut c_void) -> c_int {
    // SAFETY: `capture` passes a vector that lives through the call, and the unwinder a context.
    let (frames, ip) = unsafe { (&mut *frames.cast::<Vec<u64>>(), _Unwind_GetIP(context)) };
    frames.push(ip as u64);
    0
}

/// Walks from here with both unwinders.
#[inline(never)]
fn capture() {
    let (ip, sp, bp): (u64, u64, u64);
    // SAFETY: reads three registers.
    unsafe {
        std::arch::asm!(
            "lea {ip}, [rip]", "mov {sp}, rsp", "mov {bp}, rbp",
            ip = out(reg) ip, sp = out(reg) sp, bp = out(reg) bp,
            options(nostack, nomem, preserves_flags),
        );
    }
    let stacks: Vec<(u64, u64)> = mappings()
        .iter()
        .filter(|mapping| mapping.path.is_empty() || mapping.path == "[stack]")
        .map(|mapping| (mapping.start, mapping.end))
        .collect();
    let read = |address: u64| {
        stacks.iter().any(|(start, end)| *start <= address && address + 8 <= *end).then(|| {
            // SAFETY: the address lies in a mapping of this process's stack, which is readable.
            unsafe { (address as *const u64).read_unaligned() }
        })
    };
    let ours = TABLES.with(|tables| {
        let tables = tables.borrow();
        let tables = tables.as_ref().unwrap();
        walk(Registers { ip, sp, bp }, |pc| tables.rule_at(pc), read, 4096)
    });
    let mut theirs: Vec<u64> = Vec::new();
    // SAFETY: `visit` gets the vector it expects.
    unsafe { _Unwind_Backtrace(visit, (&raw mut theirs).cast()) };
    CAPTURED.with(|captured| captured.borrow_mut().push((ours, theirs)));
}

/// Both start in `capture`, at different instructions; from there on every frame must agree. The compiler's
/// unwinder gives return addresses, ours one less but for the `interrupted` frames.
#[track_caller]
fn assert_same(captured: &[(Walk, Vec<u64>)], at_least: usize, interrupted: usize) {
    assert!(!captured.is_empty());
    for (ours, theirs) in captured {
        assert_eq!(ours.end, WalkEnd::Root, "after {} frames", ours.frames.len());
        assert!(ours.frames.len() >= at_least, "{} frames", ours.frames.len());
        // The compiler's unwinder may report the thread's root once more as address 0.
        let theirs: Vec<u64> = theirs.iter().copied().filter(|ip| *ip != 0).collect();
        assert_eq!(ours.frames.len(), theirs.len());
        let differences: Vec<u64> =
            ours.frames[1..].iter().zip(&theirs[1..]).map(|(ours, theirs)| theirs - ours).collect();
        assert!(differences.iter().all(|difference| *difference <= 1), "{differences:?}");
        let exact = differences.iter().filter(|difference| **difference == 0).count();
        assert_eq!(exact, interrupted);
    }
}

#[test]
fn a_thread_s_stack_is_walked_to_its_root() {
    assert_same(&with_tables(capture), 5, 0);
}

#[inline(never)]
fn descend<const SIZE: usize>(depth: u32, random: u32) {
    let mut frame = [0u8; SIZE];
    frame[depth as usize % SIZE] = random as u8;
    black_box(&mut frame);
    let random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    match depth {
        0 => capture(),
        _ => match random >> 29 {
            0..4 => descend::<24>(depth - 1, random),
            4..7 => descend::<1000>(depth - 1, random),
            // Past the 14 bits of an ordinary rule.
            _ => descend::<140_000>(depth - 1, random),
        },
    }
    black_box(&frame);
}

#[test]
fn frames_of_all_sizes_are_walked() {
    let walks = with_tables(|| {
        let deep = || descend::<24>(60, 7);
        deep();
    });
    assert_same(&walks, 61, 0);
}

extern "C" fn compare(left: *const c_void, right: *const c_void) -> c_int {
    if CAPTURED.with(|captured| captured.borrow().len() < 3) {
        capture();
    }
    // SAFETY: `qsort` passes pointers to the elements of an array of integers.
    unsafe { *left.cast::<i32>() - *right.cast::<i32>() }
}

#[test]
fn a_callback_through_the_c_library_is_walked() {
    let walks = with_tables(|| {
        let mut numbers: Vec<i32> = (0..100).rev().collect();
        // SAFETY: the array holds as many elements of this size.
        unsafe { libc::qsort(numbers.as_mut_ptr().cast(), 100, 4, Some(compare)) };
    });
    assert_same(&walks, 7, 0);
}

extern "C" fn on_signal(_: c_int) {
    capture();
}

#[inline(never)]
fn interrupted() {
    // SAFETY: the handler only walks this thread's stack, and the signal goes to this thread.
    unsafe {
        libc::signal(libc::SIGUSR1, on_signal as *const () as libc::sighandler_t);
        libc::raise(libc::SIGUSR1);
    }
}

#[test]
fn a_signal_handler_s_frame_is_crossed() {
    let walks = with_tables(interrupted);
    assert_same(&walks, 8, 1);
}

#[test]
fn the_vdso_has_a_table() {
    let mapping = mappings().into_iter().find(|mapping| mapping.path == "[vdso]").unwrap();
    let length = (mapping.end - mapping.start) as usize;
    // SAFETY: the kernel maps the vdso readable for the life of the process.
    let image = unsafe { std::slice::from_raw_parts(mapping.start as *const u8, length) };
    let object = ObjectFile::from_bytes(image.to_vec(), "[vdso]").unwrap();
    let table = UnwindTable::build(&object).unwrap();
    let BuildStatistics { functions, broken_functions, .. } = *table.statistics();
    assert!(functions > 3, "{functions} functions");
    assert_eq!(broken_functions, 0);
}
