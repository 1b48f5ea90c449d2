//! What grows with what: the cost of one call beside many that are pending, among many handlers and beside many
//! links, and what links cost that nobody uses.
//!
//! ```text
//! cargo bench --bench growth               everything
//! cargo bench --bench growth -- --quick    less of it, to see that it runs
//! ```
//!
//! Both sides of a ratio are measured in turns, in one process that is pinned to one core, where a
//! hand-over is a plain switch and placement does not matter; the medians of the rounds are compared.
//! Idle links are counted in a process of their own, and so is each side of one link among many.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::thread::{CpuSet, sched_setaffinity};

use nape::{
    Api, Config, Context, Fault, Head, Neck, Responder,
    transport::{ipc_pair, pipe_pair, shm_pair},
};

/// The names of the links, and how both ends of each are made.
const LINKS: [&str; 5] = ["channel", "encoded", "ipc", "pipe", "shm"];
/// How long a link takes until it has let its spare threads go.
const SETTLED: Duration = Duration::from_secs(7);

fn main() {
    let arguments: Vec<String> = env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "idle") {
        return idle(&arguments[at + 1], arguments[at + 2] == "quick");
    }
    if let Some(at) = arguments.iter().position(|argument| argument == "links") {
        return links(&arguments[at + 1], arguments[at + 2].parse().expect("a number"));
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let (pending, handlers, links, rounds) =
        if quick { (10_000, 1_000, 50, 5) } else { (100_000, 10_000, 1_000, 21) };
    let mut core = CpuSet::new();
    core.set(0);
    sched_setaffinity(None, &core).expect("a first core");
    println!("cost of one call: median of {rounds} rounds, in ns, and the ratio");
    for link in LINKS {
        let few = Beside::pending(link, 1);
        let many = Beside::pending(link, pending);
        compare(link, "pending calls", (1, || few.cost()), (pending, || many.cost()), rounds);
    }
    for link in LINKS {
        let few = Beside::handlers(link, 10);
        let many = Beside::handlers(link, handlers);
        compare(link, "handlers", (10, || few.cost()), (handlers, || many.cost()), rounds);
    }
    for link in LINKS {
        let (mut few, mut many) = (Elsewhere::links(link, 1), Elsewhere::links(link, links));
        compare(link, "links", (1, || few.cost()), (links, || many.cost()), rounds);
    }
    println!(
        "\n100 idle links: for one link, threads and KiB of resident memory; for all, wake-ups a second"
    );
    for link in LINKS {
        let program = env::current_exe().expect("this program has a path");
        let kind = if quick { "quick" } else { "full" };
        let status = Command::new(program).args(["idle", link, kind]).status();
        assert!(status.is_ok_and(|status| status.success()), "the idle links of {link} failed");
    }
}

/// A link on which something is many, and one call is measured.
struct Beside {
    head: Head,
    _neck: Neck,
    path: String,
    _rest: Vec<nape::AsyncResult<u64>>,
}

impl Beside {
    fn pending(link: &str, n: usize) -> Beside {
        let (kept, keeper) = std::sync::mpsc::channel::<Responder<u64>>();
        let api = Api::new("a")
            .queue(n.max(1024), nape::WhenFull::Refuse)
            .handle("add", |_: &Context, (a, b): (u64, u64)| Ok::<_, Fault>(a + b))
            .and_then(|api| {
                api.deferred("keep", move |_: Context, (): (), answer| kept.send(answer).unwrap_or_default())
            })
            .expect("two paths");
        let (head, neck) = ends(link, api);
        let rest = (0..n).map(|_| patiently(&head)).collect();
        // They stay unanswered until the end.
        thread::Builder::new().spawn(move || keeper.iter().collect::<Vec<_>>().len()).expect("a thread");
        while neck.under_way().1 < n {
            thread::yield_now();
        }
        Beside { head, _neck: neck, path: "a.add".into(), _rest: rest }
    }

    fn handlers(link: &str, n: usize) -> Beside {
        let add = |_: &Context, (a, b): (u64, u64)| Ok::<_, Fault>(a + b);
        let api =
            (0..n).try_fold(Api::new("a"), |api, at| api.handle(&format!("group{}.add{at}", at % 100), add));
        let (head, neck) = ends(link, api.expect("different paths"));
        let last = n - 1;
        Beside { head, _neck: neck, path: format!("a.group{}.add{last}", last % 100), _rest: Vec::new() }
    }

    /// The time of one of many calls in a row.
    fn cost(&self) -> Duration {
        const CALLS: u32 = 2_000;
        let root = self.head.api("");
        let began = Instant::now();
        for n in 0..CALLS {
            let sum: u64 = root.action(&self.path, (u64::from(n), 1u64)).call().expect("a sum");
            assert_eq!(sum, u64::from(n) + 1);
        }
        began.elapsed() / CALLS
    }
}

