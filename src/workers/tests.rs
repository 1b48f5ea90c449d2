//! Threads that come, work and go.

use std::sync::mpsc;

use super::*;
use crate::sync::AtomicUsize;

fn crew() -> Crew {
    Crew::new("test".into())
}

fn submit(crew: &Crew, job: impl FnOnce() + Send + 'static) {
    crew.submit(Box::new(job)).map_err(|(error, _)| error).unwrap();
}

const HANG: Duration = Duration::from_secs(30);

#[test]
fn ac_60_as_many_jobs_run_at_once_as_are_submitted() {
    let crew = crew();
    let (here, everybody) = mpsc::channel();
    let releases: Vec<_> = (0..8)
        .map(|_| {
            let (release, wait) = mpsc::channel::<()>();
            let here = here.clone();
            submit(&crew, move || {
                here.send(()).unwrap();
                let _ = wait.recv();
            });
            release
        })
        .collect();
    for _ in 0..8 {
        everybody.recv_timeout(HANG).expect("each job runs while the others wait");
    }
    drop(releases);
    crew.stop();
    assert_eq!(crew.join(HANG), 0);
    assert_eq!(crew.n_threads(), 0);
}

#[test]
fn p_18_a_panic_hurts_nobody_else() {
    struct Worse;
    impl Drop for Worse {
        fn drop(&mut self) {
            panic!("while dropping a panic");
        }
    }
    let crew = crew();
    let (done, finished) = mpsc::channel();
    for _ in 0..20 {
        submit(&crew, || std::panic::panic_any(Worse));
        let done = done.clone();
        submit(&crew, move || done.send(()).unwrap());
    }
    for _ in 0..20 {
        finished.recv_timeout(HANG).expect("the job after the panic runs");
    }
    crew.stop();
    assert_eq!(crew.join(HANG), 0);
}

#[test]
fn p_24_a_thread_in_user_code_is_left_behind_and_counted() {
    let crew = crew();
    let (release, wait) = mpsc::channel::<()>();
    let (here, there) = mpsc::channel();
    submit(&crew, move || {
        here.send(()).unwrap();
        let _ = wait.recv();
    });
    there.recv_timeout(HANG).unwrap();
    crew.stop();
    assert_eq!(crew.join(Duration::from_millis(20)), 1);
    // Whoever joins it once more does not wait for that one again.
    let began = Instant::now();
    assert_eq!(crew.join(HANG), 0);
    assert!(began.elapsed() < HANG / 2, "{:?}", began.elapsed());
    assert_eq!(crew.n_threads(), 1);
    drop(release);
}

/// Red when it does not know which thread is its own.
#[test]
fn p_24_a_crew_that_is_joined_by_its_own_thread_does_not_wait_for_it() {
    let crew = Arc::new(crew());
    let (done, finished) = mpsc::channel();
    let theirs = crew.clone();
    submit(&crew, move || {
        theirs.stop();
        done.send(theirs.join(HANG)).unwrap();
    });
    assert_eq!(finished.recv_timeout(HANG), Ok(0));
}

#[test]
fn a_job_that_comes_after_the_stop_still_runs() {
    let crew = crew();
    crew.stop();
    let (done, finished) = mpsc::channel();
    submit(&crew, move || done.send(()).unwrap());
    finished.recv_timeout(HANG).unwrap();
    assert_eq!(crew.join(HANG), 0);
}

#[test]
fn threads_are_used_again() {
    let crew = crew();
    let (done, finished) = mpsc::channel();
    for _ in 0..200 {
        let done = done.clone();
        submit(&crew, move || done.send(()).unwrap());
        finished.recv_timeout(HANG).unwrap();
        // The thread waits again soon; until then another may be started.
        while !crew.shared.front.is_waiting() {
            std::thread::yield_now();
        }
    }
    assert_eq!(crew.n_threads(), 1);
    crew.stop();
    assert_eq!(crew.join(HANG), 0);
}

struct Visits(Arc<AtomicUsize>);

impl Idle for Visits {
    fn idle(&self, _: bool) -> Option<Duration> {
        self.0.fetch_add(1, Ordering::SeqCst);
        None
    }

    fn interrupted(&self) {}
}

#[test]
fn a_summons_is_followed_and_many_make_no_crowd() {
    let visits = Arc::new(AtomicUsize::new(0));
    let crew = Crew::with_idle("test".into(), Visits(visits.clone()));
    for _ in 0..200 {
        (0..50).for_each(|_| crew.summon().unwrap());
        let seen = visits.load(Ordering::SeqCst);
        crew.summon().unwrap();
        while visits.load(Ordering::SeqCst) == seen {
            std::thread::yield_now();
        }
    }
    assert!(crew.n_threads() <= 3, "{} threads", crew.n_threads());
    crew.stop();
    assert_eq!(crew.join(HANG), 0);
}
