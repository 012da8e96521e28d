//! CPU profiles on the admin port: who may have one, how long it takes, and one at a time.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use tidewright_contract::routes;
use tokio::sync::Semaphore;

use super::coding::{self, Coding};
use super::respond::{self, Answer};
use crate::error::Error;
use crate::profile::Sampling;
use crate::protocols::document::Format;

/// Bounds and defaults of the two parameters. The default of the frequency is not a divisor of what else happens each so many milliseconds.
const SECONDS: (u16, std::ops::RangeInclusive<u16>) = (10, 1..=60);
const HERTZ: (u16, std::ops::RangeInclusive<u16>) = (99, 1..=1000);

/// The endpoint.
#[derive(Debug)]
pub struct Profiling {
    is_enabled: bool,
    turn: Semaphore,
}

impl Profiling {
    /// Enabled or not.
    pub fn new(is_enabled: bool) -> Self {
        Self {
            is_enabled,
            turn: Semaphore::new(1),
        }
    }

    /// Answers a request for a profile; `None` for any other.
    pub async fn answer<B>(&self, request: &Request<B>) -> Option<Answer> {
        if request.uri().path() != routes::PROFILE {
            return None;
        }
        let answer = if request.method() == Method::GET {
            self.profile(request.uri().query().unwrap_or_default()).await
        } else {
            Err(Error::MethodNotAllowed { allow: "GET" })
        };
        Some(answer.unwrap_or_else(|error| respond::error(Format::Json, &error)))
    }

    async fn profile(&self, query: &str) -> Result<Answer, Error> {
        if !self.is_enabled {
            let message = "profiles are off; admin.profiling or --admin-profiling turns them on";
            return Err(Error::NotFound(message.to_owned()));
        }
        let (seconds, hertz) = parameters(query)?;
        let Ok(_turn) = self.turn.try_acquire() else {
            return Err(Error::Overloaded {
                message: "a profile is being taken, and there is one at a time".to_owned(),
                retry_after: Duration::from_secs(u64::from(seconds)),
            });
        };
        // Beginning and end look through the libraries of the process: not on a thread that answers others.
        let sampling = blocking(move || Sampling::start(hertz)).await?;
        // Whoever does not wait for it ends it: it is dropped with this.
        tokio::time::sleep(Duration::from_secs(u64::from(seconds))).await;
        let profile = blocking(move || sampling.finish()).await?;
        let body = coding::encode(Coding::Gzip, &profile).await;
        let body = body.ok_or_else(|| Error::Internal("the profile cannot be compressed".to_owned()))?;
        let mut answer = Answer::new(Full::new(body));
        *answer.status_mut() = StatusCode::OK;
        // The body is a gzip file, and not a file that is encoded on its way: pprof reads it as it is.
        answer
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        Ok(answer)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Internal(format!("the profile cannot be taken: {error}"))))
}

/// Seconds and hertz.
fn parameters(query: &str) -> Result<(u16, u16), Error> {
    let (mut seconds, mut hertz) = (SECONDS.0, HERTZ.0);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (field, range) = match name {
            "seconds" => (&mut seconds, SECONDS.1),
            "frequency" => (&mut hertz, HERTZ.1),
            _ => return Err(Error::invalid("the parameters of a profile are seconds and frequency")),
        };
        let number = value.parse().ok().filter(|number| range.contains(number));
        *field = number.ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            Error::invalid(format!("{name} must be a whole number from {least} to {most}"))
        })?;
    }
    Ok((seconds, hertz))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_defaults_and_bounds() {
        assert_eq!(parameters(""), Ok((10, 99)));
        assert_eq!(parameters("seconds=60&frequency=1000"), Ok((60, 1000)));
        for query in [
            "seconds=0",
            "seconds=61",
            "seconds=",
            "seconds=x",
            "frequency=1001",
            "frequency=-1",
            "debug=1",
        ] {
            assert!(parameters(query).is_err(), "{query}");
        }
    }

    #[tokio::test]
    async fn off_unless_enabled() {
        let request = Request::get(routes::PROFILE).body(()).unwrap();
        let answer = Profiling::new(false).answer(&request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        assert!(
            Profiling::new(true)
                .answer(&Request::get("/metrics").body(()).unwrap())
                .await
                .is_none()
        );
    }
}
