//! A server process on free ports, and a client that sees every byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

/// Path of a file beside this package's manifest.
pub fn path(relative: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// `NAME=PATH` of a model of the repository.
pub fn model(name: &str) -> String {
    format!("{name}={}", path(&format!("tests/models/{name}.onnx")).display())
}

/// The pinned library; fetched when it is not in the cache.
fn library() -> PathBuf {
    if let Some(named) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        return named.into();
    }
    let output = Command::new(path("fetch-onnxruntime.sh"))
        .output()
        .expect("run fetch-onnxruntime.sh");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().into()
}

/// The binary, with the library but nothing else from our environment that it would read.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inference-server"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEWRIGHT_") {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .env("ORT_DYLIB_PATH", library())
        .stdin(Stdio::null());
    command
}

/// Runs to the end.
pub fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// A server that is ready; killed when the test ends.
pub struct Server {
    child: Child,
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub admin: SocketAddr,
    pub ready_line: String,
}

/// A server of this config.
pub fn configured(config: &serde_json::Value) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.json");
    std::fs::write(&file, config.to_string()).unwrap();
    Server::start(&["--config", file.to_str().unwrap()])
}

/// A process that does not outlive its test, whatever the test finds.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is left of a server.
pub struct Ended {
    pub status: ExitStatus,
    pub log: String,
}

impl Server {
    /// Starts `serve` on free ports and waits for its ready line.
    pub fn start(arguments: &[&str]) -> Self {
        let mut all = vec![
            "serve",
            "--http",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--grpc",
            "127.0.0.1:0",
            "--workers",
            "1",
        ];
        all.extend(arguments);
        let mut child = command(&all)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready_line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut ready_line)
            .unwrap();
        let mut addresses = ready_line.split("://").skip(1).map(|rest| {
            let end = rest.find([' ', ')']).unwrap();
            rest[..end].parse().unwrap()
        });
        let (Some(http), Some(admin)) = (addresses.next(), addresses.next()) else {
            let _ = child.kill();
            let mut log = String::new();
            child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
            panic!("not ready: {ready_line:?}\n{log}");
        };
        drop(addresses);
        let (_, rest) = ready_line.split_once("gRPC on ").unwrap();
        let grpc = rest.split(',').next().unwrap().parse().unwrap();
        Self {
            child,
            http,
            grpc,
            admin,
            ready_line,
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([format!("-{name}"), self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// The most memory that it ever held.
    pub fn peak_memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Waits for the end.
    pub fn end(mut self) -> Ended {
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        Ended {
            status: self.child.wait().unwrap(),
            log,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection that is kept.
pub struct Client(BufReader<TcpStream>);

/// An answer as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub closes: bool,
    pub body: String,
    head: String,
}

impl Answer {
    /// The value of a header, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// The value of a header of a head in lower case.
fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

impl Client {
    pub fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self(BufReader::new(stream)))
    }

    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    pub fn post(&mut self, path: &str, body: &str) -> std::io::Result<Answer> {
        self.send(&request(path, body))?;
        self.answer()
    }

    pub fn get(&mut self, path: &str) -> std::io::Result<Answer> {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes())?;
        self.answer()
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) -> std::io::Result<()> {
        self.0.get_ref().shutdown(std::net::Shutdown::Write)
    }

    /// Reads one answer with a `content-length` and a text.
    pub fn answer(&mut self) -> std::io::Result<Answer> {
        let (head, body) = self.answer_bytes()?;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let closes = header(&head, "connection") == Some("close");
        Ok(Answer {
            status,
            closes,
            body: String::from_utf8(body).unwrap(),
            head,
        })
    }

    /// Reads one answer with a `content-length`: head in lower case, and body.
    pub fn answer_bytes(&mut self) -> std::io::Result<(String, Vec<u8>)> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        let head = head.to_ascii_lowercase();
        let length = header(&head, "content-length").map_or(0, |value| value.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok((head, body))
    }

    /// Whether the server has closed the connection (and sent nothing more).
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        matches!(self.0.read(&mut byte), Ok(0))
    }
}

/// A request as bytes.
pub fn request(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into()
}
