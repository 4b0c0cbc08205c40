//! Waiting for a condition with a timeout.

use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a condition may take before the scenario fails.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(180);

/// Pause between two polls.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Polls until there is a result, or fails after [`WAIT_TIMEOUT`].
pub async fn wait_for<T>(
    condition: &str,
    mut poll: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + WAIT_TIMEOUT;
    loop {
        if let Some(result) = poll().await? {
            return Ok(result);
        }
        if Instant::now() > deadline {
            anyhow::bail!("not within {} s: {condition}", WAIT_TIMEOUT.as_secs());
        }
        sleep(POLL_INTERVAL).await;
    }
}
