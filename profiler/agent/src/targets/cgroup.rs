//! Control groups: which one a process is in, and which container that means.
//!
//! Both hierarchies are read: version 2's single line `0::/path`, and version 1's line per controller.

use std::path::{Component, Path};

/// A control group that a person asked for, as `/proc/PID/cgroup` writes it: absolute, without a mount
/// point and without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupPath(String);

impl CgroupPath {
    /// Takes what a person writes: the directory under `/sys/fs/cgroup`, the same relative to it, or the
    /// path as in `/proc/PID/cgroup`. `None` where nothing is left or `..` occurs.
    pub fn new(written: &Path) -> Option<CgroupPath> {
        let inner = written.strip_prefix("/sys/fs/cgroup").unwrap_or(written);
        let mut path = String::new();
        for component in inner.components() {
            match component {
                Component::Normal(name) => {
                    path.push('/');
                    path.push_str(name.to_str()?);
                }
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => return None,
            }
        }
        (!path.is_empty()).then_some(CgroupPath(path))
    }

    /// The path, beginning with a slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a process whose `/proc/PID/cgroup` reads like this is in the group or below it.
    pub fn holds(&self, cgroup_file: &str) -> bool {
        memberships(cgroup_file).any(|(controllers, path)| {
            self.is_ancestor_of(path)
                // Version 1 mounts a controller under its own name: `/sys/fs/cgroup/cpu/orders`.
                || self.below_controller(controllers).is_some_and(|inner| is_within(path, inner))
        })
    }

    fn is_ancestor_of(&self, path: &str) -> bool {
        is_within(path, &self.0)
    }

    fn below_controller(&self, controllers: &str) -> Option<&str> {
        let (mount, inner) = self.0[1..].split_once('/')?;
        let named = controllers.strip_prefix("name=").unwrap_or(controllers);
        let here = !controllers.is_empty() && (mount == named || named.split(',').any(|one| one == mount));
        here.then(|| &self.0[1 + mount.len()..]).filter(|_| !inner.is_empty())
    }
}

fn is_within(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn memberships(cgroup_file: &str) -> impl Iterator<Item = (&str, &str)> {
    cgroup_file.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_hierarchy, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        Some((controllers, path))
    })
}

/// The id of the container that a `/proc/PID/cgroup` tells of: the last 64 hex digits in a row, as
/// Docker, containerd, CRI-O and Podman write them.
pub fn container_id(cgroup_file: &str) -> Option<&str> {
    memberships(cgroup_file).filter_map(|(_, path)| last_container_id(path)).last()
}

fn last_container_id(path: &str) -> Option<&str> {
    path.rsplit(['/', '-', '.', ':']).find(|part| is_container_id(part))
}

fn is_container_id(part: &str) -> bool {
    part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn group(written: &str) -> CgroupPath {
        CgroupPath::new(Path::new(written)).unwrap()
    }

    #[test]
    fn takes_a_group_as_people_write_it() {
        for written in [
            "/sys/fs/cgroup/system.slice/orders.service",
            "system.slice/orders.service",
            "/system.slice/orders.service/",
        ] {
            assert_eq!(group(written).as_str(), "/system.slice/orders.service", "{written}");
        }
        for nothing in ["", "/", "/sys/fs/cgroup", "a/../b"] {
            assert_eq!(CgroupPath::new(Path::new(nothing)), None, "{nothing}");
        }
    }

    #[test]
    fn holds_itself_and_what_is_below_but_not_a_neighbour() {
        let orders = group("system.slice/orders");
        assert!(orders.holds("0::/system.slice/orders\n"));
        assert!(orders.holds("0::/system.slice/orders/worker\n"));
        assert!(!orders.holds("0::/system.slice/orders-old\n"));
        assert!(!orders.holds("0::/system.slice\n"));
        assert!(!orders.holds("nonsense\n::\n"));
    }

    #[test]
    fn understands_version_1_with_and_without_the_controller() {
        let file = "12:cpu,cpuacct:/docker/x\n1:name=systemd:/user\n";
        assert!(group("/docker/x").holds(file));
        assert!(group("/sys/fs/cgroup/cpu/docker/x").holds(file));
        assert!(group("/sys/fs/cgroup/cpu,cpuacct/docker").holds(file));
        assert!(group("/sys/fs/cgroup/systemd/user").holds(file));
        assert!(!group("/sys/fs/cgroup/memory/docker/x").holds(file));
    }

    #[test]
    fn finds_a_container_as_each_engine_writes_it() {
        for path in [
            format!("/system.slice/docker-{ID}.scope"),
            format!("/docker/{ID}"),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/system.slice/containerd.service/kubepods:cri-containerd:{ID}"),
        ] {
            assert_eq!(container_id(&format!("0::{path}\n")), Some(ID), "{path}");
        }
        assert_eq!(container_id("0::/user.slice\n"), None);
        assert_eq!(container_id(""), None);
    }
}
