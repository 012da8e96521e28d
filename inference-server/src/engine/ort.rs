//! ONNX Runtime: the library, sessions, runs.
//!
//! One session per worker thread and one thread inside a session by default; no spinning unless asked for: on shared cores it costs more than half
//! of the throughput. Tensors are handed over as views of our buffers; outputs are copied out once.

use std::env;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::memfd::{MFdFlags, memfd_create};
use ort::environment::Environment;
use ort::ep::{self, ExecutionProviderDispatch};
use ort::logging::LogLevel;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Tensor as OrtTensor, TensorElementType, TensorRef};
use tidewright_contract::config::{ExecutionProvider, GraphOptimization};
use tidewright_contract::exit::Reason;
use tracing::level_filters::LevelFilter;

use super::shared::SharedModel;
use super::{Engine, RunError, types};
use crate::model::signature::Signature;
use crate::model::source::{LoadError, Pinned};
use crate::tensor::{Tensor, Values};

/// The environment variable that names the library.
const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";
/// Where the library is looked for when the variable is not set: the dynamic linker's own search.
const LIBRARY_DEFAULT: &str = "libonnxruntime.so";

/// Session option: where a model that comes as bytes has its external data.
const WEIGHTS_FOLDER_KEY: &str = "session.model_external_initializers_file_folder_path";

/// The library that the environment names.
pub fn library_path() -> PathBuf {
    env::var_os(LIBRARY_VARIABLE)
        .filter(|path| !path.is_empty())
        .map_or_else(|| PathBuf::from(LIBRARY_DEFAULT), PathBuf::from)
}

/// The loaded library. One per process, kept for its life.
#[derive(Debug, Clone)]
pub struct Runtime {
    environment: Environment,
    version: String,
    build: &'static str,
}

impl Runtime {
    /// Loads the library from this file.
    pub fn load(library: &Path) -> Result<Self, LoadError> {
        let failed = |error: &dyn std::fmt::Display| {
            LoadError::new(
                Reason::RuntimeUnavailable,
                format!(
                    "cannot use ONNX Runtime's library {} (set {LIBRARY_VARIABLE}): {error}",
                    library.display()
                ),
            )
        };
        let builder = ort::init_from(library).map_err(|error| failed(&error))?;
        let environment = builder
            .with_name("inference-server")
            .with_telemetry(false)
            .build()
            .map_err(|error| failed(&error))?;
        environment.set_log_level(log_level(LevelFilter::current()));
        let build = ort::info();
        Ok(Self {
            environment,
            version: version(library, build),
            build,
        })
    }

    /// Version of the library, as in `1.32.0`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What the library says of its build: branch, commit, compile flags. Two libraries that could compute differently differ here.
    pub fn build(&self) -> &str {
        self.build
    }
}

/// What the library says to whoever logs so much. Left alone it writes out everything, with every run, and `tracing` throws it away.
fn log_level(wanted: LevelFilter) -> LogLevel {
    match wanted {
        LevelFilter::TRACE => LogLevel::Verbose,
        LevelFilter::DEBUG => LogLevel::Info,
        _ => LogLevel::Warning,
    }
}

/// The version in the file's name (`libonnxruntime.so.1.32.0`), or the commit in `ORT Build Info: git-branch=HEAD, git-commit-id=…`: the
/// library's own number is not in the interface that we use.
fn version(library: &Path, build: &str) -> String {
    let real = library.canonicalize().unwrap_or_else(|_| library.to_owned());
    let name = real.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if let Some((_, version)) = name.split_once(".so.") {
        return version.to_owned();
    }
    let commit = build
        .split([',', ' '])
        .find_map(|word| word.strip_prefix("git-commit-id="));
    commit.map_or_else(|| "unknown".to_owned(), |commit| format!("commit {commit}"))
}

/// What is the same for all sessions of one model.
#[derive(Debug, Clone)]
pub struct SessionPlan {
    pub runtime: Runtime,
    pub model: Pinned,
    pub provider: ExecutionProvider,
    pub intra_op_threads: usize,
    pub spinning: bool,
    pub graph_optimization: GraphOptimization,
    /// When set, sessions are made of this and not of the file. It never changes, unlike the file.
    pub shared: Option<Arc<SharedModel>>,
}

/// A session and its signature.
pub struct OrtEngine {
    session: Session,
    input_names: Vec<String>,
    output_count: usize,
}

impl SessionPlan {
    /// Makes a session and reads its signature.
    pub fn open(&self) -> Result<(OrtEngine, Signature), LoadError> {
        let Some(shared) = &self.shared else {
            return engine(self.open_file(self.builder(self.level())?)?);
        };
        // The graph is optimised already.
        let builder = self.builder(GraphOptimizationLevel::Disable)?;
        let session = shared.give_weights(builder)?.commit_from_memory(shared.skeleton());
        engine(session.map_err(|error| refusal(error.message()))?)
    }

