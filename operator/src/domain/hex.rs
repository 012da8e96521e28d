//! Bytes as hexadecimal digits.

use std::fmt::Write;

/// The first `count` bytes, two lower-case digits each.
pub fn hex(bytes: &[u8], count: usize) -> String {
    bytes.iter().take(count).fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
