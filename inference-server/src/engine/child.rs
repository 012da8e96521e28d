//! Asks a child process to load a model on trial, and turns every way in which it can end into a report or a clear sentence.

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use tidewright_contract::config::ExecutionProvider;
use tidewright_contract::exit::Reason;

use super::probe::{Answer, Limits, Report, Request};
use crate::model::source::LoadError;

/// What ONNX Runtime, its libraries and thread stacks take before a model is there, with room for the temporary copies of a small one.
const ADDRESS_SPACE_BASE_BYTES: u64 = 2 << 30;
/// While a model is loaded it exists as file, as parsed message, as tensors, as folded constants and in the layout of the kernels.
const ADDRESS_SPACE_PER_MODEL_BYTE: u64 = 8;
/// A thread's stack, and the part of the address space that the allocator sets aside for it.
const ADDRESS_SPACE_PER_THREAD_BYTES: u64 = 256 << 20;
/// A model of the largest size loads in a minute; twice two of these are a model that does not end.
const CPU_SECONDS: u64 = 300;
/// Longest time for the answer: slow disks count here and not in the time of the processor.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);
/// Most of the answer, and of the error output, that is kept.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// A program that answers trial requests.
#[derive(Debug, Clone)]
pub struct Prober {
    program: PathBuf,
    arguments: Vec<String>,
    timeout: Duration,
}

/// The limits for a model of that many bytes, its external data included, that is run by so many threads.
pub fn limits(provider: ExecutionProvider, model_bytes: u64, threads: usize) -> Limits {
    Limits {
        address_space_bytes: (provider == ExecutionProvider::Cpu).then(|| {
            model_bytes
                .saturating_mul(ADDRESS_SPACE_PER_MODEL_BYTE)
                .saturating_add(ADDRESS_SPACE_BASE_BYTES)
                .saturating_add((threads as u64).saturating_mul(ADDRESS_SPACE_PER_THREAD_BYTES))
        }),
        cpu_seconds: CPU_SECONDS,
    }
}

impl Prober {
    /// This very program, with its hidden subcommand.
    ///
    /// # Errors
    /// When the program does not know where its file is.
    pub fn this_program() -> Result<Self, LoadError> {
        let program = std::env::current_exe().map_err(|error| cannot_start(&error))?;
        Ok(Self {
            program,
            arguments: vec!["probe-model".to_owned()],
            timeout: ANSWER_TIMEOUT,
        })
    }

    /// Runs the trial and waits for its end.
    ///
    /// # Errors
    /// What the child said, or `ModelLoadFailed` with how it ended.
    pub fn probe(&self, request: &Request) -> Result<Report, LoadError> {
        let question =
            serde_json::to_vec(request).map_err(|error| LoadError::new(Reason::Failure, error.to_string()))?;
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| is_handed_on(&name.to_string_lossy())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| cannot_start(&error))?;
        // A child that is dead already does not read: how it ended says more than this error.
        if let Some(mut input) = child.stdin.take() {
            let _ = input.write_all(&question);
        }
        let output = child.stdout.take().map(collect);
        let errors = child.stderr.take().map(collect);
        let answer = output.and_then(|output| output.recv_timeout(self.timeout).ok());
        if answer.is_none() {
            let _ = child.kill();
        }
        let status = child.wait().map_err(|error| cannot_start(&error))?;
        let words = errors
            .and_then(|errors| errors.recv_timeout(Duration::from_secs(1)).ok())
            .unwrap_or_default();
        let words = last_words(&words);
        match answer {
            None => Err(failed(format!(
                "no answer within {} s, it was ended",
                self.timeout.as_secs()
            ))),
            Some(answer) if status.success() => match serde_json::from_slice(&answer) {
                Ok(Answer::Works(report)) => Ok(report),
                Ok(Answer::Refused { reason, message }) => Err(LoadError::new(reason, message)),
                Err(_) => Err(failed(format!("it ended without an answer{words}"))),
            },
            Some(_) => Err(failed(format!("{}{words}", how(status)))),
        }
    }
}

/// What ONNX Runtime and the dynamic linker read. The rest of the environment may hold the password of Redis, which is none of a model's business.
fn is_handed_on(name: &str) -> bool {
    ["ORT_", "LD_", "CUDA_", "NVIDIA_", "OMP_"]
        .iter()
        .any(|start| name.starts_with(start))
        || ["PATH", "HOME", "TMPDIR", "LANG"].contains(&name)
}

fn cannot_start(error: &io::Error) -> LoadError {
    LoadError::new(
        Reason::Failure,
        format!("cannot load the model on trial in a child process (execution.loadInChild): {error}"),
    )
}

fn failed(how: String) -> LoadError {
    LoadError::new(
        Reason::ModelLoadFailed,
        format!("the model was loaded on trial in a child process: {how}"),
    )
}

/// Reads to the end on a thread of its own, keeps the beginning.
fn collect(mut source: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut kept = Vec::new();
        let _ = source.by_ref().take(OUTPUT_BYTES_MAX).read_to_end(&mut kept);
        // A child that cannot write on would never end.
        let _ = io::copy(&mut source, &mut io::sink());
        let _ = sender.send(kept);
    });
    receiver
}

