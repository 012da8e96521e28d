//! The control groups of a box: the only thing of it that the kernel does not remove by itself.
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::clock::Stopwatch;

const MOUNT: &str = "/sys/fs/cgroup";
const PREFIX: &str = "tidewright-";

/// Name of the box's tree in every hierarchy, as the kubelet's `cgroupRoot` wants it.
pub fn root_name(box_name: &str) -> String {
    format!("{PREFIX}{box_name}")
}

/// Whether the machine has the unified hierarchy (v2) with its controllers.
pub fn is_unified() -> bool {
    Path::new(MOUNT).join("cgroup.controllers").exists()
}

/// Hierarchies that containers are put in: one with v2, one per controller with v1.
fn hierarchies() -> Result<Vec<PathBuf>> {
    if is_unified() {
        return Ok(vec![PathBuf::from(MOUNT)]);
    }
    let entries = fs::read_dir(MOUNT).with_context(|| format!("{MOUNT} is needed: control groups are not mounted"))?;
    Ok(entries
        .filter_map(Result::ok)
        // Links are second names such as `cpu` for `cpu,cpuacct`.
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .filter(|path| path.join("cgroup.procs").exists())
        .collect())
}

/// Creates the tree of a box.
pub fn create(box_name: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let root = hierarchy.join(root_name(box_name));
        if is_unified() {
            delegate_controllers(&hierarchy)?;
        }
        match fs::create_dir(&root) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("creating the control group {}", root.display()));
            }
            _ => {}
        }
        if is_unified() {
            delegate_controllers(&root)?;
        }
        // A new v1 cpuset is empty and refuses processes until it has processors and memory nodes.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if !is_unified()
                && let Ok(value) = fs::read_to_string(hierarchy.join(file))
            {
                fs::write(root.join(file), value.trim())
                    .with_context(|| format!("writing {file} of {}", root.display()))?;
            }
        }
    }
    Ok(())
}

fn delegate_controllers(group: &Path) -> Result<()> {
    let available = fs::read_to_string(group.join("cgroup.controllers")).context("reading cgroup.controllers")?;
    let enabled = fs::read_to_string(group.join("cgroup.subtree_control")).context("reading cgroup.subtree_control")?;
    let enabled: Vec<&str> = enabled.split_whitespace().collect();
    for controller in ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"] {
        if available.split_whitespace().any(|name| name == controller) && !enabled.contains(&controller) {
            fs::write(group.join("cgroup.subtree_control"), format!("+{controller}")).with_context(|| {
                format!(
                    "the control group {} cannot hand out {controller}: it has processes of its own (move them into a child group first)",
                    group.display()
                )
            })?;
        }
    }
    Ok(())
}

/// Paths of the tree that exist now.
pub fn existing(box_name: &str) -> Vec<PathBuf> {
    hierarchies()
        .unwrap_or_default()
        .into_iter()
        .map(|hierarchy| hierarchy.join(root_name(box_name)))
        .filter(|path| path.exists())
        .collect()
}

/// Names of all boxes that have a tree.
pub fn boxes() -> BTreeSet<String> {
    let entries = hierarchies()
        .unwrap_or_default()
        .into_iter()
        .flat_map(|hierarchy| fs::read_dir(hierarchy).into_iter().flatten());
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter_map(|name| name.strip_prefix(PREFIX).map(str::to_owned))
        .collect()
}

/// Removes the tree, depth first. Its processes must be dead; the kernel may take a moment to notice, hence the deadline.
pub fn remove(box_name: &str, deadline: Duration) -> Result<()> {
    let watch = Stopwatch::start();
    loop {
        for root in existing(box_name) {
            remove_tree(&root);
        }
        let left = existing(box_name);
        if left.is_empty() {
            return Ok(());
        }
        if watch.elapsed() > deadline {
            bail!("these control groups could not be removed: {left:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn remove_tree(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}
