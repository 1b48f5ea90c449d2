//! Subscriptions to a child that is started again when it crashes.

use std::{
    env, fs, iter,
    process::Command,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use nape::{
    Api, AsyncResult, Backlog, CallError, CloseReason, Codec, Config, Context, Fault, Head, Missed, Neck,
    Rejection, Restarts, Subscription, Supervisor, Timeout, Topic, Transition, Wire,
};

use super::victim;
use crate::{
    support::HANG,
    tools::{Gate, until},
};

on_every_wire_to_a_child! {
    p_30_a_subscription_is_made_again,
    p_30_many_subscriptions_are_made_again_by_few_threads,
    p_30_a_subscription_by_callback_is_made_again,
    p_30_callbacks_that_block_hold_up_no_other_subscription,
    p_30_what_came_before_a_crash_is_read_first,
    p_30_what_came_before_a_crash_is_read_as_it_was_sent,
    p_30_a_subscription_ends_when_the_supervisor_gives_up,
    p_30_a_subscription_that_is_refused_later_says_so,
    p_30_a_subscription_that_was_dropped_is_not_made_again,
    p_30_whoever_waits_is_told_where_a_hook_drops_the_supervisor,
    p_30_whoever_waits_is_told_while_a_hook_holds_the_supervisor_up,
}

/// The child: publishes what it is told to. With a file to make, it has the topic only the first time.
pub(super) fn publish() {
    let numbers = Topic::<u64>::new();
    let ours = numbers.clone();
    let say = move |_: &Context, n: u64| Ok::<_, Fault>(ours.publish(n).taken as u64);
    let mut api = Api::new("news").handle("say", say).unwrap();
    if env::var(ONCE).ok().is_none_or(|mark| fs::File::create_new(mark).is_ok()) {
        api = api.topic("numbers", &numbers).unwrap();
    }
    // One whose next start is of another version, which speaks something else.
    let speaks = match env::var(CHANGES).is_ok_and(|mark| fs::File::create_new(mark).is_err()) {
        true => Codec::Json,
        false => Codec::Binary,
    };
    let neck = Neck::builder().config(Config::new().codec(speaks)).serve(api).from_env().unwrap();
    neck.run().unwrap();
}

fn supervised(wire: Wire, command: Command) -> Supervisor {
    let restarts = Restarts::on_crash().limit(100, HANG);
    let restarts = restarts.backoff(Duration::from_millis(1), Duration::from_millis(1));
    Head::builder().wire(wire).supervise(restarts).spawn(command).unwrap()
}

/// Has a number published, and says how many subscriptions took it.
fn say(supervisor: &Supervisor, n: u64) -> u64 {
    supervisor.api("news").action("say", n).timeout(HANG).call().unwrap()
}

fn subscribe(supervisor: &Supervisor, backlog: Backlog) -> Subscription<u64> {
    supervisor.subscribe("news.numbers", backlog).unwrap()
}

fn next(news: &mut Subscription<u64>) -> Result<u64, Missed> {
    news.next_timeout(HANG).map(|item| item.expect("it hangs"))
}

/// Red when nobody is asked again, or when the numbers of the next start are taken for late ones.
fn p_30_a_subscription_is_made_again(wire: Wire) {
    let supervisor = supervised(wire, victim::command("publish"));
    for backlog in [Backlog::drop_oldest(8), Backlog::drop_newest(8), Backlog::block(8, HANG)] {
        let mut news = subscribe(&supervisor, backlog);
        for round in 0..3 {
            for n in 0..20 {
                assert_eq!(say(&supervisor, 100 * round + n), 1);
                assert_eq!(next(&mut news).unwrap(), 100 * round + n, "{backlog:?}");
            }
            supervisor.kill();
            // From here on what is published comes.
            assert!(matches!(next(&mut news), Err(Missed::Restarted)), "{backlog:?}");
        }
    }
}

/// Red when each of them has a thread that asks for it.
fn p_30_many_subscriptions_are_made_again_by_few_threads(wire: Wire) {
    let supervisor = supervised(wire, victim::command("publish"));
    let mut all: Vec<_> = (0..60).map(|_| subscribe(&supervisor, Backlog::default())).collect();
    supervisor.kill();
    for news in &mut all {
        assert!(matches!(next(news), Err(Missed::Restarted)));
    }
    // A thread that has done something stays for a while.
    assert!(supervisor.n_threads() <= 16, "{} threads", supervisor.n_threads());
    assert_eq!(say(&supervisor, 1), 60);
    all.iter_mut().for_each(|news| assert_eq!(next(news).unwrap(), 1));
}

fn p_30_a_subscription_by_callback_is_made_again(wire: Wire) {
    let supervisor = supervised(wire, victim::command("publish"));
    let (sender, heard) = mpsc::channel();
    let _listening = subscribe(&supervisor, Backlog::default()).on(move |news| drop(sender.send(news)));
    for n in 0..3 {
        assert_eq!(say(&supervisor, n), 1);
        assert_eq!(heard.recv_timeout(HANG).unwrap().unwrap(), n);
        supervisor.kill();
        assert!(matches!(heard.recv_timeout(HANG).unwrap(), Err(Missed::Restarted)));
    }
}

/// Red when a thread that makes subscriptions again, or tells all of the end, runs a callback.
fn p_30_callbacks_that_block_hold_up_no_other_subscription(wire: Wire) {
    let gate = Gate::default();
    let supervisor = supervised(wire, victim::command("publish"));
    let _opens = gate.opens_at_the_end();
    let blocking: Vec<_> = (0..8)
        .map(|_| {
            let gate = gate.clone();
            subscribe(&supervisor, Backlog::latest()).on(move |news| {
                if news.is_err() {
                    gate.pass()
                }
            })
        })
        .collect();
    let mut others: Vec<_> = (0..6).map(|_| subscribe(&supervisor, Backlog::default())).collect();
    supervisor.kill();
    for news in &mut others {
        assert!(matches!(next(news), Err(Missed::Restarted)));
    }
    until("all are asked for again", || say(&supervisor, 1) == 14);
    let end = thread::spawn(move || supervisor.stop());
    for news in &mut others {
        let end = iter::from_fn(|| Some(next(news))).find_map(Result::err);
        assert!(matches!(end, Some(Missed::Closed(_))), "{end:?}");
    }
    gate.open();
    end.join().unwrap();
    drop(blocking);
}

/// Red when what is left takes the places of what comes, or goes.
fn p_30_what_came_before_a_crash_is_read_first(wire: Wire) {
    let supervisor = supervised(wire, victim::command("publish"));
    let mut news = subscribe(&supervisor, Backlog::drop_newest(2));
    let (one, two, three, four) = (1, 2, 3, 4);
    assert_eq!((say(&supervisor, one), say(&supervisor, two)), (1, 1));
    // Both are here: what came in order is answered in order.
    supervisor.kill();
    until("it runs again", || supervisor.generation() == 2);
    until("it has subscribed again", || say(&supervisor, three) == 1);
    assert_eq!(say(&supervisor, four), 1);
    assert_eq!((next(&mut news).unwrap(), next(&mut news).unwrap()), (one, two));
    assert!(matches!(next(&mut news), Err(Missed::Restarted)));
    assert_eq!((next(&mut news).unwrap(), next(&mut news).unwrap()), (three, four));
}

/// Red when what was left is decoded as what the next link speaks.
fn p_30_what_came_before_a_crash_is_read_as_it_was_sent(wire: Wire) {
    if cfg!(not(feature = "json")) {
        return;
    }
    let mark = env::temp_dir().join(format!("nape-changes-{}-{wire:?}", std::process::id()));
    let mut command = victim::command("publish");
    command.env(CHANGES, &mark);
    let supervisor = supervised(wire, command);
    let mut news = subscribe(&supervisor, Backlog::default());
    assert_eq!((say(&supervisor, 1000), say(&supervisor, 2000)), (1, 1));
    supervisor.kill();
    until("it has subscribed again", || supervisor.generation() == 2 && say(&supervisor, 3000) == 1);
    fs::remove_file(mark).unwrap();
    assert_eq!((next(&mut news).unwrap(), next(&mut news).unwrap()), (1000, 2000));
    assert!(matches!(next(&mut news), Err(Missed::Restarted)));
    assert_eq!(next(&mut news).unwrap(), 3000);
}

/// Red when nobody tells the subscriptions that no other start comes.
fn p_30_a_subscription_ends_when_the_supervisor_gives_up(wire: Wire) {
    let restarts = Restarts::on_crash().limit(0, HANG);
    let supervisor =
        Head::builder().wire(wire).supervise(restarts).spawn(victim::command("publish")).unwrap();
    let mut news = subscribe(&supervisor, Backlog::default());
    supervisor.kill();
    let end = next(&mut news).unwrap_err();
    let Missed::Closed(reason) = &end else { panic!("{end:?}") };
    assert!(matches!(**reason, CloseReason::GaveUp(_)), "{reason:?}");
    assert!(matches!(supervisor.last_transition(), Transition::GaveUp(_)));
    assert!(matches!(news.next(), Some(Err(Missed::Closed(_)))));
    assert!(news.next().is_none());
}

/// Red when a subscription that is refused waits for ever.
fn p_30_a_subscription_that_is_refused_later_says_so(wire: Wire) {
    let mark = env::temp_dir().join(format!("nape-once-{}-{wire:?}", std::process::id()));
    let mut command = victim::command("publish");
    command.env(ONCE, &mark);
    let supervisor = supervised(wire, command);
    let mut news = subscribe(&supervisor, Backlog::default());
    supervisor.kill();
    let end = next(&mut news).unwrap_err();
    fs::remove_file(mark).unwrap();
    let Missed::Refused(why) = end else { panic!("{end:?}") };
    assert!(matches!(*why, CallError::Rejected(Rejection::NoHandler { .. })), "{why:?}");
    assert!(matches!(news.next(), Some(Err(Missed::Refused(_)))));
    assert!(news.next().is_none());
}

fn p_30_a_subscription_that_was_dropped_is_not_made_again(wire: Wire) {
    let supervisor = supervised(wire, victim::command("publish"));
    let news = subscribe(&supervisor, Backlog::default());
    let mut other = subscribe(&supervisor, Backlog::default());
    supervisor.kill();
    drop(news);
    assert!(matches!(next(&mut other), Err(Missed::Restarted)));
    until("one is left", || say(&supervisor, 7) == 1);
    assert_eq!(next(&mut other).unwrap(), 7);
}

/// A call that waits for the next start, however long that takes.
fn wait_for_the_next(supervisor: &Supervisor) -> AsyncResult<u64> {
    supervisor.api("news").action("say", 1u64).timeout(Timeout::Never).start().unwrap()
}

#[track_caller]
fn is_told(news: &mut Subscription<u64>, mut call: AsyncResult<u64>) {
    let end = next(news).unwrap_err();
    assert!(matches!(&end, Missed::Closed(reason) if matches!(**reason, CloseReason::Local)), "{end:?}");
    let end = call.wait_timeout(HANG).unwrap_err();
    assert!(matches!(end.close_reason(), Some(CloseReason::Local)), "{end:?}");
}

/// Red when what was subscribed to is told by the thread that comes too late for it.
fn p_30_whoever_waits_is_told_where_a_hook_drops_the_supervisor(wire: Wire) {
    let supervisor = supervised(wire, victim::command("publish"));
    let mut news = subscribe(&supervisor, Backlog::default());
    let place: Arc<Mutex<Option<Supervisor>>> = Arc::default();
    let (theirs, (sender, waiting)) = (place.clone(), mpsc::channel());
    supervisor.on_transition(move |transition| {
        if let Transition::Crashed(_) = transition
            && let Some(supervisor) = theirs.lock().unwrap().take()
        {
            sender.send(wait_for_the_next(&supervisor)).unwrap();
            drop(supervisor);
        }
    });
    let mut place = place.lock().unwrap();
    place.insert(supervisor).kill();
    drop(place);
    let call = waiting.recv_timeout(HANG).unwrap();
    is_told(&mut news, call);
}

/// Red when it is left to the thread that is inside the hook.
fn p_30_whoever_waits_is_told_while_a_hook_holds_the_supervisor_up(wire: Wire) {
    for stops in [true, false] {
        let gate = Gate::default();
        let held = gate.clone();
        let hold = move |transition: &Transition| {
            if matches!(transition, Transition::Crashed(_)) {
                held.pass();
            }
        };
        let config = Config::new().grace(Duration::from_millis(10));
        let builder = Head::builder().wire(wire).config(config).supervise(Restarts::on_crash());
        let supervisor = builder.on_transition(hold).spawn(victim::command("publish")).unwrap();
        let mut news = subscribe(&supervisor, Backlog::default());
        supervisor.kill();
        gate.await_waiting(1);
        let call = wait_for_the_next(&supervisor);
        let ends = thread::spawn(move || {
            if stops {
                supervisor.stop();
            }
            drop(supervisor);
        });
        is_told(&mut news, call);
        // It does not wait for the hook for ever.
        ends.join().unwrap();
        gate.open();
    }
}

const ONCE: &str = "NAPE_PUBLISH_ONCE";
const CHANGES: &str = "NAPE_PUBLISH_CHANGES";
