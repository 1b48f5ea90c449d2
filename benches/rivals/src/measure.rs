//! Does the work and takes its figures.

use std::{
    cell::Cell,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use crate::{
    contender::{Body, Call, Echo, Pair, ThreadCall},
    cpu,
    statistics::Percentiles,
    work::{Args, Work},
};

/// What one measurement gives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Microseconds for times; so many in a second, or GB/s, for everything else.
    pub(crate) figure: f64,
    /// Microseconds; 0 where single times mean nothing.
    pub(crate) p99: f64,
    /// Microseconds on a core of one call, event or echo, both processes together.
    pub(crate) cpu: f64,
    /// Answers or events that never came.
    pub(crate) lost: f64,
}

impl Figures {
    pub(crate) fn to_text(self) -> String {
        let Figures { figure, p99, cpu, lost } = self;
        format!("{figure} {p99} {cpu} {lost}")
    }

    pub(crate) fn from_text(text: &str) -> Option<Figures> {
        let numbers: Vec<f64> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let [figure, p99, cpu, lost] = numbers[..] else { return None };
        Some(Figures { figure, p99, cpu, lost })
    }
}

/// Warms up and does the work, where a small call is made `calls` times.
pub(crate) fn measure(mut pair: Pair, work: Work, calls: u64) -> Figures {
    let times = work.times(calls);
    let callee = pair.callee_id();
    match &mut pair.body {
        Body::Call(call) => one_by_one(&mut **call, work, times, callee),
        Body::Batch(batch) => {
            batch(times / 10 + 1);
            let watch = Watch::start(callee);
            let lost = batch(times);
            watch.stop().rate(times, lost)
        }
        Body::Threads(calls) => on_threads(std::mem::take(calls), times, callee),
        Body::Echo(echo) => there_and_back(&mut **echo, work, times, callee),
    }
}

fn one_by_one(call: &mut Call, work: Work, times: u64, callee: Option<u32>) -> Figures {
    let pause = if work == Work::Silence { Some(Duration::from_millis(1)) } else { None };
    for i in 0..times / 10 + 10 {
        call(i);
    }
    let mut all = Vec::with_capacity(times as usize);
    let mut lost = 0;
    let watch = Watch::start(callee);
    for i in 0..times {
        pause.into_iter().for_each(thread::sleep);
        let before = Instant::now();
        let answer = call(i);
        let took = before.elapsed().as_nanos() as u64;
        match answer {
            Some(answer) => {
                assert_eq!(answer, Args::expected(i), "a wrong answer");
                all.push(took);
            }
            // What it took is a time limit and no time of a call.
            None => lost += 1,
        }
    }
    let cpu = watch.stop().cpu(times);
    assert!(!all.is_empty(), "every answer was lost");
    let Percentiles { p50, p99 } = Percentiles::of(all);
    Figures { figure: p50 / 1000.0, p99: p99 / 1000.0, cpu, lost: lost as f64 }
}

fn on_threads(calls: Vec<Box<ThreadCall>>, times: u64, callee: Option<u32>) -> Figures {
    let each = times / calls.len() as u64;
    let total = each * calls.len() as u64;
    // They start together, and none ends before the time is taken.
    let (begin, end, leave) = (crew(&calls), crew(&calls), crew(&calls));
    thread::scope(|scope| {
        let threads: Vec<_> = calls
            .into_iter()
            .map(|mut call| {
                let (begin, end, leave) = (&begin, &end, &leave);
                scope.spawn(move || {
                    many(&mut *call, each / 10 + 1);
                    begin.wait();
                    let lost = many(&mut *call, each);
                    end.wait();
                    leave.wait();
                    lost
                })
            })
            .collect();
        begin.wait();
        let watch = Watch::start(callee);
        end.wait();
        let watch = watch.stop();
        leave.wait();
        let lost = threads.into_iter().map(|thread| thread.join().expect("a caller does not panic")).sum();
        watch.rate(total, lost)
    })
}

/// The threads that call, and the one that measures.
fn crew(calls: &[Box<ThreadCall>]) -> Barrier {
    Barrier::new(calls.len() + 1)
}

/// Makes so many calls, and says how many answers were lost.
fn many(call: &mut ThreadCall, n: u64) -> u64 {
    let arrived = |(i, answer): (u64, Option<u64>)| match answer {
        Some(answer) => {
            assert_eq!(answer, Args::expected(i), "a wrong answer");
            false
        }
        None => true,
    };
    (0..n).map(|i| (i, call(i))).filter(|it| arrived(*it)).count() as u64
}

fn there_and_back(echo: &mut Echo, work: Work, times: u64, callee: Option<u32>) -> Figures {
    let bytes: Vec<u8> = (0..work.bytes().expect("an echo has bytes")).map(|i| (i % 251) as u8 + 1).collect();
    let seen = Cell::new(0);
    // Ends and middle: to compare all would cost more than some of those that bring it.
    let check = |came: &[u8]| {
        assert_eq!(came.len(), bytes.len(), "another length");
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            assert_eq!(came[at], bytes[at], "other bytes");
        }
        seen.set(seen.get() + 1);
    };
    for _ in 0..times / 10 + 2 {
        echo(&bytes, &check);
    }
    seen.set(0);
    let watch = Watch::start(callee);
    let lost = (0..times).filter(|_| !echo(&bytes, &check)).count() as u64;
    let figures = watch.stop().rate(times, lost);
    assert!(lost < times, "every answer was lost");
    assert_eq!(seen.get() + lost, times, "somebody showed nothing");
    // There and back: the bytes move twice.
    Figures { figure: figures.figure * 2.0 * bytes.len() as f64 / 1e9, ..figures }
}

/// Time on the clock and on the cores.
struct Watch {
    callee: Option<u32>,
    cpu: u64,
    began: Instant,
}

/// What a [`Watch`] shows.
struct Elapsed {
    cpu: u64,
    time: Duration,
}

impl Watch {
    fn start(callee: Option<u32>) -> Watch {
        Watch { callee, cpu: cpu::nanoseconds(callee), began: Instant::now() }
    }

    fn stop(self) -> Elapsed {
        let time = self.began.elapsed();
        Elapsed { cpu: cpu::nanoseconds(self.callee).saturating_sub(self.cpu), time }
    }
}

impl Elapsed {
    /// Microseconds on a core of one of `times`.
    fn cpu(&self, times: u64) -> f64 {
        self.cpu as f64 / 1000.0 / times as f64
    }

    /// What was not lost, in a second.
    fn rate(&self, times: u64, lost: u64) -> Figures {
        let figure = (times - lost) as f64 / self.time.as_secs_f64();
        Figures { figure, p99: 0.0, cpu: self.cpu(times), lost: lost as f64 }
    }
}
