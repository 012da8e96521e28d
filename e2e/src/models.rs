//! The models that the demo and the tests serve: trained here, from pinned packages, and kept in the cache.
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::clock::Stopwatch;
use crate::console::progress;
use crate::paths;

/// Pixels of an image, row by row.
pub const PIXELS: usize = 64;
/// Name of the classifiers' input.
pub const INPUT: &str = "pixels";

/// One held-out image and what is known about it.
#[derive(Debug, Clone)]
pub struct Digit {
    /// 0 (white) to 16 (black).
    pub pixels: Vec<u8>,
    /// What the person wrote.
    pub label: u8,
    /// What ONNX Runtime itself answers for the image, called from Python on this machine: a server must say the same.
    pub predicted: u8,
    /// Its probabilities of the ten digits.
    pub probabilities: Vec<f32>,
}

/// A trained classifier of handwritten digits.
#[derive(Debug, Clone)]
pub struct Classifier {
    /// Name of the model, and of its file without `.onnx`.
    pub name: String,
    pub onnx: PathBuf,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Share of the held-out images whose label is predicted.
    pub accuracy: f64,
    pub images: Vec<Digit>,
}

/// Every model.
#[derive(Debug, Clone)]
pub struct Models {
    /// Layers of 128 and 64: about 20 µs per image.
    pub digits: Classifier,
    /// Layers of 1024 and 512: about 0.1 ms per image alone, 10 µs in a big batch.
    pub digits_wide: Classifier,
}

/// A model of one input `x` FP32 [N,1] and one output `y` = 2 x, whose run takes about 60 ms of one core per item however items are grouped.
pub fn slow_model() -> PathBuf {
    paths::repository_dir().join("inference-server/tests/models/slow.onnx")
}

/// What the slow model does per item: products of matrices, as `turns_per_item` of inference-server/tests/models/generate.py.
const SLOW_TURNS: i64 = 180;

/// The slow model with another amount of work per item: `turns` out of 180.
pub fn slow_model_of(turns: i64) -> Result<Vec<u8>> {
    let path = slow_model();
    let mut model = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let (wanted, old) = (turns.to_le_bytes(), SLOW_TURNS.to_le_bytes());
    let places: Vec<usize> = (0..model.len()).filter(|at| model[*at..].starts_with(&old)).collect();
    let [place] = places.as_slice() else {
        bail!("{} has its amount of work in {} places", path.display(), places.len());
    };
    if let Some(turns) = model.get_mut(*place..*place + wanted.len()) {
        turns.copy_from_slice(&wanted);
    }
    Ok(model)
}

