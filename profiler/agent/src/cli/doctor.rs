//! `spanprof doctor`: what this machine, and one process on it, allows.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::exit::Exit;
use super::table::{Table, printable};
use super::units::counted;
use super::{Outcome, stdout};
use crate::diagnosis::Diagnosis;
use crate::probe::{Capability, GRANT, Lockdown, Probe, Rung};
use crate::targets::ProcFs;

/// Show what this machine allows and why, and what can be seen of a process
///
/// Names the source of samples that would be used and what is missing for it. Ends with 0 where a capture
/// is possible, with 4 where only privilege is missing, else with 1.
#[derive(Debug, Args)]
pub(super) struct DoctorArguments {
    /// Also look at this process: can it be read, does it publish spans, can its code be unwound and named
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Read what the machine allows from below this directory
    #[arg(long, hide = true, value_name = "DIR", default_value = "/")]
    system_root: PathBuf,
}

#[derive(Serialize)]
struct Report {
    version: &'static str,
    machine: Probe,
    capabilities: Vec<&'static str>,
    ladder: Vec<Rung>,
    chosen: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<Diagnosis>,
}

pub(super) fn run(arguments: &DoctorArguments) -> Outcome {
    let process = match arguments.pid {
        Some(pid) => Some(Diagnosis::of(&ProcFs::host(), pid)?),
        None => None,
    };
    let machine = Probe::read(&arguments.system_root);
    let ladder = machine.ladder();
    let chosen = ladder.iter().find(|rung| rung.usable());
    let exit = match chosen {
        Some(_) => Exit::Done,
        None if ladder.iter().any(Rung::only_lacks_privilege) => Exit::NotAllowed,
        None => Exit::Failed,
    };
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        capabilities: Capability::ALL
            .into_iter()
            .filter(|capability| machine.has(*capability))
            .map(Capability::as_str)
            .collect(),
        chosen: chosen.map(|rung| rung.name),
        machine,
        ladder,
        process,
    };
    match arguments.json {
        true => stdout::write_json(&report)?,
        false => stdout::write(&text(&report))?,
    }
    Ok(exit)
}

fn text(report: &Report) -> String {
    let mut text = machine_table(report);
    text.push('\n');
    for rung in &report.ladder {
        match rung.usable() {
            true => text.push_str(&format!("{}: usable\n", rung.name)),
            false => text.push_str(&format!("{}: refused, because {}\n", rung.name, rung.reasons())),
        }
    }
    match report.chosen {
        Some(name) => text.push_str(&format!("samples will come from {name}\n")),
        None if report.ladder.iter().any(Rung::only_lacks_privilege) => {
            text.push_str(&format!("no capture is possible now: {GRANT}\n"));
        }
        None => text.push_str("no capture is possible on this machine\n"),
    }
    if let Some(process) = &report.process {
        text.push('\n');
        text.push_str(&process_text(process));
    }
    text
}

fn machine_table(report: &Report) -> String {
    let machine = &report.machine;
    let number = |value: Option<i64>| value.map_or_else(|| "unknown".into(), |value| value.to_string());
    let namespace = |initial: Option<bool>| match initial {
        Some(true) => "the machine's first",
        Some(false) => "of a container",
        None => "unknown",
    };
    let rows = [
        ("kernel", machine.kernel_release.clone().unwrap_or_else(|| "unknown".into()), ""),
        ("types (BTF)", yes_no(machine.btf), "/sys/kernel/btf/vmlinux; needed for BPF"),
        (
            "capabilities",
            match report.capabilities.is_empty() {
                true => "none".into(),
                false => report.capabilities.join(" "),
            },
            "BPF and PERFMON to capture, SYS_PTRACE to read other users' processes",
        ),
        ("perf_event_paranoid", number(machine.perf_event_paranoid), "does not limit CAP_PERFMON"),
        ("unprivileged_bpf_disabled", number(machine.unprivileged_bpf_disabled), "does not limit CAP_BPF"),
        ("kptr_restrict", number(machine.kptr_restrict), "2 hides the names of kernel functions"),
        (
            "tracefs",
            machine.tracefs.as_ref().map_or_else(|| "not readable".into(), |path| path.display().to_string()),
            "not needed for BPF",
        ),
        (
            "control groups",
            machine.cgroup_version.map_or_else(|| "none".into(), |version| format!("version {version}")),
            "for --cgroup",
        ),
        (
            "pid namespace",
            namespace(machine.initial_pid_namespace).into(),
            "in a container only its own processes are seen",
        ),
        (
            "user namespace",
            namespace(machine.initial_user_namespace).into(),
            "capabilities count in the first only",
        ),
        (
            "lockdown",
            match machine.lockdown {
                None => "not supported",
                Some(Lockdown::None) => "none",
                Some(Lockdown::Integrity) => "integrity",
                Some(Lockdown::Confidentiality) => "confidentiality",
            }
            .into(),
            "confidentiality forbids tracing by BPF",
        ),
    ];
    let mut table = Table::new(&["MACHINE", "FOUND", "MEANING"]);
    for (name, found, meaning) in rows {
        table.row([name.into(), found, meaning.into()]);
    }
    table.render()
}

fn process_text(process: &Diagnosis) -> String {
    let mut text = format!(
        "process {}: {} ({}), {}\n",
        process.pid,
        printable(&process.service),
        printable(&process.executable),
        counted(process.threads as u64, "thread", "threads")
    );
    if let Some(container) = &process.container {
        text.push_str(&format!("container: {container}\n"));
    }
    text.push_str(&format!("spans: {}\n", printable(&process.spans)));
    if let Some(refusal) = &process.refusal {
        text.push_str(&format!("code: {}\n", printable(refusal)));
        return text;
    }
    let mut table = Table::new(&["CODE", "UNWINDING", "NAMES"]);
    for object in &process.objects {
        table.row([object.path.clone(), object.unwinding.clone(), object.names.clone()]);
    }
    text.push_str(&table.render());
    if process.just_in_time_mappings > 0 {
        text.push_str(&format!(
            "{} mappings hold code that was made at run time: its stacks need frame pointers\n",
            process.just_in_time_mappings
        ));
    }
    text
}

fn yes_no(yes: bool) -> String {
    if yes { "yes".into() } else { "no".into() }
}
