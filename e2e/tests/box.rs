//! The box itself: what it leaves behind (nothing), how fast it is, what it survives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tidewright_e2e::binaries::Binaries;
use tidewright_e2e::cluster::Cluster;
use tidewright_e2e::console::progress;
use tidewright_e2e::control_plane::ControlPlane;
use tidewright_e2e::options::ClusterOptions;
use tidewright_e2e::wait::{Seen, await_condition};
use tidewright_e2e::{cgroup, images, packages, paths, registry};

/// Bar on an idle machine with two cores. The machine of a test has other work, so that it gets three times that.
const CONTROL_PLANE_BAR: Duration = Duration::from_secs(6);
const BUSY_MACHINE: u32 = 3;

/// Everything that shows that a box was here, by its name: processes, interfaces, control groups, mounts, files.
fn traces(name: &str, slot: u8) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let dir = paths::box_dir(name).unwrap();
    let dir_text = dir.display().to_string();
    for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let keeper = format!("keeper {name} ");
        if command.contains(&dir_text) || command.contains(&keeper) {
            found.insert(format!("process {}: {command}", entry.file_name().display()));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&dir_text))
            .map(|line| format!("mount {line}")),
    );
    let interface = format!("tidewright{slot}");
    for path in [
        Path::new("/sys/class/net").join(interface),
        dir,
        registry::socket_path(name),
        registry::socket_path(name).with_extension("json"),
    ] {
        if path.exists() {
            found.insert(path.display().to_string());
        }
    }
    found.extend(cgroup::existing(name).iter().map(|path| path.display().to_string()));
    found
}

/// Words in the names of what the programs of a box leave behind, wherever they do.
const PROGRAMS: [&str; 8] = [
    "kube",
    "containerd",
    "cni",
    "etcd",
    "coredns",
    "metrics-server",
    "runc",
    "netns",
];

/// One test at a time compares the machine before and after. Others may start boxes meanwhile, and other programs may do what they do.
static MACHINE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What a box could change on the machine outside its own names: routes, settings of the kernel, mounts and state folders of its programs.
fn machine() -> BTreeSet<String> {
    let ours = |text: &str| text.contains("tidewright");
    let of_programs = |text: &str| !ours(text) && PROGRAMS.iter().any(|program| text.contains(program));
    let mut found = BTreeSet::new();
    let routes = Command::new("ip").args(["-4", "route", "show"]).output().unwrap();
    let routes = String::from_utf8(routes.stdout).unwrap();
    found.extend(
        routes
            .lines()
            .filter(|line| !ours(line))
            .map(|line| format!("route {line}")),
    );
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().filter(|line| of_programs(line));
    found.extend(mounts.map(|line| format!("mount {line}")));
    for setting in [
        "vm/overcommit_memory",
        "vm/panic_on_oom",
        "kernel/panic",
        "kernel/panic_on_oops",
        "kernel/keys/root_maxkeys",
        "kernel/hostname",
    ] {
        let value = fs::read_to_string(Path::new("/proc/sys").join(setting)).unwrap_or_default();
        found.insert(format!("setting {setting}={}", value.trim()));
    }
    for folder in [
        "/run",
        "/var/lib",
        "/var/log",
        "/var/log/pods",
        "/opt",
        "/etc",
        "/etc/cni",
        "/usr/libexec",
        "/var/lib/kubelet",
        "/var/lib/containerd",
    ] {
        let entries = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .map(|entry| entry.path().display().to_string());
        // Of a folder of theirs everything, of the machine's own what is named after them.
        let is_theirs = of_programs(folder) || folder == "/var/log/pods";
        found.extend(
            entries
                .filter(|path| !ours(path) && (is_theirs || of_programs(path)))
                .map(|path| format!("file {path}")),
        );
    }
    found
}

/// Installs and builds what a box needs: on a fresh machine that changes the machine, and is not the box's doing.
async fn prepare(images: Vec<images::Recipe>) {
    tokio::task::spawn_blocking(move || {
        packages::ensure(&[packages::CONTROL_PLANE, packages::NODE, packages::IMAGES]).unwrap();
        Binaries::ensure().unwrap();
        images::build(&images).unwrap();
    })
    .await
    .unwrap();
}

