//! The outputs of a batch to the outputs of each request.

use crate::tensor::Tensor;

/// Outputs for each request, which had `rows[i]` items; `None` when the model gave another number of rows than it was given.
pub fn split(outputs: Vec<Tensor>, rows: &[usize]) -> Option<Vec<Vec<Tensor>>> {
    if rows.len() == 1 {
        return Some(vec![outputs]);
    }
    let total: usize = rows.iter().sum();
    if outputs
        .iter()
        .any(|tensor| tensor.shape().is_empty() || tensor.rows() != total)
    {
        return None;
    }
    let mut start = 0;
    rows.iter()
        .map(|count| {
            let end = start + count;
            let part = outputs.iter().map(|tensor| tensor.slice_rows(start, end)).collect();
            start = end;
            part
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::assemble::assemble;
    use super::*;
    use crate::tensor::Values;

    proptest! {
        #[test]
        fn what_is_put_together_comes_apart_the_same(rows in proptest::collection::vec(1usize..5, 1..8)) {
            let mut next = 0i64;
            let mut number = || { next += 1; next };
            let requests: Vec<Vec<Tensor>> = rows.iter().map(|rows| vec![
                Tensor::new(vec![*rows, 2], Values::Int64((0..rows * 2).map(|_| number()).collect())).unwrap(),
                Tensor::new(vec![*rows], Values::Bytes((0..*rows).map(|_| number().to_string()).collect())).unwrap(),
            ]).collect();
            let batch = assemble(requests.clone()).unwrap();
            prop_assert_eq!(batch[0].rows(), rows.iter().sum::<usize>());
            prop_assert_eq!(split(batch, &rows).unwrap(), requests);
        }
    }

    #[test]
    fn a_model_that_loses_rows_is_noticed() {
        let output = Tensor::new(vec![1], Values::Int64(vec![1])).unwrap();
        assert_eq!(split(vec![output], &[1, 1]), None);
    }
}
