//! The operator as a program of a box: the binary of this checkout, without image or Deployment, so that a test can freeze, kill and restart it.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::access::Access;
use crate::control_plane::ControlPlane;
use crate::dump::OPERATOR_NAMESPACE;
use crate::supervisor::{Program, Request};
use crate::wait::{Seen, await_condition};

/// Long enough for a busy machine; a start takes well under a second.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Each process of a box listens on ports of its own: two per process.
static PORTS: AtomicU16 = AtomicU16::new(18_000);

/// How the operator is started.
#[derive(Debug, Clone, Default)]
pub struct OperatorOptions {
    /// Its way to the API server; the administrator's where it is empty.
    pub kubeconfig: Option<PathBuf>,
    /// Compete for the Lease of this name; without one, it leads from the start.
    pub lease: Option<String>,
    /// Serve and register the metrics API.
    pub metrics_api: bool,
    /// Further arguments of `tidewright-operator run`.
    pub arguments: Vec<String>,
}

impl OperatorOptions {
    /// Talks to the API server through this kubeconfig.
    #[must_use]
    pub fn through(mut self, kubeconfig: impl Into<PathBuf>) -> Self {
        self.kubeconfig = Some(kubeconfig.into());
        self
    }

    /// One more argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }
}

/// A running operator. It is killed when this value is dropped, and with its box.
#[derive(Debug)]
pub struct OperatorProcess<'a> {
    control_plane: &'a ControlPlane,
    /// Its name in the box, in the Lease and in events.
    pub name: String,
    /// Where it serves metrics and probes.
    pub admin: SocketAddr,
    /// Where it serves the metrics API.
    pub metrics_api: SocketAddr,
}

impl<'a> OperatorProcess<'a> {
    /// Starts it; it may not be ready yet.
    pub async fn start(control_plane: &'a ControlPlane, options: OperatorOptions) -> Result<Self> {
        let port = PORTS.fetch_add(2, Ordering::Relaxed);
        let address = |port| SocketAddr::from((control_plane.network().node(), port));
        let process = Self {
            control_plane,
            name: format!("operator-{}-{port}", std::process::id()),
            admin: address(port),
            metrics_api: address(port + 1),
        };
        create_namespace(control_plane).await?;
        let kubeconfig = options.kubeconfig.unwrap_or_else(|| control_plane.kubeconfig());
        let mut arguments: Vec<String> = [
            "run",
            "--server-image=localhost/tidewright/inference-server:test",
            "--redis-image=localhost/tidewright/test-redis:test",
            "--log=info,tidewright_operator=debug",
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.extend([
            format!("--namespace={OPERATOR_NAMESPACE}"),
            format!("--pod-name={}", process.name),
            format!("--admin-address={}", process.admin),
            format!("--metrics-api={}", options.metrics_api),
            format!("--metrics-api-address={}", process.metrics_api),
            format!("--leader-elect={}", options.lease.is_some()),
        ]);
        arguments.extend(options.lease.map(|name| format!("--lease-name={name}")));
        arguments.extend(options.arguments);
        control_plane.sandbox().run(Program {
            name: process.name.clone(),
            path: program()?,
            arguments,
            environment: BTreeMap::from([
                ("KUBECONFIG".to_owned(), kubeconfig.display().to_string()),
                ("NO_PROXY".to_owned(), "*".to_owned()),
            ]),
        })?;
        Ok(process)
    }

    /// Starts it and waits until `/readyz` says so.
    pub async fn ready(control_plane: &'a ControlPlane, options: OperatorOptions) -> Result<Self> {
        let process = Self::start(control_plane, options).await?;
        process.await_ready(READY_TIMEOUT).await?;
        Ok(process)
    }

    /// Waits until `/readyz` says so. The failure shows what it waits for and the end of its log.
    pub async fn await_ready(&self, deadline: Duration) -> Result<()> {
        await_condition("the operator to be ready", deadline, || async {
            let (status, text) = self.ask("/readyz").await?;
            Ok(if status == 200 {
                Seen::Done(())
            } else {
                Seen::not_yet(text.trim())
            })
        })
        .await
        .with_context(|| self.log_tail())
    }

    /// Status and text of a path of the admin port.
    pub async fn ask(&self, path: &str) -> Result<(u16, String)> {
        let client = reqwest::Client::builder().timeout(ADMIN_TIMEOUT).no_proxy().build()?;
        let answer = client.get(format!("http://{}{path}", self.admin)).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// The sum of a metric over all its series whose labels contain `labels`, e.g. `outcome="Ok"`; 0 where there is none.
    pub async fn metric(&self, name: &str, labels: &str) -> Result<f64> {
        let (status, text) = self.ask("/metrics").await?;
        if status != 200 {
            bail!("/metrics answered {status}: {text}");
        }
        Ok(sum(&text, name, labels))
    }

    /// Whether it may write.
    pub async fn leads(&self) -> Result<bool> {
        Ok(self.metric("tidewright_operator_leader", "").await? > 0.0)
    }

    /// SIGKILL; answered when it is dead.
    pub fn kill(&self) -> Result<()> {
        self.control_plane.kill_program(&self.name)
    }

    /// SIGTERM; answered when it has ended. Says how it ended, e.g. `exited with 0`.
    pub fn terminate(&self) -> Result<String> {
        terminate(self.control_plane, &self.name)
    }

    /// SIGSTOP.
    pub fn freeze(&self) -> Result<()> {
        self.control_plane
            .sandbox()
            .ask(&Request::Freeze(self.name.clone()))
            .map(drop)
    }

    /// SIGCONT.
    pub fn thaw(&self) -> Result<()> {
        self.control_plane
            .sandbox()
            .ask(&Request::Thaw(self.name.clone()))
            .map(drop)
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        let path = self.control_plane.dir().join("logs").join(format!("{}.log", self.name));
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    }

    /// The end of its log, for failures.
    pub fn log_tail(&self) -> String {
        self.control_plane.log_tail(&self.name)
    }
}

impl OperatorProcess<'static> {
    /// SIGTERM, to look at something else while it ends.
    pub fn terminate_in_background(&self) -> JoinHandle<Result<String>> {
        let (control_plane, name) = (self.control_plane, self.name.clone());
        tokio::task::spawn_blocking(move || terminate(control_plane, &name))
    }
}

impl Drop for OperatorProcess<'_> {
    fn drop(&mut self) {
        // It is dead already, or its box is.
        let _ = self.kill();
    }
}

