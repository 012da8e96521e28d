//! The images of the project and of its tests: built when their content has changed, imported when the node lacks them.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};

use crate::access::checked;
use crate::binaries::{Binaries, short_hex};
use crate::buildah::{BASE_IMAGE, Buildah};
use crate::clock::Stopwatch;
use crate::console::progress;
use crate::control_plane::ControlPlane;
use crate::node::{CONTAINERD_SOCKET, PAUSE_IMAGE};
use crate::{paths, revision};

pub const OPERATOR: &str = "localhost/tidewright/operator:dev";
pub const INFERENCE_SERVER: &str = "localhost/tidewright/inference-server:dev";
pub const REDIS: &str = "localhost/tidewright/test-redis:dev";
pub const PROMETHEUS: &str = "localhost/tidewright/test-prometheus:dev";

/// What an image is made of.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Name and tag, as pods name it.
    pub reference: String,
    pub dockerfile: PathBuf,
    /// Files that take the place of a stage: (stage, path below `/out`, file).
    pub files: Vec<(String, String, PathBuf)>,
    /// Whether it stands on the base image.
    pub on_base: bool,
    /// Arguments of the build besides the base image.
    pub arguments: Vec<(&'static str, String)>,
}

/// An image that was built: a folder in the layout of the Open Container Initiative.
#[derive(Debug, Clone)]
pub struct Built {
    pub reference: String,
    pub layout: PathBuf,
}

/// Recipes by short name, all without names. Compiles the project's binaries first where they are needed.
pub fn named(names: &[String]) -> Result<Vec<Recipe>> {
    const ALL: [&str; 5] = ["pause", "redis", "prometheus", "operator", "inference-server"];
    let wanted: Vec<&str> = if names.is_empty() {
        ALL.to_vec()
    } else {
        names.iter().map(String::as_str).collect()
    };
    wanted
        .into_iter()
        .map(|name| match name {
            "pause" => pause(),
            "redis" => Ok(redis()),
            "prometheus" => prometheus(),
            "operator" => Ok(operator(&release_binary("tidewright-operator", "tidewright-operator")?)),
            "inference-server" => Ok(inference_server(
                &release_binary("tidewright-server", "inference-server")?,
                &onnxruntime()?,
            )),
            other => bail!("there is no image {other}: {}", ALL.join(", ")),
        })
        .collect()
}

pub fn operator(binary: &Path) -> Recipe {
    Recipe {
        reference: OPERATOR.to_owned(),
        dockerfile: paths::repository_dir().join("operator/Dockerfile"),
        files: vec![("build".to_owned(), "tidewright-operator".to_owned(), binary.to_owned())],
        on_base: true,
        arguments: labels(),
    }
}

pub fn inference_server(binary: &Path, onnxruntime: &Path) -> Recipe {
    Recipe {
        reference: INFERENCE_SERVER.to_owned(),
        dockerfile: paths::repository_dir().join("inference-server/Dockerfile"),
        files: vec![
            ("build".to_owned(), "inference-server".to_owned(), binary.to_owned()),
            (
                "onnxruntime".to_owned(),
                "libonnxruntime.so".to_owned(),
                onnxruntime.to_owned(),
            ),
        ],
        on_base: true,
        arguments: labels(),
    }
}

/// What the labels of our own images say of where they come from.
fn labels() -> Vec<(&'static str, String)> {
    vec![
        ("VERSION", env!("CARGO_PKG_VERSION").to_owned()),
        ("REVISION", revision::of_checkout()),
    ]
}

pub fn redis() -> Recipe {
    test_image(REDIS, "redis", true)
}

/// With kubectl beside it, which finds the pods.
pub fn prometheus() -> Result<Recipe> {
    let mut recipe = test_image(PROMETHEUS, "prometheus", true);
    let kubectl = Binaries::ensure()?.path("kubectl")?.to_owned();
    recipe.files.push(("kubectl".to_owned(), "kubectl".to_owned(), kubectl));
    Ok(recipe)
}

/// The image that every pod needs. Compiled here, because it has to be static.
pub fn pause() -> Result<Recipe> {
    let mut recipe = test_image(PAUSE_IMAGE, "pause", false);
    let source = recipe.dockerfile.with_file_name("pause.c");
    let folder = paths::cache_dir()?.join("images");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let binary = folder.join(format!("pause-{}", content_hash(&[&source], &[])?));
    if !binary.exists() {
        let partial = binary.with_extension(format!("{}.partial", std::process::id()));
        let output = Command::new("cc")
            .args(["-static", "-Os", "-s", "-o"])
            .arg(&partial)
            .arg(&source)
            .output()
            .context("running cc")?;
        checked(&output, "cc")?;
        fs::rename(&partial, &binary)?;
    }
    recipe.files.push(("build".to_owned(), "pause".to_owned(), binary));
    Ok(recipe)
}

