//! The charts: helm has nothing to say, impossible values are refused, and what is rendered passes the schemas and the admission of a real API server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod schemas;
mod scraping;

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tidewright_e2e::binaries::Binaries;
use tidewright_e2e::control_plane::ControlPlane;
use tidewright_e2e::options::ClusterOptions;
use tidewright_e2e::paths;

const IMAGES: &str =
    "images.operator=localhost/tidewright/operator:dev,images.server=localhost/tidewright/inference-server:dev";

/// Value sets that together reach every branch of the templates.
const VALUES: [&str; 6] = [
    "",
    "replicas=2,priorityClassName=system-cluster-critical,log.format=human,podLabels.team=ml,nodeSelector.zone=a",
    "metricsApi.enabled=false,networkPolicy.enabled=false,rbac.aggregateToDefaultRoles=false",
    "prometheus.url=http://prometheus.monitoring.svc:9090,prometheus.namespace=monitoring,prometheus.allowedUrls={http://other.monitoring.svc:9090},\
     images.redis=redis:7,images.pullSecrets[0].name=registry,podMonitor.enabled=true,podMonitor.labels.release=prometheus",
    "prometheus.url=https://prometheus.monitoring.svc:9090,prometheus.ca.secretName=prometheus,prometheus.token.secretName=prometheus-token,\
     prometheus.token.key=bearer",
    "rbac.podAutoscaler.enabled=true,rbac.ownerReferencesPermissionEnforcement=true,serviceAccount.annotations.a=b,podAnnotations.c=d,\
     extraArgs={--service-port=443},tolerations[0].operator=Exists,topologySpreadConstraints[0].maxSkew=1,\
     topologySpreadConstraints[0].topologyKey=zone,topologySpreadConstraints[0].whenUnsatisfiable=ScheduleAnyway",
];

/// helm with a home of its own, so that a user's settings and plugins do not count.
struct Helm {
    program: PathBuf,
    home: tempfile::TempDir,
    kubeconfig: PathBuf,
}

impl Helm {
    fn new(kubeconfig: Option<PathBuf>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let kubeconfig = kubeconfig.unwrap_or_else(|| home.path().join("none"));
        Self {
            program: Binaries::ensure().unwrap().path("helm").unwrap().to_owned(),
            home,
            kubeconfig,
        }
    }