/// Installs the CustomResourceDefinitions of this checkout and waits until the API server serves them.
pub async fn install_definitions(access: &Access) -> Result<()> {
    let client = access.client().await?;
    let definitions: Api<CustomResourceDefinition> = Api::all(client);
    for crd in tidewright_api::crd::all_crds() {
        let name = crd.metadata.name.clone().unwrap_or_default();
        let parameters = PatchParams::apply("tidewright-e2e").force();
        definitions.patch(&name, &parameters, &Patch::Apply(&crd)).await?;
        await_condition("the definition to be served", READY_TIMEOUT, || async {
            let conditions = definitions
                .get(&name)
                .await?
                .status
                .and_then(|status| status.conditions);
            let is_served = conditions
                .iter()
                .flatten()
                .any(|condition| condition.type_ == "Established" && condition.status == "True");
            Ok(if is_served {
                Seen::Done(())
            } else {
                Seen::not_yet("not established")
            })
        })
        .await?;
    }
    Ok(())
}

fn terminate(control_plane: &ControlPlane, name: &str) -> Result<String> {
    let all = control_plane.sandbox().ask(&Request::Stop(name.to_owned()))?;
    let component = all.into_iter().find(|component| component.name == name);
    component
        .and_then(|component| component.exit)
        .with_context(|| format!("{name} does not say how it ended"))
}

pub(crate) async fn create_namespace(access: &Access) -> Result<()> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE}});
    access.apply(&[namespace]).await
}

/// The operator's binary.
fn program() -> Result<PathBuf> {
    match std::env::var_os("TIDEWRIGHT_OPERATOR_PROGRAM") {
        Some(path) => Ok(path.into()),
        None => built("tidewright-operator"),
    }
}

/// A binary of the operator's package: cargo puts it beside the folder of the test programs.
pub fn built(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe().context("the path of this program")?;
    here.ancestors()
        .skip(1)
        .take(3)
        .map(|dir| dir.join(name))
        .find(|candidate| Path::is_file(candidate))
        .with_context(|| {
            format!(
                "{name} was not found near {}: run `cargo build -p tidewright-operator`",
                here.display()
            )
        })
}

/// Sum over the series of a metric in OpenMetrics text.
fn sum(text: &str, name: &str, labels: &str) -> f64 {
    text.lines()
        .filter_map(|line| line.rsplit_once(' '))
        .filter(|(series, _)| {
            let (metric, rest) = series.split_once('{').unwrap_or((series, ""));
            metric == name && rest.contains(labels)
        })
        .filter_map(|(_, value)| value.parse::<f64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn sums_the_series_that_carry_the_label() {
        let text = "# TYPE a counter\na_total{outcome=\"Ok\"} 3\na_total{outcome=\"Bad\"} 4\nb 7\n# EOF\n";
        assert!((sum(text, "a_total", "") - 7.0).abs() < 1e-9);
        assert!((sum(text, "a_total", "outcome=\"Ok\"") - 3.0).abs() < 1e-9);
        assert!((sum(text, "b", "") - 7.0).abs() < 1e-9);
        assert!(sum(text, "c", "").abs() < 1e-9);
    }
}
