//! One process per broker that holds it in the background and answers at a socket.
//!
//! A broker ends with the process that started it, so somebody has to stay. The socket is a file beside the cache; one
//! that nobody answers at was left by a holder that was killed, and counts as none.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use spanprof_brokers::cache_directory;

use crate::Failure;
use crate::kind::{Kind, Which};

/// The longest request or answer.
const LIMIT: u64 = 16 * 1024;

/// What the holder's first line says when the broker is ready.
const READY: &str = "ready";

fn socket(which: Which) -> PathBuf {
    cache_directory().join("running").join(which.name())
}

/// Starts a broker that stays when this process ends.
pub(crate) fn start(which: Which) -> Result<String, Failure> {
    if let Ok(description) = ask(which, "status") {
        return Ok(description);
    }
    let begin = Instant::now();
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let mut command = Command::new(program);
    command.args(["run", which.name()]).arg("--background").stdin(Stdio::null()).stdout(Stdio::piped());
    // SAFETY: one system call, which is allowed between fork and exec.
    unsafe {
        // Neither the terminal's interrupt nor its end are for it.
        command.pre_exec(|| match libc::setsid() {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
    let mut holder = command.spawn().map_err(|error| failed(&error))?;
    let mut first = String::new();
    let output = holder.stdout.take().expect("the output is a pipe");
    BufReader::new(output.take(LIMIT)).read_line(&mut first).map_err(|error| failed(&error))?;
    if first.trim() == READY {
        let description = ask(which, "status")?;
        return Ok(format!("{description}  {:<22}{:.1} s\n", "ready after", begin.elapsed().as_secs_f64()));
    }
    // It has said why.
    let code = holder.wait().ok().and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok());
    Err(Failure::new(code.unwrap_or(Failure::FAILED), format!("{} did not start", which.name())))
}

/// Starts a broker and answers until it is told to stop; in the foreground also until the standard input ends.
pub(crate) fn hold(which: Which, background: bool) -> Result<String, Failure> {
    let listener = listen(which)?;
    let broker = Kind::start(which)?;
    if background {
        println!("{READY}");
        leave_terminal().map_err(|error| failed(&error))?;
    } else {
        print!("{}", broker.describe());
        std::thread::spawn(move || {
            // Asked like anybody, as the broker belongs to the thread that answers.
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            let _ = ask(which, "stop");
        });
    }
    for stream in listener.incoming() {
        let mut stream = stream.map_err(|error| failed(&error))?;
        let request = read(&stream);
        let words = request.split_whitespace().collect::<Vec<_>>();
        let answer = match words[..] {
            ["stop"] => {
                drop(broker);
                let _ = fs::remove_file(socket(which));
                let _ = stream.write_all(format!("ok {} stopped\n", which.name()).as_bytes());
                break;
            }
            ["status"] => format!("ok {}", broker.describe()),
            _ => match broker.make(&words) {
                Ok(()) => "ok made\n".to_owned(),
                Err(why) => format!("error {why}"),
            },
        };
        // Who asked may be gone.
        let _ = stream.write_all(answer.as_bytes());
    }
    Ok(String::new())
}

/// Lets go of the output of whoever ran `start`, who may wait for its end.
fn leave_terminal() -> io::Result<()> {
    io::stdout().flush()?;
    let nothing = fs::File::options().write(true).open("/dev/null")?;
    for descriptor in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
        // SAFETY: both are open, and nobody takes what becomes of the second for another.
        if unsafe { libc::dup2(nothing.as_raw_fd(), descriptor) } == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Takes the broker's name; nobody else can hold it meanwhile.
fn listen(which: Which) -> Result<UnixListener, Failure> {
    let path = socket(which);
    fs::create_dir_all(path.parent().expect("it is in a directory")).map_err(|error| failed(&error))?;
    if UnixStream::connect(&path).is_ok() {
        return Err(Failure::new(Failure::FAILED, format!("{} runs already", which.name())));
    }
    let _ = fs::remove_file(&path);
    UnixListener::bind(&path)
        .map_err(|error| Failure::new(Failure::FAILED, format!("{}: {error}", path.display())))
}

/// Says one line to a broker's holder, and gives its answer.
pub(crate) fn ask(which: Which, request: &str) -> Result<String, Failure> {
    let gone = |_| Failure::new(Failure::NOT_RUNNING, format!("{} does not run", which.name()));
    let mut stream = UnixStream::connect(socket(which)).map_err(gone)?;
    stream.write_all(format!("{request}\n").as_bytes()).map_err(gone)?;
    let mut answer = String::new();
    stream.take(LIMIT).read_to_string(&mut answer).map_err(gone)?;
    match answer.split_once(' ') {
        Some(("ok", text)) => Ok(text.to_owned()),
        Some(("error", why)) => Err(Failure::new(Failure::FAILED, why)),
        _ => Err(Failure::new(Failure::FAILED, format!("{} ended", which.name()))),
    }
}

pub(crate) fn status() -> String {
    let running = Which::ALL.into_iter().filter_map(|which| ask(which, "status").ok()).collect::<String>();
    if running.is_empty() { "no broker runs\n".to_owned() } else { running }
}

pub(crate) fn stop(which: Which) -> Result<String, Failure> {
    ask(which, "stop")
}

fn read(stream: &UnixStream) -> String {
    let mut line = String::new();
    let _ = BufReader::new(stream.take(LIMIT)).read_line(&mut line);
    line
}

fn failed(error: &io::Error) -> Failure {
    Failure::new(Failure::FAILED, error.to_string())
}
