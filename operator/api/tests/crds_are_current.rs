//! The committed CRDs are the generated ones; `UPDATE=1` rewrites them.

use std::path::PathBuf;

const HEAD: &str =
    "# Generated from operator/api by its test crds_are_current; do not edit. Refresh with `make crds`.\n";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../crds")
}

#[test]
fn crds_are_current() {
    for crd in tidewright_api::crd::all_crds() {
        let path = folder().join(format!("{}.yaml", crd.metadata.name.as_deref().unwrap()));
        let want = format!("{HEAD}{}", tidewright_api::crd::to_yaml(&crd).unwrap());
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &want).unwrap();
        }
        let have = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            have == want,
            "{} is not what operator/api says: run `make crds` and commit the result",
            path.display()
        );
    }
}
