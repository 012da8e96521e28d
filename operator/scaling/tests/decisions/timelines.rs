//! Scripted ticks: what happens, and what is decided and said. Each stage that holds something back has one here.

use tidewright_scaling::decision::Reason;
use tidewright_scaling::observation::{Absence, Phase};
use tidewright_scaling::policy::{Draft, StepLimit};

use crate::script::{Step, observations, policy};
use crate::world::{World, at};

#[test]
fn a_level_is_kept_for_as_long_as_the_prior_says() {
    let mut world = World::old(|_| (), 6, 40.0);
    let (pool, after) = world.until_change(&at(4.0));
    assert!(pool.to < 6);
    assert!((290.0..380.0).contains(&after), "{after}");
}

/// Somebody has taken replicas away: what is kept is what is there.
#[test]
fn a_kept_level_is_not_built_again() {
    let mut world = World::old(|draft| draft.tuning.slow_window_seconds = 1.0, 6, 40.0);
    world.replicas = 2;
    let pool = world.tick(&at(4.0));
    assert_eq!((pool.to, pool.reason), (2, Reason::KeepAlive), "{pool:?}");
}

#[test]
fn half_goes_at_a_time() {
    // Everything else that holds back, out of the way.
    let quick = |draft: &mut Draft| {
        draft.tuning.keep_seconds_prior = 15.0;
        draft.tuning.slow_window_seconds = 1.0;
        draft.tuning.margin_sigmas = 0.0;
    };
    let mut world = World::old(quick, 16, 121.0);
    assert_eq!(world.replicas, 16);
    let (first, _) = world.until_change(&at(0.0));
    assert_eq!((first.from, first.to, first.reason), (16, 8, Reason::RateLimited));
    let (second, after) = world.until_change(&at(0.0));
    assert_eq!((second.from, second.to), (8, 4));
    assert!(after >= 15.0, "{after}");
}

#[test]
fn growth_is_limited_where_the_user_says_so() {
    let limit = StepLimit {
        replicas: 2,
        percent: 0,
        period_seconds: 60.0,
    };
    let mut world = World::old(|draft| draft.up_limits = vec![limit], 1, 1.0);
    let pool = world.tick(&at(100.0));
    assert_eq!((pool.to, pool.reason), (3, Reason::RateLimited));
    assert_eq!(world.tick(&at(100.0)).to, 3, "the period has its share");
}

#[test]
fn nothing_shrinks_while_a_replica_starts() {
    let mut world = World::old(|_| (), 6, 40.0);
    let starting = Step { starting: 1, ..at(0.0) };
    for _ in 0..200 {
        assert_eq!(world.tick(&starting).to, 6);
    }
    let pool = world.tick(&starting);
    assert_eq!(pool.hold.map(|hold| hold.reason), Some(Reason::Starting));
    assert!(world.until_change(&at(0.0)).0.to < 6);
}

#[test]
fn a_small_shrink_of_many_is_not_worth_an_action() {
    let wide = |draft: &mut Draft| draft.pools[0].replicas_max = 100;
    let mut world = World::old(wide, 62, 485.0);
    let wanted = world.tick(&at(485.0)).proposals[0].replicas;
    assert!((59..62).contains(&wanted), "{wanted}");
    let held = (0..40)
        .map(|_| world.tick(&at(485.0)))
        .filter(|pool| pool.reason == Reason::Deadband)
        .count();
    assert!(held > 0);
    assert_eq!(world.replicas, 62);
    assert_eq!(world.until_change(&at(485.0)).0.to, wanted, "in the long run it is");
}

