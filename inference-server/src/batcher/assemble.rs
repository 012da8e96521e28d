//! Several requests to one batch: each input's tensors one under the other.

use crate::tensor::Tensor;

/// Inputs of the batch, in the order of the signature; `None` when the requests do not fit together (the queue never groups such).
pub fn assemble(mut requests: Vec<Vec<Tensor>>) -> Option<Vec<Tensor>> {
    // One request is a batch already: nothing is copied.
    if requests.len() == 1 {
        return requests.pop();
    }
    let inputs = requests.first()?.len();
    (0..inputs)
        .map(|input| {
            let parts: Option<Vec<&Tensor>> = requests.iter().map(|request| request.get(input)).collect();
            Tensor::concat(&parts?)
        })
        .collect()
}
