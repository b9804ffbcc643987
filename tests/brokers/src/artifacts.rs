//! Jars, got once by Maven, and programs of ours that run on them; both are kept between runs.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::spawn;
use crate::programs::{Java, maven};
use crate::{NotHere, StartError};

/// Jars that belong together: of a broker, of a client, of an agent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Jars {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// The text of their `pom.xml`, and the property there that names the version.
    pub(crate) pom: &'static str,
    pub(crate) version_property: &'static str,
}

/// A program of ours in one file, and the class in it that is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    pub(crate) class: &'static str,
    pub(crate) text: &'static str,
}

/// A program that can be started.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) java: Java,
    /// Where Java finds it: itself, then the jars.
    pub(crate) class_path: String,
}

/// Where jars and programs are kept: `SPANPROF_BROKERS`, or `spanprof/brokers` in the user's cache.
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

impl Jars {
    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    /// Their directory, after getting what the cache lacks. One process at a time, the others wait for it.
    pub(crate) fn get(&self) -> Result<PathBuf, StartError> {
        self.locked(|place| self.jars(place))
    }

    /// A program that runs on them, after getting and compiling what the cache lacks; one at a time too.
    pub(crate) fn program(&self, source: &Source) -> Result<Program, StartError> {
        let java = Java::find()?;
        self.locked(|place| {
            let jars = self.jars(place)?;
            let name = format!("{}-{:016x}", source.class, fingerprint(&(self.pom, source.text)));
            let program = place.join(name);
            if !program.is_dir() {
                compile(&java, source, place, &jars, &program)?;
            }
            let class_path = format!("{}:{}/*", program.display(), jars.display());
            Ok(Program { java, class_path })
        })
    }

    fn locked<T>(&self, fill: impl FnOnce(&Path) -> Result<T, CacheError>) -> Result<T, StartError> {
        let failed = |reason| StartError::Failed { program: self.title(), reason };
        let filled = self.lock().map_err(CacheError::Files).and_then(|(place, _lock)| fill(&place));
        filled.map_err(|error| match error {
            CacheError::NotHere(missing) => missing.into(),
            CacheError::Files(error) => failed(format!("{}: {error}", cache_directory().display())),
            CacheError::Compiler { class, told } => failed(format!("{class} does not compile: {told}")),
        })
    }

    /// Their place in the cache, and what keeps others away from it.
    fn lock(&self) -> io::Result<(PathBuf, File)> {
        let place = cache_directory().join(format!("{}-{}", self.name, self.version));
        fs::create_dir_all(&place)?;
        let lock = File::create(place.join("lock"))?;
        lock.lock()?;
        Ok((place, lock))
    }

    fn jars(&self, place: &Path) -> Result<PathBuf, CacheError> {
        let jars = place.join(format!("jars-{:016x}", fingerprint(self.pom)));
        if !jars.is_dir() {
            self.download(place, &jars)?;
        }
        Ok(jars)
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
}

fn compile(
    java: &Java,
    source: &Source,
    place: &Path,
    jars: &Path,
    program: &Path,
) -> Result<(), CacheError> {
    let incoming = empty(place.join("incoming-program"))?;
    let file = place.join(format!("{}.java", source.class));
    fs::write(&file, source.text)?;
    let mut command = Command::new(&java.compile);
    command
        .args(["--release", "17", "-proc:none", "-nowarn"])
        .arg("-cp")
        .arg(format!("{}/*", jars.display()))
        .arg("-d")
        .arg(&incoming)
        .arg(&file);
    run(command)?.map_err(|told| CacheError::Compiler { class: source.class, told })?;
    Ok(fs::rename(incoming, program)?)
}

/// Why the cache could not be filled.
enum CacheError {
    NotHere(NotHere),
    Files(io::Error),
    Compiler { class: &'static str, told: String },
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
