//! What was measured, and which of it counts: a visit is one side alive once, with the echo measured before and after it.
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::report::spread;

/// A visit in which the host took more of the processors than this says nothing.
const STOLEN_MAX: f64 = 0.10;
/// Nor does one beside which the echo, which never changes, was so far from its median in the same part of the same round.
const ANCHOR_SHIFT_MAX: f64 = 0.15;

/// One side, alive once.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Visit {
    /// Sides of one part of one round are compared with each other.
    pub(super) part: &'static str,
    pub(super) round: usize,
    pub(super) side: &'static str,
    /// Answers per second of the echo just before and just after.
    pub(super) anchors: (f64, f64),
    /// Share of the processors' time that the host took away meanwhile.
    pub(super) stolen: f64,
    pub(super) values: BTreeMap<String, f64>,
    /// Probes, curves: what the values were made of.
    pub(super) detail: Value,
}

/// Every visit of a run.
#[derive(Debug, Default)]
pub(super) struct Visits(pub(super) Vec<Visit>);

/// Least, median, greatest over the rounds that count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Found {
    pub(super) least: f64,
    pub(super) median: f64,
    pub(super) most: f64,
    pub(super) rounds: usize,
    /// No round was left alone by the host and by other work: the figures are of all rounds, and are no claim.
    pub(super) is_disturbed: bool,
}

/// One round, as a formula sees it.
pub(super) struct Round<'a> {
    visits: Vec<&'a Visit>,
}

impl Round<'_> {
    /// A value of a side in a part.
    pub(super) fn value(&self, part: &str, side: &str, what: &str) -> Option<f64> {
        let mut of_side = self
            .visits
            .iter()
            .filter(|visit| visit.part == part && visit.side == side);
        of_side.find_map(|visit| visit.values.get(what).copied())
    }

    /// One side's value over another's.
    pub(super) fn ratio(&self, part: &str, what: &str, above: &str, below: &str) -> Option<f64> {
        Some(self.value(part, above, what)? / self.value(part, below, what)?)
    }
}

impl Visits {
    /// How many rounds there are.
    fn rounds(&self) -> usize {
        self.0.iter().map(|visit| visit.round + 1).max().unwrap_or_default()
    }

    /// Whether the host and other work left a visit alone.
    pub(super) fn is_undisturbed(&self, visit: &Visit) -> bool {
        let anchors = self
            .0
            .iter()
            .filter(|other| other.part == visit.part && other.round == visit.round);
        let (_, median, _) = spread(anchors.flat_map(|other| [other.anchors.0, other.anchors.1]));
        let is_near = |anchor: f64| (anchor / median - 1.0).abs() <= ANCHOR_SHIFT_MAX;
        visit.stolen <= STOLEN_MAX && is_near(visit.anchors.0) && is_near(visit.anchors.1)
    }

    /// Visits that do not count, and all.
    pub(super) fn dropped(&self) -> (usize, usize) {
        let dropped = self.0.iter().filter(|visit| !self.is_undisturbed(visit)).count();
        (dropped, self.0.len())
    }

    /// The least, median and greatest share of time that the host took away.
    pub(super) fn stolen(&self) -> (f64, f64, f64) {
        spread(self.0.iter().map(|visit| visit.stolen))
    }

    /// A formula over every round in which all that it needs was left alone; over all rounds where there is no such one. None if nothing was measured.
    pub(super) fn found(&self, formula: &dyn Fn(&Round<'_>) -> Option<f64>) -> Option<Found> {
        let over = |is_every: bool| -> Vec<f64> {
            let round = |index: usize| Round {
                visits: self
                    .0
                    .iter()
                    .filter(|visit| visit.round == index && (is_every || self.is_undisturbed(visit)))
                    .collect(),
            };
            (0..self.rounds())
                .filter_map(|index| formula(&round(index)))
                .filter(|value| value.is_finite())
                .collect()
        };
        let undisturbed = over(false);
        let is_disturbed = undisturbed.is_empty();
        let values = if is_disturbed { over(true) } else { undisturbed };
        if values.is_empty() {
            return None;
        }
        let (least, median, most) = spread(values.iter().copied());
        Some(Found {
            least,
            median,
            most,
            rounds: values.len(),
            is_disturbed,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::bench) fn visit(
        part: &'static str,
        round: usize,
        side: &'static str,
        values: &[(&str, f64)],
    ) -> Visit {
        Visit {
            part,
            round,
            side,
            anchors: (100.0, 100.0),
            stolen: 0.0,
            values: values
                .iter()
                .map(|(what, value)| ((*what).to_owned(), *value))
                .collect(),
            detail: Value::Null,
        }
    }

    fn rounds(server: [f64; 3]) -> Visits {
        let of_round = |(round, rate): (usize, f64)| {
            [
                visit("digits", round, "server", &[("rate", rate)]),
                visit("digits", round, "peer", &[("rate", 10.0)]),
            ]
        };
        Visits(server.into_iter().enumerate().flat_map(of_round).collect())
    }

    fn ratio(visits: &Visits) -> Option<Found> {
        visits.found(&|round| round.ratio("digits", "rate", "server", "peer"))
    }

    #[test]
    fn ratios_are_taken_within_rounds() {
        let found = ratio(&rounds([30.0, 20.0, 70.0])).unwrap();
        assert_eq!((found.least, found.median, found.most), (2.0, 3.0, 7.0));
        assert_eq!((found.rounds, found.is_disturbed), (3, false));
        assert_eq!(
            rounds([1.0; 3]).found(&|round| round.value("digits", "nobody", "rate")),
            None
        );
    }

    #[test]
    fn a_round_counts_only_if_both_sides_were_left_alone() {
        let mut visits = rounds([30.0, 20.0, 70.0]);
        visits.0[1].stolen = 0.11;
        visits.0[4].anchors.1 = 80.0;
        assert_eq!(visits.dropped(), (2, 6));
        let found = ratio(&visits).unwrap();
        assert_eq!((found.median, found.rounds), (2.0, 1));
    }

    #[test]
    fn an_anchor_counts_against_its_own_part_and_round() {
        let mut visits = rounds([30.0, 20.0, 70.0]);
        // The whole round is slower, and so is its echo: nothing moved within it.
        for visit in &mut visits.0[2..4] {
            visit.anchors = (40.0, 40.0);
        }
        assert_eq!(visits.dropped().0, 0);
        visits.0[2].anchors.0 = 60.0;
        assert_eq!(visits.dropped().0, 1);
    }

    #[test]
    fn where_nothing_was_left_alone_that_is_said() {
        let mut visits = rounds([30.0, 20.0, 70.0]);
        visits.0.iter_mut().for_each(|visit| visit.stolen = 0.5);
        let found = ratio(&visits).unwrap();
        assert!(found.is_disturbed);
        assert_eq!((found.median, found.rounds), (3.0, 3));
    }
}
