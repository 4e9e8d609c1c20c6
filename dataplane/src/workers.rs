//! The data plane's threads: each its own runtime, nothing shared on the way of a request.
//!
//! A connection stays on the worker that serves it, with its upstream
//! connections, timers and buffers: no work is stolen and no lock is waited
//! for. The price is balance, which [`Workers::lighter_than`] keeps where
//! connections are accepted.

use futures::FutureExt;
use std::any::Any;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// By how many connections a worker may lead before a new one is handed over.
/// Handing over costs two registrations with the kernel and a wake-up, which a
/// difference of a few connections is not worth.
const TOLERANCE: usize = 8;

/// How long a worker's tasks may take to end when the workers stop; they are
/// dropped then.
const STOP_DEADLINE: Duration = Duration::from_millis(100);

/// The running workers. Dropping the last handle stops them.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    panics: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Worker {
    handle: Handle,
    connections: Arc<AtomicUsize>,
    /// Dropped to stop the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Index of a worker, below [`Workers::count`].
pub type WorkerId = usize;

/// Counts a connection on its worker until dropped.
#[derive(Debug)]
pub struct Seat {
    connections: Arc<AtomicUsize>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// Starts `count` threads, at least one, named `worker-0` and on.
    ///
    /// # Errors
    /// When the system refuses a thread or a runtime's descriptors.
    pub fn start(count: usize) -> io::Result<Arc<Self>> {
        let workers = (0..count.max(1))
            .map(Worker::start)
            .collect::<io::Result<_>>()?;
        Ok(Arc::new(Self {
            workers,
            panics: Arc::default(),
        }))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.workers.len()
    }

    /// Runs a task on a worker. `task` is called on the worker's thread, so
    /// that what it makes belongs to the worker's runtime. A panic ends the task
    /// alone; it is logged and counted.
    pub fn spawn_on<T, F>(&self, worker: WorkerId, task: T)
    where
        T: FnOnce() -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let panics = Arc::clone(&self.panics);
        self.workers[worker].handle.spawn(async move {
            let contained = AssertUnwindSafe(async move { task().await }).catch_unwind();
            if let Err(panic) = contained.await {
                panics.fetch_add(1, Ordering::Relaxed);
                tracing::error!(worker, panic = message(&*panic), "task panicked");
            }
        });
    }

    /// Takes a seat on a worker for a connection.
    pub fn seat(&self, worker: WorkerId) -> Seat {
        let connections = Arc::clone(&self.workers[worker].connections);
        connections.fetch_add(1, Ordering::Relaxed);
        Seat { connections }
    }

    /// Open connections of each worker.
    pub fn connections(&self) -> Vec<usize> {
        let count = |worker: &Worker| worker.connections.load(Ordering::Relaxed);
        self.workers.iter().map(count).collect()
    }

    /// Tasks that have panicked since the start.
    pub fn panics(&self) -> usize {
        self.panics.load(Ordering::Relaxed)
    }

    /// The worker with the fewest connections, if `worker` has notably more.
    pub fn lighter_than(&self, worker: WorkerId) -> Option<WorkerId> {
        let load = |id: WorkerId| self.workers[id].connections.load(Ordering::Relaxed);
        let lightest = (0..self.workers.len()).min_by_key(|id| load(*id))?;
        (load(lightest) + TOLERANCE < load(worker)).then_some(lightest)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            worker.stop = None;
        }
        let own = std::thread::current().id();
        for thread in self.workers.iter_mut().filter_map(|w| w.thread.take()) {
            // A task of a worker may hold the last handle; a thread cannot wait for itself.
            if thread.thread().id() != own {
                // Tasks' panics are contained, so that a thread ends by itself.
                let _ = thread.join();
            }
        }
    }
}

impl Worker {
    fn start(id: WorkerId) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name(format!("worker-{id}"))
            .spawn(move || {
                // It ends with an error, as the sender is dropped and never used.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_timeout(STOP_DEADLINE);
            })?;
        Ok(Self {
            handle,
            connections: Arc::default(),
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::{TOLERANCE, Workers};
    use std::sync::mpsc;
    use std::time::Duration;

    const SOON: Duration = Duration::from_secs(5);

    #[test]
    fn tasks_run_on_the_worker_they_were_given_to() {
        let workers = Workers::start(2).unwrap();
        let (tell, told) = mpsc::channel();
        for worker in 0..2 {
            let tell = tell.clone();
            workers.spawn_on(worker, move || async move {
                let name = std::thread::current().name().map(str::to_owned);
                tell.send((worker, name)).unwrap();
            });
        }
        for _ in 0..2 {
            let (worker, name) = told.recv_timeout(SOON).unwrap();
            assert_eq!(name, Some(format!("worker-{worker}")));
        }
    }

    #[test]
    fn a_panic_is_counted_and_ends_nothing_else() {
        let workers = Workers::start(1).unwrap();
        let (tell, told) = mpsc::channel();
        workers.spawn_on(0, || async { panic!("on purpose") });
        workers.spawn_on(0, move || async move { tell.send(()).unwrap() });
        told.recv_timeout(SOON).unwrap();
        assert_eq!(workers.panics(), 1);
    }

    #[test]
    fn a_notable_difference_names_the_lighter_worker() {
        let workers = Workers::start(2).unwrap();
        let mut seats: Vec<_> = (0..TOLERANCE).map(|_| workers.seat(0)).collect();
        assert_eq!(workers.lighter_than(0), None);
        seats.push(workers.seat(0));
        assert_eq!(workers.lighter_than(0), Some(1));
        assert_eq!(workers.lighter_than(1), None);
        seats.clear();
        assert_eq!(workers.connections(), [0, 0]);
    }
}
