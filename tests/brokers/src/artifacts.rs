//! A broker's jars and its launcher, got once by Maven and kept between runs.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::spawn;
use crate::programs::{Java, maven};
use crate::{NotHere, StartError};

/// What a broker in Java is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// The text of its `pom.xml`, and the property there that names the version.
    pub(crate) pom: &'static str,
    pub(crate) version_property: &'static str,
    /// The launcher's class and source.
    pub(crate) launcher: &'static str,
    pub(crate) source: &'static str,
}

/// A broker that can be started.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) java: Java,
    /// The class path: the launcher, then the jars.
    pub(crate) class_path: String,
}

/// Where jars and launchers are kept: `SPANPROF_BROKERS`, or `spanprof/brokers` in the user's cache.
///
/// Everything in it can be deleted while no broker runs.
#[must_use]
pub fn cache_directory() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("SPANPROF_BROKERS").unwrap_or_else(|| {
        set("XDG_CACHE_HOME")
            .or_else(|| Some(set("HOME")?.join(".cache")))
            .unwrap_or_else(std::env::temp_dir)
            .join("spanprof/brokers")
    })
}

impl Recipe {
    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    /// Gets what the cache lacks. One process at a time, the others wait for it.
    pub(crate) fn prepare(&self) -> Result<Program, StartError> {
        let java = Java::find()?;
        self.fill_cache(java).map_err(|error| match error {
            CacheError::NotHere(missing) => missing.into(),
            CacheError::Files(error) => self.failed(format!("{}: {error}", cache_directory().display())),
            CacheError::Compiler(told) => self.failed(format!("its launcher does not compile: {told}")),
        })
    }

    fn failed(&self, reason: String) -> StartError {
        StartError::Failed { broker: self.title(), reason }
    }

    fn fill_cache(&self, java: Java) -> Result<Program, CacheError> {
        let place = cache_directory().join(format!("{}-{}", self.name, self.version));
        fs::create_dir_all(&place)?;
        let lock = File::create(place.join("lock"))?;
        lock.lock()?;
        let jars = place.join(format!("jars-{:016x}", fingerprint(self.pom)));
        if !jars.is_dir() {
            self.download(&place, &jars)?;
        }
        let launcher = place.join(format!("launcher-{:016x}", fingerprint(&(self.pom, self.source))));
        if !launcher.is_dir() {
            self.compile(&java, &place, &jars, &launcher)?;
        }
        let class_path = format!("{}:{}/*", launcher.display(), jars.display());
        Ok(Program { java, class_path })
    }

    fn download(&self, place: &Path, jars: &Path) -> Result<(), CacheError> {
        let maven = maven()?;
        let incoming = empty(place.join("incoming-jars"))?;
        let pom = place.join("pom.xml");
        fs::write(&pom, self.pom)?;
        eprintln!("{}: getting its jars by Maven, once", self.title());
        let mut command = Command::new(maven);
        command
            .args(["--batch-mode", "--quiet", "dependency:copy-dependencies", "-DincludeScope=runtime"])
            .arg(format!("-D{}={}", self.version_property, self.version))
            .arg(format!("-DoutputDirectory={}", incoming.display()))
            .arg("--file")
            .arg(&pom);
        if let Err(told) = run(command)? {
            let why = told.lines().find(|line| line.contains("ERROR")).unwrap_or("Maven failed").trim();
            return Err(CacheError::NotHere(NotHere::new(
                format!("the jars of {} can't be had: {why}", self.title()),
                "tests/brokers/broker fetch",
            )));
        }
        Ok(fs::rename(incoming, jars)?)
    }

    fn compile(&self, java: &Java, place: &Path, jars: &Path, launcher: &Path) -> Result<(), CacheError> {
        let incoming = empty(place.join("incoming-launcher"))?;
        let source = place.join(format!("{}.java", self.launcher));
        fs::write(&source, self.source)?;
        let mut command = Command::new(&java.compile);
        command
            .args(["--release", "17", "-proc:none", "-nowarn"])
            .arg("-cp")
            .arg(format!("{}/*", jars.display()))
            .arg("-d")
            .arg(&incoming)
            .arg(&source);
        run(command)?.map_err(CacheError::Compiler)?;
        Ok(fs::rename(incoming, launcher)?)
    }
}

/// Why the cache could not be filled.
enum CacheError {
    NotHere(NotHere),
    Files(io::Error),
    Compiler(String),
}

impl From<NotHere> for CacheError {
    fn from(missing: NotHere) -> Self {
        Self::NotHere(missing)
    }
}

impl From<io::Error> for CacheError {
    fn from(error: io::Error) -> Self {
        Self::Files(error)
    }
}

/// Runs a program to its end; what it told where it failed.
fn run(mut command: Command) -> io::Result<Result<(), String>> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = spawn(command)?.wait_with_output()?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    let told = [output.stdout, output.stderr].concat();
    Ok(Err(String::from_utf8_lossy(&told).trim().to_owned()))
}

/// A new directory, in place of what an interrupted run left.
fn empty(directory: PathBuf) -> io::Result<PathBuf> {
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir(&directory)?;
    Ok(directory)
}

/// Tells one text from another, so that a change of it is a new entry in the cache.
fn fingerprint(text: &(impl Hash + ?Sized)) -> u64 {
    // Its keys are fixed, unlike those of the random state.
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
