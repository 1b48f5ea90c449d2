//! Calls that end together where the system gives no thread for what follows from their ends.

use std::{
    future::Future,
    pin::pin,
    task::{Context as Task, Wake, Waker},
};

use super::*;
use crate::api::{LayerCall, Leave, Retry};

/// Says whether the other call has ended, and panics.
struct Looks(crossbeam_channel::Receiver<()>, mpsc::Sender<bool>);

impl Wake for Looks {
    fn wake(self: Arc<Looks>) {
        self.1.send(self.0.try_recv().is_ok()).unwrap();
        std::panic::resume_unwind(Box::new("a panic that is a part of the test"));
    }
}

/// Red when what follows from the end of one comes before the ends of the others, or costs them anything.
#[test]
fn p_04_calls_that_end_together_do_so_where_there_is_no_thread_for_what_follows() {
    watched(|| {
        let names = ["unfollowed-a", "unfollowed-b", "unfollowed-c", "unfollowed-d"];
        let ends = ["unfollowed-a-ends", "unfollowed-b-ends", "unfollowed-c-ends", "unfollowed-d-ends"];
        for ((pair, name), ends) in PAIRS.into_iter().zip(names).zip(ends) {
            let (ours, theirs) = pair();
            let head = Head::builder().config(Config::new().name(name)).over(ours).unwrap();
            let _neck = Neck::builder().serve(api("a")).over(theirs).unwrap().start();
            let far = Duration::from_secs(3000);
            let it =
                head.api("a").retry(Retry::new().pauses(far, far).when(|_| true)).timeout(Timeout::Never);
            let layered = it.clone().layer(|_: &mut LayerCall<'_>| {
                Ok(Leave::with(|_| std::panic::resume_unwind(Box::new("a panic that is a part of the test"))))
            });
            let start =
                |it: &crate::api::ApiHandle| it.action("not-there", ()).retry_safe().start::<()>().unwrap();
            let seen = start(&layered);
            let mut calls = [start(&it), start(&it)];
            let (tell, told) = mpsc::channel();
            let ready = calls.each_ref().map(AsyncResult::ready);
            for (call, other) in calls.iter_mut().zip(ready.into_iter().rev()) {
                let waker = Waker::from(Arc::new(Looks(other, tell.clone())));
                assert!(pin!(call).poll(&mut Task::from_waker(&waker)).is_pending());
            }
            within(LONG, name, || head.under_way().0 == 0 && head.hang_report().callers.len() == 3);
            starve(ends);
            head.close();
            (0..2).for_each(|_| assert!(told.recv_timeout(LONG).unwrap(), "{name}: the other has not ended"));
            for call in calls {
                assert!(matches!(call.wait(), Err(CallError::Closed { .. })), "{name}");
            }
            assert!(matches!(seen.wait(), Err(CallError::Fault(_))), "{name}");
            feed(ends);
        }
    });
}
