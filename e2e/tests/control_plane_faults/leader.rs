//! Two operators: one writes. It ends, dies or hangs, and the other takes over; a holder that wakes up too late writes nothing.
use std::time::Duration;

use anyhow::{Result, ensure};
use tidewright_e2e::api_proxy::{ApiProxy, Exchange, Fault};
use tidewright_e2e::clock::Stopwatch;
use tidewright_e2e::console::progress;
use tidewright_e2e::control_plane::ControlPlane;
use tidewright_e2e::fixtures::Scenario;
use tidewright_e2e::namespace::with_temp_namespace;
use tidewright_e2e::operator_process::{OperatorOptions, OperatorProcess};
use tidewright_e2e::wait::{Seen, await_condition};

use super::{MODEL, PATIENCE, reaction, turn};

const LEASE_SECONDS: u64 = 10;

/// Longer than a turn of the metrics source and of the autoscaler: what they say shows in the status.
const SETTLED_AFTER: Duration = Duration::from_secs(7);

struct Replica {
    proxy: ApiProxy,
    process: OperatorProcess<'static>,
}

async fn replica(cluster: &'static ControlPlane, lease: &str) -> Result<Replica> {
    let proxy = ApiProxy::start(cluster, cluster.host_address(), None)?;
    let mut options = OperatorOptions::default()
        .through(proxy.kubeconfig())
        .argument(format!("--lease-duration-seconds={LEASE_SECONDS}"));
    options.lease = Some(lease.to_owned());
    let process = OperatorProcess::ready(cluster, options).await?;
    Ok(Replica { proxy, process })
}

async fn await_leader(replica: &Replica, deadline: Duration) -> Result<Duration> {
    let watch = Stopwatch::start();
    await_condition("the replica to lead", deadline, || async {
        Ok(if replica.process.leads().await? {
            Seen::Done(())
        } else {
            Seen::not_yet("it follows")
        })
    })
    .await?;
    Ok(watch.elapsed())
}

fn writes(replica: &Replica) -> Vec<Exchange> {
    let mut all = replica.proxy.exchanges();
    all.retain(Exchange::is_write);
    all
}

#[tokio::test]
async fn only_the_leader_writes_and_a_leader_that_ends_hands_over_at_once() -> Result<()> {
    let (_turn, cluster) = turn().await?;
    let first = replica(cluster, "graceful").await?;
    await_leader(&first, PATIENCE).await?;
    let second = replica(cluster, "graceful").await?;
    with_temp_namespace(cluster, "graceful", |namespace| async move {
        let scenario = Scenario::new(&namespace.name, "digits", MODEL);
        scenario.apply(&namespace.client).await?;
        scenario.ready(&namespace.client, PATIENCE).await?;
        ensure!(!second.process.leads().await?, "both lead");
        ensure!(writes(&second).is_empty(), "the follower wrote: {:?}", writes(&second));
        let ending = first.process.terminate_in_background();
        let took = await_leader(&second, PATIENCE).await?;
        let exit = ending.await??;
        progress(format_args!(
            "a leader that ends is followed after {took:.1?}; it {exit}"
        ));
        ensure!(exit == "exited with 0", "{exit}");
        // Otherwise the Lease would have to run out first.
        ensure!(took < Duration::from_secs(LEASE_SECONDS - 2), "{took:?}");
        let took = reaction(&namespace.client, &scenario, 7).await?;
        ensure!(took < Duration::from_secs(5), "{took:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn killed_leader_is_followed_when_its_lease_has_run_out() -> Result<()> {
    let (_turn, cluster) = turn().await?;
    let first = replica(cluster, "killed").await?;
    await_leader(&first, PATIENCE).await?;
    let second = replica(cluster, "killed").await?;
    first.process.kill()?;
    let took = await_leader(&second, PATIENCE).await?;
    progress(format_args!(
        "a killed leader is followed after {took:.1?}; its Lease lasts {LEASE_SECONDS} s"
    ));
    ensure!(took < Duration::from_secs(LEASE_SECONDS + 5), "{took:?}");
    Ok(())
}

#[tokio::test]
async fn leader_that_wakes_up_after_its_lease_has_run_out_writes_nothing() -> Result<()> {
    let (_turn, cluster) = turn().await?;
    let zombie = replica(cluster, "zombie").await?;
    await_leader(&zombie, PATIENCE).await?;
    let heir = replica(cluster, "zombie").await?;
    with_temp_namespace(cluster, "zombie", |namespace| async move {
        let services: Vec<Scenario> = (0..8)
            .map(|index| Scenario::new(&namespace.name, &format!("digits-{index}"), MODEL))
            .collect();
        for service in &services {
            service.apply(&namespace.client).await?;
        }
        for service in &services {
            service.ready(&namespace.client, PATIENCE).await?;
        }
        // In the middle of a call that has begun nobody can be stopped: it is frozen when it does nothing.
        await_condition("the leader to have nothing to do", PATIENCE, || async {
            let last = writes(&zombie).last().map(|write| write.at.elapsed());
            Ok(if last.is_some_and(|age| age > SETTLED_AFTER) {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("a write {last:?} ago"))
            })
        })
        .await?;
        zombie.process.freeze()?;
        await_leader(&heir, PATIENCE).await?;
        // The news that it does not lead comes late; work comes at once, for whoever thinks that it leads.
        let late = Fault::Delay(Duration::from_millis(1800));
        zombie.proxy.inject(late, None, |e| e.path.contains("/leases/"));
        zombie.proxy.forget();
        zombie.process.thaw()?;
        for (service, most) in services.iter().zip(10..) {
            reaction(&namespace.client, service, most).await?;
        }
        await_condition("the woken one to see that it does not lead", PATIENCE, || async {
            Ok(if zombie.process.leads().await? {
                Seen::not_yet("it leads")
            } else {
                Seen::Done(())
            })
        })
        .await?;
        let written = writes(&zombie);
        ensure!(written.is_empty(), "the woken one wrote: {written:?}");
        Ok(())
    })
    .await
}
