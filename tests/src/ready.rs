//! When a proxy is ready: it says so itself, and whoever it is has its ports open.

use std::time::Duration;

use crate::admin::Admin;
use crate::process::Process;
use crate::wait;
use crate::world::listens;

/// The scenarios allow a proxy this long to become ready.
const READY: Duration = Duration::from_secs(30);

/// Waits until a proxy's admin listener says ready and somebody listens on each of `ports`.
///
/// # Panics
/// When that takes too long, or the process ends.
pub(crate) async fn ready(process: &mut Process, admin: Admin, ports: &[u16]) {
    let what = format!("{} is ready", process.name());
    wait::until(&what, READY, async || {
        process.assert_running();
        match admin.ready().await? {
            200 => {}
            status => return Err(format!("/ready answers {status}")),
        }
        let missing: Vec<_> = ports.iter().filter(|port| !listens(**port)).collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("nothing listens on {missing:?}"))
        }
    })
    .await;
}
