//! Truth programs and end-to-end tests.
//!
//! A truth program is a small process that knows what a profiler must find in it: which call path ran, for
//! how long, under which span, and why it waited. Its life is always the same ([`truth_program`]): it sets
//! up, prints the line `ready`, runs for `--seconds` or until SIGTERM, and prints its truth as one JSON
//! object on the last line of its standard output. With `--hold` it starts its measured part only when a
//! line arrives on its standard input and stays alive afterwards until that input ends, so that a capture
//! can enclose the truth exactly.
//!
//! This library links no context writer: the programs that publish a span bring their own, so that ours and
//! a foreign one, which define the same symbol, never meet in one program.

pub mod arguments;
pub mod clock;
pub mod ping_pong;
pub mod plugin;
pub mod thread_facts;
pub mod truth_program;
