//! Something asynchronous on a thread of its own, in the network namespace of the
//! caller: the caller's runtime stands still while load is sent.

use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

/// Runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Thread {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Thread {
    /// Starts `work`, which is called on the thread.
    pub(crate) fn start<W>(name: &str, work: W) -> Self
    where
        W: AsyncFnOnce() + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                runtime.block_on(async {
                    tokio::select! {
                        () = work() => {}
                        // It ends with an error: the sender is dropped and never used.
                        _ = stopped => {}
                    }
                });
            })
            .expect("a thread");
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic of its own was printed when it happened.
            let _ = thread.join();
        }
    }
}
