//! What this machine allows: the facts that decide which rung of the ladder of capture is used.
//!
//! Reading and judging are apart: [`Probe::read`] looks at files below a root, [`Probe::bpf`] judges what
//! was found, and both can be tested with a directory that imitates another machine. Trying the system
//! calls and looking at the error was refused as the only way: EPERM alone does not say which of five
//! causes it was, and people need the cause. (The capture still reports what the kernel answers.)

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// How to give a person's own copy of the program what it needs.
pub const GRANT: &str = "run it with sudo, or grant the program its capabilities once: \
     sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_checkpoint_restore+ep $(which spanprof)";

/// `PROC_PID_INIT_INO` and `PROC_USER_INIT_INO`: linux/proc_ns.h. The first namespaces have fixed inodes.
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// A capability of capabilities(7) that spanprof may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Capability {
    /// Read other users' processes.
    CapSysPtrace,
    /// Everything of old; includes the two below.
    CapSysAdmin,
    /// Open performance events and attach tracing programs.
    CapPerfmon,
    /// Load BPF programs.
    CapBpf,
    /// Open the files behind other processes' mappings.
    CapCheckpointRestore,
}

impl Capability {
    /// All of them.
    pub const ALL: [Capability; 5] = [
        Capability::CapBpf,
        Capability::CapPerfmon,
        Capability::CapSysPtrace,
        Capability::CapCheckpointRestore,
        Capability::CapSysAdmin,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Capability::CapSysPtrace => "CAP_SYS_PTRACE",
            Capability::CapSysAdmin => "CAP_SYS_ADMIN",
            Capability::CapPerfmon => "CAP_PERFMON",
            Capability::CapBpf => "CAP_BPF",
            Capability::CapCheckpointRestore => "CAP_CHECKPOINT_RESTORE",
        }
    }

    /// Its bit: linux/capability.h.
    const fn bit(self) -> u32 {
        match self {
            Capability::CapSysPtrace => 19,
            Capability::CapSysAdmin => 21,
            Capability::CapPerfmon => 38,
            Capability::CapBpf => 39,
            Capability::CapCheckpointRestore => 40,
        }
    }
}

/// How far the kernel is locked down: kernel_lockdown(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lockdown {
    /// Not at all.
    None,
    /// Nobody may change the kernel; reading it by BPF is allowed.
    Integrity,
    /// Nobody may read the kernel either: BPF cannot trace.
    Confidentiality,
}

/// What was found. `None` means that it could not be read or is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// The kernel's release.
    pub kernel_release: Option<String>,
    /// Whether the kernel describes its own types (`/sys/kernel/btf/vmlinux`).
    pub btf: bool,
    /// The effective capabilities of this process, as a bit set.
    pub effective_capabilities: u64,
    /// `kernel.perf_event_paranoid`.
    pub perf_event_paranoid: Option<i64>,
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: Option<i64>,
    /// `kernel.kptr_restrict`.
    pub kptr_restrict: Option<i64>,
    /// Where the trace file system is mounted and readable.
    pub tracefs: Option<PathBuf>,
    /// The version of control groups: 1 or 2.
    pub cgroup_version: Option<u8>,
    /// Whether this is the machine's first pid namespace.
    pub initial_pid_namespace: Option<bool>,
    /// Whether this is the machine's first user namespace: elsewhere capabilities do not count.
    pub initial_user_namespace: Option<bool>,
    /// How far the kernel is locked down.
    pub lockdown: Option<Lockdown>,
}

/// Whether one rung of the ladder can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rung {
    /// Its name: `bpf`.
    pub name: &'static str,
    /// Why it cannot be used, one reason per cause; empty where it can.
    pub refused: Vec<Refusal>,
}

/// One reason against a rung.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The cause.
    pub reason: String,
    /// The capability whose absence it is, where it is one.
    pub missing_capability: Option<Capability>,
}

impl Rung {
    /// Whether it can be used.
    pub fn usable(&self) -> bool {
        self.refused.is_empty()
    }

    /// Whether capabilities are all that is missing.
    pub fn only_lacks_privilege(&self) -> bool {
        !self.usable() && self.refused.iter().all(|refusal| refusal.missing_capability.is_some())
    }

