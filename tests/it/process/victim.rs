//! The child of these tests: what it does is said by a verb in its environment.

use std::{
    env, fs, io,
    os::fd::OwnedFd,
    path::PathBuf,
    process::{self, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use nape::{Api, Codec, Config, Context, Fault, Incoming, Neck, Payload, Responder, Wire};
use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::{
        PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, Signal, getpid, getrlimit, kill_process, pidfd_getfd,
        pidfd_open, setrlimit,
    },
    thread::gettid,
};

use super::{fileless, host, inherited, life, logged, pulse, remains, rows, standard, subscribed};
use crate::history;

/// This binary again, as a child that does what the verb says.
pub(crate) fn command(verb: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["process::victim::entry", "--exact", "--nocapture", "--test-threads=1"]);
    command.env(VERB, verb);
    command
}

/// The same for one that has a child of its own over this wire.
pub(crate) fn command_over(wire: Wire, verb: &str) -> Command {
    let mut command = command(verb);
    command.env(WIRE, format!("{wire:?}"));
    command
}

/// What [`command_over`] said.
pub(crate) fn wire_of_its_own() -> Wire {
    let name = env::var(WIRE).unwrap();
    [Wire::Ipc, Wire::Pipe, Wire::Shm].into_iter().find(|wire| format!("{wire:?}") == name).unwrap()
}

/// Where children begin. Without a verb it does nothing, and is a test like any other.
#[test]
fn entry() {
    match env::var(VERB).as_deref() {
        Err(_) => {}
        Ok("serve") => serve(Neck::from_env().unwrap()),
        Ok("greet") => greet(),
        Ok("linger") => {
            // However it ended.
            let _ = Neck::from_env().unwrap().serve(api()).unwrap().run();
            park();
        }
        Ok("log-for-ever") => {
            log::set_logger(&LogsForEver).unwrap();
            log::set_max_level(log::LevelFilter::Warn);
            serve(Neck::from_env().unwrap());
        }
        Ok("logged") => logged::lose_a_child(),
        Ok("logged-start") => logged::start_again(),
        Ok("leave") => leave(|| ()),
        Ok("leave-and-write") => leave(write),
        Ok("write-behind") => {
            // However it ended.
            let _ = Neck::from_env().unwrap().serve(api()).unwrap().run();
            write();
        }
        Ok("start-once") => start_once(),
        Ok("hang-later") => {
            if fs::File::create_new(env::var(MARK).unwrap()).is_err() {
                park();
            }
            serve(Neck::from_env().unwrap());
        }
        Ok("another-codec") => {
            let asks = fs::File::create_new(env::var(MARK).unwrap()).map_or(Codec::Json, |_| Codec::Binary);
            serve(Neck::builder().config(Config::new().codec(asks)).from_env().unwrap());
        }
        Ok("exit-early") => {
            eprintln!("no license");
            process::exit(3);
        }
        Ok("hang") => {
            eprintln!("thinking");
            park();
        }
        Ok("connect-and-hang") => {
            let _neck = Neck::from_env().unwrap();
            eprintln!("still thinking");
            park();
        }
        Ok("connect-and-exit") => {
            let _neck = Neck::from_env().unwrap();
            eprintln!("changed my mind");
            process::exit(4);
        }
        Ok("connect-and-close") => {
            drop(Neck::from_env().unwrap());
            park();
        }
        Ok(verb) if verb.starts_with("raw-") => inherited::play(verb),
        Ok("over-standard") => standard::serve(),
        Ok("middle") => life::middle(),
        Ok("rounds") => remains::rounds(),
        Ok("sigpipe") => host::without_broken_pipes(),
        Ok("robbed") => host::with_a_thief(),
        Ok("ignoring") => host::with_children_ignored(),
        Ok("signals") => host::with_signals_for_everybody(),
        Ok("serve-through-signals") => {
            host::take_signals();
            serve(Neck::from_env().unwrap());
        }
        Ok("middle-that-is-asked") => rows::be_asked(),
        Ok("ask") => rows::ask(),
        Ok("fileless") => fileless::calls(),
        Ok("many") => host::with_many_children(),
        Ok("fork") => host::beside_children(),
        Ok("fork-ends") => host::beside_both_ends(),
        Ok("fork-listener") => host::beside_a_listener(),
        Ok("history") => history::serve_in_a_child(),
        Ok("pulse") => pulse::beat(),
        Ok("publish") => subscribed::publish(),
        #[cfg(all(feature = "compression", feature = "encryption"))]
        Ok("filtered") => crate::filters::child::serve(),
        Ok(verb) => panic!("no such verb: {verb}"),
    }
}

/// Does not come back from a warning.
struct LogsForEver;

impl log::Log for LogsForEver {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, _: &log::Record<'_>) {
        park();
    }

    fn flush(&self) {}
}

/// Serves until the link is over.
fn serve(neck: Neck) {
    neck.serve(api()).unwrap().run().unwrap();
}

