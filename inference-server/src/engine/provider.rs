//! Which execution provider runs the models: the first of the configured order that works here, or an error that says why none does.

use tidewright_contract::config::ExecutionProvider;
use tidewright_contract::exit::Reason;

use crate::model::source::LoadError;

/// Tries the providers in order. `attempt` loads the model with one of them; a failure is logged and the next one is tried.
///
/// # Errors
/// The failure of the only provider, or one that names each provider with its failure.
pub fn first_working<T>(
    order: &[ExecutionProvider],
    mut attempt: impl FnMut(ExecutionProvider) -> Result<T, LoadError>,
) -> Result<(ExecutionProvider, T), LoadError> {
    let mut failures: Vec<(ExecutionProvider, LoadError)> = Vec::new();
    for (index, provider) in order.iter().enumerate() {
        match attempt(*provider) {
            Ok(loaded) => return Ok((*provider, loaded)),
            Err(error) => {
                if index + 1 < order.len() {
                    tracing::warn!(%provider, %error, "this execution provider does not work here, the next one is tried");
                }
                failures.push((*provider, error));
            }
        }
    }
    if failures.len() <= 1 {
        return Err(failures.pop().map_or_else(
            || LoadError::new(Reason::ProviderUnavailable, "no execution provider is configured"),
            |(_, error)| error,
        ));
    }
    // A model that a working provider refuses is the model's fault, whatever the others lack.
    let reason = failures
        .iter()
        .map(|(_, error)| error.reason)
        .find(|reason| *reason != Reason::ProviderUnavailable)
        .unwrap_or(Reason::ProviderUnavailable);
    let list: Vec<String> = failures
        .iter()
        .map(|(provider, error)| format!("{provider}: {error}"))
        .collect();
    Err(LoadError::new(
        reason,
        format!("no execution provider works: {}", list.join("; ")),
    ))
}

#[cfg(test)]
mod tests {
    use ExecutionProvider::{Cpu, Cuda, Tensorrt};

    use super::*;

    fn attempt(works: &[ExecutionProvider]) -> impl FnMut(ExecutionProvider) -> Result<(), LoadError> {
        let works = works.to_vec();
        move |provider| {
            works
                .contains(&provider)
                .then_some(())
                .ok_or_else(|| LoadError::new(Reason::ProviderUnavailable, "no device"))
        }
    }

    #[test]
    fn the_first_that_works_is_taken_and_none_is_an_error_that_names_all() {
        assert_eq!(
            first_working(&[Tensorrt, Cuda, Cpu], attempt(&[Cuda, Cpu])),
            Ok((Cuda, ()))
        );
        assert_eq!(first_working(&[Cpu, Cuda], attempt(&[Cpu, Cuda])), Ok((Cpu, ())));
        let error = first_working(&[Tensorrt, Cuda], attempt(&[])).unwrap_err();
        assert_eq!(error.reason, Reason::ProviderUnavailable);
        assert_eq!(
            error.message,
            "no execution provider works: tensorrt: no device; cuda: no device"
        );
    }

    #[test]
    fn a_model_refused_by_a_working_provider_is_a_model_error() {
        let error = first_working(&[Cuda, Cpu], |provider| {
            Err::<(), _>(LoadError::new(
                if provider == Cpu {
                    Reason::ModelLoadFailed
                } else {
                    Reason::ProviderUnavailable
                },
                "no",
            ))
        });
        assert_eq!(error.unwrap_err().reason, Reason::ModelLoadFailed);
    }
}
