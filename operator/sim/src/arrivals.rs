//! When requests arrive: a recorded trace or a generator, made a second at a time and only when needed.

use crate::error::{Error, Result};
use crate::generator::Generator;
use crate::random::{Purpose, Sequence, Stream};
use crate::time::{MILLISECOND, NEVER, Nanos, SECOND};
use crate::trace::Trace;

/// Where arrivals come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Workload {
    /// A slice of a trace; `thin` is the probability with which each request is kept.
    Recorded { trace: Trace, thin: f64 },
    /// Drawn.
    Generated(Generator),
}

impl Workload {
    /// The part of a trace in `[from, to)` seconds, thinned.
    pub fn recorded(trace: Trace, from: u64, to: Option<u64>, thin: f64) -> Result<Self> {
        let length = trace.seconds();
        let to = to.unwrap_or(length);
        if from >= to || to > length {
            return Err(Error::option(
                format!("--from {from} --to {to}"),
                format!("must be a part of the trace, which lasts {length} s"),
            ));
        }
        if !(thin > 0.0 && thin <= 1.0) {
            return Err(Error::option(
                format!("--thin {thin}"),
                "must be a probability above 0 and at most 1",
            ));
        }
        let trace = match trace {
            Trace::Counts(mut counts) => {
                counts.truncate(to as usize);
                counts.drain(..from as usize);
                Trace::Counts(counts)
            }
            Trace::Times(mut times) => {
                times.retain(|at| (from * SECOND..to * SECOND).contains(at));
                for at in &mut times {
                    *at -= from * SECOND;
                }
                Trace::Times(times)
            }
        };
        Ok(Self::Recorded { trace, thin })
    }

    /// So many seconds of a trace, or all of it, in which the busiest minute begins at two thirds; and where they begin.
    pub fn round_busiest(self, seconds: u64) -> Result<(u64, Self)> {
        let Self::Recorded { trace, thin } = self else {
            return Ok((0, self));
        };
        let whole = Self::Recorded { trace, thin: 1.0 };
        let (busiest, _) = busiest(&whole.per_second(0), 60);
        let Self::Recorded { trace, .. } = whole else {
            return Ok((0, whole));
        };
        let length = trace.seconds();
        let seconds = seconds.min(length);
        let from = busiest.saturating_sub(seconds * 2 / 3).min(length - seconds);
        Ok((from, Self::recorded(trace, from, Some(from + seconds), thin)?))
    }

    /// When the requests of one seed arrive, in whole milliseconds.
    pub fn instants_ms(&self, seed: u64) -> Vec<u64> {
        let mut arrivals = self.arrivals(seed);
        let mut all = Vec::new();
        while arrivals.peek() != NEVER {
            all.push(arrivals.peek() / MILLISECOND);
            arrivals.advance();
        }
        all
    }

    pub fn seconds(&self) -> u64 {
        match self {
            Self::Recorded { trace, .. } => trace.seconds(),
            Self::Generated(generator) => generator.seconds,
        }
    }

    /// The requests of one seed, in order.
    pub fn arrivals(&self, seed: u64) -> Arrivals<'_> {
        let place = Stream::new(seed, Purpose::Arrival);
        let source = match self {
            Self::Recorded { trace, thin } => Source::Recorded {
                trace,
                place,
                thin: (*thin < 1.0).then(|| (Stream::new(seed, Purpose::Thin), *thin)),
                seen: 0,
            },
            Self::Generated(generator) => {
                let mut gaps = Sequence::new(place);
                Source::Generated {
                    generator,
                    due: gaps.gamma(generator.gap_cv),
                    gaps,
                    expected: 0.0,
                }
            }
        };
        let mut arrivals = Arrivals {
            source,
            second: 0,
            seconds: self.seconds(),
            block: Vec::new(),
            at: 0,
            next: 0,
        };
        arrivals.advance();
        arrivals
    }

    /// How many requests of one seed arrive in each second.
    pub fn per_second(&self, seed: u64) -> Vec<u32> {
        if let Self::Recorded {
            trace: Trace::Counts(counts),
            thin,
        } = self
            && *thin >= 1.0
        {
            return counts.clone();
        }
        let mut counts = vec![0; self.seconds() as usize];
        let mut arrivals = self.arrivals(seed);
        while arrivals.next != NEVER {
            if let Some(count) = counts.get_mut((arrivals.next / SECOND) as usize) {
                *count += 1;
            }
            arrivals.advance();
        }
        counts
    }
}

/// The busiest span of `window` seconds: its first second, and the requests in it.
pub fn busiest(counts: &[u32], window: usize) -> (u64, u64) {
    let mut best = (0, 0);
    let mut sum = 0;
    for (second, count) in counts.iter().enumerate() {
        sum += u64::from(*count);
        if second >= window {
            sum -= u64::from(counts[second - window]);
        }
        if sum > best.1 {
            best = ((second + 1).saturating_sub(window) as u64, sum);
        }
    }
    best
}

#[derive(Debug)]
enum Source<'a> {
    Recorded {
        trace: &'a Trace,
        place: Stream,
        thin: Option<(Stream, f64)>,
        /// Requests of the trace so far, kept or not: the index of their draws.
        seen: u64,
    },
    Generated {
        generator: &'a Generator,
        gaps: Sequence,
        /// Requests expected (the integral of the rate) until this second, and at the next request: a renewal process in that time has the wanted rate in ours.
        expected: f64,
        due: f64,
    },
}

