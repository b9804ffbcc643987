//! Has the kernel refuse system calls to this process, as the filter of a container does.

/// The calls that can be refused, with their numbers.
const CALLS: [(&str, libc::c_long); 5] = [
    ("bpf", libc::SYS_bpf),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("process_vm_readv", libc::SYS_process_vm_readv),
    ("ptrace", libc::SYS_ptrace),
    ("timer_create", libc::SYS_timer_create),
];

/// From now on these calls (names, separated by commas) fail with `EPERM`, in all threads to come. Ends the program if
/// that can't be had.
pub(crate) fn deny(names: &str) {
    let numbers = names.split(',').map(|name| {
        let call = CALLS.iter().find(|(known, _)| *known == name);
        call.unwrap_or_else(|| fail(&format!("`{name}` can't be denied"))).1
    });
    let numbers: Vec<libc::c_long> = numbers.collect();
    let filter = program(&numbers);
    let filter = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: takes numbers, and one pointer to a program that outlives the call, which only reads it.
    let result = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter)
    };
    if result != 0 {
        fail(&format!("no filter: {}", std::io::Error::last_os_error()));
    }
}

/// Load the number; per call, if it is equal, refuse; else allow.
fn program(numbers: &[libc::c_long]) -> Vec<libc::sock_filter> {
    let line = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    // The number is the first field of what the filter sees.
    let mut program = vec![line(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for number in numbers {
        program.push(line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, *number as u32));
        program.push(line(libc::BPF_RET | libc::BPF_K, 0, 0, refuse));
    }
    program.push(line(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW));
    program
}

fn fail(why: &str) -> ! {
    eprintln!("{why}");
    std::process::exit(2);
}
