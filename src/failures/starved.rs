//! What a thread that reads is left with when the system gives no other thread for it.

use super::*;

/// Red when the thread that reads runs it while it does: nobody else can read then.
#[test]
fn p_16_a_callback_for_which_there_is_no_thread_keeps_nobody_from_reading() {
    watched(|| {
        let names = ["no-thread-e", "no-thread-f", "no-thread-g", "no-thread-h"];
        for (pair, name) in PAIRS.into_iter().zip(names) {
            let (ours, theirs) = pair();
            let config = Config::new().name(name).grace(Duration::from_millis(100));
            let head = Head::builder().config(config).over(ours).unwrap();
            let neck = Neck::builder().serve(api("a")).over(theirs).unwrap().start();
            assert_eq!(head.wait_open(LONG), LinkState::Open);
            // A thread leads, and is to have no other beside it.
            within(LONG, name, || head.n_threads() == 1);
            starve(name);
            let ((tell, has_begun), (go, may_end)) = (mpsc::channel(), mpsc::channel::<()>());
            let callback = move |end: Result<u64, CallError>| {
                tell.send(end.unwrap()).unwrap();
                let _ = may_end.recv_timeout(2 * LONG);
            };
            head.api("a").action("echo", 1u64).then(callback).unwrap();
            assert_eq!(has_begun.recv_timeout(LONG).unwrap(), 1, "{name}");
            let beside = head.api("a").action("echo", 2u64).timeout(LONG).call::<u64>();
            assert_eq!(beside.unwrap(), 2, "{name}");
            go.send(()).unwrap();
            feed(name);
            drop((head, neck));
        }
    });
}

/// A caller reads for longer than a thread without a job stays. Red when the last one of the link ends meanwhile: nobody
/// reads any more then, and who calls from the other side waits until his time is over.
#[test]
fn p_20_a_link_is_read_where_its_crew_gets_no_more_threads() {
    watched(|| {
        let names = ["unled-a", "unled-b", "unled-c", "unled-d"];
        let links = PAIRS.into_iter().zip(names).map(|(pair, name)| {
            let (ours, theirs) = pair();
            let config = Config::new().name(name).grace(Duration::from_millis(100));
            let head = Head::builder().config(config).serve(api("b")).over(ours).unwrap();
            let neck = Neck::builder().serve(api("a")).over(theirs).unwrap().start();
            assert_eq!(head.wait_open(LONG), LinkState::Open);
            (name, head, neck)
        });
        let read = |(name, head, neck): (&'static str, Head, Neck)| {
            thread::spawn(move || {
                (0..50).for_each(|n| assert_eq!(head.api("a").action("echo", n).call::<u64>().unwrap(), n));
                starve(name);
                let late = head.api("a").action("never", ()).timeout(6 * SOON).call::<()>();
                assert!(matches!(late, Err(CallError::TimedOut { .. })), "{name}: {late:?}");
                let theirs = neck.api("b").action("echo", 7u64).timeout(LONG).call::<u64>();
                feed(name);
                assert_eq!(theirs.unwrap(), 7, "{name}");
                drop((head, neck));
            })
        };
        let reads: Vec<_> = links.map(read).collect();
        let ends: Vec<_> = reads.into_iter().map(thread::JoinHandle::join).collect();
        assert!(ends.iter().all(Result::is_ok), "what it says stands above");
    });
}

/// Red when whoever read last counts as the reader once the link is over: what there is no thread for is left to it, and
/// it never looks at that.
#[test]
fn p_16_whoever_read_to_the_end_of_a_link_runs_what_there_is_no_thread_for() {
    watched(|| {
        let names = ["end-read-a", "end-read-b", "end-read-c", "end-read-d"];
        for (pair, name) in PAIRS.into_iter().zip(names) {
            let (ours, theirs) = pair();
            let config = Config::new().name(name).grace(Duration::from_millis(100));
            let head = Head::builder().config(config).over(ours).unwrap();
            let neck = Neck::builder().serve(api("a")).over(theirs).unwrap().start();
            assert_eq!(head.wait_open(LONG), LinkState::Open);
            (0..50).for_each(|n| assert_eq!(head.api("a").action("echo", n).call::<u64>().unwrap(), n));
            let end = neck.endpoint().clone();
            let closes = thread::spawn(move || {
                within(LONG, name, || end.under_way().1 == 1);
                // Whoever reads for that call is likely to sleep in the transport by now.
                thread::sleep(SOON / 5);
                drop(neck);
            });
            let end = head.api("a").action("never", ()).timeout(Timeout::Never).call::<()>();
            assert!(matches!(end, Err(CallError::Closed { .. })), "{end:?}");
            closes.join().unwrap();
            within(LONG, "the crew has gone", || head.n_threads() == 0);
            starve(name);
            let (tell, told) = mpsc::channel();
            head.on_state(move |state| _ = tell.send(state));
            // It is told of all states so far, one after the other.
            let state = told.recv_timeout(LONG);
            feed(name);
            assert!(state.is_ok(), "{name}");
        }
    });
}