/// Says goodbye as soon as it is asked to, does something more, and ends with the exit code that is asked for.
fn leave(behind: fn()) {
    let (sender, asked) = std::sync::mpsc::channel();
    let leave = move |_: &Context, code: i32| Ok::<_, Fault>(sender.send(code)?);
    let neck = Neck::from_env().unwrap().serve(api()).unwrap();
    let neck = neck.serve(Api::new("door").handle("leave", leave).unwrap()).unwrap().start();
    let code = asked.recv().unwrap();
    drop(neck);
    behind();
    process::exit(code);
}

/// Writes far more than a pipe holds, to both of its outputs.
fn write() {
    let rest = "x".repeat(90);
    for line in 0..WRITTEN {
        println!("written {line} {rest}");
        eprintln!("written {line} {rest}");
    }
}

/// Serves for the first time, and ends before it is ready ever after. A file tells which time it is.
fn start_once() {
    if fs::File::create_new(env::var(MARK).unwrap()).is_err() {
        eprintln!("not again");
        process::exit(5);
    }
    serve(Neck::from_env().unwrap());
}

/// Asks the Head for a name before it is ready itself, and serves that name.
fn greet() {
    let neck = Neck::from_env().unwrap();
    let name: String = neck.api("host").action("name", ()).call().unwrap();
    let heard = move |_: &Context, _: ()| Ok::<_, Fault>(name.clone());
    let neck = neck.serve(Api::new("heard").handle("name", heard).unwrap()).unwrap();
    serve(neck);
}

pub(crate) fn api() -> Api {
    let waiting = Mutex::new(Vec::new());
    let some = Arc::new(Mutex::new(Vec::new()));
    Api::new("victim")
        .handle("echo", |_: &Context, n: u64| Ok::<_, Fault>(n))
        .unwrap()
        .deferred("wait", move |_: Context, _: (), answer: Responder<()>| {
            waiting.lock().unwrap().push(answer);
        })
        .unwrap()
        .handle("die", |_: &Context, how: String| -> Result<(), Fault> { die(&how) })
        .unwrap()
        .deferred("answer-some", move |_: Context, task: (usize, usize, usize), answer| {
            answer_some(&mut some.lock().unwrap(), task, answer);
        })
        .unwrap()
        .handle("panic", |_: &Context, _: ()| -> Result<(), Fault> {
            // As a panic, but without the noise on stderr.
            std::panic::resume_unwind(Box::new("a panic that is a part of the test"))
        })
        .unwrap()
        .handle("spin", |_: &Context, _: ()| -> Result<(), Fault> {
            loop {
                std::hint::spin_loop();
            }
        })
        .unwrap()
        .handle("print", |_: &Context, n: usize| {
            (0..n).for_each(|line| println!("printed {line}"));
            Ok::<_, Fault>(())
        })
        .unwrap()
        .stream("make", |cx: &Context, n: u32| {
            let host = cx.api("host");
            Ok::<_, Fault>((0..=n).map(move |item| {
                if item == n {
                    // Sent behind the items, or in front of them in one packet.
                    host.action("made", ()).call::<()>()?;
                    park();
                }
                Ok::<_, Fault>(item)
            }))
        })
        .unwrap()
        .upload("take-none", |cx: &Context, (): (), _items: Incoming<u32>| -> Result<(), Fault> {
            cx.api("host").action("made", ()).call::<()>()?;
            park();
        })
        .unwrap()
        .handle("tell-and-die", |cx: &Context, n: u64| -> Result<(), Fault> {
            let host = cx.api("host");
            (0..n).try_for_each(|n| host.action("note", n).fire())?;
            wait_until_others_sleep();
            signal_to_self(Signal::KILL);
            park();
        })
        .unwrap()
        .handle("survive", |cx: &Context, crashes: u32| {
            if cx.attempt() < crashes {
                die("kill");
            }
            Ok::<_, Fault>(cx.attempt())
        })
        .unwrap()
        .handle("ask-host", |cx: &Context, _: ()| -> Result<String, Fault> {
            Ok(cx.api("host").action("name", ()).call()?)
        })
        .unwrap()
        .handle("ask", |cx: &Context, path: String| -> Result<String, Fault> {
            Ok(cx.api(&path).action("", ()).call()?)
        })
        .unwrap()
        .handle("bytes", |_: &Context, n: usize| Ok::<_, Fault>(Payload::from_bytes(vec![7; n])))
        .unwrap()
        .handle("hoard", |_: &Context, mib: usize| {
            // Never given back, and touched everywhere.
            std::mem::forget(vec![1u8; mib << 20]);
            Ok::<_, Fault>(())
        })
        .unwrap()
        .handle("take-no-more-files", |_: &Context, _: ()| {
            // Fewer than a wait may watch would be an error of the wait.
            let few = Rlimit { current: Some(24), ..getrlimit(Resource::Nofile) };
            setrlimit(Resource::Nofile, few)?;
            while let Ok(file) = fs::File::open("/dev/null") {
                std::mem::forget(file);
            }
            Ok::<_, Fault>(())
        })
        .unwrap()
        .handle("take-no-more-memory", |_: &Context, _: ()| {
            let pages = fs::read_to_string("/proc/self/statm")?;
            let pages: u64 = pages.split(' ').next().unwrap_or_default().parse()?;
            let little = pages * 4096 + (6 << 20);
            Ok::<_, Fault>(setrlimit(Resource::As, Rlimit { current: Some(little), maximum: None })?)
        })
        .unwrap()
        .handle("forbid-new-files", |_: &Context, _: ()| Ok::<_, Fault>(host::forbid_new_files()))
        .unwrap()
        .handle("open-a-file", |_: &Context, _: ()| Ok::<_, Fault>(fs::File::open("/dev/null").is_ok()))
        .unwrap()
        .handle("become-nobody", |_: &Context, _: ()| Ok::<_, Fault>(host::become_nobody()))
        .unwrap()
        .handle("take", |_: &Context, _: Payload| Ok::<_, Fault>(()))
        .unwrap()
        .handle("flood", |cx: &Context, _: ()| {
            let noise = cx.api("noise");
            // For as long as the other side takes it.
            while !cx.is_cancelled() {
                let _ = noise.action("event", 1u64).fire();
            }
            Ok::<_, Fault>(())
        })
        .unwrap()
        .handle("pid", |_: &Context, _: ()| Ok::<_, Fault>(process::id()))
        .unwrap()
        .handle("say", |_: &Context, (out, err): (String, String)| {
            let mut stdout = io::stdout().lock();
            io::Write::write_all(&mut stdout, out.as_bytes())?;
            io::Write::flush(&mut stdout)?;
            io::Write::write_all(&mut io::stderr(), err.as_bytes())?;
            Ok::<_, Fault>(())
        })
        .unwrap()
        .handle("leave-grandchild", |_: &Context, _: ()| Ok::<_, Fault>(leave_grandchild()?))
        .unwrap()
}

