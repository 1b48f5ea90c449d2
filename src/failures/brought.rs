//! Who runs an inline handler within a process: the thread that has brought its call.

use super::*;

/// Red when whoever hands the call of another thread over runs its handler, too.
#[test]
fn p_04_within_a_process_nobody_waits_for_the_inline_handler_of_another_thread() {
    watched(|| {
        let (begin, begun) = mpsc::channel();
        let (go_on, goes_on) = mpsc::channel::<()>();
        let goes_on = std::sync::Mutex::new(goes_on);
        let stays = move |_: &Context, (): ()| {
            begin.send(thread::current().id()).unwrap();
            goes_on.lock().unwrap().recv().unwrap();
            Ok::<_, Fault>(())
        };
        let runs = |_: &Context, (): ()| Ok::<_, Fault>(format!("{:?}", thread::current().id()));
        let api = Api::new("a").inline().handle("stays", stays).unwrap().handle("runs", runs).unwrap();
        let (head, neck) = Head::in_process().unwrap();
        let neck = neck.serve(api).unwrap().start();
        assert_eq!(head.wait_open(LONG), LinkState::Open);
        let link = head.endpoint().0.link().unwrap();
        let a = head.api("a");
        // As if another thread, which hands messages over, were in the midst of that.
        link.hold_back(true);
        let theirs = a.clone();
        let start = move || theirs.action("stays", ()).timeout(LONG).start::<()>().unwrap();
        let stuck = thread::spawn(start).join().unwrap();
        link.hold_back(false);
        let ran = a.action("runs", ()).timeout(LONG).start::<String>().unwrap();
        assert!(ran.is_done(), "a handler has run when what brings its call returns");
        assert_eq!(ran.wait().unwrap(), format!("{:?}", thread::current().id()));
        assert_ne!(begun.recv_timeout(LONG).unwrap(), thread::current().id());
        go_on.send(()).unwrap();
        stuck.wait().unwrap();
        drop((head, neck));
    });
}

/// Values of events that nobody takes, which say on which thread they go.
struct Tells(mpsc::Sender<thread::ThreadId>);

impl serde::Serialize for Tells {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_unit()
    }
}

impl Drop for Tells {
    fn drop(&mut self) {
        let _ = self.0.send(thread::current().id());
    }
}

/// Red when each goes by a thread of its own: there is no end of them where they are slow.
#[test]
fn p_15_what_nobody_takes_goes_by_whoever_hands_it_over() {
    watched(|| {
        let (head, neck) = Head::in_process().unwrap();
        let neck = neck.serve(Api::new("a")).unwrap().start();
        assert_eq!(head.wait_open(LONG), LinkState::Open);
        let link = head.endpoint().0.link().unwrap();
        let (tell, told) = mpsc::channel();
        link.hold_back(true);
        let (a, theirs) = (head.api("a"), tell.clone());
        let fire = move || (0..50).for_each(|_| a.action("nothing", Tells(theirs.clone())).fire().unwrap());
        thread::spawn(fire).join().unwrap();
        link.hold_back(false);
        head.api("a").action("nothing", Tells(tell)).fire().unwrap();
        let all: Vec<_> = told.iter().collect();
        assert_eq!(all, vec![thread::current().id(); 51]);
        drop((head, neck));
    });
}
