//! Compares sessions with their primitives in one run: `cargo bench -p sealpost-e2ee --bench e2ee`.
//!
//! The last lines are ratios: 1.00 means that all time is spent in the primitives.

#![expect(
    clippy::print_stdout,
    reason = "the ratios are what this program is for"
)]
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark of something that fails measures nothing"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the system clock"
)]

#[path = "e2ee/parties.rs"]
mod parties;
#[path = "e2ee/primitives.rs"]
mod primitives;

use criterion::Criterion;
use parties::Parties;
use primitives::Primitives;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Each round measures both sides of every comparison, so that a slow moment affects both.
const ROUNDS: usize = 31;
const ROUND_TIME: Duration = Duration::from_millis(8);

fn main() {
    let criterion = Criterion::default().configure_from_args();
    let criterion = criterion
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500));
    let mut criterion = criterion.sample_size(20);
    let mut comparisons = comparisons();
    for comparison in &mut comparisons {
        let mut group = criterion.benchmark_group(comparison.name);
        group.bench_function("sealpost", |bencher| {
            bencher.iter(|| (comparison.sealpost)())
        });
        group.bench_function("primitives alone", |bencher| {
            bencher.iter(|| (comparison.primitives)())
        });
        group.finish();
    }
    criterion.final_summary();
    for comparison in &mut comparisons {
        comparison.print_ratio();
    }
}

/// An operation of this crate, and its bare primitives.
struct Comparison {
    name: &'static str,
    target: Option<f64>,
    sealpost: Box<dyn FnMut()>,
    primitives: Box<dyn FnMut()>,
}

impl Comparison {
    fn new(
        name: &'static str,
        target: Option<f64>,
        sealpost: impl FnMut() + 'static,
        primitives: impl FnMut() + 'static,
    ) -> Self {
        Self {
            name,
            target,
            sealpost: Box::new(sealpost),
            primitives: Box::new(primitives),
        }
    }

    fn print_ratio(&mut self) {
        let mut times: Vec<_> = (0..ROUNDS)
            .map(|_| {
                (
                    seconds_per_run(&mut self.sealpost),
                    seconds_per_run(&mut self.primitives),
                )
            })
            .collect();
        let mut median = |part: fn(&(f64, f64)) -> f64| {
            times.sort_by(|a, b| part(a).total_cmp(&part(b)));
            part(&times[ROUNDS / 2])
        };
        let (sealpost, primitives) = (median(|time| time.0), median(|time| time.1));
        let target = self
            .target
            .map_or(String::new(), |target| format!(", target {target:.1}"));
        let (name, micros) = (self.name, 1e6);
        println!(
            "{name}: {:.1} us / {:.1} us = {:.2}{target}",
            sealpost * micros,
            primitives * micros,
            sealpost / primitives
        );
    }
}

/// Returns the seconds per run, over at least [`ROUND_TIME`].
fn seconds_per_run(run: &mut dyn FnMut()) -> f64 {
    let (start, mut runs) = (Instant::now(), 0_u32);
    while start.elapsed() < ROUND_TIME {
        run();
        runs += 1;
    }
    start.elapsed().as_secs_f64() / f64::from(runs)
}

fn comparisons() -> Vec<Comparison> {
    let primitives = Primitives::new;
    let [mut sealing, opening, mut stepping, mut establishing] =
        std::array::from_fn(|_| Parties::paired());
    let envelope = opening.clone().seal();
    let step = stepping.seal_with_new_ratchet_key();
    let (sealer, opener, stepper, establisher) =
        (primitives(), primitives(), primitives(), primitives());
    vec![
        Comparison::new(
            "seal 1.5 KB into an envelope of 2 KiB",
            Some(2.0),
            move || drop(black_box(sealing.seal())),
            move || sealer.seal(),
        ),
        Comparison::new(
            "open an envelope of 2 KiB",
            None,
            move || opening.open(black_box(&envelope)),
            move || opener.open(),
        ),
        Comparison::new(
            "a DH step: open a message with a new ratchet key, seal the reply",
            None,
            move || stepping.open_and_reply(black_box(&step)),
            move || stepper.step(),
        ),
        Comparison::new(
            "a session: verify the bundle, initiate, seal, open",
            Some(1.3),
            move || establishing.establish_session(),
            move || establisher.handshake(),
        ),
    ]
}
