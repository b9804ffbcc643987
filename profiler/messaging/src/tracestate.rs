//! W3C's `tracestate`, checked and handed on, never understood.
//!
//! Only its form matters here: what is malformed or too long is dropped as a whole, as the standard allows, so that
//! nobody behind us has to deal with it.

/// The length, in bytes, up to which the standard asks everybody to hand on a `tracestate`.
pub const LONGEST: usize = 512;

/// How many members the standard allows.
const MOST_MEMBERS: usize = 32;

/// The longest key and the longest value, in bytes.
const LONGEST_PART: usize = 256;

/// The text, if it is a well-formed `tracestate` of at least one member and at most 512 bytes.
pub(crate) fn checked(tracestate: &[u8]) -> Option<&str> {
    if tracestate.len() > LONGEST {
        return None;
    }
    let tracestate = tracestate.trim_ascii();
    let mut members = 0;
    for member in tracestate.split(|byte| *byte == b',') {
        match trim_blanks(member) {
            [] => {}
            member if is_member(member) => members += 1,
            _ => return None,
        }
    }
    // A member is ASCII, and so are commas and blanks.
    if (1..=MOST_MEMBERS).contains(&members) { std::str::from_utf8(tracestate).ok() } else { None }
}

fn trim_blanks(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

fn is_member(member: &[u8]) -> bool {
    let Some(equals) = member.iter().position(|byte| *byte == b'=') else { return false };
    let (key, value) = (&member[..equals], &member[equals + 1..]);
    (1..=LONGEST_PART).contains(&key.len())
        && matches!(key[0], b'a'..=b'z' | b'0'..=b'9')
        && key.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@'))
        && (1..=LONGEST_PART).contains(&value.len())
        && value.iter().all(|byte| matches!(byte, b' '..=b'~') && *byte != b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_formed_states_pass_as_they_are() {
        for state in [
            "rojo=00f067aa0ba902b7",
            "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
            "a=1 ,\tb=2",
            "a=1,,b=2,",
            "tenant@system=va lue",
            "0a*/_-@=~!",
        ] {
            assert_eq!(checked(state.as_bytes()), Some(state));
        }
        assert_eq!(checked(b" a=1\r\n"), Some("a=1"));
    }

    #[test]
    fn malformed_states_are_dropped_whole() {
        for state in
            ["", " ", ",", "a", "a=", "=1", "A=1", "a=1,b", "a=b=c", "a=é", "a=\u{1}", "a=1\nb=2", "-a=1"]
        {
            assert_eq!(checked(state.as_bytes()), None, "{state:?}");
        }
        assert_eq!(checked(b"a=\xff"), None);
    }

    #[test]
    fn bounds_hold() {
        let members = |count: usize| vec!["a=1"; count].join(",");
        assert!(checked(members(32).as_bytes()).is_some());
        assert!(checked(members(33).as_bytes()).is_none());
        let value = |length: usize| format!("a={}", "x".repeat(length));
        assert!(checked(value(256).as_bytes()).is_some());
        assert!(checked(value(257).as_bytes()).is_none());
        let two = |length: usize| format!("{},b={}", value(256), "y".repeat(length));
        assert_eq!(two(251).len(), LONGEST);
        assert!(checked(two(251).as_bytes()).is_some());
        assert!(checked(two(252).as_bytes()).is_none());
    }
}
