//! The key of a result: everything that the answer depends on, hashed. Pure.

use sha2::{Digest, Sha256};

use crate::tensor::{Tensor, Values};

/// 256 bits of SHA-256: nobody can make two requests collide and read another's answer.
pub type Key = [u8; 32];

/// What all keys of one model start with: digest, runtime build and provider, so that no answer of another model, library or device is found.
#[derive(Debug, Clone)]
pub struct Prefix(Sha256);

impl Prefix {
    /// Hashes what is fixed for a loaded model.
    pub fn new(model_digest: &str, runtime_build: &str, provider: &str) -> Self {
        let mut hasher = Sha256::new();
        for part in ["tidewright-result-1", model_digest, runtime_build, provider] {
            text(&mut hasher, part);
        }
        Self(hasher)
    }

    /// The key of a request with these inputs, given in the order of the signature.
    pub fn key<'a>(&self, inputs: impl Iterator<Item = (&'a str, &'a Tensor)>) -> Key {
        let mut hasher = self.0.clone();
        for (name, tensor) in inputs {
            text(&mut hasher, name);
            text(&mut hasher, tensor.values().datatype().name());
            number(&mut hasher, tensor.shape().len());
            for size in tensor.shape() {
                number(&mut hasher, *size);
            }
            values(&mut hasher, tensor.values());
        }
        hasher.finalize().into()
    }
}

fn number(hasher: &mut Sha256, number: usize) {
    hasher.update((number as u64).to_le_bytes());
}

/// Length first, so that no two lists of texts give the same bytes.
fn text(hasher: &mut Sha256, text: &str) {
    number(hasher, text.len());
    hasher.update(text.as_bytes());
}

/// Values as little-endian bytes, a piece at a time.
fn values(hasher: &mut Sha256, values: &Values) {
    macro_rules! numbers {
        ($vector:expr, $kind:ty) => {{
            const SIZE: usize = size_of::<$kind>();
            let mut buffer = [0u8; 512];
            for chunk in $vector.chunks(512 / SIZE) {
                for (place, value) in buffer.chunks_exact_mut(SIZE).zip(chunk) {
                    place.copy_from_slice(&value.to_le_bytes());
                }
                hasher.update(&buffer[..chunk.len() * SIZE]);
            }
        }};
    }
    match values {
        Values::Bool(vector) => vector.iter().for_each(|value| hasher.update([u8::from(*value)])),
        Values::Uint8(vector) => hasher.update(vector),
        Values::Uint16(vector) => numbers!(vector, u16),
        Values::Uint32(vector) => numbers!(vector, u32),
        Values::Uint64(vector) => numbers!(vector, u64),
        Values::Int8(vector) => numbers!(vector, i8),
        Values::Int16(vector) => numbers!(vector, i16),
        Values::Int32(vector) => numbers!(vector, i32),
        Values::Int64(vector) => numbers!(vector, i64),
        Values::Fp16(vector) => numbers!(vector, half::f16),
        Values::Bf16(vector) => numbers!(vector, half::bf16),
        Values::Fp32(vector) => numbers!(vector, f32),
        Values::Fp64(vector) => numbers!(vector, f64),
        Values::Bytes(vector) => vector.iter().for_each(|value| text(hasher, value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_matters_changes_the_key() {
        let base = Prefix::new("sha256:a", "1.32", "cpu");
        let tensor = |shape: &[usize], values| Tensor::new(shape.to_vec(), values).unwrap();
        let floats = tensor(&[2], Values::Fp32(vec![1.0, 2.0]));
        let key = |prefix: &Prefix, name: &'static str, tensor: &Tensor| prefix.key([(name, tensor)].into_iter());
        let reference = key(&base, "x", &floats);
        assert_eq!(key(&base, "x", &floats.clone()), reference);
        let mut others = vec![
            key(&Prefix::new("sha256:b", "1.32", "cpu"), "x", &floats),
            key(&Prefix::new("sha256:a", "1.33", "cpu"), "x", &floats),
            key(&Prefix::new("sha256:a", "1.32", "cuda"), "x", &floats),
            key(&base, "y", &floats),
            key(&base, "x", &tensor(&[2, 1], Values::Fp32(vec![1.0, 2.0]))),
            key(&base, "x", &tensor(&[1, 2], Values::Fp32(vec![1.0, 2.0]))),
            key(&base, "x", &tensor(&[2], Values::Fp32(vec![2.0, 1.0]))),
            key(&base, "x", &tensor(&[2], Values::Fp64(vec![1.0, 2.0]))),
            key(
                &base,
                "x",
                &tensor(&[2], Values::Bytes(vec!["ab".to_owned(), "c".to_owned()])),
            ),
            key(
                &base,
                "x",
                &tensor(&[2], Values::Bytes(vec!["a".to_owned(), "bc".to_owned()])),
            ),
            reference,
        ];
        others.sort_unstable();
        others.dedup();
        assert_eq!(others.len(), 11);
    }

    #[test]
    fn long_vectors_are_hashed_whole() {
        let prefix = Prefix::new("d", "v", "cpu");
        let mut values = vec![0.5f32; 1000];
        let mut keys = Vec::new();
        for position in [0, 127, 128, 999] {
            values[position] += 1.0;
            let tensor = Tensor::new(vec![1000], Values::Fp32(values.clone())).unwrap();
            keys.push(prefix.key([("x", &tensor)].into_iter()));
        }
        keys.dedup();
        assert_eq!(keys.len(), 4);
    }
}