async fn await_no_traces(name: &str, slot: u8, deadline: Duration) -> Result<()> {
    await_condition("nothing to be left of the box", deadline, || async {
        let left = traces(name, slot);
        Ok(if left.is_empty() {
            Seen::Done(())
        } else {
            Seen::not_yet(format!("{left:#?}"))
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn down_leaves_nothing_behind_and_the_control_plane_is_fast() {
    let _alone = MACHINE.lock().await;
    prepare(Vec::new()).await;
    let before = machine();
    let control_plane = ControlPlane::start(ClusterOptions::for_tests("box-down"))
        .await
        .unwrap();
    let (name, slot) = (control_plane.name().to_owned(), control_plane.sandbox().record().slot);
    progress(format_args!(
        "control plane ready after {:.1} s",
        control_plane.ready_after.as_secs_f64()
    ));
    assert!(traces(&name, slot).len() > 5, "the test looks for the wrong traces");
    assert!(
        control_plane.ready_after < CONTROL_PLANE_BAR * BUSY_MACHINE,
        "{:?}",
        control_plane.ready_after
    );
    tokio::task::spawn_blocking(move || control_plane.down())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        traces(&name, slot),
        BTreeSet::new(),
        "left behind when down had returned"
    );
    assert_eq!(machine(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_boxes_side_by_side_are_strangers() {
    let (one, other) = tokio::join!(
        ControlPlane::start(ClusterOptions::for_tests("box-one")),
        ControlPlane::start(ClusterOptions::for_tests("box-other"))
    );
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_ne!(one.host_address(), other.host_address());
    one.apply(&[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "only-here"}})])
        .await
        .unwrap();
    one.kubectl(["get", "namespace", "only-here"]).await.unwrap();
    other.kubectl(["get", "namespace", "only-here"]).await.unwrap_err();
    // One ends, the other does not notice.
    tokio::task::spawn_blocking(move || one.down()).await.unwrap().unwrap();
    other.kubectl(["get", "namespaces"]).await.unwrap();
}

/// The command line's `up` in the foreground, as a user has it in a terminal.
fn up_in_foreground(name: &str) -> (std::process::Child, String) {
    up(&["--tier", "control-plane", "--name", name])
}

fn up(arguments: &[&str]) -> (std::process::Child, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewright-box"));
    command
        .arg("up")
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    (child, line)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_parent_leaves_nothing_behind_and_the_next_up_works() {
    let name = format!("box-killed-{}", std::process::id());
    for signal in [Signal::SIGKILL, Signal::SIGINT] {
        let (mut child, line) = up_in_foreground(&name);
        assert!(line.starts_with("export KUBECONFIG="), "{line}");
        let slot = registry::find(&name).unwrap().slot;
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        child.wait().unwrap();
        await_no_traces(&name, slot, Duration::from_secs(20)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_of_a_killed_keeper_are_swept_by_the_next_up() {
    let name = format!("box-swept-{}", std::process::id());
    let (mut child, _) = up_in_foreground(&name);
    let record = registry::find(&name).unwrap();
    // Both at once: nobody is left to clear up.
    for pid in [record.keeper.pid, child.id().cast_signed()] {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    child.wait().unwrap();
    await_condition(
        "the programs to die with the keeper",
        Duration::from_secs(20),
        || async {
            let left = traces(&name, record.slot);
            let processes: Vec<_> = left.iter().filter(|trace| trace.starts_with("process")).collect();
            Ok(if processes.is_empty() {
                Seen::Done(())
            } else {
                Seen::not_yet(format!("{processes:#?}"))
            })
        },
    )
    .await
    .unwrap();
    assert!(
        !cgroup::existing(&name).is_empty(),
        "without leftovers there is nothing to test"
    );
    let (mut child, line) = up_in_foreground(&name);
    assert!(line.starts_with("export KUBECONFIG="), "{line}");
    let slot = registry::find(&name).unwrap().slot;
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(traces(&name, slot), BTreeSet::new(), "left behind when up had returned");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_api_server_comes_back_with_its_objects() {
    let control_plane = ControlPlane::start(ClusterOptions::for_tests("box-faults"))
        .await
        .unwrap();
    control_plane.kubectl(["create", "configmap", "kept"]).await.unwrap();
    for program in ["kube-apiserver", "etcd"] {
        control_plane.kill_program(program).unwrap();
        if program == "kube-apiserver" {
            control_plane
                .kubectl(["get", "configmap", "kept", "--request-timeout=2s"])
                .await
                .unwrap_err();
        }
        control_plane.start_program(program).unwrap();
        await_condition("the object", Duration::from_mins(1), || async {
            control_plane
                .kubectl(["get", "configmap", "kept", "--request-timeout=2s"])
                .await
                .map(|_| Seen::Done(()))
        })
        .await
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fake_nodes_take_pods() {
    let options = ClusterOptions {
        fake_nodes: 2,
        ..ClusterOptions::for_tests("box-fake")
    };
    let control_plane = ControlPlane::start(options).await.unwrap();
    control_plane
        .kubectl([
            "create",
            "deployment",
            "many",
            "--image=nowhere.invalid/none",
            "--replicas=20",
        ])
        .await
        .unwrap();
    control_plane
        .kubectl(["rollout", "status", "deployment/many", "--timeout=60s"])
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_cluster_leaves_nothing_behind_even_with_pods() {
    let images = vec![images::pause().unwrap(), images::redis()];
    let _alone = MACHINE.lock().await;
    prepare(images.clone()).await;
    let before = machine();
    let options = ClusterOptions {
        images,
        ..ClusterOptions::for_tests("box-pods")
    };
    let cluster = Cluster::start(options).await.unwrap();
    let (name, slot) = (cluster.name().to_owned(), cluster.sandbox().record().slot);
    let spec = json!({"containers": [{"name": "main", "image": images::REDIS}], "terminationGracePeriodSeconds": 300});
    cluster.apply(&[json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "long", "namespace": "default"}, "spec": spec})]).await.unwrap();
    cluster
        .kubectl(["wait", "--for=condition=Ready", "pod/long", "--timeout=60s"])
        .await
        .unwrap();
    tokio::task::spawn_blocking(move || drop(cluster)).await.unwrap();
    assert_eq!(
        traces(&name, slot),
        BTreeSet::new(),
        "left behind by the end of the owner"
    );
    assert_eq!(machine(), before);
}

/// With a node there are containers, mounts, interfaces and cgroups of pods to leave behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_cluster_goes_with_its_killed_parent_and_what_a_killed_keeper_leaves_is_swept() {
    let _alone = MACHINE.lock().await;
    prepare(vec![images::pause().unwrap(), images::redis()]).await;
    let before = machine();
    let name = format!("box-node-killed-{}", std::process::id());
    let up = || up(&["--tier", "cluster", "--images", "redis", "--name", &name]);
    for is_keeper_killed in [false, true] {
        let (mut child, line) = up();
        assert!(line.starts_with("export KUBECONFIG="), "{line}");
        let record = registry::find(&name).unwrap();
        let cluster = Cluster::attach(&name).unwrap();
        let spec =
            json!({"containers": [{"name": "main", "image": images::REDIS}], "terminationGracePeriodSeconds": 300});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "long", "namespace": "default"}, "spec": spec});
        cluster.apply(&[pod]).await.unwrap();
        cluster
            .kubectl(["wait", "--for=condition=Ready", "pod/long", "--timeout=60s"])
            .await
            .unwrap();
        if is_keeper_killed {
            kill(Pid::from_raw(record.keeper.pid), Signal::SIGKILL).unwrap();
        }
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL).unwrap();
        child.wait().unwrap();
        if is_keeper_killed {
            // Nobody is left to clear up but the next who comes.
            assert!(
                !cgroup::existing(&name).is_empty(),
                "without leftovers there is nothing to test"
            );
            let (mut next, line) = up();
            assert!(line.starts_with("export KUBECONFIG="), "{line}");
            kill(Pid::from_raw(next.id().cast_signed()), Signal::SIGINT).unwrap();
            next.wait().unwrap();
        }
        await_no_traces(&name, record.slot, Duration::from_secs(30))
            .await
            .unwrap();
    }
    assert_eq!(machine(), before);
}
