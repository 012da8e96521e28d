//! Small bodies that swell: refused, in bounded memory.

use async_compression::tokio::bufread::{BrotliEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::support::{Client, Server, model};

const MIB: u64 = 1024 * 1024;

fn encoded(encoder: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut encoder = encoder;
    let mut bytes = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(encoder.read_to_end(&mut bytes)).unwrap();
    bytes
}

/// Two hundred megabytes of blanks, as a few kilobytes; those of gzip and zstd are members behind each other.
fn bombs() -> [(&'static str, Vec<u8>); 4] {
    let blanks = vec![b' '; 10 * MIB as usize];
    let many = vec![b' '; 200 * MIB as usize];
    [
        ("gzip", encoded(GzipEncoder::new(&blanks[..])).repeat(20)),
        ("zstd", encoded(ZstdEncoder::new(&blanks[..])).repeat(20)),
        (
            "deflate",
            encoded(ZlibEncoder::with_quality(&many[..], async_compression::Level::Fastest)),
        ),
        (
            "br",
            encoded(BrotliEncoder::with_quality(
                &many[..],
                async_compression::Level::Fastest,
            )),
        ),
    ]
}

#[test]
fn bodies_that_swell_are_refused_in_bounded_memory() {
    let model = model("affine");
    let server = Server::start(&["--model", &model]);
    let bombs = bombs();
    let before = server.peak_memory_bytes();
    for (coding, bomb) in bombs.iter().cycle().take(5 * bombs.len()) {
        assert!(bomb.len() < 2 * MIB as usize, "{coding}: {}", bomb.len());
        let mut client = Client::connect(server.http).unwrap();
        let head = format!(
            "POST /api/v1/predict HTTP/1.1\r\nhost: t\r\ncontent-encoding: {coding}\r\ncontent-length: {}\r\n\r\n",
            bomb.len()
        );
        client.send(&[head.as_bytes(), bomb].concat()).unwrap();
        let answer = client.answer().unwrap();
        assert_eq!(answer.status, 413, "{coding}: {}", answer.body);
    }
    let grown = server.peak_memory_bytes() - before;
    // The limit is 16 MiB, and what is over it is noticed before the pieces are joined; what is free again the allocator gives back some milliseconds later.
    // However many follow each other, it is no more.
    assert!(grown < 96 * MIB, "grew by {} MiB", grown / MIB);
}
