//! The search for the highest rate that holds: doubles or halves until it knows one that holds and one that does not, and then halves the step.

/// Halvings of the last step: the result is at most 1/8 of the step below the truth.
const HALVINGS: u32 = 3;
/// So often the rate is halved before the search gives up: nothing holds.
const HALVED_MAX: u32 = 8;
/// So often it is doubled.
const DOUBLED_MAX: u32 = 12;

/// Asks for one rate after the other.
#[derive(Debug, Clone)]
pub(super) struct Search {
    /// The highest that held.
    low: Option<f64>,
    /// The lowest that did not.
    high: Option<f64>,
    next: f64,
    tries: u32,
    halvings: u32,
}

impl Search {
    /// Begins at a rate near which the answer is expected, in requests per second.
    pub(super) fn near(rate: f64) -> Self {
        Self {
            low: None,
            high: None,
            next: rate,
            tries: 0,
            halvings: 0,
        }
    }

    /// The rate to try; none when the search has ended.
    pub(super) fn next(&self) -> Option<f64> {
        let is_open = match (self.low, self.high) {
            (Some(_), Some(_)) => self.halvings < HALVINGS,
            (None, Some(_)) => self.tries <= HALVED_MAX,
            (_, None) => self.tries <= DOUBLED_MAX,
        };
        is_open.then_some(self.next)
    }

    /// Whether the rate that was tried has held.
    pub(super) fn tell(&mut self, held: bool) {
        let is_bracketed = self.low.is_some() && self.high.is_some();
        let bound = if held { &mut self.low } else { &mut self.high };
        *bound = Some(self.next);
        self.tries += 1;
        self.halvings += u32::from(is_bracketed);
        self.next = match (self.low, self.high) {
            (Some(low), Some(high)) => f64::midpoint(low, high),
            (None, _) => self.next / 2.0,
            (Some(_), None) => self.next * 2.0,
        };
    }

    /// The highest rate that held; 0 if none did.
    pub(super) fn found(&self) -> f64 {
        self.low.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found where every rate up to `limit` holds, and in how many tries.
    fn search(near: f64, limit: f64) -> (f64, usize) {
        let mut search = Search::near(near);
        let mut tries = 0;
        while let Some(rate) = search.next() {
            search.tell(rate <= limit);
            tries += 1;
        }
        (search.found(), tries)
    }

    #[test]
    fn the_highest_rate_is_found_from_below_and_from_above() {
        for near in [1_000.0, 9_000.0, 20_000.0, 40_000.0] {
            let (found, tries) = search(near, 18_000.0);
            assert!((15_700.0..=18_000.0).contains(&found), "{found} from {near}");
            assert!(tries <= 9, "{tries} from {near}");
        }
    }

    #[test]
    fn the_search_ends_where_nothing_or_everything_holds() {
        assert_eq!(search(1_000.0, 0.0), (0.0, 9));
        let (found, tries) = search(1_000.0, f64::INFINITY);
        assert!(found.is_finite() && found > 1e6 && tries <= 14, "{found}, {tries}");
    }
}
