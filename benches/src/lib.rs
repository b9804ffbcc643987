//! What the embedded half costs, beside what others cost: services in variants, run in turns and compared.
//!
//! A machine drifts by more than what is to be measured, so that variants take turns in many short rounds and each is
//! compared with the bare one of its own round. What is compared is CPU time per piece of work, not throughput: it
//! depends least on what else runs on the machine.

pub mod clock;
pub mod statistics;
pub mod variants;
