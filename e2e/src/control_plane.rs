//! The first tier: etcd, the API server and the controller manager, reached from the machine over the wire.
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;

use crate::access::{Access, await_api_server};
use crate::binaries::Binaries;
use crate::clock::Stopwatch;
use crate::network::Network;
use crate::options::ClusterOptions;
use crate::pki::{Identity, Pki};
use crate::sandbox::Sandbox;
use crate::supervisor::{Program, Request};
use crate::wait::{Seen, await_condition};
use crate::{fake_nodes, packages};

/// Group that may do everything.
pub const ADMINS: &str = "system:masters";

/// A real API server, with the controllers that garbage-collect, scale and roll out.
#[derive(Debug)]
pub struct ControlPlane {
    sandbox: Sandbox,
    access: Access,
    pki: Option<Pki>,
    /// From the start of the box until the API server and the controllers were ready.
    pub ready_after: Duration,
}

impl Deref for ControlPlane {
    type Target = Access;

    fn deref(&self) -> &Access {
        &self.access
    }
}

impl ControlPlane {
    /// Builds what is missing, then starts. Ends when the value is dropped.
    pub async fn start(options: ClusterOptions) -> Result<Self> {
        let binaries = prepare(&[packages::CONTROL_PLANE]).await?;
        let mut control_plane = Self::create(&options, binaries).await?;
        let watch = Stopwatch::start();
        control_plane.start_programs(&options).await?;
        control_plane.ready_after += watch.elapsed();
        fake_nodes::start(&control_plane, &options).await?;
        Ok(control_plane)
    }

    /// A box without any program in it.
    pub(crate) async fn create(options: &ClusterOptions, binaries: Binaries) -> Result<Self> {
        let watch = Stopwatch::start();
        let name = options.name.clone();
        let sandbox = tokio::task::spawn_blocking(move || Sandbox::start(&name)).await??;
        let pki = Pki::create(&sandbox.record().dir.join("pki"))?;
        let access = Access::new(sandbox.record().kubeconfig(), binaries);
        Ok(Self {
            sandbox,
            access,
            pki: Some(pki),
            ready_after: watch.elapsed(),
        })
    }

    /// A box that another process has started.
    pub fn attach(name: &str) -> Result<Self> {
        let sandbox = Sandbox::attach(name)?;
        let access = Access::new(sandbox.record().kubeconfig(), Binaries::ensure()?);
        Ok(Self {
            sandbox,
            access,
            pki: None,
            ready_after: Duration::ZERO,
        })
    }

