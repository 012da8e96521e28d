//! Models that could not be loaded, as told to whoever may not see the server's files.

use std::path::Path;

use serde::Serialize;
use tidewright_contract::exit::Reason;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    pub name: String,
    pub version: String,
    pub reason: Reason,
    pub message: String,
}

/// What stands for a path.
const ELLIPSIS: &str = "…";

/// The sentence without this path, and without every word that may be one.
pub fn without_paths(message: &str, path: &Path) -> String {
    // First as a whole: it may have blanks.
    let message = message.replace(&*path.to_string_lossy(), ELLIPSIS);
    let word = |word| {
        if str::contains(word, ['/', '\\']) {
            ELLIPSIS
        } else {
            word
        }
    };
    message.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_is_left() {
        let path = Path::new("/data/my models/x");
        for (message, expected) in [
            ("no model at /data/my models/x: not there", "no model at …: not there"),
            (
                "cannot read /data/my models/x/model.onnx: denied",
                "cannot read … denied",
            ),
            ("it reads \"/etc/passwd\" and ..\\y", "it reads … and …"),
            ("the file is not an ONNX model", "the file is not an ONNX model"),
        ] {
            assert_eq!(without_paths(message, path), expected);
        }
    }
}