    /// The graph as ONNX Runtime optimises it for this machine, as a model file.
    pub fn optimize(&self) -> Result<Vec<u8>, LoadError> {
        let file = memory_file()?;
        // The session is let go at once: repacking its weights would be for nothing.
        let builder = self.saving_builder(&file)?.with_prepacking(false).map_err(refused)?;
        self.open_file(builder)?;
        read_back(&file)
    }

    /// A session of the file, whose optimised graph is saved as well.
    pub fn open_and_save(&self, to: &File) -> Result<(OrtEngine, Signature), LoadError> {
        engine(self.open_file(self.saving_builder(to)?)?)
    }

    fn level(&self) -> GraphOptimizationLevel {
        match self.graph_optimization {
            GraphOptimization::Disabled => GraphOptimizationLevel::Disable,
            GraphOptimization::Basic => GraphOptimizationLevel::Level1,
            GraphOptimization::Extended => GraphOptimizationLevel::Level2,
            GraphOptimization::All => GraphOptimizationLevel::All,
        }
    }

    fn saving_builder(&self, to: &File) -> Result<SessionBuilder, LoadError> {
        self.builder(self.level())?
            .with_optimized_model_path(format!("/proc/self/fd/{}", to.as_raw_fd()))
            .map_err(refused)?
            // The warning that the graph is of use on this kind of machine only: that is why it is kept by the machine's features.
            .with_log_level(LogLevel::Error)
            .map_err(refused)
    }

    /// The runtime gets bytes whose digest was looked at, not the name of a file that may hold others when it is opened. Weights beside the file
    /// are found by the folder.
    fn open_file(&self, builder: SessionBuilder) -> Result<Session, LoadError> {
        let bytes = self.model.read()?;
        let folder = match self.model.file.parent() {
            Some(folder) if folder != Path::new("") => folder.to_string_lossy(),
            _ => ".".into(),
        };
        builder
            .with_config_entry(WEIGHTS_FOLDER_KEY, folder)
            .map_err(refused)?
            .commit_from_memory(&bytes)
            .map_err(|error| refusal(error.message()))
    }

    fn builder(&self, level: GraphOptimizationLevel) -> Result<SessionBuilder, LoadError> {
        let builder = Session::builder(&self.runtime.environment)
            .map_err(|error| LoadError::new(Reason::RuntimeUnavailable, clean(error.message())))?;
        let builder = builder
            .with_optimization_level(level)
            .map_err(refused)?
            .with_intra_threads(self.intra_op_threads)
            .map_err(refused)?
            .with_inter_threads(1)
            .map_err(refused)?
            .with_intra_op_spinning(self.spinning)
            .map_err(refused)?;
        let providers = providers(self.provider);
        if providers.is_empty() {
            return Ok(builder);
        }
        builder.with_execution_providers(providers).map_err(|error| {
            LoadError::new(
                Reason::ProviderUnavailable,
                format!("{}: {}", self.provider, clean(error.message())),
            )
        })
    }
}

/// Providers to register, each of which must work. TensorRT leaves what it cannot run to CUDA.
fn providers(provider: ExecutionProvider) -> Vec<ExecutionProviderDispatch> {
    let cuda = || ep::CUDA::default().build().error_on_failure();
    match provider {
        ExecutionProvider::Cpu => Vec::new(),
        ExecutionProvider::Cuda => vec![cuda()],
        ExecutionProvider::Tensorrt => vec![ep::TensorRT::default().build().error_on_failure(), cuda()],
    }
}

fn engine(session: Session) -> Result<(OrtEngine, Signature), LoadError> {
    let signature = types::signature(session.inputs(), session.outputs())?;
    let input_names = signature.inputs.iter().map(|slot| slot.name.to_string()).collect();
    let output_count = signature.outputs.len();
    Ok((
        OrtEngine {
            session,
            input_names,
            output_count,
        },
        signature,
    ))
}

/// A file without a name that lives in memory, since the server's file system may be read-only. Child processes inherit it.
pub fn memory_file() -> Result<File, LoadError> {
    memfd_create("optimized-model", MFdFlags::empty())
        .map(File::from)
        .map_err(|error| unsaved(&error))
}

/// All of it, wherever others have read or written it: they have descriptions of their own.
pub fn read_back(mut file: &File) -> Result<Vec<u8>, LoadError> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|error| unsaved(&error))?;
    Ok(bytes)
}

fn unsaved(error: &dyn std::fmt::Display) -> LoadError {
    LoadError::new(
        Reason::ModelLoadFailed,
        format!("cannot save the optimised model: {error}"),
    )
}

fn refused(error: ort::Error<SessionBuilder>) -> LoadError {
    LoadError::new(Reason::RuntimeUnavailable, clean(error.message()))
}

