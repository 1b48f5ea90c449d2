//! An inline call in one process beside a boxed closure that is found in a `HashMap` by its path.
//!
//! ```text
//! cargo bench --bench inline               both kinds of arguments
//! cargo bench --bench inline -- --quick    a few calls, to see that it runs
//! ```
//!
//! The contenders take turns. Each turn is a run of [`CALLS`] calls between two readings of the clock, since
//! one reading takes as long as a third of a call; the table gives the median of the turns for each, a call.
//! Among the paths are as many others as a program of middling size has.

use std::{collections::HashMap, hint::black_box, process::ExitCode, time::Instant};

use nape::{Api, Context, Fault, Head};
use serde::{Deserialize, Serialize};

/// Calls in one turn.
const CALLS: u32 = 200;
/// Handlers beside the one that is called.
const OTHERS: usize = 30;
/// What the closure and the handler are called.
const PATH: &str = "bench.numbers.add";

/// Two integers and a short text, as in the other benches.
#[derive(Serialize, Deserialize)]
struct Args {
    a: u64,
    b: u64,
    text: String,
}

impl Args {
    fn new(a: u64) -> Args {
        Args { a, b: 1_000_000, text: "thumbs/2013/neck.png".to_owned() }
    }

    fn answer(&self) -> u64 {
        self.a + self.b + self.text.len() as u64
    }
}

#[nape::api("typed", inline)]
trait Bench {
    fn number(&self, a: u64) -> u64;
    fn add(&self, args: Args) -> u64;
}

struct Served;

impl Bench for Served {
    fn number(&self, a: u64) -> u64 {
        a + 1
    }

    fn add(&self, args: Args) -> u64 {
        args.answer()
    }
}

fn main() -> ExitCode {
    let has = |name: &str| std::env::args().any(|arg| arg == name);
    let turns = if has("--quick") { 50 } else { 5_000 };
    match run(turns) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(turns: usize) -> nape::Result<()> {
    let mut api = Api::new("bench").inline();
    for i in 0..OTHERS {
        api = api.handle(&format!("numbers.other{i}"), |_: &Context, n: u64| Ok::<_, Fault>(n))?;
    }
    let api = api.handle("numbers.add", |_: &Context, args: Args| Ok::<_, Fault>(args.answer()))?;
    let api = api.handle("numbers.number", |_: &Context, a: u64| Ok::<_, Fault>(a + 1))?;
    let (head, neck) = Head::in_process()?;
    let _neck = neck.serve(api)?.serve(Served.into_api())?.start();
    let (by_name, typed) = (head.api("bench"), BenchClient::on(&head));

    println!("nanoseconds a call, median of {turns} turns of {CALLS} calls; ratio to the closure");
    let numbers = closures(|a: u64| a + 1);
    compare(
        "a number",
        turns,
        &mut [
            ("closure by path", &mut |i| numbers[black_box(PATH)](i)),
            ("inline, by name", &mut |i| by_name.action("numbers.number", i).call().expect("it answers")),
            ("inline, typed", &mut |i| typed.number(i).call().expect("it answers")),
        ],
    );
    let structs = closures(|args: Args| args.answer());
    compare(
        "a struct with a text",
        turns,
        &mut [
            ("closure by path", &mut |i| structs[black_box(PATH)](Args::new(i))),
            ("inline, by name", &mut |i| {
                by_name.action("numbers.add", Args::new(i)).call().expect("it answers")
            }),
            ("inline, typed", &mut |i| typed.add(Args::new(i)).call().expect("it answers")),
        ],
    );
    Ok(())
}

type Closures<A> = HashMap<String, Box<dyn Fn(A) -> u64>>;

fn closures<A: 'static>(closure: impl Fn(A) -> u64 + 'static) -> Closures<A> {
    let other =
        |i: usize| (format!("bench.numbers.other{i}"), Box::new(move |_| i as u64) as Box<dyn Fn(A) -> u64>);
    (0..OTHERS).map(other).chain([(PATH.to_owned(), Box::new(closure) as Box<dyn Fn(A) -> u64>)]).collect()
}

type Contender<'a> = (&'static str, &'a mut dyn FnMut(u64) -> u64);

/// Lets the contenders take turns. The first is what the others are compared with.
fn compare(what: &str, turns: usize, contenders: &mut [Contender<'_>]) {
    let mut times = vec![Vec::with_capacity(turns); contenders.len()];
    for turn in 0..turns + turns / 10 + 1 {
        for ((_, call), times) in contenders.iter_mut().zip(&mut times) {
            let before = Instant::now();
            for i in 0..CALLS {
                black_box(call(u64::from(i)));
            }
            // The first turns warm up.
            if turn > turns / 10 {
                times.push(before.elapsed().as_nanos() as f64 / f64::from(CALLS));
            }
        }
    }
    let medians = times.iter_mut().map(|times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    let medians: Vec<f64> = medians.collect();
    println!("\n{what}");
    for ((name, _), median) in contenders.iter().zip(&medians) {
        println!("  {name:20}{median:>8.1}{:>8.2}", median / medians[0]);
    }
}
