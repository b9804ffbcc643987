//! Starting a command that waits before its first instruction until the capture is ready.
//!
//! The child is forked, waits on a pipe, and only then becomes the command. Stopping it with a signal
//! was refused (a shell above us would notice the stop), and so was `ptrace` (it changes how the target
//! behaves). `std::process::Command` cannot do this: its `spawn` returns only once the exec happened.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use super::Pid;

/// Why a command could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// No command was given, or one with a zero byte in it.
    #[error("the command to launch is empty or holds a zero byte")]
    NotACommand,
    /// The system refused to make a process.
    #[error("cannot start a process for {program:?}: {source}")]
    Fork {
        /// The command's first word.
        program: OsString,
        /// What the system said.
        source: io::Error,
    },
    /// The program is not there or not executable.
    #[error("cannot run {program:?}: {source}")]
    Exec {
        /// The command's first word.
        program: OsString,
        /// What the system said.
        source: io::Error,
    },
}

/// How a launched command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitReason {
    /// It exited with this status.
    Exited(u8),
    /// A signal ended it.
    Killed(i32),
}

impl ExitReason {
    /// The status that a shell would give: the command's own, or 128 + the signal.
    pub fn shell_status(self) -> u8 {
        match self {
            ExitReason::Exited(status) => status,
            ExitReason::Killed(signal) => 128u8.saturating_add(signal.clamp(0, 127) as u8),
        }
    }
}

/// A child that is held until [`release`](Launched::release). Dropped before that, it never runs.
#[derive(Debug)]
pub struct Launched {
    pid: Pid,
    program: OsString,
    /// Closing it without a byte tells the child to give up.
    gate: Option<File>,
    /// Carries the error number of a failed exec; closed by the kernel when it succeeds.
    failure: Option<File>,
    ended: Option<ExitReason>,
}

impl Launched {
    /// Makes the child and holds it. Standard input, output and error are inherited.
    ///
    /// # Errors
    /// When there is no command or no process can be made. A program that does not exist is told by
    /// [`release`](Launched::release).
    pub fn hold(command: &[OsString]) -> Result<Launched, LaunchError> {
        let program =
            command.first().filter(|program| !program.is_empty()).ok_or(LaunchError::NotACommand)?;
        let arguments = command.iter().map(|argument| c_string(argument)).collect::<Result<Vec<_>, _>>()?;
        let fork_error = |source| LaunchError::Fork { program: program.clone(), source };
        let (gate_read, gate_write) = pipe().map_err(fork_error)?;
        let (failure_read, failure_write) = pipe().map_err(fork_error)?;
        let mut pointers: Vec<*const libc::c_char> = arguments.iter().map(|one| one.as_ptr()).collect();
        pointers.push(std::ptr::null());
        // SAFETY: the child calls only async-signal-safe functions on memory made before the fork.
        let pid = match unsafe { libc::fork() } {
            -1 => return Err(fork_error(io::Error::last_os_error())),
            // SAFETY: this is the child of a fork; the pointers stay valid, it never returns.
            0 => unsafe {
                child(&pointers, gate_read.as_raw_fd(), gate_write.as_raw_fd(), failure_write.as_raw_fd())
            },
            pid => pid as Pid,
        };
        drop((gate_read, failure_write));
        Ok(Launched {
            pid,
            program: program.clone(),
            gate: Some(File::from(gate_write)),
            failure: Some(File::from(failure_read)),
            ended: None,
        })
    }

    /// The child's process id, the same before and after it becomes the command.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Lets the child become the command; returns once it has, or has failed to.
    ///
    /// # Errors
    /// When the program cannot be run.
    pub fn release(&mut self) -> Result<(), LaunchError> {
        let Some(mut gate) = self.gate.take() else { return Ok(()) };
        // A child that died already closes its end: the read below and the wait tell it better.
        let _ = gate.write_all(&[1]);
        let mut number = Vec::new();
        if let Some(failure) = self.failure.take() {
            let _ = failure.take(4).read_to_end(&mut number);
        }
        match <[u8; 4]>::try_from(number.as_slice()) {
            Err(_) => Ok(()),
            Ok(number) => {
                let source = io::Error::from_raw_os_error(i32::from_ne_bytes(number));
                self.wait();
                Err(LaunchError::Exec { program: self.program.clone(), source })
            }
        }
    }

    /// How the command ended, or `None` while it runs. Never blocks.
    pub fn poll(&mut self) -> Option<ExitReason> {
        self.collect(libc::WNOHANG)
    }

    /// Waits until the command ended. `None` when a signal to ourselves interrupted the wait.
    pub fn wait(&mut self) -> Option<ExitReason> {
        self.collect(0)
    }

    /// Sends a signal to the command, if it still runs.
    pub fn signal(&mut self, signal: i32) {
        if self.poll().is_none() {
            // SAFETY: the child was not collected, so the id is still its own.
            unsafe { libc::kill(self.pid as i32, signal) };
        }
    }

