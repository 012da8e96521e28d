//! Inputs and outputs of a model, how its first dimension may be used, and whether given tensors fit.

use std::fmt;
use std::sync::Arc;

use crate::tensor::DataType;

/// One input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    pub name: Arc<str>,
    pub datatype: DataType,
    /// Dimensions; `None` where the model takes any size.
    pub shape: Vec<Option<usize>>,
    /// Name of the first dimension in the model, if it has one.
    pub first_symbol: String,
}

/// What the first dimension means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Any number of independent items: requests may share a run.
    Dynamic,
    /// Exactly this many items per run.
    Fixed(usize),
    /// Not a count of items: each request is a run of its own.
    None,
}

/// Everything a client must know to call a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    pub inputs: Vec<Slot>,
    pub outputs: Vec<Slot>,
    pub rows: Rows,
    /// Whether `rows` rests on names that an exporter made up, so that a trial must show it.
    pub is_assumed: bool,
}

impl Signature {
    /// Decides the meaning of the first dimension from the shapes: it counts items only when every input and every output has it, with the
    /// same name or none. Exporters that do not know that an output's first dimension is that of the inputs make a name up: then it is assumed.
    pub fn new(inputs: Vec<Slot>, outputs: Vec<Slot>) -> Self {
        let mut rows = rows_of(&inputs, &outputs);
        let mut is_assumed = false;
        if rows == Rows::None {
            let declared = outputs.iter().filter(|slot| !slot.has_made_up_rows());
            rows = rows_of(&inputs, declared);
            is_assumed = rows == Rows::Dynamic;
            if !is_assumed {
                rows = Rows::None;
            }
        }
        Self {
            inputs,
            outputs,
            rows,
            is_assumed,
        }
    }

    /// Whether an input leaves a dimension besides the first free: items may differ in size.
    pub fn has_free_inner_dimensions(&self) -> bool {
        let mut inner = self.inputs.iter().flat_map(|slot| slot.shape.iter().skip(1));
        inner.any(Option::is_none)
    }

    /// Position and slot of the input of that name.
    pub fn input(&self, name: &str) -> Option<(usize, &Slot)> {
        self.inputs.iter().enumerate().find(|(_, slot)| &*slot.name == name)
    }

    /// Position of the output of that name.
    pub fn output(&self, name: &str) -> Option<usize> {
        self.outputs.iter().position(|slot| &*slot.name == name)
    }
}

fn rows_of<'a>(inputs: &'a [Slot], outputs: impl IntoIterator<Item = &'a Slot>) -> Rows {
    let mut all = inputs.iter().chain(outputs);
    let Some(first) = all.next() else { return Rows::None };
    let Some(dimension) = first.shape.first().copied() else {
        return Rows::None;
    };
    let same = all.all(|slot| slot.shape.first() == Some(&dimension) && slot.first_symbol == first.first_symbol);
    match (same, dimension) {
        (true, None) => Rows::Dynamic,
        (true, Some(count)) if count > 0 => Rows::Fixed(count),
        _ => Rows::None,
    }
}

impl Slot {
    /// Whether the first dimension is free and has a name that says nothing: PyTorch's `Concat461_dim_0` for the output `461` of a Concat,
    /// Paddle's `p2o.DynamicDimension.7`, TensorFlow's `unk__12`.
    fn has_made_up_rows(&self) -> bool {
        let symbol = self.first_symbol.as_str();
        self.shape.first() == Some(&None)
            && (symbol
                .strip_suffix("_dim_0")
                .is_some_and(|start| start.ends_with(&*self.name))
                || symbol.starts_with("p2o.DynamicDimension.")
                || symbol.starts_with("unk__"))
    }

    /// Whether a tensor of this shape fits.
    pub fn accepts(&self, shape: &[usize]) -> bool {
        self.shape.len() == shape.len()
            && self
                .shape
                .iter()
                .zip(shape)
                .all(|(expected, given)| expected.is_none_or(|expected| expected == *given))
    }

    /// The shape as in the protocol's metadata: -1 where any size is taken.
    pub fn wire_shape(&self) -> Vec<i64> {
        self.shape
            .iter()
            .map(|dimension| dimension.map_or(-1, |size| i64::try_from(size).unwrap_or(i64::MAX)))
            .collect()
    }
}

/// A shape with `-1` where any size is taken, for messages.
impl fmt::Display for Slot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.wire_shape())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(shape: &[Option<usize>], symbol: &str) -> Slot {
        Slot {
            name: "x".into(),
            datatype: DataType::Fp32,
            shape: shape.to_vec(),
            first_symbol: symbol.to_owned(),
        }
    }

    fn rows(inputs: &[Slot], outputs: &[Slot]) -> Rows {
        Signature::new(inputs.to_vec(), outputs.to_vec()).rows
    }

    #[test]
    fn the_first_dimension_counts_items_only_when_all_share_it() {
        let dynamic = slot(&[None, Some(4)], "N");
        assert_eq!(
            rows(std::slice::from_ref(&dynamic), std::slice::from_ref(&dynamic)),
            Rows::Dynamic
        );
        assert_eq!(
            rows(&[dynamic.clone(), slot(&[], "")], std::slice::from_ref(&dynamic)),
            Rows::None
        );
        assert_eq!(rows(std::slice::from_ref(&dynamic), &[slot(&[None], "M")]), Rows::None);
        assert_eq!(
            rows(std::slice::from_ref(&dynamic), &[slot(&[Some(1), Some(3)], "")]),
            Rows::None
        );
        assert_eq!(
            rows(&[slot(&[Some(2), Some(3)], "")], &[slot(&[Some(2)], "")]),
            Rows::Fixed(2)
        );
        assert_eq!(rows(&[], &[]), Rows::None);
    }

    #[test]
    fn a_name_that_an_exporter_made_up_is_no_contradiction() {
        let input = slot(&[None, Some(4)], "batch_size");
        let output = |symbol: &str| Slot {
            name: "461".into(),
            ..slot(&[None, Some(3)], symbol)
        };
        let decide = |outputs: &[Slot]| {
            let signature = Signature::new(vec![input.clone()], outputs.to_vec());
            (signature.rows, signature.is_assumed)
        };
        assert_eq!(decide(&[output("batch_size")]), (Rows::Dynamic, false));
        for made_up in ["Concat461_dim_0", "p2o.DynamicDimension.7", "unk__12"] {
            assert_eq!(decide(&[output(made_up)]), (Rows::Dynamic, true), "{made_up}");
            assert_eq!(decide(&[output("batch_size"), output(made_up)]), (Rows::Dynamic, true));
            // Beside one that contradicts, or is fixed, nothing is assumed.
            assert_eq!(decide(&[output("tokens"), output(made_up)]), (Rows::None, false));
            assert_eq!(decide(&[slot(&[Some(1)], ""), output(made_up)]), (Rows::None, false));
        }
        for other in ["Concat999_dim_0", "Concat461_dim_1", "M"] {
            assert_eq!(decide(&[output(other)]), (Rows::None, false), "{other}");
        }
    }

    #[test]
    fn a_shape_fits_when_rank_and_known_dimensions_agree() {
        let slot = slot(&[None, Some(4)], "N");
        assert!(slot.accepts(&[7, 4]));
        assert!(!slot.accepts(&[7, 5]));
        assert!(!slot.accepts(&[4]));
        assert_eq!(slot.to_string(), "[-1, 4]");
    }
}
