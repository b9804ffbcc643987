//! The `spanprof` program.
fn main() {}