    fn collect(&mut self, options: i32) -> Option<ExitReason> {
        if self.ended.is_none() {
            let mut status = 0;
            // SAFETY: waits for our own child; the status is written by the call.
            let collected = unsafe { libc::waitpid(self.pid as i32, &mut status, options) };
            if collected == self.pid as i32 {
                self.ended = Some(match libc::WIFSIGNALED(status) {
                    true => ExitReason::Killed(libc::WTERMSIG(status)),
                    false => ExitReason::Exited(libc::WEXITSTATUS(status) as u8),
                });
            }
        }
        self.ended
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        // A child that was never released sees its gate close and leaves; a released one lives on.
        if self.gate.take().is_some() {
            self.wait();
        }
    }
}

fn c_string(argument: &OsStr) -> Result<CString, LaunchError> {
    CString::new(argument.as_bytes()).map_err(|_| LaunchError::NotACommand)
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends: [RawFd; 2] = [-1; 2];
    // SAFETY: the array has room for the two descriptors that the call writes.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both descriptors were just made and belong to nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// The child's whole life before it becomes the command.
///
/// # Safety
/// Only in the child of a fork, with a null-terminated array of C strings.
unsafe fn child(arguments: &[*const libc::c_char], gate: RawFd, other_end: RawFd, failure: RawFd) -> ! {
    // SAFETY: all of these are async-signal-safe, and the buffers outlive the calls.
    unsafe {
        // Our own handlers vanish at exec, what we ignore or block would stay: the command starts clean.
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        // Our copy of the writing end would keep the gate open after the parent is gone.
        libc::close(other_end);
        let mut byte = 0u8;
        let got = loop {
            let got = libc::read(gate, (&raw mut byte).cast(), 1);
            if got >= 0 || *libc::__errno_location() != libc::EINTR {
                break got;
            }
        };
        if got != 1 {
            libc::_exit(125);
        }
        libc::execvp(arguments[0], arguments.as_ptr());
        let number = (*libc::__errno_location()).to_ne_bytes();
        libc::write(failure, number.as_ptr().cast(), number.len());
        libc::_exit(127)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::{ProcFs, Process};

    fn command(words: &[&str]) -> Vec<OsString> {
        words.iter().map(Into::into).collect()
    }

    #[test]
    fn the_command_does_not_run_before_it_is_released() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("ran");
        let script = format!("echo ran > {}; exit 7", mark.display());
        let mut launched = Launched::hold(&command(&["sh", "-c", &script])).unwrap();
        let held = Process::read(&ProcFs::host(), launched.pid()).unwrap();
        assert_eq!(held.executable, Some(std::env::current_exe().unwrap()), "not yet the command");
        assert!(!mark.exists());

        launched.release().unwrap();
        assert_eq!(launched.wait(), Some(ExitReason::Exited(7)));
        assert!(mark.exists());
        assert_eq!(launched.poll().unwrap().shell_status(), 7);
    }

    #[test]
    fn once_released_it_is_the_command() {
        let mut launched = Launched::hold(&command(&["sleep", "600"])).unwrap();
        launched.release().unwrap();
        assert_eq!(Process::read(&ProcFs::host(), launched.pid()).unwrap().comm, "sleep");
        assert_eq!(launched.poll(), None);
        launched.signal(libc::SIGTERM);
        let ended = launched.wait();
        assert_eq!(ended, Some(ExitReason::Killed(libc::SIGTERM)));
        assert_eq!(ended.unwrap().shell_status(), 143);
    }

    #[test]
    fn a_program_that_is_not_there_is_told_with_its_name() {
        let mut launched = Launched::hold(&command(&["no-such-program-here"])).unwrap();
        let error = launched.release().unwrap_err();
        assert!(error.to_string().contains("no-such-program-here"), "{error}");
        assert!(
            matches!(error, LaunchError::Exec { ref source, .. } if source.kind() == io::ErrorKind::NotFound)
        );
        assert_eq!(launched.poll(), Some(ExitReason::Exited(127)), "collected, no zombie");
    }

    #[test]
    fn dropped_before_release_it_never_runs() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("ran");
        let launched = Launched::hold(&command(&["touch", mark.to_str().unwrap()])).unwrap();
        let pid = launched.pid();
        drop(launched);
        assert!(Process::read(&ProcFs::host(), pid).is_err());
        assert!(!mark.exists());
    }

    #[test]
    fn nothing_is_no_command() {
        assert!(matches!(Launched::hold(&[]), Err(LaunchError::NotACommand)));
        assert!(matches!(Launched::hold(&command(&[""])), Err(LaunchError::NotACommand)));
        assert!(matches!(Launched::hold(&command(&["a\0b"])), Err(LaunchError::NotACommand)));
    }
}