#[test]
fn a_blind_service_falls_back_after_a_while_and_never_below_what_there_is() {
    let fallback = |draft: &mut Draft| draft.fallback.replicas = 9;
    let mut world = World::old(fallback, 4, 20.0);
    let blind = Step {
        rate: Err(Absence::QueryFailed),
        queued: Err(Absence::QueryFailed),
        ..Step::calm()
    };
    let (pool, after) = world.until_change(&blind);
    assert_eq!((pool.to, pool.reason), (9, Reason::Fallback));
    assert!((175.0..190.0).contains(&after), "{after}");
    let mut large = World::old(fallback, 12, 80.0);
    let before = large.replicas;
    assert!(before > 9);
    for _ in 0..60 {
        assert_eq!(large.tick(&blind).to, before);
    }
}

/// It has had nine within the hour, and six when nobody sees the load any more: nine again, and no more than that however long it lasts.
#[test]
fn a_blind_service_is_given_its_recent_peak() {
    let quick = |draft: &mut Draft| draft.tuning.keep_seconds_prior = 60.0;
    let blind = Step {
        rate: Err(Absence::QueryFailed),
        queued: Err(Absence::QueryFailed),
        ..Step::calm()
    };
    let mut world = World::old(quick, 9, 65.0);
    assert_eq!(world.replicas, 9);
    while world.until_change(&at(35.0)).0.to > 6 {}
    let (pool, after) = world.until_change(&blind);
    assert_eq!((pool.from, pool.to, pool.reason), (6, 9, Reason::RecentPeak));
    assert!((30.0..=40.0).contains(&after), "{after}");
    for _ in 0..400 {
        assert_eq!(world.tick(&blind).to, 9);
    }
    // Within the bounds of the user, as ever.
    let mut bounded = World::old(quick, 9, 65.0);
    while bounded.until_change(&at(35.0)).0.to > 6 {}
    bounded.policy = policy(|draft| draft.pools[0].replicas_max = 8);
    assert_eq!(bounded.until_change(&blind).0.to, 8);
    // What was needed two hours ago is not recent.
    let mut long_ago = World::old(quick, 9, 65.0);
    while long_ago.until_change(&at(35.0)).0.to > 6 {}
    for _ in 0..1440 {
        long_ago.tick(&at(35.0));
    }
    let calm = long_ago.replicas;
    assert!(calm < 9);
    for _ in 0..30 {
        assert_eq!(long_ago.tick(&blind).to, calm);
    }
}

/// Six hours without a late one, and it is sized for more of them; with late ones, or with a queue that nobody sees, for what is promised.
#[test]
fn what_is_left_of_the_objective_is_spent_where_the_queue_is_seen_to_be_short() {
    let sized_for = |queued: Result<f64, Absence>| {
        let mut world = World::old(|draft| draft.pools[0].replicas_max = 6, 6, 40.0);
        let step = Step { queued, ..at(40.0) };
        (0..4320).for_each(|_| drop(world.tick(&step)));
        world.tick(&step).model.late_share
    };
    assert!((sized_for(Ok(0.0)) - 0.1).abs() < 1e-9);
    assert!((sized_for(Ok(400.0)) - 0.01).abs() < 1e-9);
    assert!((sized_for(Err(Absence::QueryFailed)) - 0.01).abs() < 1e-9);
}

#[test]
fn one_signal_is_enough_to_grow() {
    let mut world = World::old(|_| (), 2, 8.0);
    let half_blind = Step {
        rate: Err(Absence::QueryFailed),
        queued: Ok(400.0),
        ..Step::calm()
    };
    let pool = world.tick(&half_blind);
    assert!(pool.to > 2);
    assert_eq!(pool.winner().map(|winner| winner.reason), Some(Reason::QueueDrain));
}

#[test]
fn an_outage_is_no_experience() {
    let mut world = World::old(|_| (), 6, 40.0);
    // Ten short outages: had each counted as a gap, the level would be kept for as short.
    for _ in 0..10 {
        for _ in 0..3 {
            world.tick(&Step {
                rate: Err(Absence::SeriesMissing),
                ..Step::calm()
            });
        }
        for _ in 0..6 {
            world.tick(&at(40.0));
        }
    }
    let (_, after) = world.until_change(&at(4.0));
    assert!(after > 290.0, "{after}");
}

