//! Several pools: who carries the load, who makes up for whom, and whom a signal of one pool does not concern.

use crate::script::{Step, observations, policy, start};
use tidewright_scaling::decision::{Decision, Reason};
use tidewright_scaling::observation::{Absence, Observations, Phase, PoolView, Sample, ServiceTime};
use tidewright_scaling::policy::{Draft, Pool, Signal, SignalKind};
use tidewright_scaling::units::Raw;
use tidewright_scaling::{Policy, State, decide, sizing};

const GPU: usize = 0;
const CPU: usize = 1;

/// At most 2 GPU replicas that do a request in 0.1 s for 5, and at most 20 CPU replicas that need 1 s for 1: per request, GPUs are cheaper.
fn two_pools(change: impl FnOnce(&mut Draft)) -> Policy {
    policy(|draft| {
        let cpu = Pool {
            replicas_min: 0,
            service_seconds_prior: 1.0,
            ..draft.pools[0].clone()
        };
        let gpu = Pool {
            name: "gpu".to_owned(),
            replicas_max: 2,
            cost: 5.0,
            service_seconds_prior: 0.1,
            ..cpu.clone()
        };
        draft.pools = vec![gpu, cpu];
        draft.objective.latency_seconds = 4.0;
        draft.tuning.relearn_seconds = 0.0;
        draft.tuning.settle_starts = 0.0;
        change(draft);
    })
}

fn fresh(value: f64) -> Sample {
    Sample {
        value: Raw(value),
        at: start(),
        window_seconds: 10.0,
        targets_up: 1,
        targets_all: 1,
        targets_covered: None,
    }
}

/// So many old ready replicas of each, and these numbers.
fn seen(ready: [u32; 2], values: &[f64]) -> Observations {
    let view = |replicas| -> PoolView {
        let mut one = observations(&Step::calm(), replicas, start(), 0);
        one.pools.remove(0)
    };
    Observations {
        signals: values.iter().map(|value| Ok(fresh(*value))).collect(),
        pools: ready.map(view).to_vec(),
        ..Observations::default()
    }
}

fn decided(policy: &Policy, seen: &Observations) -> Decision {
    decide(policy, seen, State::default(), start()).0
}

fn replicas(decision: &Decision) -> [u32; 2] {
    [decision.pools[GPU].to, decision.pools[CPU].to]
}

#[test]
fn the_cheapest_pool_fills_up_and_the_rest_overflows() {
    let policy = two_pools(|_| ());
    assert_eq!(replicas(&decided(&policy, &seen([0, 0], &[20.0, 0.0]))), [1, 0]);
    let both = decided(&policy, &seen([0, 0], &[100.0, 0.0]));
    assert_eq!(both.pools[GPU].to, 2);
    assert!(both.pools[CPU].to >= 5, "{both:?}");
    let carried = both.pools[GPU].model.lambda + both.pools[CPU].model.lambda;
    assert!((carried - 100.0).abs() < 1e-6, "nothing of the load is lost: {carried}");
}

/// Against every mix that carries the load: it costs at most one replica more than the cheapest of them.
#[test]
fn no_mix_is_much_cheaper() {
    let policy = two_pools(|_| ());
    for lambda in [0.5, 3.0, 20.0, 45.0, 75.0, 80.0, 100.0, 130.0] {
        let decision = decided(&policy, &seen([0, 0], &[lambda, 0.0]));
        let most = |pool: usize, n| sizing::rate_for_replicas(&decision.pools[pool].model.server(), n);
        let cost = |[gpu, cpu]: [u32; 2]| f64::from(gpu) * 5.0 + f64::from(cpu);
        let cheapest = (0..=2)
            .flat_map(|gpu| (0..=20).map(move |cpu| [gpu, cpu]))
            .filter(|[gpu, cpu]| most(GPU, *gpu) + most(CPU, *cpu) >= lambda)
            .map(cost)
            .min_by(f64::total_cmp)
            .unwrap();
        let found = replicas(&decision);
        assert!(
            most(GPU, found[GPU]) + most(CPU, found[CPU]) >= lambda - 1e-6,
            "{lambda}: {found:?} do not carry it"
        );
        assert!(cost(found) <= cheapest + 5.0, "{lambda}: {found:?}, {cheapest}");
    }
}

/// The price is what weighs: with a GPU that costs more per request than CPUs, it is the GPU that gets the rest.
#[test]
fn the_price_decides_who_is_first() {
    let dear = two_pools(|draft| draft.pools[GPU].cost = 20.0);
    let [gpu, cpu] = replicas(&decided(&dear, &seen([0, 0], &[20.0, 0.0])));
    assert!(gpu == 0 && cpu >= 5, "{gpu} {cpu}");
    let [gpu, cpu] = replicas(&decided(&dear, &seen([0, 0], &[100.0, 0.0])));
    assert!(gpu >= 1 && cpu == 20, "{gpu} {cpu}");
}

