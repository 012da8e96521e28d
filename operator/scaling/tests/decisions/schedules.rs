//! Floors of schedules: one for a while is there at once, says until when, holds against everything that would shrink, and lets go of nothing itself.

use tidewright_scaling::decision::{PoolDecision, Reason};
use tidewright_scaling::explanation::sentence;
use tidewright_scaling::observation::{Floor, Observations};
use tidewright_scaling::{Moment, Policy, State, decide};

use crate::script::{Step, observations, policy, start};

const LASTS_SECONDS: f64 = 7200.0;

struct World {
    policy: Policy,
    state: State,
    now: Moment,
}

impl World {
    fn new() -> Self {
        Self {
            policy: policy(|_| ()),
            state: State::default(),
            now: start(),
        }
    }

    /// One look at so many replicas, and at a floor or none.
    fn look(&mut self, replicas: u32, load: f64, floor: Option<u32>) -> (PoolDecision, String) {
        self.now = self.now.plus_seconds(5.0);
        let step = Step {
            rate: Ok(load),
            ..Step::calm()
        };
        let floor = floor.map(|replicas| Floor {
            name: "morning".to_owned(),
            replicas,
            until: start().plus_seconds(LASTS_SECONDS),
        });
        let seen = Observations {
            floors: vec![floor],
            ..observations(&step, replicas, self.now, 1)
        };
        let (decision, state) = decide(&self.policy, &seen, std::mem::take(&mut self.state), self.now);
        self.state = state;
        let text = sentence(&decision, &decision.pools[0]);
        (decision.pools[0].clone(), text)
    }
}

#[test]
fn a_floor_is_reached_at_once_and_says_until_when() {
    let (pool, text) = World::new().look(2, 8.0, Some(6));
    assert_eq!((pool.to, pool.reason), (6, Reason::Schedule));
    let until = start().plus_seconds(LASTS_SECONDS).time_of_day();
    assert!(
        text.contains(&format!("at least 6 until {until} by schedule morning")),
        "{text}"
    );
    let thresholds = pool.thresholds.unwrap();
    assert_eq!(
        thresholds.down_to, None,
        "no lower rate takes what the schedule asks for"
    );
}

#[test]
fn the_load_counts_beyond_it_and_the_maximum_above_it() {
    let mut world = World::new();
    let (busy, _) = world.look(6, 80.0, Some(6));
    assert!(busy.to > 6 && busy.reason == Reason::RateSizing, "{busy:?}");
    let (most, _) = world.look(20, 8.0, Some(30));
    assert_eq!(most.to, 20);
}

#[test]
fn it_holds_for_as_long_as_it_lasts_and_no_longer() {
    let mut world = World::new();
    let kept: Vec<u32> = (0..400).map(|_| world.look(6, 0.1, Some(6)).0.to).collect();
    assert!(kept.iter().all(|to| *to == 6), "{kept:?}");
    // What one had learned about shrinking meanwhile is learned: the load decides now.
    assert!((0..200).any(|_| world.look(6, 0.1, None).0.to < 6));
}

/// Nothing is known: the floor is there all the same, and is not taken for a reason to shrink to it.
#[test]
fn it_lifts_what_nobody_sees_and_lowers_nothing() {
    let mut world = World::new();
    let mut blind = |replicas: u32| {
        world.now = world.now.plus_seconds(5.0);
        let mut seen = observations(&Step::calm(), replicas, world.now, 1);
        seen.signals
            .iter_mut()
            .for_each(|signal| *signal = Err(tidewright_scaling::observation::Absence::QueryFailed));
        seen.floors = vec![Some(Floor {
            name: "night".to_owned(),
            replicas: 3,
            until: start(),
        })];
        let (decision, state) = decide(&world.policy, &seen, std::mem::take(&mut world.state), world.now);
        world.state = state;
        decision.pools[0].to
    };
    assert_eq!((blind(1), blind(5)), (3, 5));
}
