//! Recorded arrivals from a file: `second,count` or `arrival_ms,…`, plain or zstd-compressed.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;

use crate::error::{Error, Result};
use crate::time::{MILLISECOND, Nanos, SECOND};

/// A recorded trace.
#[derive(Debug, Clone, PartialEq)]
pub enum Trace {
    /// Requests per second, one entry for each second.
    Counts(Vec<u32>),
    /// The instant of each request, ascending.
    Times(Vec<Nanos>),
}

/// First bytes of a zstd frame.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
/// A year: a longer trace is a mistake in the unit, and would fill the memory with empty seconds.
const SECONDS_MAX: u64 = 366 * 86_400;

impl Trace {
    /// Reads a file. The format is told by the header line, the compression by the first bytes.
    pub fn read(path: &Path) -> Result<Self> {
        let failed = |source| Error::File {
            path: path.to_owned(),
            source,
        };
        let mut file = BufReader::new(File::open(path).map_err(failed)?);
        let mut magic = Vec::with_capacity(ZSTD_MAGIC.len());
        (&mut file)
            .take(ZSTD_MAGIC.len() as u64)
            .read_to_end(&mut magic)
            .map_err(failed)?;
        let compressed = magic == ZSTD_MAGIC;
        let whole = std::io::Cursor::new(magic).chain(file);
        if compressed {
            let decoder = zstd::Decoder::new(whole).map_err(failed)?;
            Self::parse(path, BufReader::new(decoder))
        } else {
            Self::parse(path, BufReader::new(whole))
        }
    }

    /// `path` is for messages only.
    fn parse(path: &Path, mut text: impl BufRead) -> Result<Self> {
        let mut line = String::new();
        let mut number = 0;
        let mut next = move |line: &mut String| -> Result<Option<usize>> {
            line.clear();
            number += 1;
            let length = text.read_line(line).map_err(|source| Error::Trace {
                path: path.to_owned(),
                line: number,
                problem: format!("cannot be read: {source}"),
            })?;
            Ok((length > 0).then_some(number))
        };
        let problem = |line: usize, problem: String| Error::Trace {
            path: path.to_owned(),
            line,
            problem,
        };
        if next(&mut line)?.is_none() {
            return Err(problem(1, "the file is empty".into()));
        }
        let header = line.trim().to_owned();
        let mut trace = if header == "second,count" {
            Self::Counts(Vec::new())
        } else if header == "arrival_ms" || header.starts_with("arrival_ms,") {
            Self::Times(Vec::new())
        } else {
            return Err(problem(
                1,
                format!("the header is `{header}`; expected `second,count`, or `arrival_ms` and further columns"),
            ));
        };
        let mut rows = 0_u64;
        while let Some(at) = next(&mut line)? {
            let row = line.trim();
            if row.is_empty() {
                continue;
            }
            trace.push(row).map_err(|what| problem(at, what))?;
            rows += 1;
        }
        if rows == 0 {
            return Err(problem(2, "there is no row below the header".into()));
        }
        Ok(trace)
    }

    fn push(&mut self, row: &str) -> std::result::Result<(), String> {
        let mut fields = row.split(',');
        let mut field = |name: &str| -> std::result::Result<u64, String> {
            let text = fields.next().ok_or_else(|| format!("`{row}` has no column {name}"))?;
            text.trim()
                .parse()
                .map_err(|_| format!("{name} is `{text}`; expected a whole number that is not negative"))
        };
        match self {
            Self::Counts(counts) => {
                let second = field("second")?;
                let count = field("count")?;
                if second > SECONDS_MAX {
                    return Err(format!("second {second} is more than a year after the start"));
                }
                if second < counts.len() as u64 {
                    return Err(format!(
                        "second {second} is not after {}, the one before it",
                        counts.len() - 1
                    ));
                }
                counts.resize(second as usize, 0);
                counts.push(u32::try_from(count).map_err(|_| format!("count {count} is too large"))?);
            }
            Self::Times(times) => {
                let at = field("arrival_ms")?;
                if at > SECONDS_MAX * 1_000 {
                    return Err(format!("arrival_ms {at} is more than a year after the start"));
                }
                let at = at * MILLISECOND;
                if times.last().is_some_and(|last| *last > at) {
                    return Err("arrival_ms goes back in time".into());
                }
                times.push(at);
            }
        }
        Ok(())
    }

    /// Length, in seconds: that of its last row plus one.
    pub fn seconds(&self) -> u64 {
        match self {
            Self::Counts(counts) => counts.len() as u64,
            Self::Times(times) => times.last().map_or(0, |last| last / SECOND + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read(bytes: &[u8]) -> std::result::Result<Trace, String> {
        let mut file = tempfile::Builder::new().prefix("trace").tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Trace::read(file.path()).map_err(|error| {
            let text = error.to_string();
            text.replace(&file.path().display().to_string(), "FILE")
        })
    }

    #[test]
    fn both_formats_plain_and_compressed() {
        let counts = b"second,count\n0,2\n3,1\n5,0\n";
        let times = b"arrival_ms,in_tokens,out_tokens\n0,7,8\n0,1,1\n1500,2,3\n";
        let expected_counts = Trace::Counts(vec![2, 0, 0, 1, 0, 0]);
        let expected_times = Trace::Times(vec![0, 0, 1_500 * MILLISECOND]);
        for (text, expected, seconds) in [(&counts[..], expected_counts, 6), (&times[..], expected_times, 2)] {
            assert_eq!(read(text).unwrap(), expected);
            let packed = zstd::encode_all(text, 3).unwrap();
            assert_eq!(read(&packed).unwrap(), expected);
            assert_eq!(expected.seconds(), seconds);
        }
    }

    #[test]
    fn errors_name_file_and_line() {
        let cases: [(&str, &str); 9] = [
            ("", "FILE:1: the file is empty"),
            (
                "time,n\n1,2\n",
                "FILE:1: the header is `time,n`; expected `second,count`, or `arrival_ms` and further columns",
            ),
            ("second,count\n", "FILE:2: there is no row below the header"),
            (
                "second,count\n0,1\n1,x\n",
                "FILE:3: count is `x`; expected a whole number that is not negative",
            ),
            ("second,count\n4\n", "FILE:2: `4` has no column count"),
            (
                "second,count\n4,1\n\n4,2\n",
                "FILE:4: second 4 is not after 4, the one before it",
            ),
            (
                "second,count\n99999999999,1\n",
                "FILE:2: second 99999999999 is more than a year after the start",
            ),
            ("arrival_ms\n5\n4\n", "FILE:3: arrival_ms goes back in time"),
            (
                "arrival_ms\n-5\n",
                "FILE:2: arrival_ms is `-5`; expected a whole number that is not negative",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text.as_bytes()), Err(expected.to_owned()));
        }
    }

    #[test]
    fn a_broken_archive_is_an_error_with_its_line() {
        let mut packed = zstd::encode_all(&b"second,count\n0,2\n3,1\n"[..], 3).unwrap();
        packed.truncate(packed.len() - 3);
        let error = read(&packed).unwrap_err();
        assert!(
            error.starts_with("FILE:") && error.contains("cannot be read"),
            "{error}"
        );
    }
}
