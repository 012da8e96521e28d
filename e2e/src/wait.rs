//! Waiting for a condition with a deadline. The failure says what was seen last. Nobody else sleeps.
use std::fmt::Display;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep, timeout_at};

/// What one look has shown.
#[derive(Debug)]
pub enum Seen<T> {
    /// What was waited for.
    Done(T),
    /// Not yet: what there is instead.
    NotYet(String),
}

impl<T> Seen<T> {
    /// Not yet, with a description for the failure.
    pub fn not_yet(description: impl Display) -> Self {
        Self::NotYet(description.to_string())
    }
}

const POLL: Duration = Duration::from_millis(50);

/// Looks until the condition holds. Errors of `look` count as "not yet": a server may be restarting.
pub async fn await_condition<T, F>(what: &str, deadline: Duration, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Seen<T>>>,
{
    let end = Instant::now() + deadline;
    let mut last = "nothing".to_owned();
    loop {
        match timeout_at(end, look()).await {
            Ok(Ok(Seen::Done(value))) => return Ok(value),
            Ok(Ok(Seen::NotYet(description))) => last = description,
            Ok(Err(error)) => last = format!("error: {error:#}"),
            Err(_) => last.push_str(" (the last look did not return)"),
        }
        if Instant::now() + POLL > end {
            bail!("waited {:.1} s for {what}; last seen: {last}", deadline.as_secs_f64());
        }
        sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_failure_says_what_was_seen_last() {
        let mut looks = 0;
        let outcome = await_condition::<(), _>("the moon", Duration::from_millis(200), || {
            looks += 1;
            std::future::ready(Ok(Seen::not_yet(format!("look {looks}"))))
        });
        let message = outcome.await.unwrap_err().to_string();
        assert!(
            message.starts_with("waited 0.2 s for the moon; last seen: look "),
            "{message}"
        );
    }

    #[tokio::test]
    async fn errors_and_hanging_looks_end_at_the_deadline() {
        let outcome = await_condition::<(), _>("x", Duration::from_millis(200), || {
            std::future::ready(Err(anyhow::anyhow!("refused")))
        })
        .await;
        assert!(outcome.unwrap_err().to_string().ends_with("error: refused"));
        let outcome = await_condition::<(), _>("x", Duration::from_millis(200), std::future::pending).await;
        assert!(outcome.unwrap_err().to_string().ends_with("did not return)"));
    }
}
