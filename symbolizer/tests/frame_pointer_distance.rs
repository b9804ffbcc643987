//! Where rbp lies by a function's instructions, against where it truly is.
//!
//! Stacks are walked from the true registers at every allocation, so that the standard library's and the C library's own
//! functions, which are built with frame pointers in part, are seen in the midst of their work. At every frame whose rule
//! counts from rbp, rsp plus the distance that its instructions tell must be the rbp of the walk.
#![cfg(target_arch = "x86_64")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{c_int, c_void};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::Path;

use spanprof_symbolizer::ObjectFile;
use spanprof_symbolizer::unwind::{
    FunctionIndex, NoDistance, Rule, RuleKind, UnwindTable, frame_pointer_distance,
};
use spanprof_symbolizer::walk::{Registers, step};

struct Mapped {
    start: u64,
    end: u64,
    bias: u64,
    object: ObjectFile,
    table: UnwindTable,
}

fn lines() -> Vec<String> {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().map(str::to_owned).collect()
}

fn mapped() -> Vec<Mapped> {
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
    lines()
        .iter()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (start, end) = fields[0].split_once('-').unwrap();
            let path = *fields.get(5).filter(|path| path.starts_with('/') && fields[1].contains('x'))?;
            let object = ObjectFile::open(Path::new(path), path).unwrap();
            let address = object.file_offset_to_address(hex(fields[2]))?;
            let table = UnwindTable::build(&object).unwrap();
            Some(Mapped {
                start: hex(start),
                end: hex(end),
                bias: hex(start).wrapping_sub(address),
                object,
                table,
            })
        })
        .collect()
}

/// This thread's view: what is loaded, its stack's end, and what was seen.
struct Watched {
    mapped: Vec<Mapped>,
    stack_end: u64,
    /// By address: distances that rbp truly had.
    seen: HashMap<u64, HashSet<u64>>,
    walks: usize,
}

thread_local! {
    static WATCHED: RefCell<Option<Watched>> = const { RefCell::new(None) };
    static IS_WATCHING: Cell<bool> = const { Cell::new(false) };
}

struct Watching;

// SAFETY: hands everything to the system's allocator.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        look();
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        look();
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// Walks this thread's stack, if it is watched and not looking already.
#[inline(never)]
fn look() {
    if !IS_WATCHING.try_with(|watching| watching.replace(false)).unwrap_or(false) {
        return;
    }
    let (ip, sp, bp): (u64, u64, u64);
    // SAFETY: reads three registers.
    unsafe {
        std::arch::asm!(
            "lea {ip}, [rip]", "mov {sp}, rsp", "mov {bp}, rbp",
            ip = out(reg) ip, sp = out(reg) sp, bp = out(reg) bp,
            options(nostack, nomem, preserves_flags),
        );
    }
    WATCHED.with_borrow_mut(|watched| watched.as_mut().unwrap().walk(Registers { ip, sp, bp }));
    IS_WATCHING.set(true);
}

impl Watched {
    fn walk(&mut self, mut registers: Registers) {
        let begin = registers.sp;
        let end = self.stack_end;
        self.walks += 1;
        let mut is_interrupted = true;
        loop {
            let address = if is_interrupted { registers.ip } else { registers.ip - 1 };
            let found = self.mapped.iter().find(|mapped| (mapped.start..mapped.end).contains(&address));
            let rule = found.map_or(Rule::NONE, |mapped| mapped.table.rule_at(address - mapped.bias));
            if matches!(rule.kind(), RuleKind::Rbp | RuleKind::Deref) {
                self.seen.entry(address).or_default().insert(registers.bp - registers.sp);
            }
            let mut read = |address: u64| {
                (begin..end - 7).contains(&address).then(|| {
                    // SAFETY: lies between this thread's stack pointer and its stack's end.
                    unsafe { (address as *const u64).read_unaligned() }
                })
            };
            let Some(caller) = step(rule, address, registers, &mut read) else { return };
            is_interrupted = rule.kind() == RuleKind::Signal;
            registers = caller;
        }
    }
}

fn watch(work: impl FnOnce()) -> Watched {
    let here = 0u8;
    let here = &raw const here as u64;
    let stack_end = lines().iter().find_map(|line| {
        let (start, end) = line.split_whitespace().next()?.split_once('-')?;
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        (start..end).contains(&here).then_some(end)
    });
    let watched = Watched { mapped: mapped(), stack_end: stack_end.unwrap(), seen: HashMap::new(), walks: 0 };
    WATCHED.set(Some(watched));
    IS_WATCHING.set(true);
    work();
    IS_WATCHING.set(false);
    WATCHED.take().unwrap()
}

extern "C" fn compare(left: *const c_void, right: *const c_void) -> c_int {
    look();
    // SAFETY: `qsort` passes pointers to the elements of an array of integers.
    unsafe { *left.cast::<i32>() - *right.cast::<i32>() }
}

