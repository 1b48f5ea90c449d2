//! What becomes of the calls of one packet, whatever one of them waits for.

use std::{thread, time::Duration};

use crossbeam_channel::{Receiver, bounded};
use nape::{Answers, Config, Context, Fault};

use super::{
    raw::*,
    stage::{Place, Stage, echo},
};
use crate::tools::LONG;

/// They have been quick so far, so that one thread runs them, one after the other: until one is not.
pub(crate) fn p_09_handlers_of_one_packet_that_wait_for_each_other(place: Place) {
    for answers in [Answers::AtOnce, Answers::Together] {
        wait_for_each_other(place, Config::new().answers(answers), false);
        // While a caller of that side blocks, and is given the role to read.
        wait_for_each_other(place, Config::new().answers(answers), true);
    }
}

fn wait_for_each_other(place: Place, config: Config, beside_a_caller: bool) {
    let (open, opened) = bounded::<()>(0);
    let wait = move |_: &Context, wait: bool| {
        if wait {
            opened.recv_timeout(LONG).map_err(|_| Fault::new("nobody came"))?;
        }
        Ok::<_, Fault>(wait)
    };
    let api = echo().handle("gate", wait).unwrap();
    let api =
        api.handle("open", move |_: &Context, go: bool| Ok::<_, Fault>(go && open.send(()).is_ok())).unwrap();
    let mut stage = Stage::with(place, config, api);
    for counter in 1..25 {
        for (method, path) in (0..).zip(["echo.gate", "echo.open"]) {
            stage.call(2 * counter + method, path, &[0]);
            assert_eq!(stage.raw.next_of(REPLY).body, [0]);
            stage.raw.acknowledge();
        }
    }
    let caller = beside_a_caller.then(|| {
        // The ticker has gone by the time that it lines up behind the one that reads.
        assert!(stage.lives_for(Duration::from_millis(50)));
        let api = stage.subject.api("raw");
        let caller = thread::spawn(move || api.action("never", ()).timeout(LONG).call::<()>());
        stage.raw.next_of(CALL);
        assert!(stage.lives_for(Duration::from_millis(20)));
        caller
    });
    let side = stage.raw.side;
    // A quick one, one that waits for the next, and that one.
    let calls = [("echo.gate", vec![0]), ("echo.gate", vec![1]), ("echo.open", vec![1])];
    let frames = (100..)
        .zip(calls)
        .map(|(counter, (path, arguments))| frame(CALL, 0, side.id(counter), &call(path, &arguments)));
    assert!(stage.raw.send_together(frames));
    let mut replies: Vec<_> = (0..3).map(|_| stage.raw.next_of(REPLY).id).collect();
    replies.sort_unstable();
    assert_eq!(replies, [100, 101, 102].map(|counter| side.id(counter)));
    stage.leave();
    caller.into_iter().for_each(|caller| drop(caller.join().unwrap().unwrap_err()));
}

/// A handler waits for the next of its packet, and the thread that would help out is given a third one, which waits
/// for the first. Red when that thread leaves the packet to nobody.
pub(crate) fn p_09_what_is_left_of_a_packet_runs_while_all_else_have_jobs(place: Place) {
    let channel = bounded::<()>;
    let ((begin, begun), (open, opened), (finish, finished)) = (channel(1), channel(0), channel(1));
    let came = |told: &Receiver<()>| told.recv_timeout(LONG).map_err(|_| Fault::new("nobody came"));
    let gate = move |_: &Context, waits: bool| {
        if waits {
            begin.send(()).unwrap();
            came(&opened)?;
            finish.send(()).unwrap();
        }
        Ok::<_, Fault>(waits)
    };
    let api = echo().handle("gate", gate).unwrap();
    let api = api.handle("hold", move |_: &Context, ()| came(&finished)).unwrap();
    let open = move |_: &Context, go: bool| Ok::<_, Fault>(go && open.send(()).is_ok());
    let mut stage = Stage::with(place, Config::new(), api.handle("open", open).unwrap());
    for counter in 1..25 {
        for (method, path) in (0..).zip(["echo.gate", "echo.open"]) {
            stage.call(2 * counter + method, path, &[0]);
            assert_eq!(stage.raw.next_of(REPLY).body, [0]);
            stage.raw.acknowledge();
        }
    }
    let side = stage.raw.side;
    for round in 20..40 {
        let (api, begun) = (stage.subject.api("raw"), begun.clone());
        let caller = thread::spawn(move || {
            begun.recv().unwrap();
            // It reads from here on, and hands on what it reads.
            api.action("later", ()).timeout(LONG).call::<()>()
        });
        let call = |at, path| frame(CALL, 0, side.id(3 * round + at), &call(path, &[1]));
        assert!(stage.raw.send_together([call(0, "echo.gate"), call(1, "echo.open")].into_iter()));
        let (mut asked, mut replies) = (None, 0);
        while asked.is_none() || replies < 3 {
            let frame = stage.raw.next().unwrap();
            match frame.kind {
                CALL => {
                    stage.call(3 * round + 2, "echo.hold", &[]);
                    asked = Some(frame.id);
                }
                REPLY => replies += 1,
                FAULT => panic!("{frame:?}"),
                _ => {}
            }
        }
        stage.raw.acknowledge();
        stage.raw.send(REPLY, 0, asked.unwrap(), &[]);
        caller.join().unwrap().unwrap();
    }
    stage.leave();
}