fn test_image(reference: &str, folder: &str, on_base: bool) -> Recipe {
    let dockerfile = paths::source_dir().join("images").join(folder).join("Dockerfile");
    Recipe {
        reference: reference.to_owned(),
        dockerfile,
        files: Vec::new(),
        on_base,
        arguments: Vec::new(),
    }
}

/// Path of an optimised binary: in the folder that `TIDEWRIGHT_BINARIES` names, or where cargo has brought it up to date.
pub fn release_binary(package: &str, name: &str) -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("TIDEWRIGHT_BINARIES") {
        return Ok(std::path::absolute(folder)
            .context("TIDEWRIGHT_BINARIES is not a usable path")?
            .join(name));
    }
    progress(format_args!("compiling {name} (cargo build --release) …"));
    let watch = Stopwatch::start();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "build",
            "--release",
            "--locked",
            "--quiet",
            "--message-format=short",
            "--package",
            package,
            "--bin",
            name,
        ])
        .current_dir(paths::repository_dir())
        .output()
        .context("running cargo")?;
    checked(&output, "cargo build")?;
    progress(format_args!("compiled in {:.0} s", watch.seconds()));
    Ok(paths::target_dir().join("release").join(name))
}

/// Path of libonnxruntime, downloaded into the cache if it is not there.
pub fn onnxruntime() -> Result<PathBuf> {
    let script = paths::repository_dir().join("inference-server/fetch-onnxruntime.sh");
    let output = Command::new(script).output().context("running fetch-onnxruntime.sh")?;
    Ok(PathBuf::from(checked(&output, "fetch-onnxruntime.sh")?.trim()))
}

/// Builds what has changed. A second process that asks at the same time waits for the first.
pub fn build(recipes: &[Recipe]) -> Result<Vec<Built>> {
    let folder = paths::cache_dir()?.join("images");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let lock = fs::File::create(folder.join(".lock")).context("creating the lock of the images")?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .context("locking the images")?;
    recipes.iter().map(|recipe| recipe.build(&folder)).collect()
}

impl Recipe {
    fn short_name(&self) -> &str {
        let name = self.reference.rsplit('/').next().unwrap_or(&self.reference);
        name.split(':').next().unwrap_or(name)
    }

    /// Of everything that decides what the image is.
    fn hash(&self) -> Result<String> {
        let mut content: Vec<&Path> = vec![&self.dockerfile];
        content.extend(self.files.iter().map(|(_, _, file)| file.as_path()));
        let arguments: Vec<String> = self
            .arguments
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        content_hash(&content, &arguments)
    }

    fn build(&self, folder: &Path) -> Result<Built> {
        let layout = folder.join(format!("{}-{}.oci", self.short_name(), self.hash()?));
        let built = Built {
            reference: self.reference.clone(),
            layout,
        };
        if built.layout.is_dir() {
            return Ok(built);
        }
        progress(format_args!("building the image {} …", self.reference));
        let watch = Stopwatch::start();
        let buildah = Buildah::open()?;
        if self.on_base {
            buildah.ensure_base()?;
        }
        let context = tempfile::tempdir_in(folder).context("creating a build context")?;
        let mut arguments = vec![
            "build".to_owned(),
            "--quiet".to_owned(),
            "--pull=never".to_owned(),
            "--layers=false".to_owned(),
        ];
        // Equal content has an equal digest.
        arguments.extend([
            "--timestamp=0".to_owned(),
            format!("--build-arg=BASE_IMAGE={BASE_IMAGE}"),
            format!("--tag={}", self.reference),
        ]);
        arguments.extend(
            self.arguments
                .iter()
                .map(|(name, value)| format!("--build-arg={name}={value}")),
        );
        arguments.push(format!("--file={}", self.dockerfile.display()));
        for (stage, path, file) in &self.files {
            let target = context.path().join(stage).join("out").join(path);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::copy(file, &target).with_context(|| format!("copying {}", file.display()))?;
            let argument = format!("--build-context={stage}={}", context.path().join(stage).display());
            if !arguments.contains(&argument) {
                arguments.push(argument);
            }
        }
        arguments.push(context.path().display().to_string());
        buildah.run(&arguments)?;
        let partial = context.path().join("layout");
        buildah.export(&self.reference, &partial)?;
        self.forget_older(folder);
        fs::rename(&partial, &built.layout).with_context(|| format!("renaming to {}", built.layout.display()))?;
        // Layers that no image has any more.
        let _ = buildah.run(["rmi", "--prune"]);
        progress(format_args!("built it in {:.1} s", watch.seconds()));
        Ok(built)
    }

