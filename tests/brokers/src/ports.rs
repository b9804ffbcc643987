//! Ports that nobody listens on.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

/// Where free ports are looked for: below the range from which the kernel takes those of outgoing connections, so
/// that none of them takes a port between its choice and its use.
const FIRST: u16 = 20_000;
const LAST: u16 = 31_999;

/// The next port to try, so that none is given twice in a process before the range is through.
static NEXT: Mutex<Option<u16>> = Mutex::new(None);

/// Which ports a broker listens on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ports {
    /// Any that are free, so that tests don't meet.
    #[default]
    Free,
    /// Those that its clients expect, or free ones where one of them is taken.
    Usual,
    /// Neighbours from this one on, or free ones where one of them is taken: for a broker in the place of one that ended.
    From(u16),
}

impl Ports {
    /// As many ports as `usual` has.
    ///
    /// None of them is reserved: another program may take one before the broker does, which the caller has to try
    /// again; then with `attempt` above 0, for which free ones alone are tried.
    ///
    /// # Panics
    /// Where there are no free ports in the range, which no machine of ours has seen.
    pub(crate) fn choose<const COUNT: usize>(self, usual: [u16; COUNT], attempt: usize) -> [u16; COUNT] {
        let neighbours = |first: u16| {
            std::array::from_fn(|place| first + u16::try_from(place).expect("a broker has few ports"))
        };
        let wanted = match self {
            Self::Free => None,
            Self::Usual => Some(usual),
            Self::From(first) => Some(neighbours(first)),
        };
        match wanted {
            Some(ports) if attempt == 0 && ports.into_iter().all(is_free) => ports,
            _ => neighbours(free_block(u16::try_from(COUNT).expect("a broker has few ports"))),
        }
    }
}

/// The first of `count` neighbouring free ports.
fn free_block(count: u16) -> u16 {
    let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in FIRST..=LAST {
        let first = next.unwrap_or_else(somewhere);
        let first = if first > LAST - count { FIRST } else { first };
        if let Some(taken) = (first..first + count).find(|&port| !is_free(port)) {
            *next = Some(taken + 1);
        } else {
            *next = Some(first + count);
            return first;
        }
    }
    panic!("no {count} free ports between {FIRST} and {LAST}")
}

/// Processes begin at different places, so that they seldom try the same ports.
fn somewhere() -> u16 {
    let random = RandomState::new().build_hasher().finish();
    FIRST + u16::try_from(random % u64::from(LAST - FIRST)).expect("the remainder is small")
}

/// Whether nobody listens there on any address; some of the brokers' ports cannot be bound to the loopback alone.
fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice_nor_one_that_is_taken() {
        let [first, second] = Ports::Free.choose([1, 2], 0);
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).expect("the port is free");
        *NEXT.lock().unwrap() = Some(first);
        let [third] = Ports::Free.choose([3], 0);
        assert!(third != first && second == first + 1, "{first}, {second}, {third}");
    }

    #[test]
    fn ports_of_one_that_ended_are_used_again() {
        let ports: [u16; 3] = Ports::Free.choose([1, 2, 3], 0);
        assert_eq!(Ports::From(ports[0]).choose([1, 2, 3], 0), ports);
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, ports[1])).expect("the port is free");
        assert_ne!(Ports::From(ports[0]).choose([1, 2, 3], 0), ports);
    }

    #[test]
    fn usual_ports_are_used_while_they_are_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
        let usual = listener.local_addr().expect("it has an address").port();
        assert_ne!(Ports::Usual.choose([usual], 0), [usual]);
        drop(listener);
        assert_eq!(Ports::Usual.choose([usual], 0), [usual]);
        assert_ne!(Ports::Usual.choose([usual], 1), [usual]);
    }
}