fn how(status: ExitStatus) -> String {
    let Some(number) = status.signal() else {
        return format!("it ended with {status}");
    };
    match Signal::try_from(number) {
        Ok(Signal::SIGXCPU) => format!("it used more than {CPU_SECONDS} s of processor time"),
        Ok(Signal::SIGKILL) => "it was killed, most likely because it used too much memory".to_owned(),
        Ok(signal) => format!("it crashed ONNX Runtime ({signal})"),
        Err(_) => format!("it ended by signal {number}"),
    }
}

/// The last line that the child wrote to its error output, if it wrote any: what an allocator or an assertion says before it aborts.
fn last_words(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let Some(line) = text.lines().map(str::trim).rfind(|line| !line.is_empty()) else {
        return String::new();
    };
    let line: String = line
        .chars()
        .filter(|character| !character.is_control())
        .take(200)
        .collect();
    format!("; its last words: {line}")
}

#[cfg(test)]
mod tests {
    use tidewright_contract::config::GraphOptimization;

    use super::*;
    use crate::model::source::Pinned;

    fn model() -> Pinned {
        Pinned {
            file: "model.onnx".into(),
            digest: "sha256:0".to_owned(),
        }
    }

    fn ask(script: &str, timeout: Duration) -> Result<Report, LoadError> {
        let prober = Prober {
            program: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            timeout,
        };
        prober.probe(&Request {
            server_id: std::process::id(),
            model: model(),
            provider: ExecutionProvider::Cpu,
            intra_op_threads: 1,
            graph_optimization: GraphOptimization::default(),
            batch_size_max: 1,
            optimized_to: None,
            limits: limits(ExecutionProvider::Cpu, 1000, 1),
        })
    }

    fn message(script: &str) -> String {
        let error = ask(script, Duration::from_secs(60)).unwrap_err();
        assert_eq!(error.reason, Reason::ModelLoadFailed);
        error.message
    }

    #[test]
    fn every_way_to_end_becomes_a_sentence() {
        assert!(message("kill -SEGV $$").ends_with("it crashed ONNX Runtime (SIGSEGV)"));
        assert!(
            message("echo 'free(): invalid pointer' >&2; kill -ABRT $$")
                .ends_with("(SIGABRT); its last words: free(): invalid pointer")
        );
        assert!(message("kill -XCPU $$").contains("more than 300 s of processor time"));
        assert!(message("kill -KILL $$").contains("too much memory"));
        assert!(message("exit 3").contains("exit status: 3"));
        assert!(message("echo nonsense").contains("without an answer"));
        // More than is kept, and more than a pipe holds.
        assert!(message("head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2").contains("without an answer"));
        let error = ask("exec sleep 60", Duration::from_millis(50)).unwrap_err();
        assert!(error.message.contains("no answer within"), "{error}");
    }

    #[test]
    fn an_answer_is_taken_as_it_is() {
        let answer = r#"echo '{"refused":{"reason":"UnsupportedModel","message":"a sequence"}}'"#;
        let error = ask(answer, Duration::from_secs(60)).unwrap_err();
        assert_eq!(
            (error.reason, error.message.as_str()),
            (Reason::UnsupportedModel, "a sequence")
        );
        // The question arrives whole: the child answers what it was asked.
        let echo = r#"read -r question; case $question in *'"file":"model.onnx","digest":"sha256:0"'*'"addressSpaceBytes":2415927104'*)
            echo '{"works":{"inputs":[],"outputs":[],"batching":{"possible":false,"fixedSize":null,"reason":"r"},"sessionBytes":1,"loadMillis":2,"runtimeVersion":"v"}}';; esac"#;
        assert_eq!(ask(echo, Duration::from_secs(60)).unwrap().session_bytes, 1);
    }

    #[test]
    fn secrets_stay_in_the_server() {
        assert!(is_handed_on("ORT_DYLIB_PATH") && is_handed_on("LD_LIBRARY_PATH") && is_handed_on("PATH"));
        assert!(!is_handed_on("TIDEWRIGHT_REDIS") && !is_handed_on("REDIS_PASSWORD"));
    }

    #[test]
    fn a_program_that_is_not_there_is_not_the_models_fault() {
        let prober = Prober {
            program: "/nowhere/inference-server".into(),
            arguments: Vec::new(),
            timeout: Duration::from_secs(1),
        };
        let request = Request {
            server_id: std::process::id(),
            model: model(),
            provider: ExecutionProvider::Cuda,
            intra_op_threads: 1,
            graph_optimization: GraphOptimization::default(),
            batch_size_max: 1,
            optimized_to: None,
            limits: limits(ExecutionProvider::Cuda, 1000, 1),
        };
        assert_eq!(request.limits.address_space_bytes, None);
        assert_eq!(prober.probe(&request).unwrap_err().reason, Reason::Failure);
    }
}
