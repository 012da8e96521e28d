//! Builds the pinned programs of the cluster once, into the cache.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};

use crate::clock::Stopwatch;
use crate::console::progress;
use crate::paths;

/// Version of the Kubernetes programs: pinned in `cluster/kubernetes/go.mod`, stamped into them here because clients read it.
pub const KUBERNETES_VERSION: &str = "v1.37.2";

const STAMP: &str = "-X k8s.io/component-base/version.gitVersion=v1.37.2 \
    -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37";

/// One `go.mod` of pins and what is built from it.
struct Module {
    name: &'static str,
    tags: &'static str,
    stamp: &'static str,
    /// (package, name of the program)
    programs: &'static [(&'static str, &'static str)],
}

const MODULES: [Module; 3] = [
    Module {
        name: "kubernetes",
        tags: "",
        stamp: STAMP,
        programs: &[
            ("k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver"),
            (
                "k8s.io/kubernetes/cmd/kube-controller-manager",
                "kube-controller-manager",
            ),
            ("k8s.io/kubernetes/cmd/kube-scheduler", "kube-scheduler"),
            ("k8s.io/kubernetes/cmd/kubectl", "kubectl"),
            ("k8s.io/kubernetes/cmd/kubelet", "kubelet"),
            ("k8s.io/kubernetes/cmd/kube-proxy", "kube-proxy"),
            ("sigs.k8s.io/metrics-server/cmd/metrics-server", "metrics-server"),
        ],
    },
    Module {
        name: "node",
        // Without these containerd wants the C headers of file systems that nobody uses here.
        tags: "no_btrfs no_zfs",
        stamp: "",
        programs: &[
            ("go.etcd.io/etcd/server/v3", "etcd"),
            ("github.com/containerd/containerd/v2/cmd/containerd", "containerd"),
            (
                "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
                "containerd-shim-runc-v2",
            ),
            ("github.com/containerd/containerd/v2/cmd/ctr", "ctr"),
            ("github.com/containernetworking/plugins/plugins/main/bridge", "bridge"),
            (
                "github.com/containernetworking/plugins/plugins/main/loopback",
                "loopback",
            ),
            (
                "github.com/containernetworking/plugins/plugins/ipam/host-local",
                "host-local",
            ),
            ("github.com/containernetworking/plugins/plugins/meta/portmap", "portmap"),
            ("github.com/coredns/coredns", "coredns"),
        ],
    },
    Module {
        name: "tools",
        tags: "",
        stamp: "",
        programs: &[
            ("helm.sh/helm/v4/cmd/helm", "helm"),
            ("sigs.k8s.io/kwok/cmd/kwok", "kwok"),
            ("github.com/yannh/kubeconform/cmd/kubeconform", "kubeconform"),
        ],
    },
];

/// The finished programs by name.
#[derive(Debug, Clone)]
pub struct Binaries {
    programs: BTreeMap<&'static str, PathBuf>,
}

impl Binaries {
    /// Builds what the cache lacks. About 13 minutes on two cores the first time, nothing afterwards.
    /// A second process that asks at the same time waits for the first.
    pub fn ensure() -> Result<Self> {
        let root = paths::cache_dir()?.join("bin");
        fs::create_dir_all(&root).with_context(|| format!("creating {}", root.display()))?;
        let mut programs = BTreeMap::new();
        for module in &MODULES {
            let dir = module.ensure(&root)?;
            programs.extend(module.programs.iter().map(|(_, name)| (*name, dir.join(name))));
        }
        // Gigabytes, and nothing is left to be built here. Another checkout may have other pins, and be building.
        if go_caches(&root).iter().any(|(_, folder)| folder.exists()) {
            let locks: Vec<_> = MODULES.iter().map_while(|module| module.try_lock(&root)).collect();
            if locks.len() == MODULES.len() {
                for (_, folder) in go_caches(&root) {
                    let _ = fs::remove_dir_all(folder);
                }
            }
        }
        Ok(Self { programs })
    }

    /// Path of one program.
    pub fn path(&self, name: &str) -> Result<&Path> {
        self.programs
            .get(name)
            .map(PathBuf::as_path)
            .with_context(|| format!("no pinned program is called {name}"))
    }

    /// The folder that holds a program and those of its module.
    pub fn dir_of(&self, name: &str) -> Result<&Path> {
        self.path(name)?.parent().context("a program has a folder")
    }
}

impl Module {
    fn source(&self) -> PathBuf {
        paths::source_dir().join("cluster").join(self.name)
    }

    fn flags(&self) -> Vec<String> {
        let mut flags = vec![
            "-trimpath".to_owned(),
            "-ldflags".to_owned(),
            format!("-s -w {}", self.stamp),
        ];
        if !self.tags.is_empty() {
            flags.extend(["-tags".to_owned(), self.tags.to_owned()]);
        }
        flags
    }

