//! Draws, and changes of bytes that readers stumble over: flipped bits, numbers at the edges, pieces cut, doubled and moved between inputs.

/// SplitMix64: small, and the same on every machine.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `bound` - 1; 0 if there is nothing below the bound.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % (bound.max(1) as u64)).unwrap()
    }

    pub fn of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// Pieces of the languages that are read: a byte at a time they would hardly come about.
const WORDS: [&[u8]; 30] = [
    b"null",
    b"true",
    b"false",
    b"[]",
    b"{}",
    b"[[",
    b"]]",
    b"\"\"",
    b",",
    b":",
    b"-0",
    b"1e999",
    b"-1",
    b"18446744073709551616",
    b"0.1",
    b"\\u0000",
    b"\\ud800",
    b"\"id\":",
    b"\"parameters\":{}",
    b"\"binary_data_size\":",
    b"\"shape\":[-1]",
    b"\"datatype\":\"BYTES\"",
    b"\"FP16\"",
    b"\"data\":",
    b"\xc1",
    b"\xdd\xff\xff\xff\xff",
    b"\xcb\x7f\xf8\0\0\0\0\0\0",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"\xef\xbb\xbf",
];
const EDGES: [u64; 12] = [
    0,
    1,
    2,
    4,
    0x7f,
    0x80,
    0xff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 32,
    i64::MAX as u64,
    u64::MAX,
];
/// Longer inputs are cut: most faults have short ones, and time is better spent on more of them.
const LENGTH_MAX: usize = 4096;

/// Changes an input in one to eight places; `other` lends pieces.
pub fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(8) {
        change(input, other, random);
    }
    input.truncate(LENGTH_MAX);
}

fn change(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let end = (at + 1 + random.below(32)).min(input.len());
    match random.below(9) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = random.next() as u8;
            }
        }
        2 => drop(input.drain(at..end.max(at))),
        3 => {
            let piece = input[at..end.max(at)].to_vec();
            let times = 1 + random.below(4);
            input.splice(at..at, piece.repeat(times));
        }
        4 => {
            let word = *random.of(&WORDS);
            input.splice(at..at, word.iter().copied());
        }
        5 => {
            let from = random.below(other.len() + 1);
            let to = (from + random.below(64)).min(other.len());
            input.splice(at..end.max(at), other[from..to].iter().copied());
        }
        6 => {
            let bytes = random.of(&EDGES).to_le_bytes();
            let width = *random.of(&[1, 2, 4, 8]);
            input.splice(
                at..(at + width).min(input.len()).max(at),
                bytes[..width].iter().copied(),
            );
        }
        7 => {
            let text = random.of(&EDGES).to_string();
            input.splice(at..end.max(at), text.bytes());
        }
        _ => input.truncate(at),
    }
}
