//! A service in its variants: each built by its own features, so that none carries another's code, and run as a process of
//! its own.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

/// One variant of a service.
#[derive(Clone, Debug)]
pub struct Variant {
    /// Its word in the tables.
    pub name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
}

impl Variant {
    /// Builds `service` with `features` (cargo's list, may be empty), optimised, and keeps the program under the
    /// variant's name.
    ///
    /// # Panics
    /// If it can't be built.
    pub fn build(service: &str, name: &'static str, features: &str) -> Variant {
        let own = std::env::current_exe().expect("a program knows its path");
        let folder = own.parent().expect("a program lies in a folder");
        eprintln!("building {service}: {name}");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--release", "--quiet", "--manifest-path"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .args(["--bin", service, "--features", features])
            .status()
            .expect("cargo runs");
        assert!(built.success(), "{service}: the variant `{name}` can't be built");
        let program = folder.join(format!("{service}-{}", name.replace(' ', "-")));
        std::fs::copy(folder.join(service), &program).expect("the program was built beside this one");
        Variant { name, program, arguments: Vec::new() }
    }

    /// The same program under another name, with arguments of its own.
    pub fn with(&self, name: &'static str, arguments: &[&str]) -> Variant {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Variant { name, arguments, program: self.program.clone() }
    }

    /// Runs it to its end and gives what it tells on its last line.
    ///
    /// # Panics
    /// If it fails: a table without it would mislead.
    pub fn run(&self, arguments: &[String]) -> Value {
        let output = Command::new(&self.program)
            .args(&self.arguments)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .expect("it was built");
        assert!(output.status.success(), "{}: {}", self.name, output.status);
        let text = String::from_utf8(output.stdout).expect("text");
        let line = text.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {error}: {line}", self.name))
    }
}

/// Runs all variants in turns, `rounds` times, and gives per variant what it told in each round.
///
/// Each round begins with another one: whoever comes after a certain neighbour would else always do.
pub fn take_turns(variants: &[Variant], rounds: usize, arguments: &[String]) -> Vec<Vec<Value>> {
    let mut told = vec![Vec::new(); variants.len()];
    for round in 0..rounds {
        for turn in 0..variants.len() {
            let which = (round + turn) % variants.len();
            told[which].push(variants[which].run(arguments));
        }
        eprintln!("round {} of {rounds}", round + 1);
    }
    told
}

/// The number at `key` of what a variant told.
///
/// # Panics
/// If there is none.
pub fn number(told: &Value, key: &str) -> f64 {
    told[key].as_f64().unwrap_or_else(|| panic!("no number {key} in {told}"))
}

/// The whole number given as `--name N`, or `default`.
///
/// # Panics
/// When it is none.
pub fn argument(name: &str, default: u64) -> u64 {
    let mut words = std::env::args().skip_while(|word| word != name);
    words.nth(1).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}: {value}")))
}
