//! Datatype, shape and values: the one currency inside the server. Values stay in buffers of their own type from the parser to the runtime.

use half::{bf16, f16};

/// Datatypes by their names in the Open Inference Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataType {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    Bytes,
}

/// Every datatype, in the protocol's order.
pub const DATATYPES: [DataType; 14] = [
    DataType::Bool,
    DataType::Uint8,
    DataType::Uint16,
    DataType::Uint32,
    DataType::Uint64,
    DataType::Int8,
    DataType::Int16,
    DataType::Int32,
    DataType::Int64,
    DataType::Fp16,
    DataType::Bf16,
    DataType::Fp32,
    DataType::Fp64,
    DataType::Bytes,
];

impl DataType {
    /// The name in the protocol.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    /// The datatype of that name.
    pub fn parse(name: &str) -> Option<Self> {
        DATATYPES.into_iter().find(|datatype| datatype.name() == name)
    }
}

/// Values in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    Bool(Vec<bool>),
    Uint8(Vec<u8>),
    Uint16(Vec<u16>),
    Uint32(Vec<u32>),
    Uint64(Vec<u64>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Fp16(Vec<f16>),
    Bf16(Vec<bf16>),
    Fp32(Vec<f32>),
    Fp64(Vec<f64>),
    /// ONNX Runtime's strings are UTF-8, and so are JSON's.
    Bytes(Vec<String>),
}

/// Runs the same expression for the vector of each datatype.
#[macro_export]
macro_rules! for_each_values {
    ($values:expr, $vector:ident => $body:expr) => {
        match $values {
            $crate::tensor::Values::Bool($vector) => $body,
            $crate::tensor::Values::Uint8($vector) => $body,
            $crate::tensor::Values::Uint16($vector) => $body,
            $crate::tensor::Values::Uint32($vector) => $body,
            $crate::tensor::Values::Uint64($vector) => $body,
            $crate::tensor::Values::Int8($vector) => $body,
            $crate::tensor::Values::Int16($vector) => $body,
            $crate::tensor::Values::Int32($vector) => $body,
            $crate::tensor::Values::Int64($vector) => $body,
            $crate::tensor::Values::Fp16($vector) => $body,
            $crate::tensor::Values::Bf16($vector) => $body,
            $crate::tensor::Values::Fp32($vector) => $body,
            $crate::tensor::Values::Fp64($vector) => $body,
            $crate::tensor::Values::Bytes($vector) => $body,
        }
    };
}

/// Pairs of equal datatype; the expression for unequal ones comes last.
macro_rules! for_each_pair {
    ($left:expr, $right:expr, $a:ident, $b:ident => $body:expr, else $other:expr) => {
        match ($left, $right) {
            (Values::Bool($a), Values::Bool($b)) => $body,
            (Values::Uint8($a), Values::Uint8($b)) => $body,
            (Values::Uint16($a), Values::Uint16($b)) => $body,
            (Values::Uint32($a), Values::Uint32($b)) => $body,
            (Values::Uint64($a), Values::Uint64($b)) => $body,
            (Values::Int8($a), Values::Int8($b)) => $body,
            (Values::Int16($a), Values::Int16($b)) => $body,
            (Values::Int32($a), Values::Int32($b)) => $body,
            (Values::Int64($a), Values::Int64($b)) => $body,
            (Values::Fp16($a), Values::Fp16($b)) => $body,
            (Values::Bf16($a), Values::Bf16($b)) => $body,
            (Values::Fp32($a), Values::Fp32($b)) => $body,
            (Values::Fp64($a), Values::Fp64($b)) => $body,
            (Values::Bytes($a), Values::Bytes($b)) => $body,
            _ => $other,
        }
    };
}

impl Values {
    /// An empty vector of the datatype.
    pub fn empty(datatype: DataType, capacity: usize) -> Self {
        match datatype {
            DataType::Bool => Self::Bool(Vec::with_capacity(capacity)),
            DataType::Uint8 => Self::Uint8(Vec::with_capacity(capacity)),
            DataType::Uint16 => Self::Uint16(Vec::with_capacity(capacity)),
            DataType::Uint32 => Self::Uint32(Vec::with_capacity(capacity)),
            DataType::Uint64 => Self::Uint64(Vec::with_capacity(capacity)),
            DataType::Int8 => Self::Int8(Vec::with_capacity(capacity)),
            DataType::Int16 => Self::Int16(Vec::with_capacity(capacity)),
            DataType::Int32 => Self::Int32(Vec::with_capacity(capacity)),
            DataType::Int64 => Self::Int64(Vec::with_capacity(capacity)),
            DataType::Fp16 => Self::Fp16(Vec::with_capacity(capacity)),
            DataType::Bf16 => Self::Bf16(Vec::with_capacity(capacity)),
            DataType::Fp32 => Self::Fp32(Vec::with_capacity(capacity)),
            DataType::Fp64 => Self::Fp64(Vec::with_capacity(capacity)),
            DataType::Bytes => Self::Bytes(Vec::with_capacity(capacity)),
        }
    }

