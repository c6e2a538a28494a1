//! Who works on a kernel: the caller's thread alone, or all of the pool.

use std::cell::Cell;

use rayon::prelude::*;

/// Multiply-adds that are worth a second thread.
const WORTH_A_THREAD: usize = 500_000;

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` on the calling thread alone: whoever shares out whole programs leaves nothing to share out inside.
pub fn alone<R>(work: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ALONE.set(self.0);
        }
    }
    let _restore = Restore(ALONE.replace(true));
    work()
}

/// Whether the calling thread may hand work to others.
pub fn may_share() -> bool {
    !ALONE.get()
}

/// Whether so many multiply-adds are worth a second thread. What results depend on asks this, and not who is there to
/// do the work.
pub fn is_large(work: usize) -> bool {
    work >= WORTH_A_THREAD
}

/// Each run of `len` elements, its number first: side by side where the work is `shared` out, else one after the other.
pub fn each_chunk(
    shared: bool,
    data: &mut [f32],
    len: usize,
    each: impl Fn((usize, &mut [f32])) + Sync + Send,
) {
    match shared {
        true => data.par_chunks_mut(len).enumerate().for_each(each),
        false => data.chunks_mut(len).enumerate().for_each(each),
    }
}

/// Whether so many multiply-adds are to be shared out.
pub fn worth_sharing(work: usize) -> bool {
    is_large(work) && may_share()
}
