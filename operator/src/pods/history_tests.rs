//! Pods that say this and that, second by second.

use super::*;

const WINDOW: Duration = Duration::from_secs(2);

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap()
}

fn said(process: u64, arrivals: u64) -> Signals {
    Signals {
        version: 1,
        process: 1_799_999_980_000 + process,
        arrivals,
        completions: arrivals,
        service_seconds: arrivals as f64 * 0.02,
        queued: arrivals % 7,
        in_flight: 3,
    }
}

/// One pod that was asked each second, heard with these counters; `None`: it did not answer.
fn heard(ready_at: Option<Timestamp>, counters: &[Option<u64>]) -> (History, u64) {
    let mut history = History::default();
    history.note_ready(ready_at);
    for (round, arrivals) in (1..).zip(counters) {
        if let Some(arrivals) = arrivals {
            history.note(&said(1, *arrivals), at(i64::try_from(round).unwrap() * 1000), round);
        }
    }
    (history, counters.len() as u64)
}

fn of(history: &History, round: u64) -> Figures {
    figures(
        std::iter::once(("a", Some(history).filter(|history| history.is_of(round)))),
        WINDOW,
    )
}

#[test]
fn a_rate_is_of_the_window_and_service_times_of_the_last_round() {
    let (history, round) = heard(Some(at(-60_000)), &[Some(100), Some(110), Some(150), Some(170)]);
    let figures = of(&history, round);
    assert_eq!((figures.up, figures.all, figures.covered), (1, 1, 1));
    assert!((figures.rate - 30.0).abs() < 1e-9, "{figures:?}");
    assert_eq!(figures.completions, 20);
    assert!((figures.service_seconds - 0.4).abs() < 1e-9, "{figures:?}");
    // The mean of what it said at 3 s and at 4 s.
    assert!((figures.queued - 2.5).abs() < 1e-9, "{figures:?}");
    assert!((figures.concurrency - 3.0).abs() < 1e-9, "{figures:?}");
    assert_eq!(figures.in_flight["a"], 3);
    assert_eq!(figures.at, Some(at(4000)));
}

#[test]
fn of_an_old_pod_nothing_is_known_until_the_window_is_filled() {
    let rate = |counters: &[Option<u64>]| {
        let (history, round) = heard(Some(at(-60_000)), counters);
        let figures = of(&history, round);
        (figures.rate, figures.covered, figures.completions)
    };
    assert_eq!(rate(&[Some(1000)]), (0.0, 0, 0), "what it did before is no rate");
    assert_eq!(
        rate(&[Some(1000), Some(1020)]),
        (10.0, 0, 20),
        "too low, and known to be"
    );
    assert_eq!(rate(&[Some(1000), Some(1020), Some(1040)]), (20.0, 1, 20));
}

#[test]
fn a_pod_that_has_just_become_ready_has_told_all() {
    let (history, round) = heard(Some(at(0)), &[Some(8)]);
    let figures = of(&history, round);
    assert_eq!((figures.rate, figures.covered), (4.0, 1), "eight in the two seconds");
    let (history, round) = heard(Some(at(-3000)), &[Some(8)]);
    assert!((of(&history, round).rate - 2.0).abs() < 1e-9, "eight in four seconds");
}

#[test]
fn counters_that_begin_anew_are_no_fall_and_no_flood() {
    let mut history = History::default();
    for (round, (process, arrivals)) in (1..).zip([(1, 100), (1, 120), (2, 6), (2, 20)]) {
        history.note(
            &said(process, arrivals),
            at(i64::try_from(round).unwrap() * 1000),
            round,
        );
    }
    let figures = of(&history, 4);
    assert_eq!(
        (figures.rate, figures.covered),
        (10.0, 1),
        "six and fourteen in two seconds"
    );
    assert_eq!(figures.completions, 14);
    history.note(&said(2, 3), at(5000), 5);
    assert_eq!(of(&history, 5).completions, 3, "fewer than before, so anew");
}

#[test]
fn who_did_not_answer_is_counted_and_adds_nothing() {
    let (history, round) = heard(Some(at(-60_000)), &[Some(0), Some(20), Some(40), None]);
    let (other, _) = heard(Some(at(-60_000)), &[Some(0), Some(10), Some(20), Some(30)]);
    let pods = [("a", &history), ("b", &other)];
    let heard_now = pods
        .into_iter()
        .map(|(uid, of)| (uid, Some(of).filter(|of| of.is_of(round))));
    let figures = figures(heard_now, WINDOW);
    assert_eq!((figures.up, figures.all, figures.rate), (1, 2, 10.0));
    assert_eq!(figures.in_flight.len(), 1);
    // Back again, it is averaged over the time that it was silent.
    let (history, round) = heard(Some(at(-60_000)), &[Some(0), Some(20), None, Some(50)]);
    assert!((of(&history, round).rate - 15.0).abs() < 1e-9);
}

#[test]
fn a_clock_that_jumps_back_begins_anew() {
    let (mut history, _) = heard(Some(at(-60_000)), &[Some(0), Some(20), Some(40)]);
    history.note(&said(1, 60), at(1000), 4);
    let figures = of(&history, 4);
    assert_eq!((figures.rate, figures.covered, figures.completions), (0.0, 0, 0));
}

#[test]
fn what_is_kept_is_bounded() {
    let (history, _) = heard(None, &(0..1000).map(Some).collect::<Vec<_>>());
    assert_eq!(history.points.len(), POINTS_MAX);
}
