//! Work done ahead of who needs it: a thread makes things 1, 2, 3 … while earlier ones are used.

use std::{
    sync::mpsc::{Receiver, sync_channel},
    thread::JoinHandle,
};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::{Error, Result};

/// Numbered things made ahead, in order, at most so many of them waiting. What is made depends on its number alone,
/// so that whether it was made ahead shows in nothing but the time.
pub struct Prefetch<T> {
    ready: Option<Receiver<Result<T>>>,
    next: u64,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Prefetch<T> {
    /// Begins with number `first`: `make` runs in a pool of `workers` threads of its own, so that it takes none of those
    /// that a CPU device computes with, and stays `ahead` things ahead.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn start(
        first: u64,
        workers: usize,
        ahead: usize,
        mut make: impl FnMut(u64) -> Result<T> + Send + 'static,
    ) -> Result<Self> {
        let failed = |e: &dyn std::fmt::Display| {
            Error::failure(format!("no thread to load data: {e}; use --num-workers 0"))
        };
        let pool: ThreadPool = ThreadPoolBuilder::new()
            .num_threads(workers)
            .thread_name(|i| format!("loader-{i}"))
            .build()
            .map_err(|e| failed(&e))?;
        let (sender, ready) = sync_channel(ahead);
        let work = move || {
            for number in first.. {
                let made = pool.install(|| make(number));
                let stop = made.is_err();
                // Nobody is there to receive: the run is over.
                if sender.send(made).is_err() || stop {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("loader".into()).spawn(work).map_err(|e| failed(&e))?;
        Ok(Self { ready: Some(ready), next: first, thread: Some(thread) })
    }

    /// The thing of that number, if it is the next one and is made, or failed to be made; else nothing.
    pub fn take(&mut self, number: u64) -> Option<Result<T>> {
        if number != self.next {
            return None;
        }
        self.next += 1;
        self.ready.as_ref()?.recv().ok()
    }
}

impl<T> Drop for Prefetch<T> {
    /// Waits for what is being made; no thread is left behind.
    fn drop(&mut self) {
        self.ready = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use super::*;

    #[test]
    fn things_come_in_order_and_no_more_are_made_than_may_wait() {
        let made = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&made);
        let make = move |number: u64| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(number * 10)
        };
        let mut ahead = Prefetch::start(5, 2, 3, make).expect("starts");
        for number in 5..20 {
            assert_eq!(ahead.take(number), Some(Ok(number * 10)));
            // Three wait, one is held by the thread that waits for room, and one is taken.
            assert!(made.load(Ordering::SeqCst) <= number - 5 + 5);
        }
        assert_eq!(ahead.take(3), None, "not the next one");
        drop(ahead);
        assert_eq!(Arc::strong_count(&made), 1, "the thread and what it held are gone");
    }

    #[test]
    fn an_error_comes_with_the_thing_that_failed() {
        let make = |number: u64| if number == 3 { Err(Error::input("frame 3")) } else { Ok(number) };
        let mut ahead = Prefetch::start(1, 1, 2, make).expect("starts");
        assert_eq!((ahead.take(1), ahead.take(2)), (Some(Ok(1)), Some(Ok(2))));
        assert_eq!(ahead.take(3), Some(Err(Error::input("frame 3"))));
        assert_eq!(ahead.take(4), None);
    }
}
