//! A cluster as tests and the demo use it: a kubeconfig and the programs to go with it, whoever runs the cluster.
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::binaries::Binaries;
use crate::wait::{Seen, await_condition};

/// Set to the name of a context of `$KUBECONFIG` to run on that cluster. Nothing ever touches a cluster that was not named here.
pub const USE_EXISTING: &str = "TIDEWRIGHT_E2E_USE_EXISTING_CLUSTER";

/// Longest run of a helper program; `helm --wait` has the longest.
const PROGRAM_TIMEOUT: Duration = Duration::from_mins(5);

/// Administrator's access.
#[derive(Debug, Clone)]
pub struct Access {
    kubeconfig: PathBuf,
    /// Keeps the file of an existing cluster's access for as long as somebody may read it.
    _folder: Option<std::sync::Arc<tempfile::TempDir>>,
    binaries: Binaries,
}

impl Access {
    pub fn new(kubeconfig: PathBuf, binaries: Binaries) -> Self {
        Self {
            kubeconfig,
            _folder: None,
            binaries,
        }
    }

    /// Access to the cluster that the environment names, if it names one.
    pub fn to_existing() -> Result<Option<Self>> {
        Self::existing(std::env::var(USE_EXISTING).ok(), std::env::var_os("KUBECONFIG"))
    }

    /// Access to the cluster of a context of a kubeconfig, or of a list of them. Without the context's name there is none, whatever the kubeconfig says.
    pub fn existing(context: Option<String>, kubeconfig: Option<OsString>) -> Result<Option<Self>> {
        let Some(context) = context.filter(|context| !context.is_empty()) else {
            return Ok(None);
        };
        let kubeconfig = kubeconfig.with_context(|| format!("{USE_EXISTING} is set, but KUBECONFIG is not"))?;
        let binaries = Binaries::ensure()?;
        // A copy with that one context: a later change of the user's current context must not redirect us.
        let output = std::process::Command::new(binaries.path("kubectl")?)
            .args(["config", "view", "--minify", "--flatten", "--context", &context])
            .env("KUBECONFIG", kubeconfig)
            .output()
            .context("running kubectl")?;
        let text = checked(&output, "kubectl config view")?;
        let folder = tempfile::tempdir()?;
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, text)?;
        Ok(Some(Self {
            kubeconfig,
            _folder: Some(folder.into()),
            binaries,
        }))
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.clone()
    }

    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// A new client. Not shared, because its connections belong to the runtime that uses them first.
    pub async fn client(&self) -> Result<Client> {
        client_from(&self.kubeconfig).await
    }

    /// Runs kubectl and returns what it printed. Fails if it does.
    pub async fn kubectl<I, S>(&self, arguments: I) -> Result<String>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.program("kubectl", arguments, None).await
    }

    /// Applies objects on the server's side.
    pub async fn apply(&self, objects: &[Value]) -> Result<()> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let arguments = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--field-manager=tidewright-box",
            "--filename=-",
        ];
        self.program("kubectl", arguments, Some(&list.to_string()))
            .await
            .map(drop)
    }

    /// Runs one of the pinned programs against the cluster.
    pub async fn program<I, S>(&self, name: &str, arguments: I, input: Option<&str>) -> Result<String>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        // Whatever they cache is worth nothing to the user.
        // Beside the kubeconfig: what is killed leaves it to whoever clears that folder.
        let beside = self.kubeconfig.parent().unwrap_or_else(|| Path::new("."));
        let home = tempfile::tempdir_in(beside)?;
        let mut command = Command::new(self.binaries.path(name)?);
        command
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", home.path())
            .kill_on_drop(true);
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "KUBECACHEDIR"] {
            command.env(variable, home.path().join(variable));
        }
        command
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("running {name}"))?;
        let writer = child.stdin.take();
        let feed = async {
            if let (Some(mut writer), Some(input)) = (writer, input) {
                writer.write_all(input.as_bytes()).await?;
            }
            anyhow::Ok(())
        };
        let both = async { tokio::join!(feed, child.wait_with_output()) };
        let Ok((fed, output)) = tokio::time::timeout(PROGRAM_TIMEOUT, both).await else {
            bail!("{name} did not end within {} s", PROGRAM_TIMEOUT.as_secs());
        };
        let text = checked(&output?, name)?;
        fed.with_context(|| format!("writing to {name}"))?;
        Ok(text)
    }
}

/// A client for a kubeconfig file.
pub async fn client_from(kubeconfig: &Path) -> Result<Client> {
    // Several libraries here speak TLS: the process decides once which implementation they use.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = Kubeconfig::read_from(kubeconfig).with_context(|| format!("reading {}", kubeconfig.display()))?;
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// Waits for `/readyz`.
pub async fn await_api_server(client: &Client, deadline: Duration) -> Result<()> {
    await_condition("the API server", deadline, || async {
        let request = http::Request::get("/readyz").body(Vec::new())?;
        let answer = client.request_text(request).await?;
        Ok(if answer == "ok" {
            Seen::Done(())
        } else {
            Seen::not_yet(answer)
        })
    })
    .await
}

/// What a program printed, or an error with its complaint.
pub(crate) fn checked(output: &Output, program: &str) -> Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{program} failed ({}): {}{text}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}
