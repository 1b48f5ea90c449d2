//! What becomes of calls within one process when the system gives no thread for them: who brings one runs it.

use super::*;
use crate::wire::Payload;

/// Two ends of one process whose threads have gone, and that get no others until they are dropped.
struct Alone {
    head: Head,
    neck: Neck,
    name: &'static str,
}

impl Alone {
    fn new(name: &'static str, ours: Api, theirs: Api) -> Alone {
        let config = || Config::new().name(name).grace(SOON / 5);
        let neck = Neck::builder().config(config()).serve(theirs);
        let (head, neck) = Head::builder().config(config()).serve(ours).in_process_with(neck).unwrap();
        let neck = neck.start();
        assert_eq!(head.wait_open(LONG), LinkState::Open);
        within(LONG, "the threads of the start are gone", || head.n_threads() == 0 && neck.n_threads() == 0);
        starve(name);
        Alone { head, neck, name }
    }

    /// What `run` gives, which is to end with no thread but its own.
    #[track_caller]
    fn ends<T: Send + 'static>(&self, run: impl FnOnce(&Endpoint) -> T + Send + 'static) -> T {
        let (end, (tell, told)) = (self.head.endpoint().clone(), mpsc::channel());
        thread::spawn(move || tell.send(run(&end)));
        let Ok(end) = told.recv_timeout(LONG / 3) else {
            eprintln!("{} {}", self.head.hang_report(), self.neck.hang_report());
            panic!("it hangs");
        };
        end
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        feed(self.name);
    }
}

/// Handlers that call each other to and fro until there is no number left, with one worker a side.
fn to_and_fro(name: &'static str) -> Alone {
    let api = |own: &str, other: &'static str| {
        let down = move |cx: &Context, n: u64| -> Result<u64, Fault> {
            match n {
                0 => Ok(0),
                _ => Ok(1 + cx.api(other).action("down", n - 1).timeout(Timeout::Never).call::<u64>()?),
            }
        };
        Api::new(own).workers(1).handle("down", down).unwrap()
    };
    Alone::new(name, api("b", "a"), api("a", "b"))
}

/// Red when a call that comes back is left to the thread that blocks for its ancestor, while that thread runs the handler
/// which waits for it.
#[test]
fn p_09_calls_within_calls_complete_in_process_without_a_thread() {
    watched(|| {
        for n in [1, 2, 64] {
            let call = move |end: &Endpoint| end.api("a").action("down", n).timeout(Timeout::Never).call();
            let end: Result<u64, CallError> = to_and_fro("alone-call").ends(call);
            assert_eq!(end.unwrap(), n);
        }
    });
}

/// Red when a handler is run in the midst of handing over: what it leads to at that end is queued behind itself.
#[test]
fn p_09_started_calls_within_calls_complete_in_process_without_a_thread() {
    watched(|| {
        let start = |end: &Endpoint| {
            end.api("a").action("down", 4u64).timeout(Timeout::Never).start::<u64>().unwrap().wait()
        };
        assert_eq!(to_and_fro("alone-start").ends(start).unwrap(), 4);
    });
}

/// The same for a catch-all that is asked, as the other side is.
#[test]
fn p_09_calls_that_a_predicate_takes_complete_in_process_without_a_thread() {
    watched(|| {
        let api = |own: &str, other: &'static str| {
            let down = move |cx: &Context, _: Payload| -> Result<Payload, Fault> {
                let (_, n) = cx.path().as_str().rsplit_once('.').unwrap();
                match n.parse::<u64>().unwrap() {
                    0 => {}
                    n => cx.api(other).action(&(n - 1).to_string(), ()).timeout(Timeout::Never).call()?,
                }
                Ok(Payload::from_bytes(Vec::new()))
            };
            Api::new(own).workers(1).catch_some("", |_| true, down).unwrap()
        };
        let alone = Alone::new("alone-asked", api("b", "a"), api("a", "b"));
        let call = |end: &Endpoint| end.api("a").action("4", ()).timeout(Timeout::Never).call::<()>();
        alone.ends(call).unwrap();
    });
}

/// Red when a handler for which there is no thread runs in the midst of handing over.
#[test]
fn p_16_a_handler_for_which_there_is_no_thread_holds_up_no_call_of_others() {
    watched(|| {
        let ((tell, has_begun), (go, may_end)) = (mpsc::channel(), mpsc::channel::<()>());
        let may_end = std::sync::Mutex::new(may_end);
        let long = move |_: &Context, (): ()| {
            tell.send(()).unwrap();
            let _ = may_end.lock().unwrap().recv_timeout(2 * LONG);
            Ok::<_, Fault>(())
        };
        let alone = Alone::new("alone-beside", api("b"), api("a").handle("long", long).unwrap());
        let end = alone.head.endpoint().clone();
        let fires = thread::spawn(move || end.api("a").action("long", ()).fire());
        has_begun.recv_timeout(LONG).unwrap();
        let echo = |end: &Endpoint| end.api("a").action("echo", 1u64).timeout(LONG).call::<u64>();
        let beside = alone.ends(echo);
        go.send(()).unwrap();
        fires.join().unwrap().unwrap();
        assert_eq!(beside.unwrap(), 1);
    });
}
