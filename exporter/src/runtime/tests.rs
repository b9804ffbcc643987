//! The tables against names as symbolizers give them.

use super::*;

fn frame(function: &str, kind: FrameKind) -> Frame {
    Frame { function: function.into(), system_name: function.into(), file: None, line: 0, kind }
}

#[test]
fn rust_plumbing_is_runtime() {
    for name in [
        "std::rt::lang_start::<()>::{closure#0}",
        "core::ops::function::FnOnce::call_once",
        "<alloc::boxed::Box<F,A> as core::ops::function::FnOnce<Args>>::call_once",
        "tokio::runtime::scheduler::multi_thread::worker::Context::run_task",
        "<tracing::instrument::Instrumented<T> as core::future::future::Future>::poll",
        "<tracing::instrument::Instrumented<orders::handle::{closure#0}> as core::future::future::Future>::poll",
        "<core::panic::unwind_safe::AssertUnwindSafe<F> as core::ops::function::FnOnce<()>>::call_once",
        "<T as core::any::Any>::type_id",
        "<&mut F as core::future::future::Future>::poll",
        "<F as core::ops::function::FnOnce<(orders::Order,)>>::call_once",
        "<std::thread::Builder>::spawn_unchecked_::<orders::main::{closure#0}, ()>::{closure#1}",
        "<[u8] as alloc::borrow::ToOwned>::to_owned",
        "<fn() -> i32 as core::ops::function::FnOnce<()>>::call_once",
        "std::sys::sync::mutex::futex::Mutex::lock_contended",
        "__rust_begin_short_backtrace",
        "<u64>::wrapping_mul",
        "str::len",
        "core::num::<impl u64>::wrapping_mul",
    ] {
        assert!(is_runtime(&frame(name, FrameKind::Rust)), "{name}");
    }
}

#[test]
fn the_applications_own_code_is_not() {
    for name in [
        "orders::parse",
        "orders::main::{closure#0}",
        "<orders::Handler as tower::Service<http::Request>>::call",
        "<dyn orders::Store as core::fmt::Debug>::fmt",
        "<&mut orders::Reader as std::io::Read>::read",
        "<(orders::A, orders::B) as orders::Pair>::both",
        "standard::thing",
        "u64x2::add",
        "strings::join",
        "tokio_orders::run",
        "main",
        "serde_json::de::from_str::<orders::Order>",
        "readdress",
        "orders+0x1234",
        "",
        "<",
        "<<<",
        "<a as ",
        "<T as",
        "> as <",
    ] {
        assert!(!is_runtime(&frame(name, FrameKind::Rust)), "{name}");
    }
}

#[test]
fn c_and_cpp_plumbing_is_runtime() {
    for name in [
        "__libc_start_call_main",
        "start_thread",
        "clone3",
        "_int_malloc",
        "__GI___clock_nanosleep",
        "pthread_cond_timedwait@@GLIBC_2.3.2",
        "___pthread_mutex_lock",
        "epoll_wait",
        "libc.so.6+0x8f3a2",
        "ld-linux-x86-64.so.2+0x1000",
        "[vdso]+0x9c0",
        "operator new(unsigned long)",
        "std::vector<int, std::allocator<int> >::push_back(int&&)",
        "void std::sort<int*>(int*, int*)",
        "std::function<void (orders::Order)>::operator()(orders::Order) const",
    ] {
        assert!(is_runtime(&frame(name, FrameKind::Native)), "{name}");
    }
    for name in
        ["orders::parse(std::string const&)", "void orders::sort<int>(int)", "parse", "liborders.so+0x10"]
    {
        assert!(!is_runtime(&frame(name, FrameKind::Native)), "{name}");
    }
}

#[test]
fn java_kernel_and_made_up_frames() {
    assert!(is_runtime(&frame("Ljava/lang/Thread;::run", FrameKind::Jvm)));
    assert!(is_runtime(&frame("java.util.concurrent.locks.LockSupport.park", FrameKind::Jvm)));
    assert!(is_runtime(&frame("Interpreter", FrameKind::Jvm)));
    assert!(!is_runtime(&frame("Lorg/example/Orders;::parse", FrameKind::Jvm)));
    assert!(!is_runtime(&frame("LoadOrders::java", FrameKind::Jvm)));
    assert!(is_runtime(&frame("do_syscall_64", FrameKind::Kernel)));
    assert!(!is_runtime(&frame("[stack truncated]", FrameKind::Synthetic)));
}

#[test]
fn source_files_tell_libraries() {
    let mut parse = frame("serde_json::de::from_str", FrameKind::Rust);
    assert!(!is_library(&parse));
    parse.file = Some("/home/me/.cargo/registry/src/index/serde_json-1.0.0/src/de.rs".into());
    assert!(is_library(&parse) && !is_runtime(&parse));
    parse.file = Some("/rustc/59807616e/library/core/src/num/mod.rs".into());
    assert!(is_runtime(&parse));
}