    /// The reasons against it in one sentence.
    pub fn reasons(&self) -> String {
        let reasons: Vec<&str> = self.refused.iter().map(|refusal| refusal.reason.as_str()).collect();
        reasons.join("; ")
    }
}

impl Probe {
    /// Looks at the files below a root: `/`, or a directory that imitates another machine.
    pub fn read(root: &Path) -> Probe {
        let text = |path: &str| read_text(&root.join(path));
        let number = |path: &str| text(path).and_then(|text| text.trim().parse().ok());
        Probe {
            kernel_release: text("proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
            btf: fs::File::open(root.join("sys/kernel/btf/vmlinux")).is_ok(),
            effective_capabilities: text("proc/self/status")
                .and_then(|text| effective_capabilities(&text))
                .unwrap_or(0),
            perf_event_paranoid: number("proc/sys/kernel/perf_event_paranoid"),
            unprivileged_bpf_disabled: number("proc/sys/kernel/unprivileged_bpf_disabled"),
            kptr_restrict: number("proc/sys/kernel/kptr_restrict"),
            tracefs: ["sys/kernel/tracing", "sys/kernel/debug/tracing"]
                .map(|path| root.join(path))
                .into_iter()
                .find(|path| fs::File::open(path.join("events/sched/sched_switch/id")).is_ok()),
            cgroup_version: cgroup_version(&root.join("sys/fs/cgroup")),
            initial_pid_namespace: is_namespace(&root.join("proc/self/ns/pid"), INITIAL_PID_NAMESPACE),
            initial_user_namespace: is_namespace(&root.join("proc/self/ns/user"), INITIAL_USER_NAMESPACE),
            lockdown: text("sys/kernel/security/lockdown").and_then(|text| lockdown(&text)),
        }
    }

    /// Whether this process has a capability that the kernel will honour.
    pub fn has(&self, capability: Capability) -> bool {
        self.effective_capabilities & (1 << capability.bit()) != 0
            && self.initial_user_namespace != Some(false)
    }

    /// Whether samples can be taken by BPF: needs the kernel's types, CAP_BPF and CAP_PERFMON (or
    /// CAP_SYS_ADMIN, which holds both), and a kernel that may be read.
    pub fn bpf(&self) -> Rung {
        let mut refused = Vec::new();
        let mut refuse = |reason: String, missing_capability| {
            refused.push(Refusal { reason, missing_capability });
        };
        if !self.btf {
            refuse(
                "the kernel does not describe its types: /sys/kernel/btf/vmlinux is missing (a kernel \
                 built with CONFIG_DEBUG_INFO_BTF has it)"
                    .into(),
                None,
            );
        }
        if self.lockdown == Some(Lockdown::Confidentiality) {
            refuse(
                "the kernel is locked down (confidentiality) and lets nobody trace it by BPF".into(),
                None,
            );
        }
        if self.initial_user_namespace == Some(false) && self.effective_capabilities != 0 {
            refuse(
                "this is a user namespace, such as a rootless container's, whose capabilities the kernel \
                 does not honour for BPF"
                    .into(),
                Some(Capability::CapBpf),
            );
        } else if !self.has(Capability::CapSysAdmin) {
            for capability in [Capability::CapBpf, Capability::CapPerfmon] {
                if !self.has(capability) {
                    refuse(format!("{} is missing", capability.as_str()), Some(capability));
                }
            }
        }
        Rung { name: "bpf", refused }
    }

    /// All rungs that this build has, best first.
    pub fn ladder(&self) -> Vec<Rung> {
        vec![self.bpf()]
    }
}

fn read_text(path: &Path) -> Option<String> {
    let mut text = String::new();
    fs::File::open(path).ok()?.take(16 << 10).read_to_string(&mut text).ok()?;
    Some(text)
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

fn is_namespace(link: &Path, inode: u64) -> Option<bool> {
    // A link whose text is `pid:[4026531836]`; in an imitation it is a plain file with that text.
    let text = match fs::read_link(link) {
        Ok(target) => target.to_string_lossy().into_owned(),
        Err(_) => read_text(link)?,
    };
    let number = text.trim().split_once('[')?.1.strip_suffix(']')?;
    Some(number.parse() == Ok(inode))
}

fn cgroup_version(mount: &Path) -> Option<u8> {
    if mount.join("cgroup.controllers").exists() {
        return Some(2);
    }
    // Version 1 mounts one directory per controller, each a file system of its own.
    let device = fs::metadata(mount).ok()?.dev();
    let controller =
        fs::read_dir(mount).ok()?.flatten().take(64).find(|entry| {
            entry.metadata().is_ok_and(|metadata| metadata.is_dir() && metadata.dev() != device)
        });
    controller.map(|_| 1)
}

fn lockdown(text: &str) -> Option<Lockdown> {
    let (_, rest) = text.split_once('[')?;
    match rest.split_once(']')?.0 {
        "none" => Some(Lockdown::None),
        "integrity" => Some(Lockdown::Integrity),
        "confidentiality" => Some(Lockdown::Confidentiality),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Imitates a machine: each pair is a file below the root and its text.
    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Probe) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let probe = Probe::read(root.path());
        (root, probe)
    }

    const BTF: (&str, &str) = ("sys/kernel/btf/vmlinux", "");
    const ROOT: (&str, &str) = ("proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n");

    #[test]
    fn a_privileged_machine_with_types_is_usable() {
        let (_root, probe) = machine(&[
            BTF,
            ROOT,
            ("proc/sys/kernel/osrelease", "6.18.1\n"),
            ("proc/sys/kernel/perf_event_paranoid", "-1\n"),
            ("proc/self/ns/pid", "pid:[4026531836]"),
            ("proc/self/ns/user", "user:[4026531837]"),
            ("sys/fs/cgroup/cgroup.controllers", "cpu"),
            ("sys/kernel/security/lockdown", "none [integrity] confidentiality\n"),
        ]);
        assert!(probe.bpf().usable(), "{:?}", probe.bpf());
        assert_eq!(probe.kernel_release.as_deref(), Some("6.18.1"));
        assert_eq!(probe.perf_event_paranoid, Some(-1));
        assert_eq!(probe.cgroup_version, Some(2));
        assert_eq!((probe.initial_pid_namespace, probe.initial_user_namespace), (Some(true), Some(true)));
        assert_eq!(probe.lockdown, Some(Lockdown::Integrity));
    }

    #[test]
    fn without_types_privilege_does_not_help() {
        let (_root, probe) = machine(&[ROOT]);
        let rung = probe.bpf();
        assert!(!rung.usable() && !rung.only_lacks_privilege());
        assert!(rung.reasons().contains("/sys/kernel/btf/vmlinux"), "{}", rung.reasons());
    }

    #[test]
    fn each_missing_capability_is_named_and_the_old_one_holds_both() {
        let with = |bits: u64| {
            let status = format!("CapEff:\t{bits:016x}\n");
            machine(&[BTF, ("proc/self/status", &status)]).1.bpf()
        };
        let none = with(0);
        assert!(none.only_lacks_privilege());
        assert_eq!(none.reasons(), "CAP_BPF is missing; CAP_PERFMON is missing");
        assert_eq!(with(1 << 39).reasons(), "CAP_PERFMON is missing");
        assert_eq!(with(1 << 38).reasons(), "CAP_BPF is missing");
        assert!(with(1 << 38 | 1 << 39).usable());
        assert!(with(1 << 21).usable());
    }

    #[test]
    fn a_locked_kernel_and_a_user_namespace_are_told() {
        let (_root, locked) =
            machine(&[BTF, ROOT, ("sys/kernel/security/lockdown", "none integrity [confidentiality]")]);
        assert!(locked.bpf().reasons().contains("locked down"));
        assert!(!locked.bpf().only_lacks_privilege());

        let (_root, rootless) = machine(&[BTF, ROOT, ("proc/self/ns/user", "user:[4026532000]")]);
        assert!(rootless.bpf().reasons().contains("user namespace"), "{}", rootless.bpf().reasons());
        assert!(!rootless.has(Capability::CapBpf));
    }

    #[test]
    fn an_empty_machine_gives_reasons_and_no_panic() {
        let (_root, probe) = machine(&[]);
        assert_eq!(probe.kernel_release, None);
        assert!(!probe.bpf().usable());
        assert_eq!(probe.cgroup_version, None);
    }

    #[test]
    fn this_machine_is_read() {
        let probe = Probe::read(Path::new("/"));
        assert!(probe.kernel_release.is_some());
        assert!(probe.initial_pid_namespace.is_some());
    }
}