/// The instants of requests, ascending. One second's are held at a time.
#[derive(Debug)]
pub struct Arrivals<'a> {
    source: Source<'a>,
    second: u64,
    seconds: u64,
    block: Vec<Nanos>,
    at: usize,
    next: Nanos,
}

impl Arrivals<'_> {
    /// The next request, or [`NEVER`].
    #[inline]
    pub fn peek(&self) -> Nanos {
        self.next
    }

    /// Goes on to the request after it.
    #[inline]
    pub fn advance(&mut self) {
        while self.at == self.block.len() {
            if self.second == self.seconds {
                self.next = NEVER;
                return;
            }
            self.block.clear();
            self.at = 0;
            self.source.fill(self.second, &mut self.block);
            self.second += 1;
        }
        self.next = self.block[self.at];
        self.at += 1;
    }
}

impl Source<'_> {
    /// Adds the requests of one second, ascending.
    fn fill(&mut self, second: u64, block: &mut Vec<Nanos>) {
        let start = second * SECOND;
        match self {
            Self::Recorded {
                trace,
                place,
                thin,
                seen,
            } => {
                let mut kept = |thin: &Option<(Stream, f64)>| {
                    *seen += 1;
                    (thin.is_none_or(|(stream, share)| stream.uniform(*seen) < share)).then_some(*seen)
                };
                match trace {
                    Trace::Counts(counts) => {
                        for _ in 0..counts[second as usize] {
                            if let Some(index) = kept(thin) {
                                block.push(start + (place.uniform(index) * SECOND as f64) as Nanos);
                            }
                        }
                        block.sort_unstable();
                    }
                    Trace::Times(times) => {
                        while let Some(at) = times.get(*seen as usize).filter(|at| **at < start + SECOND) {
                            let index = *seen;
                            *seen += 1;
                            if thin.is_none_or(|(stream, share)| stream.uniform(index) < share) {
                                block.push(*at);
                            }
                        }
                    }
                }
            }
            Self::Generated {
                generator,
                gaps,
                expected,
                due,
            } => {
                let rate = generator.profile.rate(second);
                while *due < *expected + rate {
                    let inside = ((*due - *expected) / rate * SECOND as f64) as Nanos;
                    block.push(start + inside.min(SECOND - 1));
                    *due += gaps.gamma(generator.gap_cv);
                }
                *expected += rate;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time;

    #[test]
    fn requests_of_a_second_lie_inside_it_and_ascend() {
        let workload = Workload::recorded(Trace::Counts(vec![3, 0, 500, 1]), 0, None, 1.0).unwrap();
        let mut arrivals = workload.arrivals(1);
        let mut all = Vec::new();
        while arrivals.peek() != NEVER {
            all.push(arrivals.peek());
            arrivals.advance();
        }
        assert!(all.is_sorted());
        assert_eq!(workload.per_second(1), [3, 0, 500, 1]);
        assert_ne!(workload.arrivals(2).peek(), all[0]);
        // Uniform: the mean place of 500 lies within four standard deviations of the middle.
        let places: f64 = all[3..503].iter().map(|at| time::to_seconds(*at) - 2.0).sum::<f64>() / 500.0;
        assert!((places - 0.5).abs() < 4.0 * (1.0_f64 / 12.0 / 500.0).sqrt(), "{places}");
    }

    #[test]
    fn the_busiest_minute_lies_at_two_thirds_of_what_is_cut_out_round_it() {
        let mut counts = vec![1; 7200];
        counts[3600..3660].fill(9);
        let part = |counts: Vec<u32>, seconds| {
            let whole = Workload::recorded(Trace::Counts(counts), 0, None, 1.0).unwrap();
            let (from, part) = whole.round_busiest(seconds).unwrap();
            (from, part.per_second(1))
        };
        let (from, cut) = part(counts.clone(), 1200);
        assert_eq!((from, cut.len()), (2800, 1200));
        assert!(cut[800..860].iter().all(|count| *count == 9) && cut[799] == 1 && cut[860] == 1);
        // Neither before the trace nor beyond it.
        assert_eq!(part(counts[3500..].to_vec(), 1200).0, 0);
        assert_eq!(part(counts[..3700].to_vec(), 1200).0, 2500);
        assert_eq!(part(counts[..600].to_vec(), 1200).1.len(), 600);
    }

    #[test]
    fn instants_are_those_that_are_simulated() {
        let times = Trace::Times(vec![0, 1_500 * MILLISECOND, 1_500 * MILLISECOND, 9_999 * MILLISECOND]);
        let workload = Workload::recorded(times, 1, None, 1.0).unwrap();
        assert_eq!(workload.instants_ms(3), [500, 500, 8_999]);
    }

    #[test]
    fn slices_and_thinning() {
        let trace = Trace::Counts(vec![1, 2, 3, 4]);
        let slice = Workload::recorded(trace.clone(), 1, Some(3), 1.0).unwrap();
        assert_eq!(slice.per_second(1), [2, 3]);
        let times = Trace::Times((0..4_000).map(|ms| ms * 1_000_000).collect());
        let slice = Workload::recorded(times, 1, Some(3), 0.25).unwrap();
        let kept: u32 = slice.per_second(1).iter().sum();
        assert!((400..600).contains(&kept), "{kept} of 2000 at 0.25");
        assert_eq!(slice.per_second(7), slice.per_second(7));
        for (from, to, thin) in [(3, Some(3), 1.0), (0, Some(5), 1.0), (0, None, 0.0), (0, None, 1.5)] {
            assert!(Workload::recorded(trace.clone(), from, to, thin).is_err());
        }
    }
}