    /// What the finished programs depend on: pins, checksums, flags, the list itself.
    fn key(&self) -> Result<String> {
        let mut hash = Sha256::new();
        for file in ["go.mod", "go.sum"] {
            let path = self.source().join(file);
            hash.update(fs::read(&path).with_context(|| format!("reading {}", path.display()))?);
        }
        hash.update(format!("{:?} {:?}", self.flags(), self.programs));
        Ok(short_hex(&hash.finalize()))
    }

    fn lock_path(&self, root: &Path) -> PathBuf {
        root.join(format!(".{}.lock", self.name))
    }

    /// None while another process builds.
    fn try_lock(&self, root: &Path) -> Option<Flock<fs::File>> {
        let file = fs::File::create(self.lock_path(root)).ok()?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()
    }

    fn ensure(&self, root: &Path) -> Result<PathBuf> {
        let done = root.join(format!("{}-{}", self.name, self.key()?));
        if done.is_dir() {
            return Ok(done);
        }
        let lock_path = self.lock_path(root);
        let lock_file = fs::File::create(&lock_path).with_context(|| format!("creating {}", lock_path.display()))?;
        let _lock = match Flock::lock(lock_file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((file, _)) => {
                progress(format_args!(
                    "waiting for another process that builds the {} programs",
                    self.name
                ));
                Flock::lock(file, FlockArg::LockExclusive)
                    .map_err(|(_, errno)| errno)
                    .context("locking the cache")?
            }
        };
        if done.is_dir() {
            return Ok(done);
        }
        self.build(root, &done)?;
        Ok(done)
    }

    /// Builds into a folder beside the final one and renames it: what has the final name is complete.
    fn build(&self, root: &Path, done: &Path) -> Result<()> {
        let go_version = Command::new("go").arg("version").output();
        ensure!(
            go_version.is_ok_and(|output| output.status.success()),
            "the cluster's programs are built from source and need Go 1.26 or newer in PATH: https://go.dev/dl/"
        );
        let total = Stopwatch::start();
        let partial = root.join(format!(".{}.partial", self.name));
        if partial.exists() {
            fs::remove_dir_all(&partial).with_context(|| format!("removing {}", partial.display()))?;
        }
        fs::create_dir_all(&partial).with_context(|| format!("creating {}", partial.display()))?;
        for (package, name) in self.programs {
            progress(format_args!("building {name} …"));
            let watch = Stopwatch::start();
            let output = Command::new("go")
                .arg("build")
                .args(self.flags())
                .arg("-o")
                .arg(partial.join(name))
                .arg(package)
                .current_dir(self.source())
                .env("CGO_ENABLED", "0")
                .env("GOFLAGS", "-trimpath -buildvcs=false -mod=readonly -modcacherw")
                .envs(
                    go_caches(root)
                        .into_iter()
                        .filter(|(name, _)| std::env::var_os(name).is_none()),
                )
                .env("GOWORK", "off")
                .output()
                .context("running go")?;
            if !output.status.success() {
                bail!("building {name} failed:\n{}", String::from_utf8_lossy(&output.stderr));
            }
            progress(format_args!("built {name} in {:.0} s", watch.seconds()));
        }
        fs::rename(&partial, done).with_context(|| format!("renaming to {}", done.display()))?;
        progress(format_args!(
            "the {} programs are in {} ({:.0} s)",
            self.name,
            done.display(),
            total.seconds()
        ));
        Ok(())
    }
}

/// What Go keeps while it builds, beside what is built; a folder that the environment names is somebody else's and stays.
fn go_caches(root: &Path) -> [(&'static str, PathBuf); 2] {
    [
        ("GOCACHE", root.join(".go-build")),
        ("GOMODCACHE", root.join(".go-mod")),
    ]
}

/// The first eight bytes of a digest in hexadecimal: plenty to tell versions apart.
pub(crate) fn short_hex(digest: &[u8]) -> String {
    digest.iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_depends_on_the_flags() {
        let keys: Vec<String> = MODULES.iter().map(|module| module.key().unwrap()).collect();
        let other = Module {
            name: "tools",
            tags: "other",
            stamp: "",
            programs: MODULES[2].programs,
        };
        assert_ne!(keys[2], other.key().unwrap());
        assert_eq!(keys[2], MODULES[2].key().unwrap());
    }

    #[test]
    fn the_stamp_is_the_pinned_version() {
        let pins = fs::read_to_string(MODULES[0].source().join("go.mod")).unwrap();
        assert!(pins.contains(&format!("k8s.io/kubernetes {KUBERNETES_VERSION} ")));
        assert!(STAMP.contains(KUBERNETES_VERSION));
    }
}
