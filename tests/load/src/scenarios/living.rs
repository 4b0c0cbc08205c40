//! Some endpoints are dead, half of them refusing connections and half taking them and saying nothing: what do the living
//! get?

use super::say;
use crate::{
    account::Target,
    bench::{Bench, IN_FLIGHT, Rig, Round},
    figures::{Figure, Figures, median},
    generator::Pace,
    process::Process,
    receiver::Watch,
};
use rustix::process::Signal;
use std::sync::Arc;

const ACCOUNTS: usize = 100;

pub(super) async fn measure(bench: &Bench, figures: &mut Figures) -> anyhow::Result<()> {
    let (_receiver, watch) = bench.receiver().await?;
    let calm = bench.relay(ACCOUNTS, &watch).await?;
    figures.living_ratio_10 = Figure(living(bench, &calm, 10).await?);
    figures.living_ratio_50 = Figure(living(bench, &calm, 50).await?);
    Ok(())
}

/// The first `dead` accounts of another relay have receivers of their own, which die.
async fn living(bench: &Bench, calm: &Rig, dead: usize) -> anyhow::Result<f64> {
    let (refusing, hanging) = (bench.receiver().await?, bench.receiver().await?);
    let storm = with_dead(bench, dead, &calm.watch, [&refusing.1, &hanging.1]).await?;
    let _hanging = kill([refusing.0, hanging.0], bench, &storm, dead).await?;

    let (mut rates, mut times) = (Vec::new(), Vec::new());
    for _ in 0..bench.plan.rounds {
        let pace = Pace::closed(IN_FLIGHT, bench.plan.round);
        let before = bench.round(calm, pace).await?;
        let round = bench
            .rough_round(&storm, pace, |account| account >= dead)
            .await?;
        rates.push(each(&round, ACCOUNTS - dead) / each(&before, ACCOUNTS));
        times.push(before.seen.latency.p99_ms / round.seen.latency.p99_ms);
        say(&format!(
            "{dead} of {ACCOUNTS} endpoints dead: {:.0}/s for each that lives, p99 {:.2} ms; all alive: {:.0}/s, p99 {:.2} ms",
            each(&round, ACCOUNTS - dead),
            round.seen.latency.p99_ms,
            each(&before, ACCOUNTS),
            before.seen.latency.p99_ms
        ));
    }
    let (rate, time) = (median(rates), median(times));
    say(&format!(
        "{dead} of {ACCOUNTS} endpoints dead: {rate:.3} of the rate, p99 {:.3} times as long",
        1.0 / time
    ));
    Ok(rate.min(time))
}

async fn with_dead(
    bench: &Bench,
    dead: usize,
    alive: &Arc<Watch>,
    dying: [&Arc<Watch>; 2],
) -> anyhow::Result<Rig> {
    let process = bench.bare_relay().await?;
    let receiver_of = |account| {
        if account < dead {
            dying[account % 2]
        } else {
            alive
        }
    };
    let target = Target::registered(&process.authority, ACCOUNTS, |account| {
        Some(receiver_of(account))
    })
    .await?;
    Ok(Rig::new(process, target, alive))
}

/// They die while they are sent to, so that connections to them are open. Gives the one that hangs, which must not end.
async fn kill(
    [refusing, hanging]: [Process; 2],
    bench: &Bench,
    storm: &Rig,
    dead: usize,
) -> anyhow::Result<Process> {
    let pace = Pace::closed(IN_FLIGHT, bench.plan.warm_up);
    bench
        .rough_round(storm, pace, |account| account >= dead)
        .await?;
    drop(refusing);
    hanging.signal(Signal::STOP)?;
    bench
        .rough_round(storm, pace, |account| account >= dead)
        .await?;
    Ok(hanging)
}

/// What each of so many endpoints gets in a second.
fn each(round: &Round, endpoints: usize) -> f64 {
    round.rate() / endpoints as f64
}