/// Prometheus was away for long and is back: all targets are up and fresh, and the rate over a window of a minute says a tenth of the truth, then two.
#[test]
fn a_rate_over_a_window_that_is_not_filled_shrinks_nothing() {
    let quick = |draft: &mut Draft| {
        draft.tuning.keep_seconds_prior = 15.0;
        draft.tuning.slow_window_seconds = 1.0;
        draft.fallback.replicas = 9;
    };
    let mut world = World::old(quick, 6, 40.0);
    let back = |share: f64| Step {
        covered: 0,
        ..at(40.0 * share)
    };
    for tick in 1..=6 {
        let pool = world.tick(&back(f64::from(tick) * 0.1));
        assert_eq!(
            (pool.to, pool.hold.map(|hold| hold.reason)),
            (6, Some(Reason::FailStatic))
        );
    }
    // It grows by what is certain, and what was too low is not taken for a slow rate afterwards.
    assert!(world.tick(&Step { covered: 0, ..at(80.0) }).to > 6);
    // A window that never fills is no signal: the fallback counts as if there were none.
    let mut blind = World::old(quick, 6, 40.0);
    let never = Step {
        queued: Err(Absence::QueryFailed),
        ..back(0.1)
    };
    let (pool, after) = blind.until_change(&never);
    assert_eq!((pool.to, pool.reason), (9, Reason::Fallback));
    assert!((175.0..190.0).contains(&after), "{after}");
}

/// What is too low is no experience: neither a fall of the load, nor the mean of a slow window.
#[test]
fn a_rate_over_a_window_that_is_not_filled_is_not_learned() {
    let mut world = World::old(|draft| draft.tuning.keep_seconds_prior = 15.0, 6, 40.0);
    let before = world.tick(&at(40.0)).proposals[0].value;
    for _ in 0..6 {
        world.now = world.now.plus_seconds(5.0);
        world.tick += 1;
        let step = Step { covered: 1, ..at(2.0) };
        let mut seen = observations(&step, 6, world.now, world.tick);
        seen.failing_share = Some(0.9);
        world.see(&seen);
    }
    let after = world.tick(&at(40.0));
    assert!((after.proposals[0].value - before).abs() < 1e-9, "{after:?}");
    let (pool, after) = world.until_change(&at(4.0));
    assert!(
        pool.to < 6 && after < 200.0,
        "an outage is waited out for 300 s: {after}"
    );
}

#[test]
fn a_fall_of_the_load_with_errors_is_an_outage() {
    let mut world = World::old(|draft| draft.tuning.keep_seconds_prior = 15.0, 6, 40.0);
    let mut fallen = |failing_share| {
        world.now = world.now.plus_seconds(5.0);
        world.tick += 1;
        let mut seen = observations(&at(0.0), 6, world.now, world.tick);
        seen.failing_share = failing_share;
        world.see(&seen)
    };
    fallen(Some(0.9));
    for _ in 0..55 {
        let pool = fallen(None);
        assert_eq!(pool.to, 6);
    }
    assert_eq!(fallen(None).hold.map(|hold| hold.reason), Some(Reason::HoldAfterOutage));
    let later: Vec<u32> = (0..10).map(|_| fallen(None).to).collect();
    assert!(later.last().is_some_and(|to| *to < 6), "{later:?}");
}

#[test]
fn replicas_that_do_not_come_are_made_up_for_but_not_many() {
    let mut world = World::old(|_| (), 8, 60.0);
    world.now = world.now.plus_seconds(5.0);
    let mut seen = observations(&at(60.0), 8, world.now, 1);
    for pod in seen.pools[0].pods.iter_mut().take(6) {
        pod.phase = Phase::Starting;
        pod.ready_at = None;
        pod.id += 100;
    }
    let pool = world.see(&seen);
    assert_eq!(pool.counts.stuck, 6);
    let wanted = pool.proposals[0].replicas;
    assert_eq!(pool.to, wanted + wanted.div_ceil(4), "{pool:?}");
}

