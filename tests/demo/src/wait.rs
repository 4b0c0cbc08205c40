//! Waiting for a condition, always with a deadline.

use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long anything in a story may take before it counts as failed.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until there is an answer.
///
/// # Errors
/// The first error of `look`, or `what` did not come within [`PATIENCE`].
pub async fn until<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = look().await? {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            anyhow::bail!("after {} s still not: {what}", PATIENCE.as_secs());
        }
        sleep(PAUSE).await;
    }
}
