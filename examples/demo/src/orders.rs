//! Orders: what a message says, and the parsing of it, which some orders make expensive.

use std::hint::black_box;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::story::Cause;
use crate::thread_clock::thread_cpu;

/// CPU that verifying an ordinary order takes.
const ORDINARY_CPU: Duration = Duration::from_micros(300);

/// An order, as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its number; messages are numbered from 0.
    pub number: u64,
    /// Who ordered.
    pub customer: String,
    /// What was ordered.
    pub lines: Vec<OrderLine>,
    /// What makes it slow; in a real order nobody knows.
    pub trouble: Option<Trouble>,
}

/// A line of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    /// The article.
    pub article: String,
    /// How many pieces.
    pub pieces: u32,
}

/// What makes an order slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Why.
    pub cause: Cause,
    /// For how long.
    pub milliseconds: u64,
}

impl Order {
    /// How long the order's trouble lasts where it is this cause, at most five seconds; zero for any other.
    pub fn trouble_for(&self, cause: Cause) -> Duration {
        match self.trouble {
            Some(trouble) if trouble.cause == cause => Duration::from_millis(trouble.milliseconds.min(5_000)),
            _ => Duration::ZERO,
        }
    }
}

/// Reads an order and verifies its checksums; the slow kind takes its whole time in here, on CPU.
///
/// Errors when the payload is no order.
#[inline(never)]
pub fn parse_payload(payload: &[u8]) -> Result<Order, serde_json::Error> {
    let order: Order = serde_json::from_slice(payload)?;
    let effort = ORDINARY_CPU.max(order.trouble_for(Cause::Parsing));
    black_box(verify_checksums(payload, effort));
    Ok(order)
}

/// Goes over the payload until the thread has used as much CPU as the order asks for.
#[inline(never)]
fn verify_checksums(payload: &[u8], effort: Duration) -> u64 {
    let end = thread_cpu() + effort;
    let mut sum = 0xcbf2_9ce4_8422_2325;
    while thread_cpu() < end {
        for _ in 0..64 {
            sum = checksum(sum, payload);
        }
    }
    sum
}

#[inline(never)]
fn checksum(seed: u64, payload: &[u8]) -> u64 {
    black_box(payload).iter().fold(seed, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_order_is_an_error() {
        assert!(parse_payload(b"{\"number\":1").is_err());
        assert!(parse_payload(b"\xff\xfe").is_err());
        assert!(parse_payload(b"").is_err());
    }

    #[test]
    fn parsing_uses_the_cpu_that_the_order_asks_for() {
        let order = Order {
            number: 9,
            customer: "c".to_owned(),
            lines: Vec::new(),
            trouble: Some(Trouble { cause: Cause::Parsing, milliseconds: 20 }),
        };
        let payload = serde_json::to_vec(&order).unwrap();
        let before = thread_cpu();
        assert_eq!(parse_payload(&payload).unwrap(), order);
        assert!(thread_cpu() - before >= Duration::from_millis(20));
        assert_eq!(order.trouble_for(Cause::Sleep), Duration::ZERO);
    }
}
