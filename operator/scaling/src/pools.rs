//! One demand, several pools: what each has to carry so that the whole is cheap. What is kept anyway carries first, then the cheapest fills up.

use crate::policy::Pool;
use crate::sizing::{self, Backlog, Server};

/// What the allocation knows of a pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Capacity {
    /// Its sizing.
    pub server: Server,
    /// Fewest replicas: they are paid for anyway.
    pub replicas_min: u32,
    /// Most replicas that will come: the maximum, or what there is where nothing more can be scheduled.
    pub replicas_most: u32,
    /// Price per replica.
    pub cost: f64,
    /// Ready replicas.
    pub ready: u32,
    /// Replicas on their way.
    pub starting: u32,
}

impl Capacity {
    /// Without anything observed yet.
    pub fn of(pool: &Pool, server: Server) -> Self {
        Self {
            server,
            replicas_min: pool.replicas_min,
            replicas_most: pool.replicas_max,
            cost: pool.cost,
            ready: 0,
            starting: 0,
        }
    }

    /// Price of one request per second.
    fn cost_per_rate(&self) -> f64 {
        self.cost / self.server.rate()
    }
}

/// Requests per second per pool, and the replicas that they need. The last pool in order of price takes what nobody can carry, so that the demand
/// stays visible.
pub fn allocate_rate(pools: &[Capacity], lambda: f64) -> Vec<(f64, u32)> {
    if let [only] = pools {
        return vec![(lambda, sizing::replicas_for_rate(&only.server, lambda))];
    }
    let mut shares: Vec<f64> = pools
        .iter()
        .map(|pool| sizing::rate_for_replicas(&pool.server, pool.replicas_min.min(pool.replicas_most)))
        .collect();
    let paid: f64 = shares.iter().sum();
    if paid >= lambda {
        let part = if paid > 0.0 { lambda / paid } else { 0.0 };
        for share in &mut shares {
            *share *= part;
        }
    } else {
        let mut left = lambda - paid;
        let order = by_price(pools);
        for (position, index) in order.iter().enumerate() {
            let (Some(pool), Some(share)) = (pools.get(*index), shares.get_mut(*index)) else {
                continue;
            };
            let room = sizing::rate_for_replicas(&pool.server, pool.replicas_most) - *share;
            let taken = if position + 1 == order.len() {
                left
            } else {
                left.min(room.max(0.0))
            };
            *share += taken;
            left -= taken;
        }
    }
    pools
        .iter()
        .zip(shares)
        .map(|(pool, share)| (share, sizing::replicas_for_rate(&pool.server, share)))
        .collect()
}

/// Requests per second that the replicas that are ready can do.
pub fn ready_rate(pools: &[Capacity]) -> f64 {
    pools
        .iter()
        .map(|pool| f64::from(pool.ready) * pool.server.rate())
        .sum()
}

/// Replicas that each pool needs to work off a backlog, those there are included; 0 where the backlog asks nothing of it.
///
/// `drain_seconds` is how long that may take, `starting_seconds[i]` the sum over the pool's starting replicas of the time that they will serve by then.
pub fn allocate_backlog(
    pools: &[Capacity],
    queued: f64,
    lambda: f64,
    start_seconds: f64,
    drain_seconds: f64,
    starting_seconds: &[f64],
) -> Vec<u32> {
    let rate = |pool: &Capacity| pool.server.rate();
    let starting_work = pools
        .iter()
        .zip(starting_seconds)
        .map(|(pool, seconds)| rate(pool) * seconds)
        .sum();
    let mut missing = sizing::missing_rate(&Backlog {
        queued,
        lambda,
        ready_rate: ready_rate(pools),
        start_seconds,
        drain_seconds,
        starting_work,
    });
    let mut wants = vec![0; pools.len()];
    let order = by_price(pools);
    for (position, index) in order.iter().enumerate() {
        let (Some(pool), Some(want)) = (pools.get(*index), wants.get_mut(*index)) else {
            continue;
        };
        if missing <= 0.0 {
            break;
        }
        let there = pool.ready + pool.starting;
        let asked = crate::units::replicas(missing / rate(pool));
        let extra = if position + 1 == order.len() {
            asked
        } else {
            asked.min(pool.replicas_most.saturating_sub(there))
        };
        *want = there.saturating_add(extra);
        missing -= f64::from(extra) * rate(pool);
    }
    wants
}

