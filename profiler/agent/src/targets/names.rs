//! What a process calls its service.
//!
//! In this order: what it published as its OpenTelemetry process context, what its environment says
//! (`OTEL_SERVICE_NAME`, then `service.name` in `OTEL_RESOURCE_ATTRIBUTES`: the order of the
//! OpenTelemetry specification), and the name of its executable. Of the environment nothing else is
//! kept or shown: it holds secrets.

use super::process::Process;
use super::procfs::ProcFs;

/// Bytes read of an environment; the kernel allows a few megabytes, real ones are a few kilobytes.
const MAX_ENVIRONMENT: usize = 1 << 20;
/// A service name longer than this is no name.
const MAX_NAME: usize = 255;

/// The service name of a process. Never empty.
///
/// `published` is the `service.name` of its process context, where the caller has read one.
pub fn service_name(procfs: &ProcFs, process: &Process, published: Option<String>) -> String {
    published
        .filter(|name| is_name(name))
        .or_else(|| {
            let environment = procfs.read(process.pid(), "environ", MAX_ENVIRONMENT).ok()?;
            from_environment(&environment)
        })
        .unwrap_or_else(|| process.executable_name())
}

fn from_environment(environment: &[u8]) -> Option<String> {
    variable(environment, "OTEL_SERVICE_NAME").filter(|name| is_name(name)).or_else(|| {
        let attributes = variable(environment, "OTEL_RESOURCE_ATTRIBUTES")?;
        attributes
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| key.trim() == "service.name")
            .map(|(_, value)| value.trim().to_owned())
            .filter(|name| is_name(name))
    })
}

fn variable(environment: &[u8], name: &str) -> Option<String> {
    let value = environment
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")))?;
    String::from_utf8(value.to_vec()).ok()
}

fn is_name(name: &str) -> bool {
    !name.trim().is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_environment_is_read_in_the_specified_order() {
        let both = b"PATH=/bin\0OTEL_RESOURCE_ATTRIBUTES=a=b, service.name=second\0OTEL_SERVICE_NAME=first\0";
        assert_eq!(from_environment(both).as_deref(), Some("first"));
        let attributes = b"OTEL_RESOURCE_ATTRIBUTES=a=b, service.name=second ,c=d\0";
        assert_eq!(from_environment(attributes).as_deref(), Some("second"));
        assert_eq!(from_environment(b"MY_OTEL_SERVICE_NAME=no\0OTEL_SERVICE_NAME=\0"), None);
        assert_eq!(from_environment(b"OTEL_SERVICE_NAME=\xff\0"), None);
        assert_eq!(from_environment(b""), None);
    }

    #[test]
    fn a_process_is_named_by_context_then_environment_then_executable() {
        let procfs = ProcFs::host();
        let start = |environment: &[(&str, &str)]| {
            let mut child = Command::new("cat")
                .env_remove("OTEL_SERVICE_NAME")
                .env_remove("OTEL_RESOURCE_ATTRIBUTES")
                .envs(environment.iter().copied())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            // Its parent goes on before the kernel has put its environment in place; it answers when all is.
            child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
            child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
            child
        };
        let mut plain = start(&[]);
        let mut named = start(&[("OTEL_SERVICE_NAME", "shop-orders")]);
        let read = |child: &std::process::Child| Process::read(&procfs, child.id()).unwrap();
        assert_eq!(service_name(&procfs, &read(&plain), None), "cat");
        assert_eq!(service_name(&procfs, &read(&named), None), "shop-orders");
        assert_eq!(service_name(&procfs, &read(&named), Some("told".into())), "told");
        assert_eq!(service_name(&procfs, &read(&named), Some("  ".into())), "shop-orders");
        for child in [&mut plain, &mut named] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
