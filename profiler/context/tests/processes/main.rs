//! Processes read from outside: found by process context and by symbol, through each access model, thread by thread.
//!
//! The program starts itself (or a changed copy of itself) as the process to be read; what that one does is named by
//! its first argument. It says when it is ready and ends when its input does, so nothing waits for time to pass.

mod cases;
mod library;
mod target;
mod traced;

fn main() {
    let mut arguments = std::env::args().skip(1);
    match arguments.next() {
        Some(role) if role == target::ROLE => target::act(&arguments.collect::<Vec<_>>()),
        filter => cases::run(filter.filter(|filter| !filter.starts_with('-')).as_deref()),
    }
}
