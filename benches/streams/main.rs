//! Items of a stream beside one call for each of them, and beside bare events.
//!
//! ```text
//! cargo bench --bench streams               everything
//! cargo bench --bench streams -- --quick    less of it, to see that it runs
//! ```
//!
//! Both ends are in this process and run where the kernel puts them. An item, an argument and an event are
//! one number each. The four are measured in turns, and the medians of the rounds are compared.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use nape::{
    Api, CallError, Context, Fault, Head, Incoming, Neck, Rejection,
    transport::{ipc_pair, pipe_pair, shm_pair},
};

const LINKS: [&str; 5] = ["channel", "encoded", "ipc", "pipe", "shm"];

fn main() {
    let quick = env::args().any(|argument| argument == "--quick");
    let (rounds, items) = if quick { (3, 2_000) } else { (9, 200_000) };
    let filter = env::args().skip_while(|argument| argument != "--link").nth(1);
    println!("thousands a second: median of {rounds} rounds; and how many items of a stream go for one");
    println!("{:8} {:>9} {:>9} {:>9} {:>9}   call   event", "link", "calls", "events", "stream", "upload");
    for link in LINKS.into_iter().filter(|link| filter.as_ref().is_none_or(|only| only == link)) {
        let bench = Bench::new(link);
        let mut all = [const { Vec::new() }; 4];
        for _ in 0..rounds {
            all[0].push(bench.calls(items / 20));
            all[1].push(bench.events(items));
            all[2].push(bench.stream(items));
            all[3].push(bench.upload(items));
        }
        let [calls, events, stream, upload] = all.map(median);
        println!(
            "{link:8} {calls:9.0} {events:9.0} {stream:9.0} {upload:9.0}  {:5.1}x  {:5.2}x",
            stream / calls,
            stream / events
        );
    }
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

struct Bench {
    head: Head,
    neck: Neck,
    events: Arc<AtomicU64>,
}

impl Bench {
    fn new(link: &str) -> Bench {
        let events = Arc::new(AtomicU64::new(0));
        let count = events.clone();
        let api = Api::new("bench")
            .handle("call", |_: &Context, n: u64| Ok::<_, Fault>(n))
            .and_then(|api| {
                api.handle("event", move |_: &Context, n: u64| {
                    count.fetch_add(n, Ordering::Relaxed);
                    Ok::<_, Fault>(())
                })
            })
            .and_then(|api| {
                api.stream("stream", |_: &Context, n: u64| Ok::<_, Fault>((0..n).map(Ok::<_, Fault>)))
            })
            .and_then(|api| {
                api.upload("upload", |_: &Context, (): (), items: Incoming<u64>| {
                    Ok::<_, Fault>(items.filter(Result::is_ok).count() as u64)
                })
            })
            .expect("the paths are free");
        let (head, neck) = (Head::builder(), Neck::builder().serve(api));
        let both = match link {
            "channel" => head.in_process_with(neck),
            "encoded" => head.in_process_encoded(neck),
            framed => {
                let pair = match framed {
                    "ipc" => ipc_pair(),
                    "pipe" => pipe_pair(),
                    _ => shm_pair(),
                };
                let (ours, theirs) = pair.expect("a pair of ends");
                head.over(ours).and_then(|head| Ok((head, neck.over(theirs)?)))
            }
        };
        let (head, neck) = both.expect("a link");
        Bench { head, neck: neck.start(), events }
    }

    fn calls(&self, n: u64) -> f64 {
        let api = self.head.api("bench");
        rate(n, || {
            (0..n).for_each(|n| assert_eq!(api.action("call", n).call::<u64>().expect("an answer"), n))
        })
    }

    fn events(&self, n: u64) -> f64 {
        let api = self.head.api("bench");
        self.events.store(0, Ordering::Relaxed);
        // Those that find a full queue at the other side are lost.
        let before = self.neck.counters().events_dropped;
        rate(n, || {
            for _ in 0..n {
                while let Err(error) = api.action("event", 1u64).fire() {
                    assert!(matches!(error, CallError::Rejected(Rejection::Busy { .. })), "{error}");
                    thread::yield_now();
                }
            }
            while self.events.load(Ordering::Relaxed) + self.neck.counters().events_dropped - before < n {
                thread::yield_now();
            }
        })
    }

    fn stream(&self, n: u64) -> f64 {
        let api = self.head.api("bench");
        rate(n, || {
            let items = api.action("stream", n).open::<u64>().expect("it is open");
            assert_eq!(items.filter(Result::is_ok).count() as u64, n);
        })
    }

    fn upload(&self, n: u64) -> f64 {
        let api = self.head.api("bench");
        rate(n, || {
            let mut items = api.action("upload", ()).upload::<u64, u64>().expect("it is open");
            (0..n).for_each(|n| items.send(n).expect("it is taken"));
            assert_eq!(items.finish().expect("an answer"), n);
        })
    }
}

/// Thousands a second.
fn rate(n: u64, run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    n as f64 / start.elapsed().as_secs_f64() / 1000.0
}