struct Looking;

impl std::fmt::Display for Looking {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        look();
        formatter.pad_integral(true, "0x", "1f")
    }
}

impl std::fmt::Debug for Looking {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        look();
        formatter.debug_struct("Looking").field("a", &format_args!("{self}")).field("b", &1.5f64).finish()
    }
}

impl std::fmt::Write for Looking {
    fn write_str(&mut self, _: &str) -> std::fmt::Result {
        look();
        Ok(())
    }
}

/// As much of the standard library as a test can reach.
fn work(directory: &Path) {
    let mut numbers: Vec<i32> = (0..100).rev().collect();
    // SAFETY: the array holds as many elements of this size.
    unsafe { libc::qsort(numbers.as_mut_ptr().cast(), 100, 4, Some(compare)) };
    write!(Looking, "{Looking:>30} {Looking:#?} {:e} {:?}", 1e9, [Looking, Looking]).unwrap();
    let file = directory.join("file");
    std::fs::write(&file, b"one\ntwo\n").unwrap();
    std::fs::read_to_string(&file).unwrap();
    std::fs::copy(&file, directory.join("copy")).unwrap();
    for entry in std::fs::read_dir(directory).unwrap() {
        std::fs::canonicalize(entry.unwrap().path()).unwrap().metadata().unwrap();
    }
    assert!(std::fs::File::open(directory.join("missing")).unwrap_err().to_string().contains("2"));
    let _: Vec<_> = std::env::vars_os().collect();
    std::env::current_dir().unwrap();
    let output = std::process::Command::new("true").arg("x").env("A", "b").output().unwrap();
    assert!(output.status.success());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stream = std::net::TcpStream::connect(listener.local_addr().unwrap().to_string()).unwrap();
    stream.write_all(b"x").unwrap();
    listener.accept().unwrap().0.read_exact(&mut [0]).unwrap();
    "localhost:1".parse::<std::net::SocketAddr>().unwrap_err();
    let (sender, receiver) = std::sync::mpsc::channel::<String>();
    let thread = std::thread::Builder::new().name("other".to_owned()).spawn(move || {
        sender.send("text".to_lowercase()).unwrap();
    });
    receiver.recv().unwrap();
    thread.unwrap().join().unwrap();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|information| {
        write!(Looking, "{information} {}", std::backtrace::Backtrace::force_capture()).unwrap();
    }));
    std::panic::catch_unwind(|| panic!("{Looking}")).unwrap_err();
    std::panic::set_hook(hook);
    std::sync::OnceLock::new().get_or_init(look);
    assert_eq!(String::from_utf8_lossy(b"a\xffb").into_owned().replace('a', "bcd").chars().rev().count(), 5);
}

#[test]
fn rbp_is_where_the_instructions_say() {
    let directory = tempfile::tempdir().unwrap();
    let watched = watch(|| work(directory.path()));
    assert!(watched.walks > 300, "{} walks", watched.walks);
    let mut told: BTreeMap<&str, usize> = BTreeMap::new();
    let mut untold: HashMap<NoDistance, usize> = HashMap::new();
    for (address, distances) in &watched.seen {
        let mapped =
            watched.mapped.iter().find(|mapped| (mapped.start..mapped.end).contains(address)).unwrap();
        let rule_at = |address| mapped.table.rule_at(address);
        match frame_pointer_distance(&mapped.object, address - mapped.bias, rule_at) {
            Ok(distance) => {
                assert_eq!(*distances, HashSet::from([distance]), "{}", mapped.object.display_name());
                *told.entry(mapped.object.file_name()).or_default() += 1;
            }
            Err(reason) => *untold.entry(reason).or_default() += 1,
        }
    }
    let right: usize = told.values().sum();
    println!("{} walks; places with rbp told right {told:?}, untold {untold:?}", watched.walks);
    assert!(right >= 100, "{right} places");
    assert!(untold.values().sum::<usize>() * 20 < right, "{untold:?} untold, {right} told");
}

#[test]
fn functions_are_found_by_their_addresses() {
    for mapped in mapped() {
        let index = FunctionIndex::of(&mapped.object).expect("linkers write one");
        assert!(!index.is_empty());
        let mut before = 0;
        for number in (0..index.len()).step_by(17) {
            let function = index.get(number).expect("it has an entry");
            assert!(function.start >= before);
            assert_eq!(index.find(function.start), Some(function.clone()));
            assert_eq!(index.find(function.end - 1), Some(function.clone()));
            before = function.end;
        }
        assert_eq!(index.get(index.len()), None);
        assert_eq!(index.find(0), None);
        assert_eq!(frame_pointer_distance(&mapped.object, 0, |_| Rule::NONE), Err(NoDistance::NoFunction));
    }
}