/// The same model, with so many bytes more that mean nothing: a field that ONNX does not know. A reader keeps unknown fields in memory.
pub fn padded(model: &[u8], bytes: usize) -> Vec<u8> {
    /// Number of the field, far from those of ONNX, and the wire type of protobuf for bytes.
    const FIELD: u64 = 10_000;
    const BYTES: u64 = 2;
    let mut padded = Vec::with_capacity(model.len() + bytes + 16);
    padded.extend_from_slice(model);
    for mut number in [(FIELD << 3) | BYTES, bytes as u64] {
        while number > 0x7f {
            padded.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        padded.push(number as u8);
    }
    padded.resize(padded.len() + bytes, b'x');
    padded
}

/// As train_digits.py writes it.
#[derive(Deserialize)]
struct Facts {
    digest: String,
    accuracy: f64,
    pixels: Vec<Vec<u8>>,
    labels: Vec<u8>,
    predicted: Vec<u8>,
    probabilities: Vec<Vec<f32>>,
}

impl Models {
    /// Trains what the cache lacks: about half a minute the first time, most of it the download of the packages.
    pub fn ensure() -> Result<Self> {
        let dir = ensure_trained()?;
        Ok(Self {
            digits: Classifier::read(&dir, "digits")?,
            digits_wide: Classifier::read(&dir, "digits-wide")?,
        })
    }
}

impl Classifier {
    fn read(dir: &Path, name: &str) -> Result<Self> {
        let onnx = dir.join(format!("{name}.onnx"));
        let facts_path = dir.join(format!("{name}.json"));
        let text = fs::read(&facts_path).with_context(|| format!("reading {}", facts_path.display()))?;
        let facts: Facts =
            serde_json::from_slice(&text).with_context(|| format!("reading {}", facts_path.display()))?;
        let model = fs::read(&onnx).with_context(|| format!("reading {}", onnx.display()))?;
        let found = format!("sha256:{}", hex(&Sha256::digest(&model)));
        ensure!(
            found == facts.digest,
            "{} has the digest {found}, not {}: remove {} and train again",
            onnx.display(),
            facts.digest,
            dir.display()
        );
        let images: Vec<Digit> = facts
            .pixels
            .into_iter()
            .zip(facts.labels)
            .zip(facts.predicted.into_iter().zip(facts.probabilities))
            .map(|((pixels, label), (predicted, probabilities))| Digit {
                pixels,
                label,
                predicted,
                probabilities,
            })
            .collect();
        ensure!(
            !images.is_empty()
                && images
                    .iter()
                    .all(|image| image.pixels.len() == PIXELS && image.probabilities.len() == 10),
            "{} does not hold images of {PIXELS} pixels",
            facts_path.display()
        );
        Ok(Self {
            name: name.to_owned(),
            onnx,
            digest: facts.digest,
            accuracy: facts.accuracy,
            images,
        })
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn key(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(part);
    }
    hex(hash.finalize().get(..8).unwrap_or_default())
}

fn ensure_trained() -> Result<PathBuf> {
    let source = paths::source_dir().join("models");
    let read = |name: &str| {
        let path = source.join(name);
        fs::read(&path).with_context(|| format!("reading {}", path.display()))
    };
    let (requirements, script) = (read("requirements.txt")?, read("train_digits.py")?);
    let root = paths::cache_dir()?.join("models");
    let done = root.join(format!("digits-{}", key(&[&requirements, &script])));
    if done.is_dir() {
        return Ok(done);
    }
    fs::create_dir_all(&root).with_context(|| format!("creating {}", root.display()))?;
    let lock_file = fs::File::create(root.join(".lock")).context("creating a lock in the cache")?;
    let _lock = Flock::lock(lock_file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .context("locking the cache")?;
    if done.is_dir() {
        return Ok(done);
    }
    let packages = ensure_packages(&source.join("requirements.txt"), &requirements)?;
    progress("training the digits classifiers …");
    let watch = Stopwatch::start();
    let partial = fresh_dir(&root.join(".partial"))?;
    let script_path = source.join("train_digits.py");
    // Without -I a PYTHONPATH or a user's own packages could stand in for the pinned ones.
    let printed = python(&["-I".as_ref(), script_path.as_ref(), packages.as_ref(), partial.as_ref()])?;
    for line in printed.lines() {
        progress(format_args!("  {line}"));
    }
    fs::rename(&partial, &done).with_context(|| format!("renaming to {}", done.display()))?;
    progress(format_args!("trained in {:.0} s", watch.seconds()));
    Ok(done)
}

/// The packages of requirements.txt in a folder of their own: `--target` needs pip alone, where a virtual environment needs a further Debian package.
fn ensure_packages(requirements_path: &Path, requirements: &[u8]) -> Result<PathBuf> {
    let tag = python(&[
        "-c".as_ref(),
        "import sys; print(sys.implementation.cache_tag)".as_ref(),
    ])
    .context("training the demo's model needs python3 (Debian: apt-get install python3 python3-pip)")?;
    let root = paths::cache_dir()?.join("python");
    let done = root.join(format!("{}-{}", tag.trim(), key(&[requirements])));
    if done.is_dir() {
        return Ok(done);
    }
    progress("installing scikit-learn, skl2onnx and onnxruntime into the cache …");
    let watch = Stopwatch::start();
    fs::create_dir_all(&root).with_context(|| format!("creating {}", root.display()))?;
    let partial = fresh_dir(&root.join(".partial"))?;
    let arguments = [
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--quiet",
        "--no-deps",
        "--require-hashes",
    ];
    let mut arguments: Vec<&std::ffi::OsStr> = arguments.iter().map(AsRef::as_ref).collect();
    let options = ["--only-binary=:all:", "--root-user-action=ignore", "--target"];
    arguments.extend(options.iter().map(AsRef::<std::ffi::OsStr>::as_ref));
    arguments.extend([
        partial.as_os_str(),
        "--requirement".as_ref(),
        requirements_path.as_os_str(),
    ]);
    python(&arguments)
        .context("installing the packages (needs pip, on Debian python3-pip, and Python 3.11 or newer)")?;
    fs::rename(&partial, &done).with_context(|| format!("renaming to {}", done.display()))?;
    progress(format_args!("installed in {:.0} s", watch.seconds()));
    Ok(done)
}

fn fresh_dir(path: &Path) -> Result<PathBuf> {
    if path.exists() {
        fs::remove_dir_all(path).with_context(|| format!("removing {}", path.display()))?;
    }
    fs::create_dir_all(path).with_context(|| format!("creating {}", path.display()))?;
    Ok(path.to_owned())
}

fn python(arguments: &[&std::ffi::OsStr]) -> Result<String> {
    let output = Command::new("python3")
        .args(arguments)
        // ONNX Runtime reports to its makers unless it is told not to.
        .env("ORT_DISABLE_TELEMETRY", "1")
        .output()
        .context("running python3")?;
    if !output.status.success() {
        bail!(
            "python3 failed ({}):\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_every_part_and_on_where_parts_end() {
        assert_eq!(key(&[b"ab", b"c"]), key(&[b"ab", b"c"]));
        assert_ne!(key(&[b"ab", b"c"]), key(&[b"a", b"bc"]));
        assert_ne!(key(&[b"ab", b"c"]), key(&[b"ab", b"d"]));
    }

    #[test]
    fn the_classifiers_are_trained_and_know_their_images() {
        let models = Models::ensure().unwrap();
        for classifier in [&models.digits, &models.digits_wide] {
            assert_eq!(classifier.images.len(), 450);
            assert!(classifier.accuracy > 0.95, "{}", classifier.accuracy);
            let right = classifier
                .images
                .iter()
                .filter(|image| image.label == image.predicted)
                .count();
            assert!((right as f64 / 450.0 - classifier.accuracy).abs() < 1e-9);
            for image in &classifier.images {
                let (best, _) = image
                    .probabilities
                    .iter()
                    .enumerate()
                    .max_by(|a, b| a.1.total_cmp(b.1))
                    .unwrap();
                assert_eq!(best, usize::from(image.predicted));
            }
        }
        assert!(slow_model().is_file());
    }

    #[test]
    fn the_slow_model_may_be_less_slow() {
        let whole = fs::read(slow_model()).unwrap();
        let half = slow_model_of(90).unwrap();
        let differ: Vec<(u8, u8)> = whole
            .iter()
            .copied()
            .zip(half.iter().copied())
            .filter(|(a, b)| a != b)
            .collect();
        assert_eq!((whole.len(), differ), (half.len(), vec![(180, 90)]));
    }

    #[test]
    fn padding_is_a_field_of_protobuf_with_its_length() {
        let padded = padded(b"model", 300);
        // 10 000 * 8 + 2 = 80 002 and 300, seven bits at a time, the lowest first.
        assert_eq!(
            padded[..10],
            [b'm', b'o', b'd', b'e', b'l', 0x82, 0xf1, 0x04, 0xac, 0x02]
        );
        assert_eq!(padded.len(), 10 + 300);
    }

    #[test]
    fn a_damaged_model_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let trained = Models::ensure().unwrap().digits;
        fs::write(dir.path().join("digits.onnx"), b"not the model").unwrap();
        fs::copy(trained.onnx.with_extension("json"), dir.path().join("digits.json")).unwrap();
        let message = Classifier::read(dir.path(), "digits").unwrap_err().to_string();
        assert!(message.contains("train again"), "{message}");
    }
}