/// What does not come works nothing off: a backlog asks for as much as if it did not exist.
#[test]
fn a_replica_that_does_not_come_does_no_work() {
    let asked = |stuck: usize| {
        let mut world = World::old(|_| (), 2, 8.0);
        world.now = world.now.plus_seconds(5.0);
        let step = Step {
            queued: Ok(400.0),
            ..at(8.0)
        };
        let mut seen = observations(&step, 4, world.now, 1);
        for pod in seen.pools[0].pods.iter_mut().skip(2) {
            pod.phase = Phase::Starting;
            pod.ready_at = None;
            pod.id += 100;
        }
        seen.pools[0].pods.truncate(2 + stuck);
        let pool = world.see(&seen);
        assert_eq!((pool.counts.ready, pool.counts.stuck as usize), (2, stuck));
        pool.proposals[1].replicas
    };
    assert!(asked(0) > 2);
    assert_eq!(asked(2), asked(0));
}

#[test]
fn queueing_inside_the_slack_is_free() {
    let mut world = World::old(|_| (), 6, 40.0);
    // Six do 48 requests per second: 0.65 of the slack of 1.5 s are 46 waiting, and what they do themselves until another is ready is free too.
    let pool = world.tick(&Step {
        queued: Ok(7.0),
        ..at(40.0)
    });
    assert_eq!((pool.to, pool.proposals[1].replicas), (6, 0));
    let pool = world.tick(&Step {
        queued: Ok(400.0),
        ..at(40.0)
    });
    assert!(pool.to > 6, "{pool:?}");
    // Where arrivals are not known, those that are ready do nothing besides: what may wait is free all the same.
    let mut world = World::old(|_| (), 6, 40.0);
    let unknown = |queued: f64| Step {
        rate: Err(Absence::QueryFailed),
        queued: Ok(queued),
        ..Step::calm()
    };
    let pool = world.tick(&unknown(46.0));
    assert_eq!((pool.to, pool.proposals[0].replicas), (6, 0));
    assert_eq!(world.tick(&unknown(48.0)).to, 8);
}

#[test]
fn to_zero_and_back() {
    let zero = |draft: &mut Draft| {
        draft.pools[0].replicas_min = 0;
        draft.tuning.keep_seconds_prior = 60.0;
    };
    let mut world = World::old(zero, 1, 0.5);
    let (pool, _) = world.until_change(&at(0.0));
    assert_eq!((pool.to, pool.reason), (0, Reason::ScaledToZero));
    world.now = world.now.plus_seconds(5.0);
    let mut seen = observations(&at(0.0), 0, world.now, 1);
    seen.signals = vec![Err(Absence::NoTargets), Err(Absence::NoTargets)];
    assert_eq!(world.see(&seen).to, 0, "nothing exists, nothing is asked");
    seen.held_requests = 1;
    let pool = world.see(&seen);
    assert!(pool.to >= 1, "{pool:?}");
}

#[test]
fn all_lost_at_zero_stays_at_zero() {
    let zero = |draft: &mut Draft| draft.pools[0].replicas_min = 0;
    let mut world = World::old(zero, 0, 0.0);
    let mut seen = observations(&at(0.0), 0, world.now, 1);
    seen.signals = vec![Err(Absence::QueryFailed), Err(Absence::QueryFailed)];
    assert_eq!(world.see(&seen).to, 0);
}

#[test]
fn the_users_bounds_hold_whatever_holds_back() {
    let mut world = World::old(|_| (), 20, 140.0);
    // Somebody lowers the maximum below what there is, while nothing is known.
    let mut lower = world.policy.clone().into_draft();
    lower.pools[0].replicas_max = 5;
    world.policy = lower.check().unwrap();
    let blind = Step {
        rate: Err(Absence::QueryFailed),
        ..Step::calm()
    };
    let to: Vec<u32> = (0..3).map(|_| world.tick(&blind).to).collect();
    assert_eq!(to, [5, 5, 5]);
}
