//! Why the BPF rung cannot be used, in a sentence that says what to do.

use std::io;

use thiserror::Error;

/// What went wrong while loading, attaching or feeding the programs.
#[derive(Debug, Error)]
pub enum BpfError {
    /// The kernel has no type information, so that the programs cannot be fitted to it.
    #[error(
        "the kernel offers no BTF at /sys/kernel/btf/vmlinux ({cause}); it must be built with CONFIG_DEBUG_INFO_BTF=y"
    )]
    NoTypeInformation {
        /// What reading it said.
        cause: String,
    },
    /// A capability is missing.
    #[error("{what} was refused: spanprof needs CAP_BPF and CAP_PERFMON (or root)")]
    NotPermitted {
        /// What was tried.
        what: String,
    },
    /// The kernel refused a program.
    #[error("the kernel refused the program for {what}: {cause}")]
    Program {
        /// The tracepoint or event.
        what: String,
        /// The kernel's reason, at length.
        cause: String,
    },
    /// A map could not be made, mapped or changed.
    #[error("the BPF map {what} could not be used: {cause}")]
    Map {
        /// Its name.
        what: String,
        /// The system's reason.
        cause: io::Error,
    },
    /// The object does not belong to this program.
    #[error("the built-in BPF object lacks {what}; rebuild it with profiler/agent/bpf/build.sh")]
    Object {
        /// What was looked for.
        what: &'static str,
    },
    /// No room for another process's mappings.
    #[error("no room for the mappings of process {process}; fewer targets at once will fit")]
    NoRoom {
        /// The process.
        process: u32,
    },
}

impl BpfError {
    pub(super) fn from_load(cause: aya::EbpfError) -> BpfError {
        Self::from_chain("loading the BPF object", &cause)
    }

    pub(super) fn map(name: &'static str) -> impl Fn(aya::maps::MapError) -> BpfError {
        move |cause| BpfError::from_chain(&format!("using the BPF map {name}"), &cause)
    }

    pub(super) fn program(name: &'static str) -> impl Fn(aya::programs::ProgramError) -> BpfError {
        move |cause| BpfError::from_chain(name, &cause)
    }

    /// Looks through the causes for the system's "not permitted".
    fn from_chain(what: &str, error: &(dyn std::error::Error + 'static)) -> BpfError {
        let mut text = error.to_string();
        let mut cause = Some(error);
        while let Some(current) = cause {
            if let Some(system) = current.downcast_ref::<io::Error>()
                && matches!(system.raw_os_error(), Some(libc::EPERM | libc::EACCES))
            {
                return BpfError::NotPermitted { what: what.to_owned() };
            }
            cause = current.source();
            if let Some(next) = cause {
                text = format!("{text}: {next}");
            }
        }
        BpfError::Program { what: what.to_owned(), cause: text }
    }
}
