//! The schedule: persistent threads that take the items of one parallel step after the other.
//!
//! A pass has about a hundred steps of some 50 µs, so a hand-off must cost well below a microsecond: waiting threads spin,
//! then yield, then park. Each thread owns a run of consecutive items and takes them from its front, so that it knows
//! which one comes next (and can prefetch it); a thread without items steals from the back of the fullest run. A step ends when
//! its items are done, not when every thread has come: a thread that lost its core to another program holds nobody up.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};

/// Spins before a waiting thread starts to yield its core: some tens of microseconds, longer than the serial parts between
/// two steps.
const SPINS: u32 = 20_000;
/// Yields before it parks. Parking costs the next step some tens of microseconds, and saves the core between frames.
const YIELDS: u32 = 200;

/// One item of a parallel step, as its function sees it.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    /// Which item.
    pub index: usize,
    /// The item that this thread will take next, if that is certain enough to prefetch for.
    pub next: Option<usize>,
    /// The thread that runs it, below [`Pool::threads`]: for per-thread scratch memory.
    pub thread: usize,
}

type Job<'a> = &'a (dyn Fn(Item) + Sync + 'a);

/// A thread's own run of items, `start << 32 | end`, alone on its cache lines.
#[repr(align(128))]
#[derive(Default)]
struct Run(AtomicU64);

impl Run {
    fn set(&self, start: usize, end: usize) {
        self.0.store((start as u64) << 32 | end as u64, Ordering::Relaxed);
    }

    fn len(&self) -> usize {
        let (start, end) = split(self.0.load(Ordering::Relaxed));
        end.saturating_sub(start)
    }

    /// Takes the first item; also tells whether another follows it.
    fn pop_front(&self) -> Option<(usize, bool)> {
        self.take(|start, end| (start + 1, end)).map(|(start, end)| (start, start + 1 < end))
    }

    /// Takes the last item.
    fn pop_back(&self) -> Option<usize> {
        self.take(|start, end| (start, end - 1)).map(|(_, end)| end - 1)
    }

    /// Replaces a run that is not empty by `change(start, end)`; gives what it was.
    fn take(&self, change: impl Fn(usize, usize) -> (usize, usize)) -> Option<(usize, usize)> {
        let update = |run| {
            let (start, end) = split(run);
            (start < end).then(|| change(start, end)).map(|(s, e)| (s as u64) << 32 | e as u64)
        };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update).ok().map(split)
    }
}

fn split(run: u64) -> (usize, usize) {
    ((run >> 32) as usize, (run & 0xffff_ffff) as usize)
}

/// Set in [`Shared::state`] while workers may enter the step.
const OPEN: u64 = 1 << 15;
/// The bits of [`Shared::state`] that count the workers inside the step.
const INSIDE: u64 = OPEN - 1;

struct Shared {
    /// `step << 16 | open << 15 | workers inside`: the number of the step, whether it can still be entered, and by how many it was.
    state: AtomicU64,
    /// The step's function: a pointer to a `Job` on the caller's stack, valid while the step is open or a worker is inside.
    job: AtomicPtr<()>,
    /// One a thread.
    runs: Vec<Run>,
    /// One a thread: whether it sleeps (or is about to) and must be woken.
    parked: Vec<AtomicBool>,
    panicked: AtomicBool,
    quit: AtomicBool,
}

/// Persistent threads for parallel steps. The calling thread works too, as thread 0.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<(Thread, Option<JoinHandle<()>>)>,
}

impl Pool {
    /// A pool of `threads` (at least 1), the caller's included.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: AtomicPtr::new(std::ptr::null_mut()),
            runs: (0..threads).map(|_| Run::default()).collect(),
            parked: (0..threads).map(|_| AtomicBool::new(false)).collect(),
            panicked: AtomicBool::new(false),
            quit: AtomicBool::new(false),
        });
        let mut pool = Self { shared, workers: Vec::new() };
        for thread in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let handle = thread::Builder::new().name(format!("engine-{thread}")).spawn(move || work(&shared, thread))?;
            pool.workers.push((handle.thread().clone(), Some(handle)));
        }
        Ok(pool)
    }

    /// How many threads work, the caller's included.
    pub fn threads(&self) -> usize {
        self.shared.runs.len()
    }

    /// Runs `job` once for each of `items` items, in parallel, and returns when all are done.
    ///
    /// # Panics
    /// When `job` panics, in any thread.
    pub fn run(&mut self, items: usize, job: impl Fn(Item) + Sync) {
        let threads = self.threads();
        let shared = &*self.shared;
        if threads == 1 || items < 2 {
            (0..items).for_each(|i| job(Item { index: i, next: (i + 1 < items).then_some(i + 1), thread: 0 }));
            return;
        }
        for (thread, run) in shared.runs.iter().enumerate() {
            run.set(items * thread / threads, items * (thread + 1) / threads);
        }
        let job: Job<'_> = &job;
        let erased = std::ptr::from_ref(&job).cast_mut().cast();
        shared.job.store(erased, Ordering::Relaxed);
        // SeqCst orders this store before the look at `parked`, as `wait` orders them the other way round: one of the two
        // sides sees the other.
        shared.next_step(OPEN);
        for (worker, (handle, _)) in self.workers.iter().enumerate() {
            if shared.parked[worker + 1].load(Ordering::SeqCst) {
                handle.unpark();
            }
        }
        // A panic here must not unwind past the job while workers still use it.
        let mine = panic::catch_unwind(AssertUnwindSafe(|| shared.take_items(0, job)));
        shared.state.fetch_and(!OPEN, Ordering::AcqRel);
        spin_until(|| shared.state.load(Ordering::Acquire) & INSIDE == 0);
        if let Err(payload) = mine {
            panic::resume_unwind(payload);
        }
        assert!(!shared.panicked.swap(false, Ordering::Relaxed), "an engine thread panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.quit.store(true, Ordering::SeqCst);
        self.shared.next_step(0);
        for (thread, handle) in &mut self.workers {
            thread.unpark();
            if let Some(handle) = handle.take() {
                // A worker catches its panics, so it ends in order.
                let _ = handle.join();
            }
        }
    }
}