fn die(how: &str) -> ! {
    eprintln!("last words before {how}");
    match how {
        "exit 0" => process::exit(0),
        "exit 7" => process::exit(7),
        "abort" => without_core(|| process::abort()),
        // The handler of the standard library takes the first one, which is no overflow, and then leaves the place.
        "segv" => without_core(|| {
            loop {
                signal_to_self(Signal::SEGV);
                thread::yield_now();
            }
        }),
        "kill" => signal_to_self(Signal::KILL),
        "term" => signal_to_self(Signal::TERM),
        _ => panic!("no such death: {how}"),
    }
    park();
}

/// A dump takes its time, for which the descriptors stay open.
fn without_core(die: impl FnOnce()) {
    setrlimit(Resource::Core, Rlimit { current: Some(0), ..getrlimit(Resource::Core) }).unwrap();
    die();
}

fn signal_to_self(signal: Signal) {
    kill_process(getpid(), signal).unwrap();
}

/// Collects `n` calls, answers those with a number below `k`, and is killed.
fn answer_some(
    all: &mut Vec<(usize, Responder<usize>)>,
    (number, k, n): (usize, usize, usize),
    answer: Responder<usize>,
) {
    all.push((number, answer));
    if all.len() < n {
        return;
    }
    wait_until_others_sleep();
    let answered = all.extract_if(.., |(number, _)| *number < k);
    answered.for_each(|(number, answer)| answer.answer(number));
    signal_to_self(Signal::KILL);
    park();
}

/// A thread that is sending takes along what others have to send, and may be slow. While all others
/// sleep, whatever this one sends has left when it says so.
fn wait_until_others_sleep() {
    let this = gettid().as_raw_nonzero().to_string();
    let sleeps = |task: PathBuf| {
        let stat = fs::read_to_string(task.join("stat")).unwrap_or_default();
        // The state comes after the name, which may contain anything.
        task.ends_with(&this) || stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('S'))
    };
    while !fs::read_dir("/proc/self/task").unwrap().all(|task| sleeps(task.unwrap().path())) {
        thread::yield_now();
    }
}

/// Starts a process that inherits every descriptor of this one, and says which.
fn leave_grandchild() -> io::Result<u32> {
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    let numbers: Vec<i32> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    // The one that listed them is gone again, and has no copy.
    let copies =
        numbers.into_iter().filter_map(|number| pidfd_getfd(&this, number, PidfdGetfdFlags::empty()).ok());
    let copies: Vec<OwnedFd> = copies.collect();
    copies.iter().try_for_each(|copy| fcntl_setfd(copy, FdFlags::empty()))?;
    let mut sleeper = Command::new("/bin/sleep");
    sleeper.arg("60").stdin(Stdio::null()).stdout(Stdio::null());
    Ok(sleeper.spawn()?.id())
}

pub(super) fn park() -> ! {
    loop {
        thread::park();
    }
}

/// How many lines are written where there is no link any more.
pub(super) const WRITTEN: usize = 2000;
/// Names the file that tells the first start of a program from the others.
pub(crate) const MARK: &str = "NAPE_TEST_MARK";
const VERB: &str = "NAPE_TEST_VERB";
const WIRE: &str = "NAPE_TEST_WIRE";
