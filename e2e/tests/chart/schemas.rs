//! kubeconform with schemas made from what the API server itself publishes, so that they are of its version and know our own kinds.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tidewright_e2e::binaries::Binaries;
use tidewright_e2e::control_plane::ControlPlane;
use tidewright_e2e::paths;

use super::{Helm, VALUES, text};

/// What the charts render, and the examples, against the API server's own schemas; and that the check itself refuses.
pub async fn everything_passes(cluster: &ControlPlane, helm: &Helm) {
    let folder = tempfile::tempdir().unwrap();
    let openapi: Value =
        serde_json::from_str(&cluster.kubectl(["get", "--raw", "/openapi/v2"]).await.unwrap()).unwrap();
    write_schemas(&openapi, folder.path());

    for values in VALUES {
        let (passed, said) = kubeconform(folder.path(), &helm.rendered(values));
        assert!(passed, "--set {values}\n{said}");
    }
    let (passed, said) = kubeconform(folder.path(), &helm.run(&["template", "crds", "tidewright-crds"]));
    assert!(passed, "{said}");
    examples_are_accepted(cluster, folder.path()).await;
    // The check itself: what is wrong does not pass.
    let good = helm.rendered("");
    for (from, to) in [
        ("  replicas: 1\n", "  replicas: one\n"),
        ("enableServiceLinks: false", "enableServiceLink: false"),
        ("kind: ServiceAccount\n", "kind: ServiceAcount\n"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from} is not in the manifests");
        let (passed, said) = kubeconform(folder.path(), &bad);
        assert!(!passed, "{to} passed:\n{said}");
    }
}

/// What we show people: the files in examples, and every service in the README. Also the rules in CEL, which only the API server knows.
async fn examples_are_accepted(cluster: &ControlPlane, schemas: &Path) {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}});
    cluster.apply(&[namespace]).await.unwrap();
    let mut examples: Vec<(String, String)> = std::fs::read_dir(paths::source_dir().join("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    let readme = std::fs::read_to_string(paths::repository_dir().join("README.md")).unwrap();
    for shown in readme.split("```yaml\n").skip(1) {
        let shown = shown.split("```").next().unwrap();
        if shown.starts_with("apiVersion:") {
            examples.push(("README.md".to_owned(), shown.to_owned()));
        }
    }
    assert!(examples.len() > 3, "{examples:?}");
    for (name, text) in examples {
        let (passed, said) = kubeconform(schemas, &text);
        assert!(passed, "{name}\n{said}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &text).unwrap();
        let path = file.path().to_str().unwrap();
        let tried = cluster
            .kubectl(["apply", "--dry-run=server", "--validate=strict", "-f", path])
            .await;
        assert!(tried.is_ok(), "{name}: {:#}", tried.unwrap_err());
    }
}

/// Whether the manifests pass, and what kubeconform says.
fn kubeconform(schemas: &Path, manifests: &str) -> (bool, String) {
    use std::io::Write as _;
    let location = format!(
        "{}/{{{{.Group}}}}_{{{{.ResourceAPIVersion}}}}_{{{{.ResourceKind}}}}.json",
        schemas.display()
    );
    let mut child = Command::new(Binaries::ensure().unwrap().path("kubeconform").unwrap())
        // A cluster without the Prometheus operator has no schema for its kinds.
        .args([
            "-strict",
            "-summary",
            "-verbose",
            "-skip",
            "PodMonitor",
            "-schema-location",
            &location,
            "-",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let manifests = manifests.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(manifests.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

/// The API server's own definitions as JSON Schemas that also refuse unknown fields, one file per kind.
fn write_schemas(openapi: &Value, folder: &Path) {
    // By keyword, not by any key: a kind may well have a field that is called `properties`.
    fn strict(schema: &mut Value) {
        let Some(object) = schema.as_object_mut() else { return };
        if object.get("format") == Some(&json!("int-or-string")) || object.contains_key("x-kubernetes-int-or-string") {
            object.remove("format");
            object.insert("type".into(), json!(["string", "integer"]));
        }
        let open =
            object.contains_key("additionalProperties") || object.contains_key("x-kubernetes-preserve-unknown-fields");
        if let Some(Value::Object(properties)) = object.get_mut("properties") {
            properties.values_mut().for_each(strict);
            if !open {
                object.insert("additionalProperties".into(), json!(false));
            }
        }
        for keyword in ["items", "additionalProperties", "not"] {
            object.get_mut(keyword).into_iter().for_each(strict);
        }
        for keyword in ["allOf", "anyOf", "oneOf"] {
            object
                .get_mut(keyword)
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
                .for_each(strict);
        }
    }
    let mut definitions = openapi["definitions"].clone();
    definitions.as_object_mut().unwrap().values_mut().for_each(strict);
    definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"]["type"] = json!(["string", "number"]);
    let mut kinds = 0;
    for (name, definition) in openapi["definitions"].as_object().unwrap() {
        for kind in definition["x-kubernetes-group-version-kind"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let part = |key: &str| kind[key].as_str().unwrap();
            // kubeconform takes the version for the group where the group is empty.
            let group = [part("group"), part("version")]
                .into_iter()
                .find(|name| !name.is_empty())
                .unwrap();
            let file = format!("{group}_{}_{}.json", part("version"), part("kind").to_lowercase());
            let schema = json!({"$ref": format!("definitions.json#/definitions/{name}")});
            std::fs::write(folder.join(file), schema.to_string()).unwrap();
            kinds += 1;
        }
    }
    assert!(kinds > 100, "the API server describes only {kinds} kinds");
    std::fs::write(
        folder.join("definitions.json"),
        json!({"definitions": definitions}).to_string(),
    )
    .unwrap();
}