/// What must be there anyway is used before anything is bought.
#[test]
fn a_minimum_carries_first() {
    let paid = two_pools(|draft| draft.pools[CPU].replicas_min = 3);
    assert_eq!(replicas(&decided(&paid, &seen([0, 3], &[5.0, 0.0]))), [0, 3]);
}

#[test]
fn another_pool_makes_up_for_one_that_cannot_be_scheduled() {
    let policy = two_pools(|_| ());
    let mut seen = seen([2, 0], &[70.0, 0.0]);
    assert_eq!(replicas(&decided(&policy, &seen)), [2, 0]);
    // No node has room for the second: what the first cannot carry goes to CPUs.
    let pod = &mut seen.pools[GPU].pods[1];
    pod.phase = Phase::Unschedulable;
    pod.ready_at = None;
    let decision = decided(&policy, &seen);
    let gpu = &decision.pools[GPU];
    assert_eq!(gpu.counts.unschedulable, 1);
    assert_eq!(gpu.proposals[0].replicas, 1, "{gpu:?}");
    let text = tidewright_scaling::explanation::sentence(&decision, gpu);
    assert!(text.contains("1 cannot be scheduled"), "{text}");
    let [_, cpu] = replicas(&decision);
    let rate = |n| sizing::rate_for_replicas(&decision.pools[CPU].model.server(), n);
    let left = 70.0 - sizing::rate_for_replicas(&gpu.model.server(), 1);
    assert!(rate(cpu) >= left - 1e-6 && rate(cpu - 1) < left, "{cpu} for {left}");
}

/// Ten minutes in which one node has room for one of two GPU replicas: the other waits, and CPUs carry what it would have. Taken away because it waits, it
/// would be asked for again at once, and so on.
#[test]
fn a_replica_that_waits_for_a_node_does_not_come_and_go() {
    let policy = two_pools(|draft| {
        draft.tuning.keep_seconds_min = 0.0;
        draft.tuning.keep_seconds_prior = 15.0;
    });
    let (mut state, mut there) = (State::default(), [0, 0]);
    // The replicas of each, second by second; the load ends after ten minutes.
    let mut all = Vec::new();
    for second in 0..1200_u32 {
        let now = start().plus_seconds(f64::from(second));
        let mut seen = seen(there, &[if second < 600 { 70.0 } else { 0.0 }, 0.0]);
        for signal in seen.signals.iter_mut().flatten() {
            signal.at = now;
        }
        for pod in seen.pools[GPU].pods.iter_mut().skip(1) {
            pod.phase = Phase::Unschedulable;
            pod.ready_at = None;
        }
        let (decision, next) = decide(&policy, &seen, std::mem::take(&mut state), now);
        state = next;
        there = replicas(&decision);
        all.push((there, decision.pools[GPU].reason));
    }
    let changes = |pool: usize, seconds: std::ops::Range<usize>| {
        let of = all[seconds].windows(2);
        of.filter(|pair| pair[0].0[pool] != pair[1].0[pool]).count()
    };
    assert_eq!(changes(GPU, 0..600), 0, "{:?}", &all[..600]);
    assert!(changes(CPU, 0..600) <= 1, "{:?}", &all[..600]);
    assert_eq!(all[599].1, Reason::Unschedulable);
    assert!(all[599].0[CPU] > 0, "somebody carries the load");
    assert_eq!(all[1199].0, [0, 0], "what nobody asks for does not wait for a node");
}

#[test]
fn a_backlog_goes_where_there_is_room() {
    let policy = two_pools(|_| ());
    let decision = decided(&policy, &seen([1, 1], &[10.0, 2000.0]));
    assert_eq!(decision.pools[GPU].to, 2);
    assert!(decision.pools[CPU].to > 1, "{decision:?}");
    assert_eq!(
        decision.pools[CPU].winner().map(|winner| winner.reason),
        Some(Reason::QueueDrain)
    );
}

/// Requests in work belong to the pools as their slots do.
#[test]
fn requests_in_work_are_shared_out_by_slots() {
    let policy = two_pools(|draft| {
        draft.signals[0].kind = SignalKind::InFlight { utilization: 0.5 };
        draft.pools[GPU].slots = 12;
        draft.pools[GPU].replicas_max = 20;
    });
    // 12 and 4 slots: of 32 requests 24 are the GPU's, 6 per replica, and 8 the CPU's, 2 per replica.
    let decision = decided(&policy, &seen([1, 1], &[32.0, 0.0]));
    let asked = |pool: usize| decision.pools[pool].proposals[0].replicas;
    assert_eq!([asked(GPU), asked(CPU)], [4, 4], "{decision:?}");
}

