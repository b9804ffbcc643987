//! The command line of a truth program: `--name value` pairs and bare flags.
//!
//! Hand-written, since a truth program should hold as little foreign code as possible: what it contains is
//! what a profiler sees.

use std::collections::HashMap;

/// The arguments of the running program.
#[derive(Debug, Default)]
pub struct Arguments {
    values: HashMap<String, String>,
}

impl Arguments {
    /// Reads the arguments of this process.
    ///
    /// Ends the process with exit code 2 when an argument doesn't start with `--`.
    pub fn from_env() -> Self {
        Self::parse(std::env::args().skip(1)).unwrap_or_else(|word| refuse(&word, "expected --name [value]"))
    }

    /// Reads `words`; the error is the word that could not be read.
    fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut values = HashMap::new();
        let mut words = words.peekable();
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix("--").filter(|name| !name.is_empty()) else {
                return Err(word);
            };
            let value = words.next_if(|next| !next.starts_with("--")).unwrap_or_default();
            values.insert(name.to_owned(), value);
        }
        Ok(Self { values })
    }

    /// Whether the flag `--name` was given.
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The value of `--name`, if given.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The whole number given as `--name`, or `default`.
    ///
    /// Ends the process with exit code 2 when the value is no number.
    pub fn number(&self, name: &str, default: u64) -> u64 {
        match self.text(name) {
            None => default,
            Some(value) => value.parse().unwrap_or_else(|_| refuse(value, "expected a whole number")),
        }
    }
}

fn refuse(word: &str, expectation: &str) -> ! {
    eprintln!("`{word}`: {expectation}");
    std::process::exit(2);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, String> {
        Arguments::parse(words.iter().map(|word| (*word).to_owned()))
    }

    #[test]
    fn values_flags_and_defaults() {
        let arguments = parse(&["--seconds", "7", "--hold", "--name", "x"]).unwrap();
        assert_eq!(arguments.number("seconds", 1), 7);
        assert_eq!(arguments.number("depth", 17), 17);
        assert_eq!(arguments.text("name"), Some("x"));
        assert!(arguments.has("hold"));
        assert!(!arguments.has("blocks"));
    }

    #[test]
    fn a_word_without_dashes_is_refused() {
        assert_eq!(parse(&["seconds"]).unwrap_err(), "seconds");
        assert_eq!(parse(&["--seconds", "7", "8"]).unwrap_err(), "8");
    }
}
