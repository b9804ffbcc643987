//! Names of functions for a narrow column and for a sentence.

/// The longest short name, in characters: what fits a terminal's line beside the times.
const SHORT_NAME_LENGTH: usize = 80;

/// A function's name for a narrow column: no type parameters, no closure marks, no trait.
///
/// `<orders::Handler as tower::Service<Request>>::call::{closure#0}` becomes `orders::Handler::call`.
pub fn short_name(function: &str) -> String {
    let name = bare_name(function);
    match name.chars().count() > SHORT_NAME_LENGTH {
        true => name.chars().take(SHORT_NAME_LENGTH - 1).chain(['…']).collect(),
        false => name,
    }
}

/// What a function is, for rules over names: as [`short_name`], but never cut; the dropped type where one is dropped.
pub(crate) fn plain_name(function: &str) -> String {
    bare_name(dropped_type(function).unwrap_or(function))
}

fn bare_name(function: &str) -> String {
    let subject = match function.strip_prefix('<').and_then(crate::runtime::split_qualified) {
        Some((subject, rest)) => format!("{subject}{rest}"),
        None => function.to_owned(),
    };
    let mut short = String::with_capacity(subject.len());
    let mut depth = 0_u32;
    let mut previous = ' ';
    for character in subject.chars() {
        match character {
            '<' => depth += 1,
            '>' if depth > 0 && previous != '-' => depth -= 1,
            _ if depth == 0 => short.push(character),
            _ => {}
        }
        previous = character;
    }
    let mut short = short.replace("::::", "::");
    loop {
        let trimmed = short.trim_end_matches("::").trim_end_matches("{{closure}}");
        let trimmed = match trimmed.rfind("::{closure#").filter(|_| trimmed.ends_with('}')) {
            Some(start) => &trimmed[..start],
            None => trimmed,
        };
        if trimmed.len() == short.len() {
            break;
        }
        short.truncate(trimmed.len());
    }
    if short.is_empty() {
        short = function.to_owned();
    }
    short
}

/// What a called function is called in a sentence: `std::sync::Mutex::lock`, `clock_nanosleep`,
/// `drop of std::fs::File`.
///
/// The standard library's types are named by the path that programs write, not by the file they lie in; C
/// functions lose the marks of the C library's own copies (`__GI___clock_nanosleep`).
pub(super) fn called_name(function: &str) -> String {
    if let Some(dropped) = dropped_type(function) {
        return format!("drop of {}", called_name(dropped));
    }
    let short = short_name(function);
    let short = short.trim_start_matches('&').trim_start_matches("mut ");
    if !short.contains("::") {
        return c_name(short).to_owned();
    }
    for (inner, public) in PUBLIC_PATHS {
        if let Some(rest) = short.strip_prefix(inner) {
            return format!("{public}{rest}");
        }
    }
    short.to_owned()
}

/// Where the standard library's types lie, and where programs find them.
const PUBLIC_PATHS: &[(&str, &str)] = &[
    ("std::sync::poison::mutex::", "std::sync::"),
    ("std::sync::poison::rwlock::", "std::sync::"),
    ("std::sync::poison::condvar::", "std::sync::"),
    ("std::sync::mpmc::", "std::sync::mpsc::"),
    ("std::thread::functions::", "std::thread::"),
    ("std::thread::thread::", "std::thread::"),
    ("std::thread::join_handle::", "std::thread::"),
    ("std::net::tcp::", "std::net::"),
    ("std::net::udp::", "std::net::"),
    ("alloc::vec::", "std::vec::"),
    ("alloc::string::", "std::string::"),
    ("alloc::fmt::", "std::fmt::"),
];

/// The type that `core::ptr::drop_in_place<T>` drops; none for another function.
fn dropped_type(function: &str) -> Option<&str> {
    let rest = function.strip_prefix("core::ptr::drop_in_place")?;
    rest.trim_start_matches("::").strip_prefix('<')?.strip_suffix('>')
}

/// A C function without the marks of the C library's own copies.
fn c_name(name: &str) -> &str {
    let bare = name.strip_prefix("__GI_").unwrap_or(name);
    let bare = bare.strip_prefix("__libc_").unwrap_or(bare);
    let bare = if bare.starts_with("__") { bare.trim_start_matches('_') } else { bare };
    if bare.is_empty() { name } else { bare }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn called_functions_are_named_as_programs_write_them() {
        for (function, expected) in [
            ("std::sync::poison::mutex::Mutex<T>::lock", "std::sync::Mutex::lock"),
            ("<std::net::tcp::TcpStream as std::io::Read>::read", "std::net::TcpStream::read"),
            ("<&std::net::tcp::TcpStream as std::io::Read>::read", "std::net::TcpStream::read"),
            ("std::thread::functions::sleep", "std::thread::sleep"),
            ("<std::fs::File>::sync_data", "std::fs::File::sync_data"),
            ("core::ptr::drop_in_place<std::fs::File>", "drop of std::fs::File"),
            ("core::ptr::drop_in_place::<alloc::vec::Vec<u8>>", "drop of std::vec::Vec"),
            ("__GI___clock_nanosleep", "clock_nanosleep"),
            ("__libc_recv", "recv"),
            ("__GI___libc_write", "write"),
            ("___pthread_mutex_lock", "pthread_mutex_lock"),
            ("_int_malloc", "_int_malloc"),
            ("__", "__"),
            ("", ""),
        ] {
            assert_eq!(called_name(function), expected, "{function}");
        }
    }

    #[test]
    fn names_are_shortened() {
        for (function, expected) in [
            (
                "<orders::Handler as tower::Service<http::Request<B>>>::call::{closure#0}",
                "orders::Handler::call",
            ),
            ("orders::parse::<alloc::vec::Vec<u8>>", "orders::parse"),
            ("orders::main::{{closure}}::{{closure}}", "orders::main"),
            ("<orders::Store>::get::{closure#1}::{closure#0}", "orders::Store::get"),
            ("orders::map::<fn(u8) -> u8>::go", "orders::map::go"),
            ("<", "<"),
            ("", ""),
        ] {
            assert_eq!(short_name(function), expected, "{function}");
        }
        assert_eq!(short_name(&"é".repeat(500)).chars().count(), SHORT_NAME_LENGTH);
    }
}