#[test]
fn a_signal_of_one_pool_does_not_concern_the_other() {
    let signal = |name: &str, kind| Signal {
        name: name.to_owned(),
        kind,
        stale_after_seconds: 45.0,
    };
    let policy = two_pools(|draft| {
        draft.signals = vec![
            signal("cpu-use", SignalKind::Utilization { pool: CPU, target: 0.5 }),
            signal("gpu-use", SignalKind::Utilization { pool: GPU, target: 0.5 }),
            signal(
                "tokens",
                SignalKind::PerReplica {
                    pool: CPU,
                    target: 100.0,
                },
            ),
        ];
    });
    let decision = decided(&policy, &seen([1, 4], &[0.75, 1.0, 500.0]));
    let asked = |pool: usize| -> Vec<(&str, u32)> {
        let proposals = decision.pools[pool].proposals.iter();
        proposals
            .map(|proposal| (proposal.signal.as_str(), proposal.replicas))
            .collect()
    };
    assert_eq!(asked(GPU), [("gpu-use", 2)]);
    assert_eq!(asked(CPU), [("cpu-use", 6), ("tokens", 5)]);
    assert_eq!(replicas(&decision), [2, 6]);
}

#[test]
fn forecasts_are_per_pool() {
    let policy = two_pools(|_| ());
    let seen = Observations {
        forecast: vec![0, 7],
        ..seen([1, 0], &[5.0, 0.0])
    };
    assert_eq!(replicas(&decided(&policy, &seen)), [1, 7]);
}

/// One request wakes one replica, whether its queue is known or not: of the pool that a load goes to first, or the next one where that cannot come.
#[test]
fn one_replica_of_one_pool_is_woken() {
    let policy = two_pools(|_| ());
    let mut seen = seen([0, 0], &[]);
    seen.held_requests = 1;
    for absence in [Absence::NoTargets, Absence::QueryFailed] {
        seen.signals = vec![Err(absence), Err(absence)];
        let decision = decided(&policy, &seen);
        assert_eq!(replicas(&decision), [1, 0], "{absence:?}: {decision:?}");
        let proposals = &decision.pools[GPU].proposals;
        assert!(proposals.iter().any(|proposal| proposal.reason == Reason::Waking));
    }
    // A replica of the first pool was asked for, and no node has room for it.
    seen.pools[GPU] = observations(&Step::calm(), 1, start(), 0).pools.remove(0);
    let pod = &mut seen.pools[GPU].pods[0];
    pod.phase = Phase::Unschedulable;
    pod.ready_at = None;
    assert_eq!(decided(&policy, &seen).pools[CPU].to, 1);
}

/// An edit of a spec puts the pools in another order: what was measured of each stays with it.
#[test]
fn pools_in_another_order_keep_what_was_measured_of_them() {
    let policy = two_pools(|_| ());
    let mut measured = seen([1, 1], &[5.0, 0.0]);
    measured.pools[GPU].service = Some(ServiceTime {
        mean_seconds: 0.05,
        scv: 1.0,
        completions: 20_000,
    });
    let (before, state) = decide(&policy, &measured, State::default(), start());
    let swapped = two_pools(|draft| draft.pools.swap(GPU, CPU));
    let (after, _) = decide(&swapped, &seen([1, 1], &[5.0, 0.0]), state, start().plus_seconds(1.0));
    let seconds = |decision: &Decision, name: &str| {
        let pool = decision.pools.iter().find(|pool| pool.name == name).unwrap();
        pool.model.service_seconds
    };
    assert!(seconds(&before, "gpu") < 0.06 && seconds(&before, "cpu") > 0.9);
    for name in ["gpu", "cpu"] {
        let (before, after) = (seconds(&before, name), seconds(&after, name));
        assert!((before - after).abs() < 1e-9, "{name}: {before} became {after}");
    }
}

/// What one pool lacks is not taken from the other: a missing signal holds both.
#[test]
fn a_missing_signal_holds_every_pool() {
    let policy = two_pools(|_| ());
    let mut seen = seen([2, 9], &[0.0, 0.0]);
    let free = replicas(&decided(&policy, &seen));
    assert!(free[GPU] < 2 && free[CPU] < 9, "{free:?}");
    seen.signals[1] = Err(Absence::QueryFailed);
    assert_eq!(replicas(&decided(&policy, &seen)), [2, 9]);
}