    pub(crate) async fn start_programs(&self, options: &ClusterOptions) -> Result<()> {
        let node = self.network().node();
        let names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
        ];
        let addresses = [Ipv4Addr::LOCALHOST, self.network().api_service(), node];
        self.pki()?.server(
            "apiserver",
            Identity {
                user: "kube-apiserver",
                group: Some(ADMINS),
            },
            &names,
            &addresses,
        )?;
        self.run("etcd", self.etcd(), options)?;
        self.run("kube-apiserver", self.api_server()?, options)?;
        self.write_kubeconfig(
            "kube-controller-manager",
            Identity {
                user: "system:kube-controller-manager",
                group: None,
            },
        )?;
        self.pki()?.kubeconfig(
            &self.kubeconfig(),
            &format!("tidewright-{}", self.name()),
            &format!("https://{node}:6443"),
            Identity {
                user: "admin",
                group: Some(ADMINS),
            },
        )?;
        let client = self.client().await?;
        await_api_server(&client, Duration::from_mins(1))
            .await
            .with_context(|| self.log_tail("kube-apiserver"))?;
        self.run("kube-controller-manager", self.controller_manager(options)?, options)?;
        // The first visible work of the controllers, and what every pod needs.
        let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
        await_condition(
            "the service account of namespace default",
            Duration::from_mins(1),
            || async {
                Ok(match accounts.get_opt("default").await? {
                    Some(_) => Seen::Done(()),
                    None => Seen::not_yet("no service account"),
                })
            },
        )
        .await
        .with_context(|| self.log_tail("kube-controller-manager"))
    }

    fn etcd(&self) -> Vec<String> {
        vec![
            format!("--data-dir={}", self.dir().join("etcd").display()),
            "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
            "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
            "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
            "--log-level=warn".to_owned(),
            // What it holds does not outlive the machine anyway.
            "--unsafe-no-fsync".to_owned(),
        ]
    }

    fn api_server(&self) -> Result<Vec<String>> {
        let pki = self.pki()?;
        let file = |flag: &str, name: &str| format!("--{flag}={}", pki.path(name).display());
        Ok(vec![
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            format!("--advertise-address={}", self.network().node()),
            "--secure-port=6443".to_owned(),
            format!("--service-cluster-ip-range={}", self.network().services()),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            file("service-account-key-file", "service-account.pub"),
            file("service-account-signing-key-file", "service-account.key"),
            file("client-ca-file", "ca.crt"),
            file("tls-cert-file", "apiserver.crt"),
            file("tls-private-key-file", "apiserver.key"),
            file("kubelet-client-certificate", "apiserver.crt"),
            file("kubelet-client-key", "apiserver.key"),
            file("kubelet-certificate-authority", "ca.crt"),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            // Without the next ones no aggregated API works; with routing, calls go to endpoints and need no kube-proxy.
            "--enable-aggregator-routing=true".to_owned(),
            file("requestheader-client-ca-file", "front-proxy-ca.crt"),
            "--requestheader-allowed-names=front-proxy-client".to_owned(),
            "--requestheader-username-headers=X-Remote-User".to_owned(),
            "--requestheader-group-headers=X-Remote-Group".to_owned(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
            file("proxy-client-cert-file", "front-proxy-client.crt"),
            file("proxy-client-key-file", "front-proxy-client.key"),
        ])
    }

    fn controller_manager(&self, options: &ClusterOptions) -> Result<Vec<String>> {
        let pki = self.pki()?;
        let file = |flag: &str, name: &str| format!("--{flag}={}", pki.path(name).display());
        let kubeconfig = self.kubeconfig_of("kube-controller-manager");
        let mut arguments = vec![
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--authentication-kubeconfig={}", kubeconfig.display()),
            format!("--authorization-kubeconfig={}", kubeconfig.display()),
            file("root-ca-file", "ca.crt"),
            file("service-account-private-key-file", "service-account.key"),
            file("requestheader-client-ca-file", "front-proxy-ca.crt"),
            file("cluster-signing-cert-file", "ca.crt"),
            file("cluster-signing-key-file", "ca.key"),
            "--use-service-account-credentials=true".to_owned(),
            "--leader-elect=false".to_owned(),
            "--controllers=*".to_owned(),
            // The default, 20 a second, takes five seconds to start the controllers.
            "--kube-api-qps=500".to_owned(),
            "--kube-api-burst=1000".to_owned(),
        ];
        arguments.extend(options.hpa.arguments());
        Ok(arguments)
    }

    /// Starts a pinned program in the box under its own name.
    pub(crate) fn run(&self, name: &str, mut arguments: Vec<String>, options: &ClusterOptions) -> Result<()> {
        arguments.extend(
            options
                .extra_arguments
                .iter()
                .filter(|(program, _)| program == name)
                .map(|(_, argument)| argument.clone()),
        );
        let temporary = self.dir().join("tmp");
        std::fs::create_dir_all(&temporary)?;
        let mut path = vec![self.binaries().dir_of("containerd")?.to_owned()];
        path.extend(
            [
                "/usr/local/sbin",
                "/usr/local/bin",
                "/usr/sbin",
                "/usr/bin",
                "/sbin",
                "/bin",
            ]
            .map(PathBuf::from),
        );
        let environment = BTreeMap::from([
            ("TMPDIR".to_owned(), temporary.display().to_string()),
            (
                "PATH".to_owned(),
                std::env::join_paths(path)?.to_string_lossy().into_owned(),
            ),
        ]);
        let program = Program {
            name: name.to_owned(),
            path: self.binaries().path(name)?.to_owned(),
            arguments,
            environment,
        };
        self.sandbox.run(program).with_context(|| format!("starting {name}"))
    }

    /// Writes the kubeconfig of a program inside the box.
    pub(crate) fn write_kubeconfig(&self, name: &str, identity: Identity<'_>) -> Result<PathBuf> {
        let path = self.kubeconfig_of(name);
        self.pki()?.kubeconfig(
            &path,
            "box",
            &format!("https://{}:6443", self.network().node()),
            identity,
        )?;
        Ok(path)
    }

    fn kubeconfig_of(&self, name: &str) -> PathBuf {
        self.dir().join("pki").join(format!("{name}.kubeconfig"))
    }

    pub(crate) fn pki(&self) -> Result<&Pki> {
        self.pki
            .as_ref()
            .context("the box was started by another process, which holds its keys")
    }

    pub fn name(&self) -> &str {
        &self.sandbox.record().name
    }

    pub fn dir(&self) -> &Path {
        &self.sandbox.record().dir
    }

    pub fn network(&self) -> Network {
        self.sandbox.record().network()
    }

    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// The machine's address as programs and pods in the box see it: what listens here can be called from inside.
    pub fn host_address(&self) -> Ipv4Addr {
        self.network().host()
    }

    /// Kills a program of the control plane or the node with SIGKILL. It stays dead until `start_program`.
    pub fn kill_program(&self, name: &str) -> Result<()> {
        self.sandbox.ask(&Request::Kill(name.to_owned())).map(drop)
    }

    /// Starts a stopped or killed program again, as it was.
    pub fn start_program(&self, name: &str) -> Result<()> {
        self.sandbox.ask(&Request::Start(name.to_owned())).map(drop)
    }

    /// The last lines that a program wrote, for failures.
    pub fn log_tail(&self, name: &str) -> String {
        log_tail(self.dir(), name)
    }

    /// Leaves the box up when this process ends.
    pub fn detach(self) -> Result<()> {
        self.sandbox.detach()
    }

    /// Takes the box down and waits for it.
    pub fn down(self) -> Result<()> {
        self.sandbox.down()
    }
}

/// The last lines of a program's log below the folder of a box.
pub fn log_tail(dir: &Path, name: &str) -> String {
    let text = std::fs::read(dir.join("logs").join(format!("{name}.log"))).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    format!(
        "last lines of {name}:\n{}",
        lines[lines.len().saturating_sub(15)..].join("\n")
    )
}

/// Packages and programs, off the runtime's threads: the first build takes minutes.
pub(crate) async fn prepare(needed: &'static [&'static [(&'static str, &'static str)]]) -> Result<Binaries> {
    // Said now, not after a build of minutes.
    ensure!(
        nix::unistd::geteuid().is_root(),
        "a box needs root, for namespaces, network interfaces and control groups: run it with sudo"
    );
    tokio::task::spawn_blocking(move || {
        packages::ensure(needed)?;
        Binaries::ensure()
    })
    .await?
}