/// The runtime's refusal of a model. Its error codes say too little: an unknown operator is a "failure", one without a kernel "not implemented".
fn refusal(message: &str) -> LoadError {
    const UNKNOWN_OPERATOR: [&str; 3] = [
        "is not a registered function/op",
        "No Op registered for",
        "Could not find an implementation for",
    ];
    let reason = if UNKNOWN_OPERATOR.iter().any(|words| message.contains(words)) {
        Reason::UnsupportedOperator
    } else {
        Reason::ModelLoadFailed
    };
    LoadError::new(reason, format!("ONNX Runtime refuses the model: {}", clean(message)))
}

/// The runtime's message without the build machine's paths and in one line.
fn clean(message: &str) -> String {
    let tail = message
        .rsplit_once("Status Message: ")
        .map_or(message, |(_, tail)| tail);
    let words: Vec<&str> = tail
        .split_whitespace()
        .filter(|word| !word.contains("onnxruntime_src/"))
        .collect();
    words.join(" ").chars().take(500).collect()
}

impl Engine for OrtEngine {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        let mut values: Vec<(&str, SessionInputValue<'_>)> = Vec::with_capacity(inputs.len());
        for (name, tensor) in self.input_names.iter().zip(inputs) {
            values.push((name, view(tensor).map_err(|error| failed(&error))?));
        }
        let outputs = self.session.run(values).map_err(|error| failed(&error))?;
        let tensors: Option<Vec<Tensor>> = outputs.values().map(|value| extract(&value)).collect();
        match tensors {
            Some(tensors) if tensors.len() == self.output_count => Ok(tensors),
            _ => Err(RunError::Failed(
                "the model's outputs are not the tensors that it declares".to_owned(),
            )),
        }
    }
}

/// A message for the client: nothing but the runtime's own sentence, and not even that when it shows a path.
fn failed(error: &ort::Error) -> RunError {
    tracing::debug!(message = error.message(), "run failed");
    let message = clean(error.message());
    let shown = if message.contains('/') {
        "no details".to_owned()
    } else {
        message
    };
    match error.code() {
        ort::ErrorCode::InvalidArgument => RunError::Input(shown),
        _ => RunError::Failed(shown),
    }
}

fn view(tensor: &Tensor) -> ort::Result<SessionInputValue<'_>> {
    let shape = tensor.shape();
    macro_rules! view {
        ($values:expr) => {
            Ok(TensorRef::from_array_view((shape, $values.as_slice()))?.into())
        };
    }
    match tensor.values() {
        Values::Bool(values) => view!(values),
        Values::Uint8(values) => view!(values),
        Values::Uint16(values) => view!(values),
        Values::Uint32(values) => view!(values),
        Values::Uint64(values) => view!(values),
        Values::Int8(values) => view!(values),
        Values::Int16(values) => view!(values),
        Values::Int32(values) => view!(values),
        Values::Int64(values) => view!(values),
        Values::Fp16(values) => view!(values),
        Values::Bf16(values) => view!(values),
        Values::Fp32(values) => view!(values),
        Values::Fp64(values) => view!(values),
        Values::Bytes(values) => Ok(OrtTensor::from_string_array((shape, values.as_slice()))?.into()),
    }
}

fn extract(value: &DynValue) -> Option<Tensor> {
    macro_rules! extract {
        ($kind:ty, $variant:ident) => {{
            let (shape, values) = value.try_extract_tensor::<$kind>().ok()?;
            (dimensions(shape)?, Values::$variant(values.to_vec()))
        }};
    }
    let (shape, values) = match value.dtype().tensor_type()? {
        TensorElementType::Bool => extract!(bool, Bool),
        TensorElementType::Uint8 => extract!(u8, Uint8),
        TensorElementType::Uint16 => extract!(u16, Uint16),
        TensorElementType::Uint32 => extract!(u32, Uint32),
        TensorElementType::Uint64 => extract!(u64, Uint64),
        TensorElementType::Int8 => extract!(i8, Int8),
        TensorElementType::Int16 => extract!(i16, Int16),
        TensorElementType::Int32 => extract!(i32, Int32),
        TensorElementType::Int64 => extract!(i64, Int64),
        TensorElementType::Float16 => extract!(half::f16, Fp16),
        TensorElementType::Bfloat16 => extract!(half::bf16, Bf16),
        TensorElementType::Float32 => extract!(f32, Fp32),
        TensorElementType::Float64 => extract!(f64, Fp64),
        TensorElementType::String => {
            let (shape, values) = value.try_extract_strings().ok()?;
            (dimensions(shape)?, Values::Bytes(values))
        }
        _ => return None,
    };
    Tensor::new(shape, values)
}

fn dimensions(shape: &[i64]) -> Option<Vec<usize>> {
    shape.iter().map(|size| usize::try_from(*size).ok()).collect()
}

impl std::fmt::Debug for OrtEngine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("OrtEngine")
            .field("inputs", &self.input_names)
            .finish_non_exhaustive()
    }
}
