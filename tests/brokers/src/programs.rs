//! Programs that must be on the machine.

use std::path::PathBuf;
use std::process::Command;

use crate::NotHere;

/// Where Debian keeps servers, which an ordinary user's path leaves out.
const SYSTEM_DIRECTORIES: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// The oldest Java that the brokers run on.
const OLDEST_JAVA: u32 = 17;

const GET_JAVA: &str = "sudo apt-get install -y --no-install-recommends openjdk-17-jdk-headless maven";

/// A Java development kit: it also compiles the launchers.
#[derive(Clone, Debug)]
pub(crate) struct Java {
    pub(crate) run: PathBuf,
    pub(crate) compile: PathBuf,
}

impl Java {
    /// Looks in `JAVA_HOME`, then in the path.
    pub(crate) fn find() -> Result<Self, NotHere> {
        let lacking =
            || NotHere::new(format!("no development kit of Java {OLDEST_JAVA} or newer here"), GET_JAVA);
        let found = std::env::var_os("JAVA_HOME")
            .map(|home| PathBuf::from(home).join("bin"))
            .map(|folder| Self { run: folder.join("java"), compile: folder.join("javac") })
            .filter(|java| java.run.is_file() && java.compile.is_file())
            .or_else(|| Some(Self { run: find("java")?, compile: find("javac")? }))
            .ok_or_else(lacking)?;
        let output = Command::new(&found.compile).arg("-version").output().map_err(|_| lacking())?;
        let told =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        match release(&told) {
            Some(OLDEST_JAVA..) => Ok(found),
            _ => Err(lacking()),
        }
    }
}

pub(crate) fn maven() -> Result<PathBuf, NotHere> {
    find("mvn").ok_or_else(|| NotHere::new("no Maven here", GET_JAVA))
}

/// A program in the path or where servers are kept.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM_DIRECTORIES.map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// 17 of `javac 17.0.15`; older than 9 they call themselves 1.
fn release(told: &str) -> Option<u32> {
    let version = told.split_whitespace().skip_while(|&word| word != "javac").nth(1)?;
    version.split(['.', '-', '+']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_read_from_what_the_compiler_tells() {
        assert_eq!(release("javac 17.0.15\n"), Some(17));
        assert_eq!(release("Picked up JAVA_TOOL_OPTIONS: -Xmx1g\njavac 22-ea\n"), Some(22));
        assert_eq!(release("javac 1.8.0_392"), Some(1));
        assert_eq!(release("no such file"), None);
    }

    #[test]
    fn a_program_that_does_not_exist_is_not_found() {
        assert!(find("sh").is_some());
        assert_eq!(find("no program has this name"), None);
    }
}