    /// Keeps the cache from growing with every change.
    fn forget_older(&self, folder: &Path) {
        let prefix = format!("{}-", self.short_name());
        for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
            let name = entry.file_name();
            let hash = name
                .to_str()
                .and_then(|name| name.strip_prefix(&prefix))
                .and_then(|rest| rest.strip_suffix(".oci"));
            if hash.is_some_and(|hash| hash.len() == HASH_DIGITS) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// Digits of `short_hex`.
const HASH_DIGITS: usize = 16;

/// Hash of the content of files, and of what else decides. By a program, because ours is compiled without optimisation and these are large.
fn content_hash(files: &[&Path], words: &[String]) -> Result<String> {
    use sha2::{Digest as _, Sha256};
    let output = Command::new("sha256sum")
        .args(files)
        .output()
        .context("running sha256sum")?;
    let text = checked(&output, "sha256sum")?;
    // The sums without the paths: a checkout elsewhere gives the same image.
    let mut sums: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    ensure!(
        sums.len() == files.len(),
        "sha256sum answered {} lines for {} files",
        sums.len(),
        files.len()
    );
    sums.extend(words.iter().map(String::as_str));
    Ok(short_hex(&Sha256::digest(sums.join(" "))))
}

/// Imports images into the node's containerd, unless it has just these already. Returns how many were new.
pub fn import(control_plane: &ControlPlane, images: &[Built]) -> Result<usize> {
    let known = ctr(control_plane, &["images", "ls"])?;
    let mut missing = Vec::new();
    for image in images {
        let manifest = manifest_of(&image.layout)?;
        let digest = manifest["digest"].as_str().context("an image layout without digest")?;
        let is_there = known.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(&image.reference) && words.any(|word| word == digest)
        });
        if !is_there {
            missing.push((image, manifest));
        }
    }
    if missing.is_empty() {
        return Ok(0);
    }
    let folder = control_plane.dir().join("import");
    fs::create_dir_all(folder.join("blobs/sha256"))?;
    let mut manifests = Vec::new();
    for (image, mut manifest) in missing.iter().cloned() {
        // Images share their base: each blob travels once.
        for blob in fs::read_dir(image.layout.join("blobs/sha256"))? {
            let blob = blob?;
            let target = folder.join("blobs/sha256").join(blob.file_name());
            if !target.exists() {
                fs::hard_link(blob.path(), &target).with_context(|| format!("linking {}", target.display()))?;
            }
        }
        manifest["annotations"] = json!({"io.containerd.image.name": image.reference});
        manifests.push(manifest);
    }
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    fs::write(
        folder.join("index.json"),
        serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": manifests}))?,
    )?;
    let archive = control_plane.dir().join("import.tar");
    let output = Command::new("tar")
        .arg("--create")
        .arg("--file")
        .arg(&archive)
        .arg("--directory")
        .arg(&folder)
        .arg(".")
        .output()?;
    checked(&output, "tar")?;
    let outcome = ctr(
        control_plane,
        &["images", "import", "--local", &archive.display().to_string()],
    );
    fs::remove_dir_all(&folder)?;
    fs::remove_file(&archive)?;
    outcome?;
    Ok(missing.len())
}

fn manifest_of(layout: &Path) -> Result<Value> {
    let path = layout.join("index.json");
    let index: Value =
        serde_json::from_slice(&fs::read(&path).with_context(|| format!("reading {}", path.display()))?)?;
    match index["manifests"].as_array().map(Vec::as_slice) {
        Some([manifest]) => Ok(manifest.clone()),
        _ => bail!("{} does not hold one image", path.display()),
    }
}

/// Runs containerd's client on the node, in the namespace of Kubernetes.
pub(crate) fn ctr(control_plane: &ControlPlane, arguments: &[&str]) -> Result<String> {
    let mut command = control_plane.sandbox().command(control_plane.binaries().path("ctr")?)?;
    command
        .args(["--address", CONTAINERD_SOCKET, "--namespace", "k8s.io"])
        .args(arguments);
    checked(&command.output().context("running ctr")?, "ctr")
}
