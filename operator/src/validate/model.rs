//! The address of the model.

use tidewright_api::model::Model as Spec;

use crate::domain::problem::Problem;
use crate::domain::validated::{Location, Model};

const URI: &str = "spec.predictor.model.storageUri";

pub(super) fn validate(spec: &Spec, problems: &mut Vec<Problem>) -> Option<Model> {
    for name in spec
        .env
        .iter()
        .map(|e| e.name.as_str())
        .filter(|name| is_reserved(name))
    {
        problems.push(Problem::new(
            "spec.predictor.model.env",
            format!("{name} is set by the operator and cannot be set here"),
        ));
    }
    match location(&spec.storage_uri) {
        Ok(location) => Some(Model {
            location,
            digest: spec.digest.clone(),
            env: spec.env.clone(),
        }),
        Err(message) => {
            problems.push(Problem::new(URI, message));
            None
        }
    }
}

/// Variables that decide which code the server loads: those of the dynamic linker, of the C library, of ONNX Runtime. With a claim that can be
/// written to, each would run the writer's code in the server.
fn is_reserved(name: &str) -> bool {
    name.starts_with("LD_") || name.starts_with("ORT_") || name == "GLIBC_TUNABLES"
}

/// Reads an address; twin of the CEL rules of `storageUri`.
fn location(uri: &str) -> Result<Location, String> {
    let Some((scheme, rest)) = uri.split_once("://") else {
        return Err("must start with pvc:// or file://".to_owned());
    };
    match scheme {
        "pvc" => {
            let (claim, path) = rest.split_once('/').unwrap_or((rest, ""));
            if claim.is_empty() {
                return Err("names no claim: write pvc://CLAIM/PATH".to_owned());
            }
            plain(path)?;
            Ok(Location::Claim {
                claim: claim.to_owned(),
                path: path.to_owned(),
            })
        }
        "file" => {
            let path = rest
                .strip_prefix('/')
                .ok_or("needs an absolute path: write file:///PATH")?;
            plain(path)?;
            Ok(Location::Image {
                path: format!("/{path}"),
            })
        }
        other => Err(format!(
            "{other}:// is not supported yet: put the file on a PersistentVolumeClaim (pvc://CLAIM/PATH) or into the server's image (file:///PATH)"
        )),
    }
}

/// A path of plain segments: nothing that a file system or a URL gives a meaning of its own.
fn plain(path: &str) -> Result<(), String> {
    let is_plain = |segment: &str| {
        segment.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && segment
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    if path.split('/').all(is_plain) {
        Ok(())
    } else {
        Err(
            "must name a file by plain path segments (letters, digits, '.', '_', '-'; no segment starts with a dot)"
                .to_owned(),
        )
    }
}