/// Red when a listener for which there is no thread is run by the thread that reads, while it does.
#[test]
fn p_16_a_listener_for_which_there_is_no_thread_keeps_nobody_from_reading() {
    watched(|| {
        let names = ["unheard-a", "unheard-b", "unheard-c", "unheard-d"];
        for (pair, name) in PAIRS.into_iter().zip(names) {
            let (ours, theirs) = pair();
            let config = Config::new().name(name).grace(Duration::from_millis(100));
            let head = Head::builder().config(config).over(ours).unwrap();
            within(LONG, name, || head.n_threads() == 1);
            // It leads by then, as a rule.
            thread::sleep(SOON / 5);
            let ((tell, has_begun), (go, may_end)) = (mpsc::channel(), mpsc::channel::<()>());
            let may_end = std::sync::Mutex::new(may_end);
            head.on_state(move |state| {
                if state == LinkState::Open {
                    tell.send(()).unwrap();
                    let _ = may_end.lock().unwrap().recv_timeout(2 * LONG);
                }
            });
            starve(name);
            let neck = Neck::builder().serve(api("a")).over(theirs).unwrap().start();
            has_begun.recv_timeout(LONG).unwrap();
            let beside = head.api("a").action("echo", 2u64).timeout(LONG / 3).call::<u64>();
            go.send(()).unwrap();
            feed(name);
            assert_eq!(beside.unwrap(), 2, "{name}");
            drop((head, neck));
        }
    });
}

/// Two calls that nobody answers, the first with a callback that waits for the second. With what the second ended in, as
/// the callback is told.
fn one_waits_for_the_other(head: &Head, timeout: Timeout) -> mpsc::Receiver<Result<(), CallError>> {
    let (give, given) = mpsc::channel::<AsyncResult<()>>();
    let (tell, told) = mpsc::channel();
    let waits = move |_: Result<(), CallError>| {
        let end = given.recv().unwrap().wait();
        let _ = tell.send(end);
    };
    let never = || head.api("a").action("never", ()).timeout(timeout);
    never().then(waits).unwrap();
    give.send(never().start().unwrap()).unwrap();
    told
}

fn near(name: &str) -> (Head, crate::neck::Neck) {
    let config = |name: &str| Config::new().name(name).grace(Duration::from_millis(100));
    let neck = Neck::builder().config(config("other"));
    let (head, neck) = Head::builder().config(config(name)).in_process_with(neck).unwrap();
    let neck = neck.serve(api("a")).unwrap().start();
    assert_eq!(head.wait_open(LONG), LinkState::Open);
    (head, neck)
}

/// There is no thread for the callback. Red when whoever ends the link runs it before the other calls have ended.
#[test]
fn p_24_a_callback_may_wait_for_another_call_that_ends_with_its_link() {
    watched(|| {
        const NAME: &str = "ends-with";
        let (head, neck) = near(NAME);
        let told = one_waits_for_the_other(&head, Timeout::Never);
        // Threads of the start go, and no others come.
        within(LONG, NAME, || head.n_threads() == 0);
        starve(NAME);
        let (gone, is_gone) = mpsc::channel();
        thread::spawn(move || {
            drop(head);
            let _ = gone.send(());
        });
        let (dropped, end) = (is_gone.recv_timeout(LONG), told.recv_timeout(LONG));
        feed(NAME);
        drop(neck);
        assert!(dropped.is_ok() && end.is_ok(), "dropped: {dropped:?}, told: {end:?}");
    });
}