impl Shared {
    /// Moves on to the next step. Only the pool's owner calls this, and only while the last step is closed and empty.
    fn next_step(&self, open: u64) {
        let step = self.state.load(Ordering::Relaxed) >> 16;
        self.state.store((step + 1) << 16 | open, Ordering::SeqCst);
    }

    /// Enters `step`, unless it is closed or over.
    fn enter(&self, step: u64) -> bool {
        let enter = |state: u64| (state >> 16 == step && state & OPEN != 0).then_some(state + 1);
        self.state.fetch_update(Ordering::Acquire, Ordering::Relaxed, enter).is_ok()
    }

    /// Runs items until none is left anywhere.
    fn take_items(&self, thread: usize, job: Job<'_>) {
        while let Some((index, more)) = self.runs[thread].pop_front() {
            job(Item { index, next: more.then_some(index + 1), thread });
        }
        while let Some(index) = self.runs.iter().max_by_key(|run| run.len()).and_then(Run::pop_back) {
            job(Item { index, next: None, thread });
        }
    }

    /// Waits until the step is no longer `seen`; gives the new one.
    fn wait(&self, thread: usize, seen: u64) -> u64 {
        let mut tries = 0u32;
        loop {
            let step = self.state.load(Ordering::Acquire) >> 16;
            if step != seen {
                return step;
            }
            tries += 1;
            if tries < SPINS {
                std::hint::spin_loop();
            } else if tries < SPINS + YIELDS {
                thread::yield_now();
            } else {
                self.parked[thread].store(true, Ordering::SeqCst);
                while self.state.load(Ordering::SeqCst) >> 16 == seen {
                    thread::park();
                }
                self.parked[thread].store(false, Ordering::SeqCst);
            }
        }
    }
}

/// A worker's life: wait for a step, enter it, take items, leave.
fn work(shared: &Shared, thread: usize) {
    let mut step = 0;
    loop {
        step = shared.wait(thread, step);
        if shared.quit.load(Ordering::SeqCst) {
            return;
        }
        if !shared.enter(step) {
            continue;
        }
        let job = shared.job.load(Ordering::Relaxed).cast::<Job<'_>>();
        // SAFETY: `Pool::run` stored a pointer to a live `Job` before it opened the step, and keeps it alive while this thread
        // is counted inside, which it is from `enter` to the `fetch_sub` below.
        let job = unsafe { *job };
        if panic::catch_unwind(AssertUnwindSafe(|| shared.take_items(thread, job))).is_err() {
            shared.panicked.store(true, Ordering::Relaxed);
        }
        shared.state.fetch_sub(1, Ordering::Release);
    }
}

/// Spins, then yields, until `ready`: for waits that end within one item's time unless a thread lost its core.
fn spin_until(ready: impl Fn() -> bool) {
    let mut tries = 0u32;
    while !ready() {
        tries += 1;
        if tries < SPINS { std::hint::spin_loop() } else { thread::yield_now() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, AtomicUsize};

    #[test]
    fn every_item_runs_exactly_once_whatever_the_numbers() {
        for threads in 1..=5 {
            let mut pool = Pool::new(threads).unwrap();
            for items in [0, 1, 2, 3, 7, 64, 1000] {
                let counts: Vec<AtomicU32> = (0..items).map(|_| AtomicU32::new(0)).collect();
                pool.run(items, |item| {
                    assert!(item.thread < threads && item.next.is_none_or(|next| next < items));
                    counts[item.index].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1), "{threads} threads, {items} items");
            }
        }
    }

    #[test]
    fn a_worker_that_sleeps_is_woken() {
        let mut pool = Pool::new(2).unwrap();
        for _ in 0..3 {
            thread::sleep(std::time::Duration::from_millis(30));
            let sum = AtomicUsize::new(0);
            pool.run(100, |item| {
                sum.fetch_add(item.index, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 4950);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let mut pool = Pool::new(3).unwrap();
        for bad in [0, 99] {
            let caught = panic::catch_unwind(AssertUnwindSafe(|| pool.run(100, |item| assert_ne!(item.index, bad))));
            assert!(caught.is_err());
        }
        let count = AtomicUsize::new(0);
        pool.run(100, |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 100);
    }
}
