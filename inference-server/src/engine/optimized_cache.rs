//! Optimised models kept from one start to the next: a folder of files, each named by everything that its contents depend on.
//!
//! What is found here is loaded without a trial and without optimising again. So the folder must belong to the server, as its binary does; what
//! is checked is damage (a checksum over the contents), mistaken identity (the whole key stands in the file) and size.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tidewright_contract::config::{ExecutionProvider, GraphOptimization};
use xxhash_rust::xxh3::xxh3_128;

use crate::clock;
use crate::model::source::hex;

/// First bytes of an entry; the number changes with its layout and with the options of the sessions that make the model.
const MAGIC: &[u8; 8] = b"TWOPT002";
const DIGEST_BYTES: usize = 32;
/// Of the contents. Who starts waits for it: a cryptographic digest takes many times as long, and keeps nobody out who can write here.
const CHECKSUM_BYTES: usize = 16;
const HEADER_BYTES: usize = MAGIC.len() + DIGEST_BYTES + CHECKSUM_BYTES;
const EXTENSION: &str = "optimized";
/// Of a file that is being written. One that is older than [`PART_AGE_MAX`] was left by a process that died.
const PART_EXTENSION: &str = "part";
const PART_AGE_MAX: Duration = Duration::from_secs(3600);

/// Everything that the optimised form of a model depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key([u8; DIGEST_BYTES]);

/// What goes into a key.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// `sha256:…` of the model's file, which must hold all its weights.
    pub digest: &'a str,
    /// Version and build of ONNX Runtime.
    pub runtime: &'a str,
    /// What the processor can do, see [`cpu_features`].
    pub cpu: &'a str,
    pub provider: ExecutionProvider,
    /// How far it was optimised.
    pub level: GraphOptimization,
}

impl Key {
    /// A digest of the parts; each is preceded by its length, so that no two lists of parts are the same bytes.
    pub fn new(parts: Parts<'_>) -> Self {
        let mut hasher = Sha256::new();
        let Parts {
            digest,
            runtime,
            cpu,
            provider,
            level,
        } = parts;
        // What is kept is not checked again: another version of the server may check more.
        let server = env!("CARGO_PKG_VERSION");
        for part in [server, digest, runtime, cpu, provider.as_str(), level.as_str()] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        Self(hasher.finalize().into())
    }
}

/// The instructions that this machine's processor has, in a fixed order: kernels and memory layouts are chosen by them.
pub fn cpu_features() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    features_of(&text)
}

fn features_of(cpuinfo: &str) -> String {
    // x86 says "flags", Arm says "Features"; the first processor speaks for all.
    let line = cpuinfo.lines().find_map(|line| {
        let (name, list) = line.split_once(':')?;
        ["flags", "Features"].contains(&name.trim()).then_some(list)
    });
    let mut features: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
    features.sort_unstable();
    format!("{} {}", std::env::consts::ARCH, features.join(" "))
}

/// A folder of optimised models.
#[derive(Debug, Clone)]
pub struct OptimizedCache {
    folder: PathBuf,
    bytes_max: u64,
}

/// An optimised model that was found.
#[derive(Debug)]
pub struct Entry(Vec<u8>);

impl Entry {
    /// The model's bytes.
    pub fn model(&self) -> &[u8] {
        &self.0[HEADER_BYTES..]
    }
}

impl OptimizedCache {
    /// The cache in this folder, which is made when it is not there. All entries together have at most so many bytes.
    pub fn new(folder: impl Into<PathBuf>, bytes_max: u64) -> io::Result<Self> {
        let folder = folder.into();
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, bytes_max })
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.folder.join(format!("{}.{EXTENSION}", hex(&key.0)))
    }

    /// The entry of this key. One that is damaged, cut off or another's is as good as none, and said in the log.
    pub fn load(&self, key: &Key) -> Option<Entry> {
        let path = self.path(key);
        match self.read(&path, key) {
            Ok(entry) => Some(entry),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(%error, file = %path.display(), "an optimised model cannot be used, it is made anew");
                None
            }
        }
    }

    fn read(&self, path: &Path, key: &Key) -> io::Result<Entry> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        if length > self.bytes_max {
            return Err(wrong("larger than the cache may be"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        (&file).take(self.bytes_max).read_to_end(&mut bytes)?;
        let (Some(magic), Some(owner), Some(checksum), Some(model)) = (
            bytes.get(..MAGIC.len()),
            bytes.get(MAGIC.len()..MAGIC.len() + DIGEST_BYTES),
            bytes.get(MAGIC.len() + DIGEST_BYTES..HEADER_BYTES),
            bytes.get(HEADER_BYTES..),
        ) else {
            return Err(wrong("cut off"));
        };
        if magic != MAGIC || owner != key.0 {
            return Err(wrong("not an optimised model of this key"));
        }
        if checksum_of(model)[..] != *checksum {
            return Err(wrong("damaged"));
        }
        // The least recently used goes first. A folder that cannot be written serves all the same.
        let _ = file.set_times(FileTimes::new().set_modified(clock::wall()));
        Ok(Entry(bytes))
    }

    /// Keeps a model: written beside its place and moved there whole. Older entries make room.
    pub fn store(&self, key: &Key, model: &[u8]) -> io::Result<()> {
        let length = (HEADER_BYTES + model.len()) as u64;
        if length > self.bytes_max {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("{length} bytes are more than the cache may have"),
            ));
        }
        let path = self.path(key);
        // Two servers may share the folder, and two threads the process: the last one wins, with the same contents.
        let part = path.with_extension(format!(
            "{}-{:?}.{PART_EXTENSION}",
            std::process::id(),
            std::thread::current().id()
        ));
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&part)
            .and_then(|mut file| {
                file.write_all(MAGIC)?;
                file.write_all(&key.0)?;
                file.write_all(&checksum_of(model))?;
                file.write_all(model)
            })
            .and_then(|()| fs::rename(&part, &path));
        if written.is_err() {
            let _ = fs::remove_file(&part);
        }
        written?;
        self.make_room(&path, clock::wall())
    }

    fn make_room(&self, keep: &Path, now: SystemTime) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let path = entry.path();
            // Another server may have removed it since.
            let Ok(facts) = entry.metadata() else { continue };
            let modified = facts.modified()?;
            match path.extension().and_then(|extension| extension.to_str()) {
                Some(EXTENSION) => entries.push((modified, facts.len(), path)),
                Some(PART_EXTENSION) if now.duration_since(modified).is_ok_and(|age| age > PART_AGE_MAX) => {
                    let _ = fs::remove_file(path);
                }
                _ => {}
            }
        }
        entries.sort();
        let mut total: u64 = entries.iter().map(|(_, length, _)| length).sum();
        for (_, length, path) in entries {
            if total <= self.bytes_max {
                break;
            }
            if path != keep && fs::remove_file(&path).is_ok() {
                total -= length;
            }
        }
        Ok(())
    }
}

fn checksum_of(model: &[u8]) -> [u8; CHECKSUM_BYTES] {
    xxh3_128(model).to_le_bytes()
}

#[cfg(test)]
#[path = "optimized_cache_tests.rs"]
mod tests;
