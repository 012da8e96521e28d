//! What holds for every input. Each property names the guard whose removal breaks it.

use crate::script::{Step, observations, policy, step_strategy, timeline};
use proptest::collection::vec;
use proptest::prelude::*;
use tidewright_scaling::decision::Decision;
use tidewright_scaling::observation::Absence;
use tidewright_scaling::policy::Balancing;
use tidewright_scaling::{Moment, Policy, State, decide, step};

/// Runs a script of ticks; whoever scales obeys. Every decision with what it was based on.
fn run(policy: &Policy, script: &[Step]) -> Vec<(Step, u32, Decision)> {
    let mut state = State::default();
    let mut replicas = 1;
    let mut all = Vec::new();
    for (tick, (now, step)) in timeline(script).enumerate() {
        let seen = observations(step, replicas, now, tick as u64);
        let (decision, next) = decide(policy, &seen, state, now);
        state = next;
        let before = replicas;
        replicas = decision.pools[0].to;
        all.push((step.clone(), before, decision));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Guard: the clamp at the end of the stages.
    #[test]
    fn within_bounds(script in vec(step_strategy(), 1..80), min in 0_u32..4, span in 1_u32..30) {
        let policy = policy(|draft| {
            draft.pools[0].replicas_min = min;
            draft.pools[0].replicas_max = min + span;
        });
        for (_, _, decision) in run(&policy, &script) {
            prop_assert!((min..=min + span).contains(&decision.pools[0].to), "{decision:?}");
        }
    }

    /// Guards: `FailStatic`; that a rate over an unfilled window is not `Ok`.
    #[test]
    fn never_down_while_a_signal_is_missing_stale_or_warming_up(script in vec(step_strategy(), 1..120)) {
        for (step, before, decision) in run(&policy(|_| ()), &script) {
            if !step.is_whole() {
                prop_assert!(decision.pools[0].to >= before.min(20), "{step:?}: {:?}", decision.pools[0]);
            }
        }
    }

    /// Guard: `InFlight`.
    #[test]
    fn never_below_what_is_in_work(script in vec(step_strategy(), 1..120)) {
        for (step, before, decision) in run(&policy(|_| ()), &script) {
            let pool = &decision.pools[0];
            if pool.to < before {
                prop_assert!(pool.to >= step.in_flight.div_ceil(4).min(before), "{step:?}: {pool:?}");
            }
        }
    }

    /// Guard: `Settling`: after a growth nothing shrinks for two start times, so that within them at most one change of direction is possible.
    #[test]
    fn at_most_one_reversal_per_window(script in vec(step_strategy(), 1..160)) {
        let window_seconds = 60.0;
        let mut turns: Vec<Moment> = Vec::new();
        let mut last = 0;
        for (_, before, decision) in run(&policy(|_| ()), &script) {
            let pool = &decision.pools[0];
            let direction = i64::from(pool.to).cmp(&i64::from(before)) as i32;
            if direction != 0 {
                if last == 1 && direction == -1 {
                    turns.push(decision.at);
                }
                last = direction;
            }
        }
        for pair in turns.windows(2) {
            prop_assert!(pair[1].seconds_since(pair[0]) >= window_seconds, "{turns:?}");
        }
    }

    /// Guards: `Amount`, the saturating casts, the bound of the sizing.
    #[test]
    fn finite_for_any_input(script in vec(step_strategy(), 1..60), wild in any::<f64>(), queued in any::<f64>()) {
        let mut script = script;
        for step in script.iter_mut().skip(2).step_by(3) {
            step.rate = Ok(wild);
            step.queued = Ok(queued);
        }
        for (_, _, decision) in run(&policy(|_| ()), &script) {
            prop_assert!(decision.lambda.is_finite() && decision.queued.is_finite());
            let text = serde_json::to_string(&decision).unwrap();
            prop_assert!(!text.contains("null"), "{text}");
            let back: Decision = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(back, decision);
        }
    }

    #[test]
    fn equal_inputs_give_equal_output(script in vec(step_strategy(), 1..60)) {
        let policy = policy(|_| ());
        let decisions = || run(&policy, &script).into_iter().map(|(_, _, decision)| decision).collect::<Vec<_>>();
        prop_assert_eq!(decisions(), decisions());
    }

    /// Guard: what a sample says of the variability counts from the next tick on.
    #[test]
    fn more_load_never_gives_fewer_replicas(
        script in vec(step_strategy(), 0..80),
        low in 0.0_f64..400.0,
        more in 0.0_f64..400.0,
        queued in 0.0_f64..2000.0,
        more_queued in 0.0_f64..2000.0,
        is_random in any::<bool>(),
    ) {
        let policy = policy(|draft| draft.balancing = if is_random { Balancing::Random } else { Balancing::Central });
        let (mut state, mut replicas, mut now) = (State::default(), 1, crate::script::start());
        for (tick, (at, step)) in timeline(&script).enumerate() {
            let seen = observations(step, replicas, at, tick as u64);
            let (decision, next) = tidewright_scaling::step(&policy, &seen, state, at);
            (state, replicas, now) = (next, decision.pools[0].to, at);
        }
        let now = now.plus_seconds(5.0);
        let at = |rate: f64, queued: f64| {
            let step = Step { rate: Ok(rate), queued: Ok(queued), ..Step::calm() };
            let seen = observations(&step, replicas, now, 9999);
            step_of(&policy, &seen, state.clone(), now)
        };
        prop_assert!(at(low, queued) <= at(low + more, queued));
        prop_assert!(at(low, queued) <= at(low, queued + more_queued));
    }

    /// Guard: `WarmingUp`.
    #[test]
    fn a_restart_never_scales_down_before_it_has_relearned(replicas in 2_u32..20, rate in 0.0_f64..3.0) {
        let policy = policy(|_| ());
        let mut state = State::default();
        for tick in 0..60_u64 {
            let now = crate::script::start().plus_seconds(tick as f64 * 5.0);
            let seen = observations(&Step { rate: Ok(rate), ..Step::calm() }, replicas, now, tick);
            let (decision, next) = step(&policy, &seen, state, now);
            state = next;
            prop_assert!(decision.pools[0].to >= replicas, "{:?}", decision.pools[0]);
        }
    }
}

/// Guard: a sample is believed before it is learned. A load that varies, then one sample, lower and lower: had it counted as variability at once, a
/// lower rate would ask for more replicas. Many replicas of one slot and little slack, so that the difference is some replicas.
#[test]
fn a_lower_sample_never_asks_for_more_by_being_unusual() {
    let policy = policy(|draft| {
        draft.pools[0].slots = 1;
        draft.pools[0].replicas_max = 1000;
        draft.objective.latency_seconds = 1.0;
        draft.tuning.slow_window_seconds = 600.0;
    });
    let mut state = State::default();
    let mut now = crate::script::start();
    let seen = |rate: f64, now| {
        let step = Step {
            rate: Ok(rate),
            ..Step::calm()
        };
        observations(&step, 250, now, 0)
    };
    for tick in 0..90 {
        now = now.plus_seconds(10.0);
        let rate = if tick % 3 == 0 { 400.0 } else { 380.0 };
        state = step(&policy, &seen(rate, now), state, now).1;
    }
    now = now.plus_seconds(10.0);
    let asked: Vec<u32> = (0..=40)
        .map(|tens| {
            let (decision, _) = step(&policy, &seen(f64::from(tens) * 10.0, now), state.clone(), now);
            decision.pools[0].proposals[0].replicas
        })
        .collect();
    assert!(asked.is_sorted(), "{asked:?}");
    assert!(asked.first() < asked.last(), "{asked:?}");
}

fn step_of(policy: &Policy, seen: &tidewright_scaling::Observations, state: State, now: Moment) -> u32 {
    step(policy, seen, state, now).0.pools[0].to
}

/// Every combination of trust of two signals, of three sizes, with little and much load: small enough to try all.
#[test]
fn all_small_worlds_keep_the_invariants() {
    let policy = policy(|draft| draft.tuning.relearn_seconds = 0.0);
    let values = [
        Ok(0.0),
        Ok(6.0),
        Ok(90.0),
        Ok(f64::NAN),
        Err(Absence::QueryFailed),
        Err(Absence::SeriesMissing),
        Err(Absence::NoTargets),
    ];
    let mut seen_down = 0;
    for replicas in 0..=4 {
        for (first, second) in values.iter().flat_map(|a| values.iter().map(move |b| (*a, *b))) {
            for (third, fourth) in values.iter().flat_map(|a| values.iter().map(move |b| (*a, *b))) {
                let mut state = State::default();
                let mut now = crate::script::start();
                let mut wanted = replicas;
                for (tick, (rate, queued)) in [(first, second), (third, fourth), (first, fourth)]
                    .into_iter()
                    .enumerate()
                {
                    // Longer than any level is kept without experience.
                    now = now.plus_seconds(400.0);
                    let step = Step {
                        rate,
                        queued,
                        ..Step::calm()
                    };
                    let seen = observations(&step, wanted, now, tick as u64);
                    let (decision, next) = tidewright_scaling::step(&policy, &seen, state, now);
                    state = next;
                    let to = decision.pools[0].to;
                    assert!((1..=20).contains(&to));
                    if to < wanted {
                        assert!(step.is_whole(), "{step:?} {decision:?}");
                        seen_down += 1;
                    }
                    wanted = to;
                }
            }
        }
    }
    assert!(
        seen_down > 100,
        "the worlds must be able to shrink, or nothing is shown: {seen_down}"
    );
}