    /// `count` zeros (`false`, empty strings).
    pub fn zeros(datatype: DataType, count: usize) -> Self {
        let mut values = Self::empty(datatype, count);
        for_each_values!(&mut values, vector => vector.resize_with(count, Default::default));
        values
    }

    /// The datatype.
    pub const fn datatype(&self) -> DataType {
        match self {
            Self::Bool(_) => DataType::Bool,
            Self::Uint8(_) => DataType::Uint8,
            Self::Uint16(_) => DataType::Uint16,
            Self::Uint32(_) => DataType::Uint32,
            Self::Uint64(_) => DataType::Uint64,
            Self::Int8(_) => DataType::Int8,
            Self::Int16(_) => DataType::Int16,
            Self::Int32(_) => DataType::Int32,
            Self::Int64(_) => DataType::Int64,
            Self::Fp16(_) => DataType::Fp16,
            Self::Bf16(_) => DataType::Bf16,
            Self::Fp32(_) => DataType::Fp32,
            Self::Fp64(_) => DataType::Fp64,
            Self::Bytes(_) => DataType::Bytes,
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        for_each_values!(self, vector => vector.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the values of another vector; `false` when the datatypes differ.
    #[must_use]
    pub fn append(&mut self, other: &Self) -> bool {
        for_each_pair!(self, other, a, b => { a.extend_from_slice(b); true }, else false)
    }

    /// A copy of part of the values; `None` outside the bounds.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Option<Self> {
        let mut part = Self::empty(self.datatype(), range.len());
        for_each_pair!(&mut part, self, a, b => a.extend_from_slice(b.get(range)?), else return None);
        Some(part)
    }

    /// Bytes on the heap, for the accounts of the cache.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Bytes(strings) => strings.iter().map(|text| text.len() + size_of::<String>()).sum(),
            other => for_each_values!(other, vector => size_of_val(vector.as_slice())),
        }
    }
}

/// One tensor: its values fit its shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    values: Values,
}

impl Tensor {
    /// `None` when the shape does not hold exactly these values, or overflows.
    pub fn new(shape: Vec<usize>, values: Values) -> Option<Self> {
        (elements(&shape) == Some(values.len())).then_some(Self { shape, values })
    }

    /// Dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// The first dimension; 1 for a scalar.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Values per row.
    pub fn row_elements(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// A copy of rows `start..end` of the first dimension; `None` outside the bounds.
    pub fn slice_rows(&self, start: usize, end: usize) -> Option<Self> {
        let stride = self.row_elements();
        let values = self
            .values
            .slice(start.checked_mul(stride)?..end.checked_mul(stride)?)?;
        let mut shape = self.shape.clone();
        *shape.first_mut()? = end.checked_sub(start)?;
        Some(Self { shape, values })
    }

    /// The tensors one under the other; `None` when datatype or inner dimensions differ, or there is none.
    pub fn concat(parts: &[&Self]) -> Option<Self> {
        let (first, rest) = parts.split_first()?;
        let mut values = Values::empty(
            first.values.datatype(),
            parts.iter().map(|part| part.values.len()).sum(),
        );
        let mut shape = first.shape.clone();
        if !values.append(&first.values) {
            return None;
        }
        for part in rest {
            if part.shape.get(1..)? != shape.get(1..)? || !values.append(&part.values) {
                return None;
            }
            *shape.first_mut()? += part.rows();
        }
        Some(Self { shape, values })
    }
}

/// Product of the dimensions; `None` when it does not fit.
pub fn elements(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1usize, |product, dimension| product.checked_mul(*dimension))
}

/// A tensor with the name of the input or output it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    pub name: std::sync::Arc<str>,
    pub tensor: Tensor,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_of_a_concatenation_are_the_parts() {
        let a = Tensor::new(vec![1, 2], Values::Fp32(vec![1.0, 2.0])).unwrap();
        let b = Tensor::new(vec![2, 2], Values::Fp32(vec![3.0, 4.0, 5.0, 6.0])).unwrap();
        let both = Tensor::concat(&[&a, &b]).unwrap();
        assert_eq!(both.shape(), [3, 2]);
        assert_eq!(both.slice_rows(0, 1), Some(a.clone()));
        assert_eq!(both.slice_rows(1, 3), Some(b));
        assert_eq!(both.slice_rows(2, 4), None);
        let other = Tensor::new(vec![1, 2], Values::Int64(vec![1, 2])).unwrap();
        assert_eq!(Tensor::concat(&[&a, &other]), None);
    }

    #[test]
    fn a_shape_that_overflows_or_does_not_fit_is_no_tensor() {
        assert_eq!(Tensor::new(vec![usize::MAX, 2], Values::Fp32(vec![])), None);
        assert_eq!(Tensor::new(vec![2], Values::Fp32(vec![1.0])), None);
        assert!(Tensor::new(vec![], Values::Fp32(vec![1.0])).is_some());
    }

    #[test]
    fn datatype_names_round_trip() {
        for datatype in DATATYPES {
            assert_eq!(DataType::parse(datatype.name()), Some(datatype));
            assert_eq!(Values::zeros(datatype, 3).datatype(), datatype);
            assert_eq!(Values::zeros(datatype, 3).len(), 3);
        }
        assert_eq!(DataType::parse("float32"), None);
    }
}