/// The same where the time of both is over.
#[test]
fn p_04_a_callback_may_wait_for_another_call_that_is_late_with_it() {
    watched(|| {
        const NAME: &str = "late-with";
        let (head, neck) = near(NAME);
        within(LONG, NAME, || head.n_threads() == 0);
        starve(NAME);
        // Both are late by the time that the keeper looks.
        do_once("a keeper that ends calls", NAME, || thread::sleep(SOON));
        let told = one_waits_for_the_other(&head, Timeout::After(SOON / 5));
        let end = told.recv_timeout(LONG);
        feed(NAME);
        if end.is_err() {
            // Its keeper waits for itself, and so would this.
            std::mem::forget((head, neck));
        }
        assert!(matches!(end, Ok(Err(CallError::TimedOut { .. }))), "told: {end:?}");
    });
}

/// The same where the handler whose calls they are is cancelled: the one that waits is called before the other is
/// cancelled.
#[test]
fn p_04_a_callback_may_wait_for_another_call_of_the_handler_that_is_cancelled() {
    watched(|| {
        const NAME: &str = "cancelled-with";
        let (tell, told) = mpsc::channel();
        let calls = move |cx: Context, (): (), answer: Responder<()>| {
            let (give, given) = mpsc::channel::<AsyncResult<()>>();
            let (say, said) = mpsc::channel();
            let never = || cx.api("a").action("never", ()).timeout(Timeout::Never);
            never()
                .then(move |_: Result<(), CallError>| say.send(given.recv().unwrap().wait()).unwrap())
                .unwrap();
            give.send(never().start().unwrap()).unwrap();
            tell.send((said, answer)).unwrap();
        };
        let config = |name: &str| Config::new().name(name).grace(Duration::from_millis(100));
        let neck = Neck::builder().config(config(NAME));
        let (head, neck) = Head::builder().config(config("other")).in_process_with(neck).unwrap();
        head.attach(api("a")).unwrap();
        let neck = neck.serve(Api::new("b").deferred("calls", calls).unwrap()).unwrap().start();
        assert_eq!(head.wait_open(LONG), LinkState::Open);
        let call = head.api("b").action("calls", ()).timeout(Timeout::Never).start::<()>().unwrap();
        let (said, answer) = told.recv_timeout(LONG).unwrap();
        within(LONG, NAME, || neck.n_threads() == 0);
        starve(NAME);
        thread::spawn(move || call.cancel());
        let end = said.recv_timeout(LONG);
        feed(NAME);
        drop((head, neck, answer));
        assert!(matches!(end, Ok(Err(CallError::Cancelled))), "{end:?}");
    });
}

/// Red when whoever ends a call, or its link, asks again for what it has just not got: to be told so takes its time.
#[test]
fn p_20_a_thread_for_a_callback_is_asked_for_once() {
    watched(|| {
        for (name, timeout) in [("once-late", Timeout::After(SOON / 5)), ("once-closed", Timeout::Never)] {
            let (head, neck) = near(name);
            within(LONG, name, || head.n_threads() == 0);
            starve(name);
            let (tell, told) = mpsc::channel();
            let never = head.api("a").action("never", ()).timeout(timeout);
            never.then(move |end: Result<(), CallError>| tell.send(end).unwrap()).unwrap();
            if timeout == Timeout::Never {
                drop(neck);
            }
            let end = told.recv_timeout(LONG);
            let asked = feed(name);
            assert!(end.is_ok(), "{name}");
            assert_eq!(asked, 1, "{name}");
        }
    });
}

/// Something finds no thread while the last one of the crew has the role and is about to read. Red when that sleeps over
/// what it is to run.
#[test]
fn p_20_a_thread_that_leads_does_not_sleep_over_what_it_is_to_run() {
    watched(|| {
        let names = ["leads-a", "leads-b", "leads-c", "leads-d"];
        for (pair, name) in PAIRS.into_iter().zip(names) {
            let (ours, theirs) = pair();
            let config = Config::new().name(name).grace(Duration::from_millis(100));
            let head = Head::builder().config(config).serve(api("b")).over(ours).unwrap();
            let neck = Neck::builder().serve(api("a")).over(theirs).unwrap().start();
            assert_eq!(head.wait_open(LONG), LinkState::Open);
            within(LONG, name, || head.n_threads() == 1);
            starve(name);
            let ((tell, told), link) = (mpsc::channel(), head.endpoint().0.link().unwrap());
            do_once("a thread that leads", name, move || {
                link.submit(Box::new(move || tell.send(()).unwrap()));
            });
            assert_eq!(neck.api("b").action("echo", 7u64).timeout(LONG).call::<u64>().unwrap(), 7, "{name}");
            let is_run = told.recv_timeout(LONG / 3);
            feed(name);
            drop((head, neck));
            assert!(is_run.is_ok(), "{name}: {is_run:?}");
        }
    });
}