    fn output(&self, arguments: &[&str]) -> Output {
        Command::new(&self.program)
            .args(arguments)
            .current_dir(paths::repository_dir().join("charts"))
            .env("HELM_CACHE_HOME", self.home.path())
            .env("HELM_CONFIG_HOME", self.home.path())
            .env("HELM_DATA_HOME", self.home.path())
            .env("KUBECONFIG", &self.kubeconfig)
            .output()
            .unwrap()
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(
            output.status.success(),
            "helm {arguments:?}\n{}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    fn rendered(&self, values: &str) -> String {
        self.run(&[
            "template",
            "tidewright",
            "tidewright",
            "--namespace",
            "tidewright-system",
            "--set",
            IMAGES,
            "--set",
            values,
        ])
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn documents(yaml: &str) -> Vec<Value> {
    yaml.split("\n---\n")
        .filter(|part| {
            part.lines()
                .any(|line| !line.is_empty() && !line.starts_with('#') && line != "---")
        })
        .map(|part| serde_saphyr::from_str(part).unwrap_or_else(|error| panic!("{error}\n{part}")))
        .collect()
}

#[test]
fn lint_is_silent() {
    let helm = Helm::new(None);
    helm.run(&["lint", "--strict", "tidewright-crds"]);
    for values in VALUES {
        helm.run(&["lint", "--strict", "tidewright", "--set", IMAGES, "--set", values]);
    }
}

#[test]
fn impossible_values_are_refused_by_name() {
    let helm = Helm::new(None);
    for (values, named) in [
        ("replica=2", "replica"),
        ("replicas=0", "replicas"),
        ("prometheus.address=http://p:9090", "address"),
        ("prometheus.url=p:9090", "url"),
        ("prometheus.queryIntervalSeconds=0", "queryIntervalSeconds"),
        ("images.pullPolicy=Sometimes", "pullPolicy"),
        ("prometheus.ca.key=a/b", "key"),
        ("log.format=xml", "format"),
        ("metricsApi.enabled=maybe", "enabled"),
        ("images.operator=", "images.operator is required"),
        ("images.server=", "images.server is required"),
    ] {
        let output = helm.output(&["template", "tidewright", "tidewright", "--set", IMAGES, "--set", values]);
        let said = text(&output.stderr);
        assert!(
            !output.status.success() && said.contains(named),
            "--set {values}: {said}"
        );
    }
    let output = helm.output(&["template", "crds", "tidewright-crds", "--set", "keep=perhaps"]);
    assert!(!output.status.success() && text(&output.stderr).contains("keep"));
}

/// The operator itself reads every argument that the chart passes: it fails later, for want of a cluster, not over its command line.
#[test]
fn the_operator_knows_every_argument() {
    const USAGE: i32 = 2;
    let helm = Helm::new(None);
    let operator = paths::box_program().unwrap().with_file_name("tidewright-operator");
    let start = |arguments: &[&str]| {
        Command::new(&operator)
            .args(arguments)
            .env("KUBECONFIG", "/nonexistent")
            .env("POD_NAME", "a")
            .env("POD_NAMESPACE", "b")
            .output()
            .unwrap()
    };
    for values in VALUES {
        let deployment = documents(&helm.rendered(values))
            .into_iter()
            .find(|object| object["kind"] == "Deployment")
            .unwrap();
        let arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
            .as_array()
            .unwrap()
            .clone();
        let arguments: Vec<&str> = arguments.iter().map(|argument| argument.as_str().unwrap()).collect();
        let output = start(&arguments);
        assert_ne!(
            output.status.code(),
            Some(USAGE),
            "{arguments:?}\n{}",
            text(&output.stderr)
        );
    }
    assert_eq!(
        start(&["run", "--server-image=a", "--redis-image=b", "--unknown"])
            .status
            .code(),
        Some(USAGE)
    );
}

#[test]
fn the_definitions_are_kept_unless_asked_otherwise() {
    let helm = Helm::new(None);
    for (values, policy) in [("", json!("keep")), ("keep=false", Value::Null)] {
        for definition in documents(&helm.run(&["template", "crds", "tidewright-crds", "--set", values])) {
            assert_eq!(
                definition["metadata"]["annotations"]["helm.sh/resource-policy"], policy,
                "--set {values}"
            );
            assert_eq!(definition["kind"], "CustomResourceDefinition");
        }
    }
}

/// `allowedUrls` may lie anywhere, at any port; the operator's own Prometheus lies in its namespace.
#[test]
fn the_network_policy_lets_the_operator_reach_every_prometheus_it_may_be_told_to_ask() {
    let helm = Helm::new(None);
    let egress = |values: &str| {
        let policy = documents(&helm.rendered(values))
            .into_iter()
            .find(|object| object["kind"] == "NetworkPolicy");
        policy.unwrap()["spec"]["egress"].as_array().unwrap().clone()
    };
    let ports = |rule: &Value| -> Vec<i64> {
        let all = rule["ports"].as_array().unwrap();
        all.iter().map(|port| port["port"].as_i64().unwrap()).collect()
    };
    let rules = egress(
        "prometheus.url=http://p.monitoring.svc:8428,prometheus.namespace=monitoring,\
         prometheus.allowedUrls={https://thanos.example.com/a,http://other.team.svc:8480,http://plain.svc}",
    );
    let [.., own, others] = rules.as_slice() else {
        panic!("{rules:?}")
    };
    assert_eq!(ports(own), [9090, 8428]);
    assert_eq!(
        own["to"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"],
        "monitoring"
    );
    assert_eq!(ports(others), [9090, 443, 8480, 80]);
    assert_eq!(others["to"], Value::Null);
    let [_names, _api_server, servers] = egress("").try_into().unwrap();
    assert_eq!(ports(&servers), [8081], "the servers, which are asked what they do");
    assert_eq!(
        servers["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/managed-by"],
        "tidewright"
    );
    assert_eq!(egress("autoscaler.askPods=false").len(), 2, "names and the API server");
}

/// Every value of values.yaml has its line in the schema, with nothing that only one of them knows.
#[test]
fn schema_and_values_name_the_same_fields() {
    fn compare(values: &Value, schema: &Value, at: &str, problems: &mut Vec<String>) {
        let (Some(values), Some(properties)) = (values.as_object(), schema["properties"].as_object()) else {
            return;
        };
        for name in properties
            .keys()
            .filter(|name| !values.contains_key(*name) && at != ".resources" && *name != "global")
        {
            problems.push(format!("{at}.{name} is in the schema only"));
        }
        for (name, value) in values {
            match properties.get(name) {
                Some(schema) => compare(value, schema, &format!("{at}.{name}"), problems),
                None => problems.push(format!("{at}.{name} is not in the schema")),
            }
        }
    }
    for chart in ["tidewright", "tidewright-crds"] {
        let folder = paths::repository_dir().join("charts").join(chart);
        let values: Value =
            serde_saphyr::from_str(&std::fs::read_to_string(folder.join("values.yaml")).unwrap()).unwrap();
        let schema: Value =
            serde_json::from_str(&std::fs::read_to_string(folder.join("values.schema.json")).unwrap()).unwrap();
        let mut problems = Vec::new();
        compare(&values, &schema, "", &mut problems);
        assert!(problems.is_empty(), "{chart}: {problems:#?}");
    }
}

/// One API server for all of it: starting one costs more than the checks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_api_server_agrees() {
    let cluster = ControlPlane::start(ClusterOptions::for_tests("chart")).await.unwrap();
    let helm = Helm::new(Some(cluster.kubeconfig()));

    helm.run(&["install", "tidewright-crds", "tidewright-crds", "--set", "keep=false"]);
    cluster
        .kubectl(["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"])
        .await
        .unwrap();
    schemas::everything_passes(&cluster, &helm).await;
    restricted_namespaces_admit_the_operator(&cluster, &helm).await;
    a_second_release_is_refused(&helm);
    uninstalling_leaves_nothing(&cluster, &helm).await;
    cluster.down().unwrap();
}

/// Pod Security `restricted` judges pods, so the operator's pod is tried as one.
async fn restricted_namespaces_admit_the_operator(cluster: &ControlPlane, helm: &Helm) {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": "tidewright-system", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    cluster.apply(&[namespace]).await.unwrap();
    helm.run(&[
        "install",
        "tidewright",
        "tidewright",
        "--namespace",
        "tidewright-system",
        "--set",
        IMAGES,
    ]);
    let deployment = documents(&helm.rendered(""))
        .into_iter()
        .find(|object| object["kind"] == "Deployment")
        .unwrap();
    let mut pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe", "namespace": "tidewright-system"}});
    pod["spec"] = deployment["spec"]["template"]["spec"].clone();

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pod.to_string()).unwrap();
    let path = file.path().to_str().unwrap();
    cluster
        .kubectl(["create", "--dry-run=server", "-f", path])
        .await
        .expect("a restricted namespace admits the operator's pod");
    // The check itself: the namespace does refuse.
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    std::fs::write(file.path(), pod.to_string()).unwrap();
    let refused = cluster
        .kubectl(["create", "--dry-run=server", "-f", path])
        .await
        .unwrap_err();
    assert!(format!("{refused:#}").contains("violates PodSecurity"), "{refused:#}");
}

/// Two operators would undo each other's work for ever.
fn a_second_release_is_refused(helm: &Helm) {
    for (release, namespace) in [("second", "tidewright-system"), ("tidewright", "elsewhere")] {
        let arguments = [
            "install",
            release,
            "tidewright",
            "--namespace",
            namespace,
            "--create-namespace",
            "--set",
            IMAGES,
        ];
        let output = helm.output(&arguments);
        let said = text(&output.stderr);
        let is_told = said.contains("installed already, as release tidewright in namespace tidewright-system");
        assert!(!output.status.success() && is_told, "{release} in {namespace}: {said}");
    }
    let same = [
        "upgrade",
        "tidewright",
        "tidewright",
        "--namespace",
        "tidewright-system",
        "--set",
        IMAGES,
    ];
    helm.run(&same);
}

/// What helm made. What the operator makes at run time is looked at where it runs: cluster_uninstall.
async fn uninstalling_leaves_nothing(cluster: &ControlPlane, helm: &Helm) {
    const KINDS: &str = "clusterroles,clusterrolebindings,roles,rolebindings,deployments,services,serviceaccounts,networkpolicies,poddisruptionbudgets";
    let ours = [
        "get",
        KINDS,
        "--all-namespaces",
        "--selector",
        "app.kubernetes.io/instance=tidewright",
        "--output",
        "name",
    ];
    let before = cluster.kubectl(ours).await.unwrap();
    assert!(before.lines().count() >= 10, "{before}");
    helm.run(&["uninstall", "tidewright", "--namespace", "tidewright-system", "--wait"]);
    assert_eq!(cluster.kubectl(ours).await.unwrap(), "");
    helm.run(&["uninstall", "tidewright-crds", "--wait"]);
    assert_eq!(cluster.kubectl(["get", "crd", "--output", "name"]).await.unwrap(), "");
}