/// A call that is never answered; it waits while the send queue is full.
fn patiently(head: &Head) -> nape::AsyncResult<u64> {
    loop {
        match head.api("a").action("keep", ()).timeout(nape::Timeout::Never).start() {
            Ok(pending) => return pending,
            Err(_) => thread::yield_now(),
        }
    }
}

/// A process with as many links as are asked for, one of which is used.
struct Elsewhere {
    process: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Elsewhere {
    fn links(link: &str, n: usize) -> Elsewhere {
        let program = env::current_exe().expect("this program has a path");
        let mut command = Command::new(program);
        command.args(["links", link, &n.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("this program can be started");
        let (ask, answers) = (process.stdin.take(), process.stdout.take());
        let mut elsewhere = Elsewhere {
            process,
            ask: ask.expect("it is a pipe"),
            answers: BufReader::new(answers.expect("it is a pipe")),
        };
        // Once to warm up, when all of them are there.
        elsewhere.cost();
        elsewhere
    }

    fn cost(&mut self) -> Duration {
        self.ask.write_all(b"\n").expect("it listens");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it answers");
        Duration::from_nanos(line.trim().parse().expect("nanoseconds"))
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The other side of [`Elsewhere`]: measures a call for each line that comes.
fn links(link: &str, n: usize) {
    let beside: Vec<Beside> = (0..n).map(|_| Beside::handlers(link, 1)).collect();
    for beside in &beside {
        let _: u64 = beside.head.api("").action(&beside.path, (1u64, 2u64)).call().expect("a sum");
    }
    thread::sleep(SETTLED.min(n as u32 * Duration::from_millis(20)));
    for _ in io::stdin().lines() {
        println!("{}", beside[n / 2].cost().as_nanos());
    }
}

fn compare(
    link: &str,
    what: &str,
    mut few: (usize, impl FnMut() -> Duration),
    mut many: (usize, impl FnMut() -> Duration),
    rounds: usize,
) {
    let mut costs = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        let few_first = round % 2 == 0;
        if few_first {
            costs[0].push(few.1());
        }
        costs[1].push(many.1());
        if !few_first {
            costs[0].push(few.1());
        }
    }
    let [few_cost, many_cost] = costs.map(|mut costs| {
        costs.sort_unstable();
        costs[costs.len() / 2]
    });
    println!(
        "{link:>8}: {:>6} {what}: {:>7}   {:>6} {what}: {:>7}   ratio {:.2}",
        few.0,
        few_cost.as_nanos(),
        many.0,
        many_cost.as_nanos(),
        many_cost.as_secs_f64() / few_cost.as_secs_f64()
    );
}

fn ends(link: &str, api: Api) -> (Head, Neck) {
    let all = 1 << 20;
    let config = || Config::new().in_flight(all).served_calls(all).send_queue(all);
    let (head, neck) = (Head::builder().config(config()), Neck::builder().config(config()).serve(api));
    let made = match link {
        "channel" => head.in_process_with(neck),
        "encoded" => head.in_process_encoded(neck),
        _ => {
            let pair = match link {
                "ipc" => ipc_pair(),
                "pipe" => pipe_pair(),
                _ => shm_pair(),
            };
            let (ours, theirs) = pair.expect("sockets");
            head.over(ours).and_then(|head| Ok((head, neck.over(theirs)?)))
        }
    };
    let (head, neck) = made.expect("a link");
    (head, neck.start())
}

fn idle(link: &str, quick: bool) {
    const LINKS: usize = 100;
    let before = (resident_kib(), tasks().len());
    let links: Vec<_> = (0..LINKS)
        .map(|_| {
            let add = |_: &Context, (a, b): (u64, u64)| Ok::<_, Fault>(a + b);
            let ends = ends(link, Api::new("a").handle("add", add).expect("a path"));
            let _: u64 = ends.0.api("a").action("add", (1u64, 2u64)).call().expect("a sum");
            ends
        })
        .collect();
    thread::sleep(SETTLED);
    let watched = Duration::from_secs(if quick { 2 } else { 10 });
    let woken = switches();
    thread::sleep(watched);
    // This thread woke once.
    let woken = switches().saturating_sub(woken + 1);
    let threads = (tasks().len() - before.1) as f64 / LINKS as f64;
    let memory = (resident_kib() - before.0) as f64 / LINKS as f64;
    let rate = woken as f64 / watched.as_secs_f64();
    println!(
        "{link:>8}: {threads:.2} threads   {memory:.1} KiB   {rate:.1} wake-ups a second (both ends in one process)"
    );
    drop(links);
}

fn tasks() -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir("/proc/self/task").expect("Linux");
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn switches() -> u64 {
    let count = |status: String| -> u64 {
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        lines.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum()
    };
    tasks().iter().filter_map(|task| fs::read_to_string(task.join("status")).ok()).map(count).sum()
}

fn resident_kib() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("a number") * 4
}
