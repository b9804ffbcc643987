//! Symbol names as people write them: without mangling, hashes and versions.

use std::fmt::{self, Write};

use crate::FrameKind;

/// Longer names are cut: a few hundred characters already tell which function it is, and a mangled name of
/// some bytes can unfold to megabytes.
const MAX_NAME: usize = 2048;

/// A name to show, and what its mangling says of its language.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Demangled {
    pub(super) name: String,
    pub(super) kind: FrameKind,
}

/// The name for `raw`. Control characters become `?`, so that no name breaks a line-based format.
pub(super) fn demangle(raw: &str) -> Demangled {
    let plain = without_version(raw);
    let (name, kind) = match rust(plain).or_else(|| rust(without_thunk(plain))) {
        Some(name) => (name, FrameKind::Rust),
        None => (cpp(plain).unwrap_or_else(|| cut(plain)), FrameKind::Native),
    };
    let name = without_hash(&name);
    let name = match name.contains(char::is_control) {
        true => name.replace(char::is_control, "?"),
        false => name.to_owned(),
    };
    Demangled { name, kind }
}

fn rust(raw: &str) -> Option<String> {
    let demangled = rustc_demangle::try_demangle(raw).ok()?;
    let mut bounded = Bounded::default();
    // An error says that the name was cut.
    let _ = write!(bounded, "{demangled:#}");
    Some(bounded.0).filter(|name| !name.is_empty())
}

fn cpp(raw: &str) -> Option<String> {
    if !raw.starts_with("_Z") && !raw.starts_with("__Z") {
        return None;
    }
    let symbol = cpp_demangle::Symbol::new(raw).ok()?;
    let options = cpp_demangle::DemangleOptions::new();
    let mut bounded = Bounded::default();
    let complete = symbol.structured_demangle(&mut bounded, &options).is_ok();
    Some(bounded.0).filter(|name| !name.is_empty() && (complete || name.len() >= MAX_NAME))
}

/// `memcpy@@GLIBC_2.14`, as symbol tables have it, is `memcpy`.
fn without_version(raw: &str) -> &str {
    match raw.find('@') {
        Some(at) if at > 0 => &raw[..at],
        _ => raw,
    }
}

/// `name.cold`, `name.part.0`: what a compiler put behind a mangled name.
fn without_thunk(raw: &str) -> &str {
    raw.split_once('.').map_or(raw, |(name, _)| name)
}

/// `…::h0123456789abcdef`, where a name came demangled already.
fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((front, hash))
            if hash.len() == 16
                && !front.is_empty()
                && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) =>
        {
            front
        }
        _ => name,
    }
}

fn cut(name: &str) -> String {
    let mut bounded = Bounded::default();
    let _ = bounded.write_str(name);
    bounded.0
}

/// Takes what fits and refuses the rest.
#[derive(Default)]
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MAX_NAME - self.0.len();
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(raw: &str) -> (String, FrameKind) {
        let Demangled { name, kind } = demangle(raw);
        (name, kind)
    }

    #[test]
    fn each_mangling_is_undone() {
        let rust = |name: &str| (name.to_owned(), FrameKind::Rust);
        let native = |name: &str| (name.to_owned(), FrameKind::Native);
        assert_eq!(shown("_ZN6orders5parse17h0123456789abcdefE"), rust("orders::parse"));
        assert_eq!(shown("_RNvCs1234_7mycrate3foo"), rust("mycrate::foo"));
        assert_eq!(shown("_RNvCs1234_7mycrate3foo.llvm.9876"), rust("mycrate::foo"));
        assert_eq!(shown("_RINvNtC3std3mem8align_ofjE"), rust("std::mem::align_of::<usize>"));
        assert_eq!(shown("_ZN3foo3barEv"), native("foo::bar()"));
        assert_eq!(shown("_ZNSt6vectorIiSaIiEE9push_backERKi").1, FrameKind::Native);
        assert_eq!(shown("memcpy@@GLIBC_2.14"), native("memcpy"));
        assert_eq!(shown("main"), native("main"));
        assert_eq!(shown("@odd"), native("@odd"));
        assert_eq!(shown("orders::parse::h0123456789abcdef"), native("orders::parse"));
        assert_eq!(shown("orders::hash"), native("orders::hash"));
    }

    #[test]
    fn hostile_names_stay_short_and_on_one_line() {
        assert_eq!(shown("two\nlines").0, "two?lines");
        assert_eq!(shown(&"x".repeat(1 << 20)).0.len(), MAX_NAME);
        assert_eq!(shown(&"é".repeat(MAX_NAME)).0.len(), MAX_NAME);
        assert!(shown("_ZN").0.starts_with("_ZN"));
        // Each level doubles the one before by back references.
        let bomb = format!("_Z1f{}", "St4pairI".repeat(200));
        assert!(shown(&bomb).0.len() <= MAX_NAME);
    }
}
