//! TLS on the serving ports, with the clients' own libraries: ALPN, and certificates that change while connections are open.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject as _;
use tidewright_server::clock;
use tidewright_server::protocols::pb;
use tidewright_server::protocols::pb::grpc_inference_service_client::GrpcInferenceServiceClient;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Endpoint;

use crate::grpc::runtime;
use crate::support::{Client, Server, model, run};

const BODY: &str = r#"{"features":[1,2,3,4]}"#;

/// A certificate for `localhost` that nobody but itself vouches for, and its key.
struct Identity {
    certificate: String,
    key: String,
}

fn identity() -> Identity {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    Identity {
        certificate: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
    }
}

/// The two files, in a folder of their own.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new(identity: &Identity) -> Self {
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        files.write(identity);
        files
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("tls.crt")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("tls.key")
    }

    fn write(&self, identity: &Identity) {
        put(&self.certificate(), &identity.certificate);
        put(&self.key(), &identity.key);
    }

    fn server(&self) -> Server {
        let (certificate, key) = (text(&self.certificate()), text(&self.key()));
        Server::start(&[
            "--model",
            &model("affine"),
            "--tls-certificate",
            &certificate,
            "--tls-key",
            &key,
        ])
    }
}

/// Whole or not at all: nobody reads half of it.
fn put(file: &Path, contents: &str) {
    let part = file.with_extension("part");
    fs::write(&part, contents).unwrap();
    fs::rename(part, file).unwrap();
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A connection by someone who trusts this certificate only; an error when the server shows another.
async fn connect(address: SocketAddr, trusted: &Identity, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(rustls_pki_types::CertificateDer::from_pem_slice(trusted.certificate.as_bytes()).unwrap())
        .unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("localhost").unwrap(), stream)
        .await
}

fn predict() -> Request<Full<Bytes>> {
    Request::post("https://localhost/api/v1/predict")
        .header("host", "localhost")
        .body(Full::new(Bytes::from(BODY)))
        .unwrap()
}

/// An HTTP/1.1 connection that is kept.
async fn kept(address: SocketAddr, trusted: &Identity) -> http1::SendRequest<Full<Bytes>> {
    let stream = connect(address, trusted, &[b"http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn answers(sender: &mut http1::SendRequest<Full<Bytes>>) {
    sender.ready().await.unwrap();
    let answer = sender.send_request(predict()).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_11));
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(b"{\"prediction\":["), "{body:?}");
}

fn metrics(server: &Server) -> String {
    Client::connect(server.admin).unwrap().get("/metrics").unwrap().body
}

/// Until the server shows this certificate, or a metric this line.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = clock::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        tokio::task::yield_now().await;
    }
}

#[test]
fn both_ports_speak_tls_and_the_protocol_is_the_one_agreed_on() {
    let identity = Arc::new(identity());
    let files = Files::new(&identity);
    let server = files.server();
    assert!(server.ready_line.contains(&format!("https://{}", server.http)));
    runtime().block_on(async {
        answers(&mut kept(server.http, &identity).await).await;

        let stream = connect(server.http, &identity, &[b"h2", b"http/1.1"]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let answer = sender.send_request(predict()).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));

        let (address, trusted) = (server.grpc, Arc::clone(&identity));
        let connector = tower::service_fn(move |_| {
            let trusted = Arc::clone(&trusted);
            async move { connect(address, &trusted, &[b"h2"]).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://localhost")
            .connect_with_connector(connector)
            .await
            .unwrap();
        let live = GrpcInferenceServiceClient::new(channel)
            .server_live(pb::ServerLiveRequest {})
            .await
            .unwrap();
        assert!(live.into_inner().live);
    });
    // Without TLS there is no answer on these ports, and none is needed on the admin port.
    assert!(Client::connect(server.http).unwrap().get("/health").is_err());
    assert_eq!(
        Client::connect(server.admin).unwrap().get("/ready").unwrap().status,
        200
    );
}

#[test]
fn a_new_certificate_is_taken_up_and_a_bad_one_is_not_and_connections_live_on() {
    let (first, second) = (identity(), identity());
    let files = Files::new(&first);
    let server = files.server();
    runtime().block_on(async {
        let mut old = kept(server.http, &first).await;
        answers(&mut old).await;

        files.write(&second);
        until("the second certificate is not served", async || {
            connect(server.http, &second, &[b"http/1.1"]).await.is_ok()
        })
        .await;
        answers(&mut old).await;
        assert!(connect(server.http, &first, &[b"http/1.1"]).await.is_err());
        assert!(connect(server.grpc, &second, &[b"h2"]).await.is_ok());

        let mut young = kept(server.http, &second).await;
        let errors = |scrape: &str| -> u64 {
            let line = "inference_server_tls_reloads_total{outcome=\"error\"} ";
            let value = scrape.lines().find_map(|found| found.strip_prefix(line));
            value.unwrap().parse().unwrap()
        };
        let before = errors(&metrics(&server));
        // The key of another certificate, and then no key at all.
        put(&files.key(), &first.key);
        until("the wrong key is not noticed", async || {
            errors(&metrics(&server)) == before + 1
        })
        .await;
        fs::remove_file(files.key()).unwrap();
        until("the missing key is not noticed", async || {
            errors(&metrics(&server)) == before + 2
        })
        .await;
        answers(&mut young).await;
        answers(&mut old).await;
        answers(&mut kept(server.http, &second).await).await;
    });
    server.signal("TERM");
    let ended = server.end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    assert!(ended.log.contains("the one before is still served"), "{}", ended.log);
    assert!(!ended.log.contains("PRIVATE KEY"), "{}", ended.log);
}

#[test]
fn a_certificate_that_cannot_be_used_at_the_start_is_said() {
    let files = Files::new(&identity());
    fs::write(files.certificate(), "nothing").unwrap();
    let (certificate, key, model) = (text(&files.certificate()), text(&files.key()), model("affine"));
    let serve = [
        "serve",
        "--model",
        &model,
        "--http",
        "127.0.0.1:0",
        "--tls-certificate",
        &certificate,
    ];
    let ended = run(&[&serve[..], &["--tls-key", &key]].concat());
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    let log = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(log.contains("the certificate file holds no certificate"), "{log}");
    let ended = run(&serve);
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    assert!(String::from_utf8_lossy(&ended.stderr).contains("tls.key"), "{ended:?}");
}
