//! Await points against programs that know where and how long they wait.
#![cfg(all(feature = "await-points", target_arch = "x86_64"))]

mod branches;
mod leaves;
mod places;
mod runtimes;
mod seen;
mod spans;
mod truth;