/// The pool to begin with when nothing is there: the one that a load goes to first, of those that can get a replica.
pub fn first(pools: &[Capacity]) -> Option<usize> {
    let can_come = |index: &usize| pools.get(*index).is_some_and(|pool| pool.replicas_most > 0);
    by_price(pools).into_iter().find(can_come)
}

/// Indices of the pools, cheapest first; equal ones in their order.
fn by_price(pools: &[Capacity]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..pools.len()).collect();
    order.sort_by(|a, b| {
        let price = |index: &usize| pools.get(*index).map_or(f64::INFINITY, Capacity::cost_per_rate);
        price(a).total_cmp(&price(b))
    });
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Balancing;
    use crate::sizing::Request;

    fn capacity(cost: f64, service_seconds: f64, (replicas_min, replicas_most): (u32, u32)) -> Capacity {
        Capacity {
            server: Server::new(
                &Request {
                    service_seconds,
                    service_scv: 0.25,
                    arrival_scv: 1.25,
                    latency_seconds: 2.0 + service_seconds,
                    late_share: 0.01,
                },
                4,
                Balancing::Central,
            ),
            replicas_min,
            replicas_most,
            cost,
            ready: 0,
            starting: 0,
        }
    }

    /// A GPU replica does ten times as much for five times the price: it fills up first, the rest goes to CPUs.
    #[test]
    fn the_cheapest_fills_up_first_and_the_rest_overflows() {
        let pools = [capacity(5.0, 0.1, (0, 2)), capacity(1.0, 1.0, (0, 20))];
        let replicas = |lambda| {
            allocate_rate(&pools, lambda)
                .iter()
                .map(|(_, n)| *n)
                .collect::<Vec<_>>()
        };
        assert_eq!(replicas(0.0), [0, 0]);
        assert_eq!(replicas(20.0), [1, 0]);
        let both = replicas(100.0);
        assert_eq!(both[0], 2);
        assert!(both[1] >= 5, "{both:?}");
    }

    #[test]
    fn what_is_paid_for_anyway_carries_first() {
        let pools = [capacity(5.0, 0.1, (0, 2)), capacity(1.0, 1.0, (3, 20))];
        assert_eq!(
            allocate_rate(&pools, 5.0)[0].1,
            0,
            "three replicas that must be there do it"
        );
    }

    #[test]
    fn a_pool_that_gets_no_node_carries_only_what_it_has() {
        let gpu = Capacity {
            replicas_most: 1,
            ..capacity(5.0, 0.1, (0, 4))
        };
        let replicas: Vec<u32> = allocate_rate(&[gpu, capacity(1.0, 1.0, (0, 20))], 60.0)
            .iter()
            .map(|(_, n)| *n)
            .collect();
        assert_eq!(replicas[0], 1);
        assert!(replicas[1] > 5, "{replicas:?}");
    }

    #[test]
    fn nothing_of_the_demand_is_lost() {
        let pools = [
            capacity(5.0, 0.1, (1, 2)),
            capacity(1.0, 1.0, (0, 3)),
            capacity(2.0, 0.9, (0, 5)),
        ];
        for lambda in [0.1, 3.0, 50.0, 80.0, 500.0] {
            let total: f64 = allocate_rate(&pools, lambda).iter().map(|(share, _)| share).sum();
            assert!((total - lambda).abs() < 1e-6 * lambda, "{lambda}: {total}");
        }
    }

    #[test]
    fn a_backlog_takes_room_where_it_is_cheap() {
        let mut pools = [capacity(5.0, 0.1, (0, 2)), capacity(1.0, 1.0, (0, 20))];
        pools[0].ready = 1;
        pools[1].ready = 1;
        let wants = allocate_backlog(&pools, 2000.0, 10.0, 30.0, 5.0, &[0.0, 0.0]);
        assert_eq!(wants[0], 2);
        assert!(wants[1] > 1, "{wants:?}");
        assert_eq!(allocate_backlog(&pools, 0.0, 10.0, 30.0, 5.0, &[0.0, 0.0]), [0, 0]);
    }
}
